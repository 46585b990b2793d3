"""`faststyle models`: what lies in checkpoints."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from faststyle.errors import ModelError

if TYPE_CHECKING:
    from faststyle.modelcard import Style

__all__ = ["Options", "run"]

_log = logging.getLogger("faststyle")


@dataclass(frozen=True)
class Options:
    """List the models that --model finds by name, and the styles of each that --style finds by name."""


def run(options: Options) -> int:
    """Print one line a model and, for a model of several styles, one for each, from the cards beside them."""
    from faststyle.checkpoints import list_models

    models = list_models()
    if not models:
        _log.info("there are no models in checkpoints: train one with faststyle train, or pass --model a path")
    width = max(map(len, models), default=0)
    for name, path in models.items():
        styles = _styles(path)
        if len(styles) == 1:
            print(f"{name:{width}}  {_describe(styles[0])}".rstrip())
            continue
        print(f"{name:{width}}  {f'{len(styles)} styles:' if styles else ''}".rstrip())
        column = max((len(style.name) for style in styles), default=0)
        for style in styles:
            print(f"{'':{width}}  {style.name:{column}}  {_describe(style)}".rstrip())
    return 0


def _styles(path: Path) -> tuple[Style, ...]:
    from faststyle.checkpoints import read_sidecar

    try:
        card = read_sidecar(path)
    except ModelError as error:
        _log.warning("%s", error)
        return ()
    return card.styles if card else ()


def _describe(style: Style) -> str:
    return ", ".join(filter(None, (style.title, style.artist, style.year)))
