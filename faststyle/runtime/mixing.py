"""Which style, and how much of it: names and numbers become the optional inputs of a model."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from faststyle.errors import ConfigError, ModelError
from faststyle.modelcard import ModelCard
from faststyle.runtime.folding import STRENGTH, STYLE_WEIGHTS

__all__ = ["Mixture", "model_options", "parse_mixture", "style_names"]

Mixture = str | Mapping[str, float] | Sequence[float]
"""One style by name, `wave`; several with weights, `starry:0.6,wave:0.4` or a mapping; or a weight for each style."""


def style_names(card: ModelCard | None) -> list[str]:
    """The names by which the styles of a model are chosen, in its own order."""
    if card is None:
        return []
    alone = len(card.styles) == 1
    return [style.name or (card.name if alone else style.title) for style in card.styles]


def parse_mixture(text: str) -> dict[str, float]:
    """Read `starry:0.6,wave:0.4`; a name without a number has weight 1. Raises ConfigError."""
    mixture: dict[str, float] = {}
    for part in text.split(","):
        name, colon, number = part.strip().rpartition(":")
        if not colon:
            name, number = part.strip(), "1"
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not name or not 0 <= weight < math.inf:
            raise ConfigError(f"the style {part.strip()!r} is not of the form NAME or NAME:WEIGHT, such as wave:0.4")
        mixture[name] = mixture.get(name, 0.0) + weight
    return mixture


def model_options(
    offered: set[str], card: ModelCard | None, style: Mixture | None, strength: float | None, name: str
) -> dict[str, NDArray[np.float32]]:
    """The optional inputs for a style and a strength; None leaves the model's own.

    `offered` are the optional inputs that the model has, `name` is what messages call it. Raises ConfigError for values
    that do not hold, and ModelError for what the model does not offer, with the nearest style's name.
    """
    options: dict[str, NDArray[np.float32]] = {}
    if strength is not None:
        if not 0 <= strength <= 1:
            raise ConfigError(f"the strength must lie between 0 and 1, not {strength}")
        if STRENGTH not in offered:
            raise ModelError(f"{name} has no strength to choose: take one of this version, neither frozen nor johnson")
        options[STRENGTH] = np.array([strength], np.float32)
    if style is not None:
        names = style_names(card)
        weights = _weights(style, names, name)
        if STYLE_WEIGHTS in offered:
            options[STYLE_WEIGHTS] = np.array(weights, np.float32)
        elif len(weights) != 1:
            raise ModelError(f"{name} holds one style only: take a model of several")
    return options


def _weights(style: Mixture, names: Sequence[str], model: str) -> list[float]:
    """A weight for each style of the model."""
    if isinstance(style, str):
        style = parse_mixture(style)
    if isinstance(style, Mapping):
        weights = [0.0] * len(names)
        for wanted, weight in style.items():
            weights[_place(wanted, names, model)] += weight
    else:
        weights = [float(weight) for weight in style]
        if len(weights) != max(1, len(names)):
            raise ConfigError(f"{model} holds {len(names)} styles: give as many weights, not {len(weights)}")
    if not all(0 <= weight < math.inf for weight in weights) or not 0 < sum(weights) < math.inf:
        raise ConfigError("the weights of the styles must be 0 or more, and one of them above 0")
    # As shares, before they become float32: there a tiny or a huge number is none.
    largest = max(weights)
    weights = [weight / largest for weight in weights]
    return [weight / sum(weights) for weight in weights]


def _place(wanted: str, names: Sequence[str], model: str) -> int:
    if wanted in names:
        return names.index(wanted)
    near = difflib.get_close_matches(wanted, names, 1)
    if near:
        remedy = f"did you mean {near[0]}?"
    else:
        remedy = f"take one of {', '.join(names)}" if names else "leave the style out"
    raise ModelError(f"{model} holds no style {wanted}: {remedy}")
