"""Settings from a file: `--config FILE` stands for the flags that a TOML file holds."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence

from faststyle.errors import ConfigError

__all__ = ["expand_config"]

_FLAG = "--config"


def expand_config(arguments: Sequence[str]) -> list[str]:
    """The command line followed by the file's settings as flags, save those that it gives itself.

    A key is a flag without its dashes, underscores serving for hyphens; true is the bare flag, a list several values.
    Flags then pass the same checks as typed ones, so a misspelt key is answered with the nearest flag. Raises
    ConfigError for a file that is missing or no TOML.
    """
    given = list(arguments)
    places = [index for index, text in enumerate(given) if text == _FLAG or text.startswith(_FLAG + "=")]
    if len(places) > 1:
        raise ConfigError(f"{_FLAG} is given twice: name one file")
    place = places[0] if places else len(given)
    if given[place:] in ([], [_FLAG]):
        return given
    path = given[place + 1] if given[place] == _FLAG else given[place].removeprefix(_FLAG + "=")
    try:
        with open(path, "rb") as file:
            settings = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): name a TOML file with {_FLAG}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML ({error}): write one `flag = value` a line") from None
    typed = {text.split("=")[0].replace("_", "-") for text in given if text.startswith("--")}
    flags: list[str] = []
    for key, value in settings.items():
        flag = "--" + key.replace("_", "-")
        if isinstance(value, dict):
            raise ConfigError(f"{path}: [{key}] is a table: write flags without tables")
        if flag in typed or value is False:
            continue
        values = value if isinstance(value, list) else [] if value is True else [value]
        flags += [flag, *map(str, values)]
    return given + flags  # before them, a list would take in the positional arguments
