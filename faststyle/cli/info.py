"""`faststyle info`: what a model says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import Positional, arg

from faststyle.modelcard import ModelCard

__all__ = ["Options", "run"]


@dataclass(frozen=True)
class Options:
    """Show what a model says about itself: its style, network, losses, training and versions."""

    model: Annotated[Positional[str], arg(metavar="NAME|PATH")]
    """A model by its name in checkpoints, or the path of an .onnx file."""
    json: bool = False
    """Print the card as JSON; for a model without a card, its signature."""


def run(options: Options) -> int:
    """Print the card, or the signature of a model without one."""
    from faststyle.checkpoints import find_model
    from faststyle.runtime.stylizer import Stylizer

    path = find_model(options.model)
    stylizer = Stylizer(path, provider="cpu")
    card = stylizer.card
    if options.json:
        print(json.dumps(card.to_dict() if card else {"signature": stylizer.signature}, indent=2, ensure_ascii=False))
        return 0
    print(path)
    rows = _rows(card) if card else [("card", "none: not exported by faststyle")]
    for label, text in [*rows, ("signature", stylizer.signature)]:
        print(f"  {label:12}{text}")
    return 0


def _rows(card: ModelCard) -> list[tuple[str, str]]:
    styles = [
        (f"{style.name}: " if style.name else "")
        + ", ".join(filter(None, (style.title, style.artist, style.year, style.licence)))
        for style in card.styles
    ]
    rows = [
        ("name", card.name),
        *(("style", style) for style in styles),
        ("net", _settings(card.net)),
        ("loss", _settings(card.loss)),
        ("training", _settings(card.training)),
        ("metrics", _settings(card.metrics)),
        ("versions", _settings(card.versions)),
        ("computes in", card.precision),
        ("min size", f"{card.min_size} x {card.min_size} pixels"),
        ("halo", f"{card.halo} pixels" if card.halo else ""),
    ]
    return [(label, text) for label, text in rows if text]


def _settings(values: Mapping[str, Any]) -> str:
    """`steps 4000, crops 128x4:0.25 192x4:0.6`: settings without braces and quotes."""

    def plain(value: Any) -> str:
        return " ".join(map(plain, value)) if isinstance(value, (list, tuple)) else str(value)

    return ", ".join(f"{key.replace('_', ' ')} {plain(value)}" for key, value in values.items())
