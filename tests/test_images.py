"""Pictures in and out; what cannot be read or written is in test_images_bad_input.py."""

from __future__ import annotations

import io
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, TiffImagePlugin

from faststyle.errors import ImageError
from faststyle.images import (
    Picture,
    encode_image,
    fit_pixels,
    fit_within,
    format_of,
    list_images,
    picture_from_pil,
    read_image,
    save_image,
    scale_short_side,
    without_grain,
)

Pixels = NDArray[np.uint8]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">a note</x:xmpmeta>'


@cache
def srgb() -> bytes:
    """Made once: a profile holds the second in which it was made."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def grey_profile(gamma: float = 1.0) -> bytes:
    """A minimal ICC profile of a grey display with this gamma; Pillow can make none."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    start = 128 + 4 + 2 * 12
    table = struct.pack(">I4sII4sII", 2, b"wtpt", start, len(white), b"kTRC", start + len(white), len(curve))
    size = start + len(white) + len(curve)
    head = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + white + curve


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.Make] = "Camera"
    tags.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.ExifImageWidth: 41, ExifTags.Base.ExposureTime: 0.008})
    return tags


def test_path_bytes_and_file_read_the_same(tmp_path: Path, pixels: Pixels) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    with path.open("rb") as file:
        pictures = [read_image(path), read_image(str(path)), read_image(path.read_bytes()), read_image(file)]
    for picture in pictures:
        assert np.array_equal(picture.rgb, pixels)
        assert picture.rgb.dtype == np.uint8 and picture.rgb.flags.writeable
        assert picture.alpha is None and picture.format == "PNG"
    assert pictures[0].name == str(path) and pictures[2].name == "the picture"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_reset(orientation: int, pixels: Pixels) -> None:
    stored = Image.fromarray(pixels)
    upright = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: np.rot90(pixels, 2).transpose(1, 0, 2),
        8: np.rot90(pixels),
    }.get(orientation, pixels)
    picture = read_image(encoded(stored, "PNG", exif=exif(orientation).tobytes()))
    assert np.array_equal(picture.rgb, upright)
    again = Image.open(io.BytesIO(encode_image(picture, "PNG")))
    assert again.size == upright.shape[1::-1]
    assert again.getexif()[ExifTags.Base.Orientation] == 1
    assert again.getexif()[ExifTags.Base.Make] == "Camera"


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("target", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_metadata_survives_between_formats(source: str, target: str, pixels: Pixels) -> None:
    options: dict[str, Any] = {"exif": exif(6).tobytes(), "icc_profile": srgb(), "xmp": XMP}
    if source == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    elif source == "TIFF":
        tags = Image.Exif()
        tags.load(options["exif"])
        tags[700] = XMP
        options["exif"] = tags
    picture = read_image(encoded(Image.fromarray(pixels), source, **options))
    again = read_image(encode_image(picture, target))
    assert again.icc_profile == srgb()
    assert again.xmp == XMP
    assert again.exif is not None
    tags = Image.Exif()
    tags.load(again.exif)
    assert tags[ExifTags.Base.Make] == "Camera"
    assert tags.get(ExifTags.Base.Orientation, 1) == 1
    assert tags.get_ifd(ExifTags.IFD.Exif) == {ExifTags.Base.ExposureTime: 0.008}, "the old width must not stay"
    assert again.rgb.shape == (41, 30, 3)


def test_resolution_survives(pixels: Pixels) -> None:
    picture = read_image(encoded(Image.fromarray(pixels), "JPEG", dpi=(300, 300)))
    assert Image.open(io.BytesIO(encode_image(picture, "JPEG"))).info["dpi"] == (300, 300)


def test_damaged_exif_does_not_cost_the_photo(pixels: Pixels, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "faststyle")
    picture = read_image(encoded(Image.fromarray(pixels), "PNG", exif=b"Exif\0\0nonsense"))
    assert picture.exif is None
    assert "its EXIF is damaged" in caplog.text


def test_exif_too_long_for_jpeg_is_left_out(pixels: Pixels, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "faststyle")
    picture = Picture(pixels, exif=b"Exif\0\0" + bytes(70_000), xmp=bytes(70_000))
    again = Image.open(io.BytesIO(encode_image(picture, "JPEG")))
    assert "exif" not in again.info and "xmp" not in again.info
    assert "too long for JPEG" in caplog.text


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_mode_becomes_rgb(mode: str, pixels: Pixels) -> None:
    source = Image.new(mode, (20, 17))
    assert picture_from_pil(source).rgb.shape == (17, 20, 3)


def test_palette_and_grey_keep_their_colours() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(picture_from_pil(Image.fromarray(grey)).rgb, np.stack([grey] * 3, axis=2))
    red = Image.new("RGB", (16, 16), (200, 10, 20)).quantize(4)
    assert picture_from_pil(red).rgb[0, 0].tolist() == [200, 10, 20]


@pytest.mark.parametrize(
    ("kind", "values", "grey"),
    [
        ("uint16", [0, 257, 65535], [0, 1, 255]),
        ("int32", [0, 257 * 100, 65535], [0, 100, 255]),
        ("int32", [-100, 0, 100], [0, 128, 255]),
        ("float32", [0, 0.5, 1], [0, 128, 255]),
        ("float32", [0, 100, 200], [0, 100, 200]),
        ("float32", [-1, 0, 1], [0, 128, 255]),
        ("float32", [0, 0, 0], [0, 0, 0]),
        ("float32", [0, np.nan, 1], [0, 0, 255]),
    ],
)
def test_deep_grey_is_scaled_to_8_bits(kind: str, values: list[float], grey: list[int]) -> None:
    picture = read_image(encoded(Image.fromarray(np.array([values], dtype=kind)), "TIFF"))
    assert picture.rgb[0, :, 0].tolist() == grey


def test_16_bit_png_is_read() -> None:
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    assert np.array_equal(read_image(encoded(Image.fromarray(values), "PNG")).rgb[..., 1].ravel(), np.arange(256))


def test_cmyk_without_a_profile_is_converted() -> None:
    picture = read_image(encoded(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG", quality=100))
    assert np.allclose(picture.rgb[0, 0].astype(int), [255, 0, 0], atol=3)


def test_grey_goes_through_its_profile_to_srgb() -> None:
    source = Image.new("L", (20, 20), 128)
    source.info["icc_profile"] = grey_profile(gamma=1.0)
    picture = picture_from_pil(source)
    assert picture.icc_profile is None
    assert np.allclose(picture.rgb.astype(int), 188, atol=1), "linear 0.5 is 188 in sRGB"


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_damaged_profile_does_not_cost_the_photo(mode: str) -> None:
    source = Image.new(mode, (20, 20))
    source.info["icc_profile"] = srgb()[:16] + {"L": b"GRAY", "CMYK": b"CMYK"}[mode] + b"nonsense"
    picture = picture_from_pil(source)
    assert picture.rgb.shape == (20, 20, 3) and picture.icc_profile is None


def test_profile_that_does_not_describe_rgb_is_dropped(pixels: Pixels) -> None:
    source = Image.fromarray(pixels)
    source.info["icc_profile"] = grey_profile()
    assert picture_from_pil(source).icc_profile is None


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_alpha_survives(format: str, pixels: Pixels) -> None:
    alpha = np.tile(np.linspace(0, 255, 41, dtype=np.uint8), (30, 1))
    picture = read_image(encode_image(Picture(pixels, alpha), format, quality=100))
    assert picture.alpha is not None and np.array_equal(picture.alpha, alpha)


@pytest.mark.parametrize("format", ["JPEG", "BMP"])
def test_without_alpha_the_picture_lies_on_white(format: str, pixels: Pixels) -> None:
    alpha = np.full(pixels.shape[:2], 255, np.uint8)
    alpha[:, :16] = 0
    picture = read_image(encode_image(Picture(pixels, alpha), format, quality=100))
    assert picture.alpha is None
    assert picture.rgb[:, :8].min() >= 253
    assert np.abs(picture.rgb[:, 24:].astype(int) - pixels[:, 24:]).max() <= 6


def test_what_hides_under_alpha_0_is_filled(pixels: Pixels) -> None:
    alpha = np.full(pixels.shape[:2], 255, np.uint8)
    alpha[:, :10] = 0
    picture = read_image(encoded(Image.fromarray(np.dstack((pixels, alpha))), "PNG"))
    mean = pixels[:, 10:].reshape(-1, 3).mean(axis=0)
    assert np.abs(picture.rgb[:, :10] - mean).max() <= 0.5
    assert np.array_equal(picture.rgb[:, 10:], pixels[:, 10:])


def test_a_wholly_transparent_picture_is_read(pixels: Pixels) -> None:
    picture = read_image(encoded(Image.fromarray(np.dstack((pixels, np.zeros(pixels.shape[:2], np.uint8)))), "PNG"))
    assert picture.alpha is not None and not picture.alpha.any()


@pytest.mark.parametrize("mode", ["LA", "PA", "P"])
def test_other_kinds_of_transparency(mode: str) -> None:
    source = Image.new("RGBA", (20, 20), (50, 50, 50, 255))
    source.paste((200, 0, 0, 0), (0, 0, 10, 20))
    alpha = source.getchannel("A")
    if mode == "LA":
        source = source.convert("LA")
    else:
        source = source.convert("RGB").quantize(4)
        if mode == "P":
            source.info["transparency"] = source.getpixel((0, 0))
        else:
            source.putalpha(alpha)
    assert source.mode == mode
    picture = picture_from_pil(source)
    assert picture.alpha is not None
    assert picture.alpha[0, 0] == 0 and picture.alpha[0, 15] == 255
    assert picture.rgb[0, 15].tolist() == [50, 50, 50]


def test_of_an_animation_the_first_frame_is_read() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    picture = read_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert picture.rgb[0, 0].tolist() == [255, 0, 0]
    assert picture.format == "PNG", "GIF is not written"


def test_a_pil_image_is_left_as_it_is(pixels: Pixels) -> None:
    source = Image.open(io.BytesIO(encoded(Image.fromarray(pixels), "JPEG", exif=exif(6).tobytes())))
    picture = picture_from_pil(source)
    assert source.size == (41, 30) and source.getexif()[ExifTags.Base.Orientation] == 6
    back = picture.to_pil()
    assert back.size == (30, 41) and back.mode == "RGB"
    assert back.getexif()[ExifTags.Base.Make] == "Camera"


def test_fit_within_bounds_the_longer_side_and_never_enlarges(pixels: Pixels) -> None:
    picture = Picture(pixels, np.full(pixels.shape[:2], 255, np.uint8))
    small = fit_within(picture, 20)
    assert small.rgb.shape == (15, 20, 3)
    assert small.alpha is not None and small.alpha.shape == (15, 20)
    assert fit_within(picture, 41) is picture and fit_within(picture, 1000) is picture
    assert fit_within(Picture(np.zeros((1000, 2, 3), np.uint8)), 100).rgb.shape == (100, 1, 3)


def test_quality_and_full_colour_of_jpeg(pixels: Pixels) -> None:
    noise = Picture(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert len(encode_image(noise, "JPEG", 30)) < len(encode_image(noise, "JPEG", 95))
    layers = Image.open(io.BytesIO(encode_image(noise, "JPEG"))).layer  # type: ignore[attr-defined]
    assert [layer[1:3] for layer in layers] == [(1, 1)] * 3, "4:4:4"


def test_a_resolution_that_is_none_is_left_out(tmp_path: Path, pixels: Pixels) -> None:
    image = Image.fromarray(pixels)
    image.info["dpi"] = (float("nan"), 0.0)
    picture = picture_from_pil(image)
    assert picture.dpi is None
    save_image(picture, tmp_path / "photo.tif")


def test_format_comes_from_the_suffix(tmp_path: Path, pixels: Pixels) -> None:
    for suffix, format in [(".JPG", "JPEG"), (".png", "PNG"), (".webp", "WEBP"), (".tif", "TIFF"), (".bmp", "BMP")]:
        path = tmp_path / f"photo{suffix}"
        save_image(Picture(pixels), path)
        with Image.open(path) as image:
            assert image.format == format
    assert len(list(tmp_path.iterdir())) == 5, "no temporary file stays"


@pytest.mark.parametrize("name", ["photo.gif", "photo.xyz", "photo", "photo.onnx"])
def test_a_suffix_that_cannot_be_written(name: str) -> None:
    with pytest.raises(ImageError, match=r"cannot be written: end it in \.jpg, .*\.png"):
        format_of(name)


def test_saving_replaces_a_file_and_respects_the_umask(tmp_path: Path, pixels: Pixels) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(b"old")
    save_image(Picture(pixels), path)
    plain = tmp_path / "plain"
    plain.touch()
    assert np.array_equal(read_image(path).rgb, pixels)
    assert path.stat().st_mode == plain.stat().st_mode


def test_list_images_is_recursive_sorted_and_skips_hidden(tmp_path: Path) -> None:
    for name in ["b.JPG", "a.png", "sub/c.webp", "sub/.hidden.png", ".cache/d.png", "notes.txt", "sub/deep/e.gif"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert names == ["a.png", "b.JPG", "sub/c.webp", "sub/deep/e.gif"]
    with pytest.raises(ImageError, match="is not a folder: check the path"):
        list_images(tmp_path / "missing")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((100, 100), (100, 100)),
        ((400, 100), (200, 50)),
        ((300, 300), (100, 100)),
        ((5000, 20), (625, 16)),
        ((20, 5000), (16, 625)),
    ],
)
def test_fit_pixels(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """Width and height before and after, for at most 10000 pixels."""
    fitted = fit_pixels(np.zeros((size[1], size[0], 3), np.uint8), 10_000)
    assert fitted.shape[1::-1] == expected


def test_without_grain() -> None:
    stroke = np.zeros((20, 30, 3), np.uint8)
    stroke[4:9, 6:24] = (200, 120, 40)
    grain = stroke.copy()
    grain[::4, ::4] = 255
    grain[2::4, 2::4] = 0
    found = without_grain(grain, 3)
    inside = np.ones((20, 30), bool)
    inside[[4, 8], :] = inside[:, [6, 23]] = False  # a corner is not its own median
    assert np.array_equal(found[inside], stroke[inside]), "grain is gone, the stroke's edges stand"
    assert np.array_equal(without_grain(grain, 1), grain)


def test_scale_short_side() -> None:
    assert scale_short_side(np.zeros((30, 90, 3), np.uint8), 60).shape == (60, 180, 3)
    assert scale_short_side(np.zeros((90, 31, 3), np.uint8), 15).shape == (44, 15, 3)


def test_what_holds_the_old_pixels_is_left_out(pixels: Pixels) -> None:
    """Photoshop shows the layers of a TIFF rather than its pixels."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag in (34377, 37724):
        tags.tagtype[tag] = 7
        tags[tag] = b"8BIM" * 100
    tags[271] = "Camera"
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "TIFF", tiffinfo=tags)
    for format in ("TIFF", "JPEG", "PNG"):
        with Image.open(io.BytesIO(encode_image(read_image(buffer.getvalue()), format))) as image:
            exif = image.getexif()
        assert exif[271] == "Camera"
        assert 34377 not in exif and 37724 not in exif


def test_a_large_profile_survives(pixels: Pixels) -> None:
    noise = np.random.default_rng(0).bytes(3 << 20)
    profile, buffer, limit = noise[:16] + b"RGB " + noise[20:], io.BytesIO(), PngImagePlugin.MAX_TEXT_CHUNK
    Image.fromarray(pixels).save(buffer, "PNG", icc_profile=profile)
    assert read_image(buffer.getvalue()).icc_profile == profile
    assert limit == PngImagePlugin.MAX_TEXT_CHUNK
