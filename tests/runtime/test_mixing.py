"""Which style and how much: words and numbers become a model's optional inputs, and nonsense becomes one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from faststyle.errors import ConfigError, ModelError
from faststyle.modelcard import ModelCard, Style
from faststyle.runtime.folding import STRENGTH, STYLE_WEIGHTS
from faststyle.runtime.mixing import Mixture, model_options, parse_mixture, style_names

CARD = ModelCard(
    "gallery",
    styles=(Style("The Starry Night", name="starry"), Style("The Great Wave", name="wave"), Style("The Scream")),
)
BOTH = {STRENGTH, STYLE_WEIGHTS}


def options(
    style: Mixture | None = None,
    strength: float | None = None,
    offered: set[str] = BOTH,
    card: ModelCard | None = CARD,
) -> dict[str, list[float]]:
    found = model_options(offered, card, style, strength, "gallery.onnx")
    assert all(value.dtype == np.float32 for value in found.values())
    return {name: value.tolist() for name, value in found.items()}


@pytest.mark.parametrize(
    ("text", "mixture"),
    [
        ("wave", {"wave": 1}),
        ("starry:0.6,wave:0.4", {"starry": 0.6, "wave": 0.4}),
        (" starry , wave:2 ", {"starry": 1, "wave": 2}),
        ("wave,wave:0.5", {"wave": 1.5}),
        ("The Starry Night:1e-1", {"The Starry Night": 0.1}),
        ("wave:0,starry", {"wave": 0, "starry": 1}),
    ],
)
def test_a_mixture_is_read(text: str, mixture: dict[str, float]) -> None:
    assert parse_mixture(text) == mixture


@pytest.mark.parametrize("text", ["", ",", "wave,", ":0.5", "wave:", "wave:much", "wave:-1", "wave:inf", "wave:nan"])
def test_what_is_no_mixture_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not of the form NAME or NAME:WEIGHT, such as wave:0\.4") as caught:
        parse_mixture(text)
    assert "\n" not in str(caught.value)


def test_a_style_goes_by_its_name_or_else_its_title() -> None:
    assert style_names(CARD) == ["starry", "wave", "The Scream"]
    assert style_names(None) == []
    assert style_names(ModelCard("starry", (Style("The Starry Night"),))) == ["starry"], "a style alone is the model"


@pytest.mark.parametrize(
    ("style", "weights"),
    [
        ("wave", [0, 1, 0]),
        ("The Scream", [0, 0, 1]),
        ("starry:3,wave:1", [0.75, 0.25, 0]),
        ({"wave": 0.75, "starry": 0.25}, [0.25, 0.75, 0]),
        ({"wave": 1e-300}, [0, 1, 0]),
        ([1e300, 1e300, 0], [0.5, 0.5, 0]),
        ([0, 0, 2.5], [0, 0, 1]),
        ((1, 0, 0), [1, 0, 0]),
        (np.array([0.5, 0.5, 0]), [0.5, 0.5, 0]),
    ],
)
def test_styles_become_a_weight_for_each(style: Any, weights: list[float]) -> None:
    assert options(style) == {STYLE_WEIGHTS: weights}


def test_what_is_not_asked_for_is_left_to_the_model() -> None:
    assert options() == {}
    assert options(strength=0.5) == {STRENGTH: [0.5]}
    assert options("wave", 0) == {STRENGTH: [0], STYLE_WEIGHTS: [0, 1, 0]}


@pytest.mark.parametrize(
    ("style", "remedy"),
    [
        ("stary", "did you mean starry?"),
        ("the scream", "did you mean The Scream?"),
        ("wave:0.5,stary:0.5", "did you mean starry?"),
        ("kandinsky", "take one of starry, wave, The Scream"),
        ({"waves": 1}, "did you mean wave?"),
    ],
)
def test_a_style_that_is_not_there(style: Mixture, remedy: str) -> None:
    with pytest.raises(ModelError) as caught:
        options(style)
    message = str(caught.value)
    assert message.startswith("gallery.onnx holds no style ") and message.endswith(f": {remedy}")


@pytest.mark.parametrize("style", [[0, 0, 0], "wave:0", {"wave": -1.0}, [1, np.nan, 0], [np.inf, 0, 0], [2, -1, 0]])
def test_weights_that_make_no_mixture(style: Mixture) -> None:
    with pytest.raises(ConfigError, match="weights of the styles must be 0 or more, and one of them above 0"):
        options(style)


@pytest.mark.parametrize("style", [[1], [1, 0], [1, 0, 0, 0], []])
def test_a_weight_for_each_style_no_more_no_fewer(style: list[float]) -> None:
    with pytest.raises(ConfigError, match=rf"gallery\.onnx holds 3 styles: give as many weights, not {len(style)}"):
        options(style)


@pytest.mark.parametrize("strength", [-0.1, 1.1, np.nan, np.inf])
def test_a_strength_beyond_its_range(strength: float) -> None:
    with pytest.raises(ConfigError, match="the strength must lie between 0 and 1"):
        options(strength=strength)


def test_a_model_without_strength() -> None:
    """One of 0.1, of another family, frozen, or of somebody else's."""
    with pytest.raises(ModelError, match=r"gallery\.onnx has no strength to choose: take one of this version"):
        options("wave", 0.5, {STYLE_WEIGHTS})


def test_a_model_of_one_style() -> None:
    card = ModelCard("starry", styles=(Style("The Starry Night"),))
    for style in ("starry", [1.0], {"starry": 0.3}):
        assert options(style, offered={STRENGTH}, card=card) == {}, "there is nothing to choose"
    with pytest.raises(ModelError, match=r"gallery\.onnx holds no style wave: take one of starry"):
        options("wave", offered={STRENGTH}, card=card)
    with pytest.raises(ModelError, match=r"gallery\.onnx holds one style only: take a model of several"):
        options("wave", offered={STRENGTH})


def test_a_model_without_a_card() -> None:
    with pytest.raises(ModelError, match=r"gallery\.onnx holds no style wave: leave the style out"):
        options("wave", offered=set(), card=None)
    assert options([1.0], offered=set(), card=None) == {}
