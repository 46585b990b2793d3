"""Pictures in and out: whatever Pillow reads becomes RGB bytes, and goes back with what it came with.

A picture is read upright, as 8-bit RGB, with its alpha, colour profile, EXIF, XMP and resolution set aside; it is
written whole or not at all.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageFilter, ImageOps, PngImagePlugin, UnidentifiedImageError

from faststyle.errors import ImageError, first_line
from faststyle.files import write_file

__all__ = [
    "Picture",
    "encode_image",
    "fit_pixels",
    "fit_within",
    "format_of",
    "list_images",
    "middle_square",
    "picture_from_pil",
    "read_image",
    "read_size",
    "resize_rgb",
    "save_image",
    "scale_short_side",
    "with_pixels",
    "without_grain",
]

_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""What is written for each suffix. GIF is only read: its 256 colours hold no painting."""
_READABLE = {*_FORMATS, ".gif"}
LEAST = 16
"""Shortest side in pixels to which a picture is scaled down for its number of pixels: what networks take."""
_WITH_ALPHA = {"PNG", "WEBP", "AVIF", "TIFF"}
_JPEG_EXIF_LIMIT, _JPEG_XMP_LIMIT = 65533, 65504
"""Most bytes of EXIF and XMP that one JPEG segment holds."""

_ORIENTATION, _XMP = 0x0112, 700
_LAYOUT = {*range(254, 260), 262, 266, 273, *range(277, 280), 284, 317, 320, *range(322, 326), 338, 339, 34675}
_OLD_PIXELS = _LAYOUT | {330, 347, 34377, 37724}
"""TIFF tags that describe how the pixels were stored, or hold the photo once more (smaller pages, Photoshop's thumbnail
and layers); in a rewritten picture they would be wrong."""
_EXIF_DIMENSIONS = (0xA002, 0xA003)
_LARGEST_PROFILE = 32 << 20
"""Most bytes of a PNG's colour profile."""
_PROFILE_SPACE = {"L": b"GRAY", "CMYK": b"CMYK"}
"""Modes whose own profile is used up on the way to sRGB, and the colour space that it must name."""

_opening = threading.Lock()
_log = logging.getLogger("faststyle")


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture in memory: pixels, and what it takes to write it back the way it came.

    `rgb` is uint8 H x W x 3 and `alpha` uint8 H x W or None. `icc_profile` describes the RGB values; None means sRGB.
    `format` is the one it was read in where that can be written, else PNG. `name` is what messages call it.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    format: str = "PNG"
    name: str = "the picture"

    def to_pil(self) -> Image.Image:
        """The picture as a PIL image, RGB or RGBA, with its metadata in `info`."""
        channels = self.rgb if self.alpha is None else np.dstack((self.rgb, self.alpha))
        image = Image.fromarray(np.ascontiguousarray(channels))
        kept = {"icc_profile": self.icc_profile, "exif": self.exif, "xmp": self.xmp, "dpi": self.dpi}
        image.info.update({key: value for key, value in kept.items() if value is not None})
        return image


def read_image(source: str | os.PathLike[str] | bytes | BinaryIO) -> Picture:
    """Read a picture from a path, its bytes or a binary file; of an animation the first frame.

    Raises ImageError where it is missing, damaged, no picture, or larger than Pillow's limit on decompression bombs.
    """
    with _opened(source) as (image, name):
        return picture_from_pil(image, name)


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height in the header of a picture, before orientation; raises ImageError as `read_image` does."""
    with _opened(path) as (image, _):
        return image.size


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | bytes | BinaryIO) -> Iterator[tuple[Image.Image, str]]:
    """A picture opened by Pillow, and what messages call it; what goes wrong meanwhile becomes an ImageError."""
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        if os.path.isdir(name):
            raise ImageError(f"{name} is a folder: name a picture in it")
    else:
        name = str(getattr(source, "name", "the picture"))
        source = io.BytesIO(source if isinstance(source, bytes) else source.read())
    with _read_errors(name):
        # Pillow warns of large pictures below its limit too. The lock is there because warning filters are global.
        with _opening, warnings.catch_warnings(), _large_profiles():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(source)
        with image:
            yield image, name


@contextlib.contextmanager
def _large_profiles() -> Iterator[None]:
    """Let Pillow open PNGs with a profile above 1 MiB, as scanners and printers have: it takes them for an attack."""
    limit = PngImagePlugin.MAX_TEXT_CHUNK
    PngImagePlugin.MAX_TEXT_CHUNK = max(limit, _LARGEST_PROFILE)
    try:
        yield
    finally:
        PngImagePlugin.MAX_TEXT_CHUNK = limit


@contextlib.contextmanager
def _read_errors(name: str) -> Iterator[None]:
    """Turn what Pillow answers within this into ImageErrors that name the picture and the remedy."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist: check the path") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name} is no picture that can be read: convert it to JPEG or PNG") from None
    except Image.DecompressionBombError as error:
        # Pillow's message is the only place that tells the size: pixels, then the limit.
        size, limit, *_ = [f"{int(number) // 1_000_000} megapixels" for number in re.findall(r"\d+", str(error))]
        raise ImageError(f"{name} has {size}, more than the {limit} that are read: scale it down first") from None
    except Exception as error:  # Pillow's decoders answer damaged files with a dozen kinds
        raise ImageError(f"{name} cannot be read ({first_line(error)}): get an undamaged copy") from None


