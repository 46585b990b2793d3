"""Standard error: errors, notes and progress. Standard output belongs to results."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
from collections.abc import Iterator

from faststyle.errors import FaststyleError

__all__ = ["StatusLine", "needs", "notes_on_stderr", "report"]

_CLEAR_LINE = "\r\033[K"


def report(message: str, kind: str = "error") -> None:
    """Print `faststyle: KIND: MESSAGE` in a line of its own."""
    clear = _CLEAR_LINE if sys.stderr.isatty() else ""
    print(f"{clear}faststyle: {kind}: {message}", file=sys.stderr, flush=True)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        report(record.getMessage(), "note")


@contextlib.contextmanager
def notes_on_stderr() -> Iterator[None]:
    """Show what the `faststyle` logger says while a command runs."""
    logger, handler = logging.getLogger("faststyle"), _Notes()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Import optional parts within this: a missing one becomes an error that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        remedy = f"pip install 'faststyle-onnx[{extra}]'"
        raise FaststyleError(f"this needs {error.name}, which is not installed: {remedy}") from None


class StatusLine:
    """How far something is: one line that is redrawn on a terminal, and only lines worth keeping elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()

    def show(self, text: str, *, plain: str | None = None) -> None:
        """Redraw the line; where standard error is no terminal, print `plain` instead, if there is one."""
        if self._terminal:
            line = text[: shutil.get_terminal_size().columns - 1]
            print(f"{_CLEAR_LINE}{line}", end="", file=sys.stderr, flush=True)
        elif plain is not None:
            print(plain, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.clear()
        print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away, so that something else can be printed."""
        if self._terminal:
            print(_CLEAR_LINE, end="", file=sys.stderr, flush=True)
