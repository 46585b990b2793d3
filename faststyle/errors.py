"""Errors that a user can act on: each message is one line that names the file or setting and the remedy."""


class FaststyleError(Exception):
    """Base of every error that faststyle raises on purpose; the command line prints it without a traceback."""


class ImageError(FaststyleError):
    """A picture cannot be read, is too small or too large, or does not fit the format it is to be written in."""


class WriteError(FaststyleError):
    """A file cannot be written: no such folder, no permission, no space."""


class ModelError(FaststyleError):
    """A model or weights file is missing, damaged or of another kind, or its execution provider is missing."""


class WeightsError(FaststyleError):
    """The loss network's weights cannot be found, fetched or verified."""


class ConfigError(FaststyleError):
    """A setting is out of range, unknown or contradicts another."""


class TrainingError(FaststyleError):
    """Training cannot start, or diverged and was stopped."""


class OptimizeError(FaststyleError):
    """A picture cannot be optimised: too little memory, or the optimisation diverged."""


def first_line(error: Exception) -> str:
    """What another library says of an error, in one line: its message's first, or its kind where it has none."""
    return (str(error) or type(error).__name__).splitlines()[0]
