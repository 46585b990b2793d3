"""Folded networks: large photos in tiles, and stylizers with the statistics of one picture."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto
from onnxruntime import InferenceSession
from PIL import Image

from faststyle import Stylizer
from faststyle.config import NETS
from faststyle.errors import ImageError, ModelError
from faststyle.export import build_onnx
from faststyle.images import Picture
from faststyle.modelcard import ModelCard
from faststyle.nets.layers import FrozenNorm
from faststyle.nets.transformer import TransformerNet
from faststyle.runtime import folded
from faststyle.runtime.folded import tiles
from faststyle.runtime.folding import Statistics, measure

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def model() -> bytes:
    torch.manual_seed(0)
    net = NETS["nano"]
    return build_onnx(TransformerNet(net), ModelCard("nano", net=asdict(net), halo=net.reach))


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything counts as large: tiles of 128 pixels, statistics from 100 x 100."""
    monkeypatch.setattr(folded, "TILE", 128)
    monkeypatch.setattr(folded, "FOLD_FROM", 20_000)
    monkeypatch.setattr(folded, "STATISTICS", 10_000)


@pytest.mark.parametrize(("height", "width", "halo"), [(300, 420, 36), (128, 129, 1), (1, 1000, 52), (129, 64, 200)])
def test_tiles_cover_every_pixel_once_with_a_halo(height: int, width: int, halo: int, small_tiles: None) -> None:
    covered = np.zeros((height, width), int)
    for tile in tiles(height, width, halo):
        covered[tile.inner_rows, tile.inner_columns] += 1
        for outer, inner, length in (
            (tile.rows, tile.inner_rows, height),
            (tile.columns, tile.inner_columns, width),
        ):
            assert inner.stop - inner.start <= 128
            assert outer.start % folded.ALIGNMENT == 0, "the cells of the network go on unbroken"
            assert outer.start == 0 or inner.start - outer.start >= halo
            assert outer.stop == length or outer.stop - inner.stop >= halo
    assert (covered == 1).all()