def picture_from_pil(image: Image.Image, name: str = "the picture") -> Picture:
    """Take over a PIL image, which stays as it is: upright, 8-bit RGB, hidden pixels filled, metadata kept.

    Orientation is applied and reset in the EXIF. Grey and CMYK with a profile of their own become sRGB through it. What
    lies under alpha 0 becomes the mean of the pixels that show, so that it cannot bleed into them. Raises ImageError
    where its file turns out to be damaged, which shows only now.
    """
    with _read_errors(name):
        exif = _kept_exif(image, name)  # before the pixels are loaded: a TIFF file is closed by that
        format = "JPEG" if image.format == "MPO" else image.format or "PNG"
        image = ImageOps.exif_transpose(image)
        info = image.info
        xmp, dpi = info.get("xmp"), info.get("dpi")
        if image.mode == "F" or image.mode.startswith("I"):
            image = _to_8_bit(image)
        alpha = None
        if image.has_transparency_data:
            layered = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
            alpha = np.array(layered.getchannel("A"))
            image = layered.convert(layered.mode.removesuffix("A"))
        converted, profile = _to_rgb(image, info.get("icc_profile"))
        rgb = np.array(converted)
        if alpha is not None:
            hidden = alpha == 0
            if hidden.any() and not hidden.all():
                rgb[hidden] = np.rint(rgb[~hidden].mean(axis=0))
        return Picture(
            rgb,
            alpha,
            profile,
            exif,
            xmp.encode() if isinstance(xmp, str) else xmp,
            (float(dpi[0]), float(dpi[1]))
            if dpi and all(math.isfinite(value) and value > 0 for value in dpi)
            else None,
            format if format in _FORMATS.values() else "PNG",
            name,
        )


def fit_within(picture: Picture, size: int) -> Picture:
    """Scale down so that the longer side has at most `size` pixels; a smaller picture is returned as it is."""
    height, width = picture.rgb.shape[:2]
    scale = size / max(height, width)
    if scale >= 1:
        return picture
    return with_pixels(picture, resize_rgb(picture.rgb, max(1, round(width * scale)), max(1, round(height * scale))))


def with_pixels(picture: Picture, rgb: NDArray[np.uint8]) -> Picture:
    """The picture with new pixels, of another size perhaps: its alpha is scaled along, its metadata kept."""
    alpha, size = picture.alpha, rgb.shape[1::-1]
    if alpha is not None and alpha.shape[::-1] != size:
        alpha = np.array(Image.fromarray(alpha).resize(size, Image.Resampling.LANCZOS))
    return replace(picture, rgb=rgb, alpha=alpha)


def resize_rgb(rgb: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Scale uint8 H x W x 3 with Lanczos."""
    return np.array(Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS))


def fit_pixels(rgb: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    """Scale uint8 H x W x 3 down to about `pixels` pixels, but no side below LEAST; a smaller one stays as it is."""
    height, width = rgb.shape[:2]
    scale = (pixels / (height * width)) ** 0.5
    if scale >= 1:
        return rgb
    height, width = (max(LEAST, round(side * scale)) for side in (height, width))
    # A long narrow picture is squeezed along its length rather than let through.
    longest = max(LEAST, pixels // min(height, width))
    return resize_rgb(rgb, min(width, longest), min(height, longest))


def scale_short_side(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Scale uint8 H x W x 3 so that the shorter side has `side` pixels."""
    scale = side / min(rgb.shape[:2])
    return resize_rgb(rgb, round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))


