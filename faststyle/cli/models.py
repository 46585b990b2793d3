"""`faststyle models`: what lies in checkpoints."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from faststyle.errors import ModelError

__all__ = ["Options", "run"]

_log = logging.getLogger("faststyle")


@dataclass(frozen=True)
class Options:
    """List the models that --model finds by name, with the title and artist of each style."""


def run(options: Options) -> int:
    """Print one line a model, from the cards beside them."""
    from faststyle.checkpoints import list_models

    models = list_models()
    if not models:
        _log.info("there are no models in checkpoints: train one with faststyle train, or pass --model a path")
    width = max(map(len, models), default=0)
    for name, path in models.items():
        print(f"{name:{width}}  {_describe(path)}".rstrip())
    return 0


def _describe(path: Path) -> str:
    from faststyle.checkpoints import read_sidecar

    try:
        card = read_sidecar(path)
    except ModelError as error:
        _log.warning("%s", error)
        return ""
    if card is None:
        return ""
    return "; ".join(", ".join(filter(None, (style.title, style.artist))) for style in card.styles)
