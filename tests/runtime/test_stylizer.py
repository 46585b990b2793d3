"""Stylizer: every kind of picture in, the same kind out."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from PIL import ExifTags, Image, ImageCms

from faststyle import ModelCard, Stylizer, checkpoints
from faststyle.errors import ImageError, ModelError
from faststyle.images import Picture

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def stylizer(negative: Path) -> Stylizer:
    return Stylizer(negative, threads=1)


@pytest.fixture
def jpeg(pixels: Pixels) -> bytes:
    """A photo that was taken with the camera upright, with EXIF and profile."""
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    tags[ExifTags.Base.Make] = "Camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=100, exif=tags, icc_profile=profile)
    return buffer.getvalue()


def test_card_provider_and_signature(stylizer: Stylizer, card: ModelCard) -> None:
    assert stylizer.card is not None and stylizer.card.to_dict() == card.to_dict()
    assert stylizer.provider == "cpu"
    assert stylizer.signature == "image uint8 [N, H, W, 3] -> stylized uint8 [N, H, W, 3]"


def test_model_by_path_bytes_and_name(negative: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_named", lambda suffix: {"negative": negative})
    for model in (negative, str(negative), negative.read_bytes(), "negative"):
        assert np.array_equal(Stylizer(model)(pixels), 255 - pixels)


def test_array_to_array(stylizer: Stylizer, pixels: Pixels) -> None:
    assert np.array_equal(stylizer(pixels), 255 - pixels)
    batch = np.stack([pixels, pixels[::-1], pixels[:, ::-1]])
    assert np.array_equal(stylizer(batch), 255 - batch)
    assert np.array_equal(stylizer(pixels[:, ::-1]), 255 - pixels[:, ::-1]), "views with negative strides"


def test_picture_to_picture(stylizer: Stylizer, pixels: Pixels) -> None:
    picture = Picture(pixels, icc_profile=b"profile", name="photo")
    result = stylizer(picture)
    assert np.array_equal(result.rgb, 255 - pixels)
    assert (result.icc_profile, result.name) == (b"profile", "photo")


def test_pil_to_pil(stylizer: Stylizer, pixels: Pixels, jpeg: bytes) -> None:
    alpha = np.full(pixels.shape[:2], 7, np.uint8)
    result = stylizer(Image.fromarray(np.dstack((pixels, alpha))))
    assert result.mode == "RGBA"
    assert np.array_equal(np.asarray(result), np.dstack((255 - pixels, alpha)))
    result = stylizer(Image.open(io.BytesIO(jpeg)))
    assert result.mode == "RGB" and result.size == (30, 41), "upright"
    assert result.getexif()[ExifTags.Base.Make] == "Camera"
    assert result.getexif()[ExifTags.Base.Orientation] == 1
    assert result.info["icc_profile"]


def test_path_to_pil(stylizer: Stylizer, pixels: Pixels, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    for source in (path, str(path)):
        assert np.array_equal(np.asarray(stylizer(source)), 255 - pixels)


def test_bytes_to_bytes(stylizer: Stylizer, pixels: Pixels, jpeg: bytes) -> None:
    result = Image.open(io.BytesIO(stylizer(jpeg)))
    assert result.format == "JPEG" and result.size == (30, 41)
    assert result.getexif()[ExifTags.Base.Make] == "Camera" and result.info["icc_profile"]
    expected = 255 - np.rot90(pixels, -1).astype(int)
    assert np.abs(np.asarray(result).astype(int) - expected).mean() < 2
    gif = io.BytesIO()
    Image.fromarray(pixels).save(gif, "GIF")
    assert Image.open(io.BytesIO(stylizer(gif.getvalue()))).format == "PNG"


@pytest.mark.parametrize("shape", [(30, 41), (30, 41, 4), (2, 2, 30, 41, 3), (0, 30, 41, 3)])
def test_arrays_of_another_shape(stylizer: Stylizer, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="convert it to uint8 H x W x 3"):
        stylizer(np.zeros(shape, np.uint8))


def test_arrays_of_another_type(stylizer: Stylizer) -> None:
    with pytest.raises(ImageError, match="the array is float32 30 x 41 x 3: convert it to uint8"):
        stylizer(np.zeros((30, 41, 3), np.float32))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (15, 100), (100, 15)])
def test_a_picture_that_is_too_small(stylizer: Stylizer, height: int, width: int) -> None:
    with pytest.raises(ImageError) as error:
        stylizer(np.zeros((height, width, 3), np.uint8))
    assert str(error.value) == f"the array has {width} x {height} pixels: take one of at least 16 x 16"
    assert stylizer(np.zeros((16, 16, 3), np.uint8)).shape == (16, 16, 3)


def test_the_zoo_network_of_any_size(zoo_model: Path, pixels: Pixels, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "faststyle")
    stylizer = Stylizer(zoo_model)
    assert stylizer.card is None
    assert f"{zoo_model} has no faststyle card" in caplog.text
    assert np.array_equal(stylizer(pixels), 255 - pixels)
    batch = np.stack([pixels, pixels[::-1]])
    assert np.array_equal(stylizer(batch), 255 - batch)


def test_the_zoo_network_gets_multiples_of_4(pixels: Pixels, build_model: Callable[..., ModelProto]) -> None:
    # A network that takes multiples of 4 only: it folds 4 columns and 4 rows into channels, and out again.
    model = build_model("x", "y", TensorProto.FLOAT, [1, 3, "H", "W"])
    model.graph.node[2].output[0] = "plain"
    model.graph.node.append(helper.make_node("SpaceToDepth", ["plain"], ["folded"], blocksize=4))
    model.graph.node.append(helper.make_node("DepthToSpace", ["folded"], ["y"], blocksize=4))
    assert np.array_equal(Stylizer(model.SerializeToString())(pixels), 255 - pixels)


def test_the_zoo_network_of_a_fixed_size(
    build_model: Callable[..., ModelProto], caplog: pytest.LogCaptureFixture
) -> None:
    stylizer = Stylizer(build_model("x", "y", TensorProto.FLOAT, [1, 3, 24, 32]).SerializeToString())
    assert "takes 32 x 24 pixels only: photos are scaled to that and back" in caplog.text
    flat = np.full((60, 50, 3), 200, np.uint8)
    result = stylizer(flat)
    assert result.shape == flat.shape and np.array_equal(result, 255 - flat)


def test_the_zoo_network_with_one_free_side(build_model: Callable[..., ModelProto]) -> None:
    """It gets multiples of 4 there, and the size that it wants on the other."""
    model = build_model("x", "y", TensorProto.FLOAT, [1, 3, 24, "W"])
    model.graph.node[2].output[0] = "plain"
    model.graph.node.append(helper.make_node("SpaceToDepth", ["plain"], ["folded"], blocksize=4))
    model.graph.node.append(helper.make_node("DepthToSpace", ["folded"], ["y"], blocksize=4))
    flat = np.full((60, 51, 3), 200, np.uint8)
    result = Stylizer(model.SerializeToString())(flat)
    assert result.shape == flat.shape and np.array_equal(result, 255 - flat)


def test_values_outside_the_range_are_clipped(build_model: Callable[..., ModelProto]) -> None:
    model = build_model("x", "y", TensorProto.FLOAT, [1, 3, "H", "W"])
    model.graph.initializer[0].CopyFrom(helper.make_tensor("white", TensorProto.FLOAT, [], [300.0]))
    result = Stylizer(model.SerializeToString())(np.full((16, 16, 3), 10, np.uint8))
    assert result.min() == result.max() == 255


@pytest.mark.parametrize(
    ("image", "kind", "shape"),
    [
        ("image", TensorProto.UINT8, ["N", 3, "H", "W"]),
        ("picture", TensorProto.UINT8, ["N", "H", "W", 3]),
        ("image", TensorProto.FLOAT, [1, 1, "H", "W"]),
        ("image", TensorProto.FLOAT, [1, "C", "H", "W"]),
        ("image", TensorProto.FLOAT, [3, "H", "W"]),
        ("image", TensorProto.INT64, [1, 3, "H", "W"]),
    ],
)
def test_a_model_of_another_signature(
    image: str, kind: int, shape: list[int | str], build_model: Callable[..., ModelProto]
) -> None:
    with pytest.raises(ModelError) as error:
        Stylizer(build_model(image, "stylized", kind, shape).SerializeToString())
    message = str(error.value)
    assert "the model is no style model, its signature is" in message and "-> stylized" in message
    assert "\n" not in message


def test_a_damaged_card_names_the_file(negative: Path, tmp_path: Path) -> None:
    model = ModelProto.FromString(negative.read_bytes())
    helper.set_model_props(model, {"faststyle.name": "{"})
    path = tmp_path / "broken.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"broken\.onnx: its card is damaged"):
        Stylizer(path)


def test_a_model_that_changes_the_size(negative: Path) -> None:
    model = ModelProto.FromString(negative.read_bytes())
    model.graph.node[2].output[0] = "whole"
    for name, value in (("starts", 0), ("ends", 8), ("axes", 1)):
        model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))
    model.graph.node.append(helper.make_node("Slice", ["whole", "starts", "ends", "axes"], ["stylized"]))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "H2"
    with pytest.raises(ModelError, match="export it again"):
        Stylizer(model.SerializeToString())(np.zeros((20, 20, 3), np.uint8))


def test_a_model_that_fails_while_running(build_model: Callable[..., ModelProto]) -> None:
    model = build_model("image", "stylized", TensorProto.UINT8, [1, "H", "W", 3])
    with pytest.raises(ModelError) as error:
        Stylizer(model.SerializeToString())(np.zeros((2, 20, 20, 3), np.uint8))
    assert "the model failed at 20 x 20 pixels" in str(error.value) and "\n" not in str(error.value)