def without_grain(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Each pixel the median of `side` x `side` around it, channel by channel, `side` odd; 1 leaves the picture.

    That takes grain away and leaves strokes their edges. uint8 H x W x 3 to the same.
    """
    return rgb if side == 1 else np.array(Image.fromarray(rgb).filter(ImageFilter.MedianFilter(side)))


def middle_square(rgb: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The largest square in the middle of uint8 H x W x 3, scaled to `size` x `size` bicubically without aliases."""
    height, width = rgb.shape[:2]
    short = min(height, width)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    return np.array(Image.fromarray(rgb).resize((size, size), Image.Resampling.BICUBIC, box))


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that a path's suffix asks for, such as JPEG; raises ImageError for one that cannot be written."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        what = f"the suffix {suffix}" if suffix else "no suffix"
        raise ImageError(f"{os.fspath(path)} has {what}, which cannot be written: end it in {', '.join(_FORMATS)}")
    return _FORMATS[suffix]


def save_image(picture: Picture, path: str | os.PathLike[str], quality: int = 95) -> None:
    """Write a picture in the format of the path's suffix, whole or not at all; see `encode_image` and `write_file`.

    Raises ImageError where the format does not take it, WriteError where the folder or the disk does not.
    """
    write_file(path, encode_image(picture, format_of(path), quality))


def encode_image(picture: Picture, format: str, quality: int = 95) -> bytes:
    """Encode as JPEG, PNG, WEBP, AVIF, TIFF or BMP, with what the format holds of alpha and metadata.

    `quality` runs from 1 to 100 and serves JPEG (colour at full resolution), WebP and AVIF. JPEG and BMP know no alpha:
    there the picture lies on white. Raises ImageError where the format does not take the picture.
    """
    if picture.alpha is None or format in _WITH_ALPHA:
        image = replace(picture, icc_profile=None, exif=None, xmp=None, dpi=None).to_pil()
    else:
        image = Image.new("RGB", picture.alpha.shape[::-1], "white")
        image.paste(Image.fromarray(picture.rgb), mask=Image.fromarray(picture.alpha))
    buffer = io.BytesIO()
    try:
        image.save(buffer, format, **_save_options(picture, format, quality))
    except Exception as error:  # an encoder that this Pillow lacks raises KeyError, a limit OSError or ValueError
        raise ImageError(f"{picture.name} cannot be written as {format} ({first_line(error)}): choose .png") from None
    return buffer.getvalue()


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """All pictures below a folder by their suffix, sorted; hidden files and folders are passed over.

    Links to folders are not followed, and folders that cannot be read are passed over with a warning. Raises ImageError
    where there is no such folder, or it cannot be read itself.
    """
    if not os.path.isdir(folder):
        raise ImageError(f"{os.fspath(folder)} is not a folder: check the path")
    found: list[Path] = []

    def passed_over(error: OSError) -> None:
        if error.filename == os.fspath(folder):
            raise ImageError(f"{error.filename} cannot be read ({error.strerror}): check its permissions")
        _log.warning("%s is passed over: it cannot be read (%s)", error.filename, error.strerror)

    for parent, folders, files in os.walk(folder, onerror=passed_over):
        folders[:] = [name for name in folders if not name.startswith(".")]
        shown = (name for name in files if not name.startswith("."))
        found += [Path(parent, name) for name in shown if os.path.splitext(name)[1].lower() in _READABLE]
    return sorted(found)


def _kept_exif(image: Image.Image, name: str) -> bytes | None:
    """The EXIF without what no longer holds: orientation, pixel layout, dimensions and the thumbnail of the photo."""
    try:
        exif = Image.Exif()
        exif.load(image.getexif().tobytes())  # a copy: the image keeps its own; a thumbnail (IFD 1) is left behind
        for tag in (*_OLD_PIXELS, _XMP):
            exif.pop(tag, None)
        if ExifTags.IFD.Exif in exif:
            for tag in _EXIF_DIMENSIONS:
                exif.get_ifd(ExifTags.IFD.Exif).pop(tag, None)
        if _ORIENTATION in exif:
            exif[_ORIENTATION] = 1
        return exif.tobytes() if exif else None
    except Exception as error:  # damaged EXIF must not cost the photo
        _log.info("%s: its EXIF is damaged and left out (%s)", name, first_line(error))
        return None


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits as 8-bit grey.

    Integers count up to 65535 and floats up to 1, or to 255 where they exceed 1; what leaves that range is stretched.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    for top in (1.0, 255.0) if image.mode == "F" else (65535.0,):
        if low >= 0 and high <= top:
            low, high = 0.0, top
            break
    grey = (values - low) * (255 / (high - low if high > low else 1))
    return Image.fromarray(np.rint(grey).astype(np.uint8))


def _to_rgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """The image as RGB, and the profile that describes it from now on."""
    space = profile[16:20] if profile else b""
    if profile and _PROFILE_SPACE.get(image.mode) == space:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            through = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            through = None  # a damaged profile: convert as if there were none
        if through is not None:
            return through, None
    keeps = space == b"RGB " and image.mode not in ("CMYK", "LAB")
    return image.convert("RGB"), profile if keeps else None


def _save_options(picture: Picture, format: str, quality: int) -> dict[str, Any]:
    """What Pillow is told for a format: metadata as far as it holds them, and quality."""
    exif, xmp = picture.exif, picture.xmp
    if format == "JPEG" and exif is not None and len(exif) > _JPEG_EXIF_LIMIT:
        _log.info("%s: its EXIF is too long for JPEG and left out", picture.name)
        exif = None
    if format == "JPEG" and xmp is not None and len(xmp) > _JPEG_XMP_LIMIT:
        _log.info("%s: its XMP is too long for JPEG and left out", picture.name)
        xmp = None
    options: dict[str, Any] = {"icc_profile": picture.icc_profile, "exif": exif, "dpi": picture.dpi}
    if format in ("JPEG", "WEBP", "AVIF"):
        options |= {"quality": quality, "xmp": xmp}
    if format in ("JPEG", "AVIF"):
        options["subsampling"] = "4:4:4"
    elif format == "TIFF" and xmp is not None:  # uncompressed: libtiff, which compresses, takes no EXIF
        tags = Image.Exif()
        if exif is not None:
            tags.load(exif)
        tags[_XMP] = xmp
        options["exif"] = tags
    elif format == "PNG" and xmp is not None:
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode(errors="replace"))
        options["pnginfo"] = text
    return {key: value for key, value in options.items() if value is not None}
