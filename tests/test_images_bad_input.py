"""Pictures that cannot be read or written: each takes one line, and nothing half-written stays."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from faststyle.errors import ImageError, WriteError
from faststyle.images import (
    Picture,
    encode_image,
    list_images,
    picture_from_pil,
    read_image,
    save_image,
)

Pixels = NDArray[np.uint8]


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def one_line(error: pytest.ExceptionInfo[ImageError] | pytest.ExceptionInfo[WriteError], *parts: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError) as error:
        read_image(path)
    one_line(error, str(path), ": ")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_picture_cut_short(format: str, pixels: Pixels) -> None:
    data = encoded(Image.fromarray(pixels), format)
    with pytest.raises(ImageError) as error:
        read_image(data[: len(data) * 2 // 3])
    one_line(error, "the picture")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as error:
        read_image(tmp_path / "photo.jpg")
    one_line(error, "photo.jpg does not exist: check the path")
    with pytest.raises(ImageError) as error:
        read_image(tmp_path)
    one_line(error, f"{tmp_path} is a folder: name a picture in it")


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(20_000, 20_000))
    with pytest.raises(ImageError) as error:
        read_image(path)
    one_line(error, str(path), "400 megapixels, more than the 178 megapixels that are read: scale it down first")


def test_a_large_picture_below_the_limit_is_read_without_a_warning(
    monkeypatch: pytest.MonkeyPatch, pixels: Pixels
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels.shape[0] * pixels.shape[1] - 1)
    data = encoded(Image.fromarray(pixels), "PNG")
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(data))
    assert np.array_equal(read_image(data).rgb, pixels)  # warnings are errors here


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Writing a file fails half-way."""

    def write(self: Path, data: bytes) -> int:
        with open(self, "wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write)
        yield


def test_a_full_disk_leaves_no_partial_file(tmp_path: Path, pixels: Pixels, full_disk: None) -> None:
    path = tmp_path / "photo.png"
    with pytest.raises(WriteError) as error:
        save_image(Picture(pixels), path)
    one_line(error, f"{path} cannot be written (No space left on device): free some space or choose another disk")
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder(tmp_path: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: Path, data: bytes) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(WriteError) as error:
        save_image(Picture(pixels), tmp_path / "photo.png")
    one_line(error, "photo.png cannot be written (Permission denied): choose another folder")


def test_a_missing_folder_and_a_file_in_its_place(tmp_path: Path, pixels: Pixels) -> None:
    with pytest.raises(WriteError) as error:
        save_image(Picture(pixels), tmp_path / "missing" / "photo.png")
    one_line(error, "there is no folder", "create it first")
    (tmp_path / "file").touch()
    with pytest.raises(WriteError) as error:
        save_image(Picture(pixels), tmp_path / "file" / "photo.png")
    one_line(error, "cannot be written (Not a directory): choose another folder")


def test_what_is_no_file_is_not_replaced(tmp_path: Path, pixels: Pixels) -> None:
    (tmp_path / "photo.png").mkdir()
    with pytest.raises(WriteError, match="is not a file: choose another name"):
        save_image(Picture(pixels), tmp_path / "photo.png")
    (tmp_path / "full.png").symlink_to("/dev/full")
    with pytest.raises(WriteError, match="is not a file: choose another name"):
        save_image(Picture(pixels), tmp_path / "full.png")


def test_a_picture_that_a_format_does_not_hold(pixels: Pixels) -> None:
    wide = Picture(np.zeros((1, 70_000, 3), np.uint8), name="wide.png")
    with pytest.raises(ImageError) as error:
        encode_image(wide, "JPEG")
    one_line(error, "wide.png cannot be written as JPEG", "choose .png")
    with pytest.raises(ImageError, match="cannot be written as NONSENSE"):
        encode_image(replace(wide, rgb=pixels), "NONSENSE")


def test_a_pil_image_of_a_file_cut_short(pixels: Pixels) -> None:
    """Pillow decodes when the pixels are asked for."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    with Image.open(io.BytesIO(buffer.getvalue()[:-60])) as image, pytest.raises(ImageError, match="cannot be read"):
        picture_from_pil(image)


def test_list_images_tells_of_folders_that_it_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "private/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    closed, scandir = "private", os.scandir

    def guarded(path: str) -> Any:
        if os.path.basename(path) == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)  # root may read everything
    assert list_images(tmp_path) == [tmp_path / "a.png"]
    assert f"{tmp_path / 'private'} is passed over: it cannot be read (Permission denied)" in caplog.text
    closed = tmp_path.name
    with pytest.raises(ImageError, match=r"cannot be read \(Permission denied\): check its permissions"):
        list_images(tmp_path)
