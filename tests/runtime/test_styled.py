"""Stylizers of one of a model's styles, or of a mixture, and of any strength."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from faststyle import Stylizer
from faststyle.config import NETS
from faststyle.errors import ConfigError, ModelError
from faststyle.export import build_onnx, repaint
from faststyle.modelcard import ModelCard, Style
from faststyle.nets.styles import style_rows
from faststyle.nets.transformer import TransformerNet
from faststyle.runtime import folded

Pixels = NDArray[np.uint8]
NAMES = ("starry", "wave", "scream")


@pytest.fixture(scope="module")
def net() -> TransformerNet:
    torch.manual_seed(0)
    net = TransformerNet(replace(NETS["nano"], styles=3))
    for rows in style_rows(net):
        torch.nn.init.normal_(rows, rows.mean().item(), 0.3)
    return net


@pytest.fixture(scope="module", params=["optional", "required"])
def stylizer(net: TransformerNet, request: pytest.FixtureRequest) -> Stylizer:
    """Of a file whose inputs beside the picture have defaults, and of one whose inputs have none."""
    styles = tuple(Style(name.title(), name=name) for name in NAMES)
    card = ModelCard("gallery", styles, net=net.config.to_dict(), halo=net.config.reach)
    return Stylizer(build_onnx(net, card, request.param == "required"), provider="cpu")


def apart(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one.astype(int) - other).max())


def test_the_styles_have_names(stylizer: Stylizer, zoo_model: Path) -> None:
    assert stylizer.styles == list(NAMES)
    assert Stylizer(zoo_model).styles == []


def test_each_style_is_what_torch_paints(stylizer: Stylizer, net: TransformerNet, photo: Pixels) -> None:
    small = photo[:77, :101]
    for place, name in enumerate(NAMES):
        weights = [float(place == index) for index in range(3)]
        for strength in (1.0, 0.3):
            expected = repaint(net, small[None], weights, strength)[0]
            assert apart(stylizer.styled(name, strength)(small), expected) <= 2
    expected = repaint(net, small[None], [0.6, 0.4, 0])[0]
    for mixture in ("starry:0.6,wave:0.4", {"wave": 2, "starry": 3}, [0.6, 0.4, 0]):
        assert apart(stylizer.styled(mixture)(small), expected) <= 2


def test_strength_0_gives_the_photo_back(stylizer: Stylizer, photo: Pixels) -> None:
    assert np.array_equal(stylizer.styled(strength=0)(photo), photo)
    extremes = np.random.default_rng(0).choice([0, 1, 127, 128, 254, 255], (45, 61, 3)).astype(np.uint8)
    assert np.array_equal(stylizer.styled("wave:1,scream:2", 0)(extremes), extremes)


def test_the_stylizer_itself_keeps_its_style(stylizer: Stylizer, photo: Pixels) -> None:
    before = stylizer(photo)
    wave = stylizer.styled("wave", 0.5)
    assert apart(wave(photo), before) > 10
    assert np.array_equal(stylizer(photo), before)
    assert np.array_equal(stylizer.styled()(photo), before)
    assert (wave.card, wave.provider, wave.signature) == (stylizer.card, stylizer.provider, stylizer.signature)


def test_what_is_not_given_stays(stylizer: Stylizer, photo: Pixels) -> None:
    both = stylizer.styled("wave", 0.5)(photo)
    assert np.array_equal(stylizer.styled("wave").styled(strength=0.5)(photo), both)
    assert np.array_equal(stylizer.styled(strength=0.5).styled("wave")(photo), both)
    assert np.array_equal(stylizer.styled("scream", 0.1).styled("wave", 0.5)(photo), both)


def test_folded_afterwards_it_agrees(stylizer: Stylizer, photo: Pixels) -> None:
    styled = stylizer.styled("wave:1,scream:1", 0.5)
    plain = styled(photo)
    assert apart(styled.folded(photo)(photo), plain) <= 1
    assert apart(stylizer.folded(photo)(photo), stylizer(photo)) <= 1, "the stylizer itself folds as before"
    # Each way round, with the measuring session that both share.
    assert apart(styled.folded(photo).folded(photo)(photo), plain) <= 1


def test_a_folded_stylizer_becomes_a_plain_one(stylizer: Stylizer, photo: Pixels) -> None:
    again = stylizer.folded(255 - photo).styled("wave", 0.5)
    assert np.array_equal(again(photo), stylizer.styled("wave", 0.5)(photo))


def test_tiles_of_a_styled_stylizer(stylizer: Stylizer, photo: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    styled = stylizer.styled("scream", 0.6)
    whole = styled(photo)
    monkeypatch.setattr(folded, "TILE", 128)
    monkeypatch.setattr(folded, "FOLD_FROM", 20_000)
    assert apart(styled(photo), whole) <= 1
    assert np.array_equal(stylizer.styled(strength=0)(photo), photo)


def test_where_folding_fails_the_style_is_kept(
    stylizer: Stylizer, photo: Pixels, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*given: object) -> bytes:
        raise RuntimeError("no memory left")

    styled = stylizer.styled("wave")
    whole = styled(photo)
    monkeypatch.setattr(folded, "fold_model", fail)
    monkeypatch.setattr(folded, "FOLD_FROM", 20_000)
    assert np.array_equal(styled(photo), whole)
    assert "repainted in one piece" in caplog.text


def test_a_batch_has_one_style(stylizer: Stylizer, photo: Pixels) -> None:
    styled = stylizer.styled("scream", 0.5)
    batch = np.stack([photo[:64, :64], photo[100:164, 200:264]])
    for one, painted in zip(batch, styled(batch), strict=True):
        assert apart(styled(one), painted) <= 1


def test_bad_wishes(stylizer: Stylizer, negative: Path, zoo_model: Path) -> None:
    with pytest.raises(ModelError, match=r"^the model holds no style waves: did you mean wave\?$"):
        stylizer.styled("waves")
    with pytest.raises(ConfigError, match="the strength must lie between 0 and 1, not 2"):
        stylizer.styled(strength=2)
    for model in (negative, zoo_model):
        with pytest.raises(ModelError, match="has no strength to choose"):
            Stylizer(model).styled(strength=0.5)
    assert Stylizer(negative).styled("negative").styles == ["negative"]
    with pytest.raises(ModelError, match="holds no style wave: leave the style out"):
        Stylizer(zoo_model).styled("wave")