def test_tiled_is_as_untiled(model: bytes, photo: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    stylizer = Stylizer(model, provider="cpu").folded(photo)
    whole = stylizer(photo)
    monkeypatch.setattr(folded, "TILE", 128)
    assert np.array_equal(stylizer(photo), whole)
    batch = np.stack([photo, photo[::-1]])
    assert np.array_equal(stylizer(batch)[0], whole)


def test_folded_agrees_with_plain_on_its_own_picture(model: bytes, photo: Pixels) -> None:
    stylizer = Stylizer(model, provider="cpu")
    plain = stylizer(photo).astype(int)
    for picture in (photo, Picture(photo, name="photo"), Image.fromarray(photo)):
        assert np.abs(stylizer.folded(picture)(photo) - plain).max() <= 1
    assert np.array_equal(stylizer(photo), plain), "the stylizer itself stays as it was"


def test_folded_treats_equal_pixels_alike(model: bytes, photo: Pixels) -> None:
    """What plain instance norm does not: another half of the picture changes nothing far away from it."""
    changed = photo.copy()
    changed[:, 256:] = 255 - changed[:, 256:]
    stylizer = Stylizer(model, provider="cpu").folded(photo)
    far = 256 - NETS["nano"].reach
    assert np.array_equal(stylizer(changed)[:, :far], stylizer(photo)[:, :far])
    plain = Stylizer(model, provider="cpu")
    assert not np.array_equal(plain(changed)[:, :far], plain(photo)[:, :far])


def test_a_large_photo_is_folded_by_itself(model: bytes, photo: Pixels, small_tiles: None) -> None:
    stylizer = Stylizer(model, provider="cpu")
    batch = np.stack([photo, photo[:, ::-1]])
    result = stylizer(batch)
    for one, painted in zip(batch, result, strict=True):
        assert np.array_equal(stylizer.folded(one)(one), painted)
    small = photo[:100, :100]
    assert np.abs(stylizer(small).astype(int) - stylizer.folded(small)(small)).max() <= 1, "in one piece, exactly"


def test_a_model_without_a_halo_is_run_as_it_is(model: bytes, photo: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    old = build_onnx(TransformerNet(NETS["nano"]), ModelCard("old", net=asdict(NETS["nano"])))
    plain = Stylizer(model, provider="cpu")(photo)
    monkeypatch.setattr(folded, "FOLD_FROM", 20_000)
    monkeypatch.setattr(folded, "STATISTICS", 10_000)
    assert np.array_equal(Stylizer(old, provider="cpu")(photo), plain)
    assert not np.array_equal(Stylizer(model, provider="cpu")(photo), plain), "this one knows its halo"


def test_a_frozen_model_is_tiled_too(photo: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = TransformerNet(replace(NETS["nano"], norm="frozen"))
    for module in net.modules():
        if isinstance(module, FrozenNorm):  # as after instance norms: the noise is seen
            torch.nn.init.constant_(module.variance, 0.05)
    model = build_onnx(net, ModelCard("frozen", net=asdict(net.config), halo=net.config.reach))
    whole = Stylizer(model, provider="cpu")(photo)
    monkeypatch.setattr(folded, "TILE", 128)
    monkeypatch.setattr(folded, "FOLD_FROM", 20_000)
    assert np.abs(Stylizer(model, provider="cpu")(photo).astype(int) - whole).max() <= 1
    monkeypatch.setattr(folded, "ORIGIN", "another")
    noise_begins_anew = Stylizer(model, provider="cpu")(photo)
    assert np.abs(noise_begins_anew.astype(int) - whole).max() > 1


def test_a_model_without_norms_is_tiled_as_it_is(
    photo: Pixels, card: ModelCard, small_tiles: None, build_model: Callable[..., ModelProto]
) -> None:
    metadata = replace(card, halo=4).to_metadata()
    model = build_model("image", "stylized", TensorProto.UINT8, ["N", "H", "W", 3], metadata=metadata)
    assert np.array_equal(Stylizer(model.SerializeToString())(photo), 255 - photo)


def test_what_cannot_be_folded(model: bytes, photo: Pixels, zoo_model: Path) -> None:
    with pytest.raises(ModelError, match="cannot be folded: take a model that this version of faststyle exported"):
        Stylizer(zoo_model).folded(photo)
    stylizer = Stylizer(model, provider="cpu")
    with pytest.raises(ImageError, match=r"the array is uint8 1 x 300 x 420 x 3: convert it to uint8 H x W x 3$"):
        stylizer.folded(photo[None])
    with pytest.raises(ImageError, match="the array has 420 x 8 pixels: take one of at least 16 x 16"):
        stylizer.folded(photo[:8])
    with pytest.raises(ImageError, match="nothing"):
        stylizer.folded("nothing.png")


def test_a_folded_stylizer_is_folded_anew(model: bytes, photo: Pixels) -> None:
    stylizer = Stylizer(model, provider="cpu")
    other = 255 - photo
    assert np.array_equal(stylizer.folded(photo).folded(other)(other), stylizer.folded(other)(other))


def test_the_file_may_change_while_a_stylizer_is_open(model: bytes, photo: Pixels, tmp_path: Path) -> None:
    path = tmp_path / "nano.onnx"
    path.write_bytes(model)
    stylizer = Stylizer(path, provider="cpu")
    path.unlink()
    assert np.array_equal(stylizer.folded(photo)(photo), Stylizer(model, provider="cpu").folded(photo)(photo))


def test_where_folding_fails_large_photos_go_through_in_one_piece(
    model: bytes, photo: Pixels, small_tiles: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(model: bytes) -> bytes:
        raise RuntimeError("no memory left")

    stylizer = Stylizer(model, provider="cpu")
    monkeypatch.setattr(folded, "measuring_model", fail)
    painted = stylizer(photo)
    assert "a large photo is repainted in one piece, since folding failed (no memory left)" in caplog.text
    with pytest.raises(ModelError, match=r"the model cannot be folded \(no memory left\): export it again"):
        stylizer.folded(photo)
    monkeypatch.setattr(folded, "FOLD_FROM", 10**9)
    assert np.array_equal(stylizer(photo), painted)


def test_statistics_of_a_long_narrow_photo_are_bounded(model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(folded, "STATISTICS", 10_000)

    def watched(session: InferenceSession, photo: Pixels, *given: Any) -> Statistics:
        seen.append(photo.shape)
        return measure(session, photo, *given)

    monkeypatch.setattr(folded, "measure", watched)
    narrow = np.random.default_rng(0).integers(0, 256, (16, 3000, 3), np.uint8)
    assert Stylizer(model, provider="cpu").folded(narrow)(narrow).shape == narrow.shape
    ((height, width, _),) = seen
    assert height == 16 and 9_000 < height * width <= 10_000


def test_a_stylizer_lets_go_of_its_session(model: bytes) -> None:
    stylizer = Stylizer(model, provider="cpu")
    watch = weakref.ref(stylizer)
    del stylizer
    assert watch() is None, "without waiting for the garbage collector"
