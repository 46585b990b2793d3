"""Which photos a model is measured on, and which part of them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from faststyle.errors import ImageError
from faststyle.evaluate.photos import find_photos, spread
from faststyle.images import middle_square
from faststyle.training.data import ValidationPhotos


@pytest.fixture
def greys(tmp_path: Path) -> Path:
    """Ten grey photos, 0 to 9 levels bright in the order of their names."""
    for level in range(10):
        Image.new("RGB", (70, 64), (level, level, level)).save(tmp_path / f"{level}.png")
    return tmp_path


def levels(folder: Path, count: int) -> list[int]:
    return [int(photo[0, 0, 0]) for photo in spread(find_photos(folder), count)]


def test_they_are_evenly_spread(greys: Path) -> None:
    assert levels(greys, 10) == list(range(10))
    assert levels(greys, 4) == [0, 2, 5, 7]
    assert levels(greys, 7) == [0, 1, 2, 4, 5, 7, 8]
    assert levels(greys, 1) == [0]


def test_broken_and_tiny_ones_are_passed_over_with_a_note(greys: Path, caplog: pytest.LogCaptureFixture) -> None:
    (greys / "2.png").write_bytes((greys / "2.png").read_bytes()[:60])
    Image.new("RGB", (70, 63)).save(greys / "5.png")
    for name in ("7.png", "8.png", "9.png"):  # a whole part
        (greys / name).write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING, "faststyle"):
        assert levels(greys, 4) == [0, 3, 6]
    notes = [record.getMessage() for record in caplog.records]
    assert len(notes) == 5 and all(note.startswith("passed over: ") and "\n" not in note for note in notes)
    assert "5.png has only 70 x 63 pixels" in notes[1]


def test_a_folder_that_does_not_serve(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nowhere is not a folder: name a folder of photos with --photos"):
        find_photos(tmp_path / "nowhere")
    with pytest.raises(ImageError, match=r"holds no photos: name another folder with --photos"):
        find_photos(tmp_path)


@pytest.mark.parametrize("shape", [(80, 131, 3), (131, 80, 3), (300, 301, 3)])
def test_the_square_is_that_of_the_validation(shape: tuple[int, ...], tmp_path: Path) -> None:
    photo: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    theirs = ValidationPhotos([tmp_path / "photo.png"])[0].permute(1, 2, 0).numpy()
    assert np.array_equal(middle_square(photo, 256), theirs)
    assert middle_square(photo, 32).shape == (32, 32, 3)


def test_the_square_is_the_middle() -> None:
    photo = np.zeros((64, 100, 3), np.uint8)
    photo[:, 18:82] = 200
    assert np.array_equal(middle_square(photo, 64), np.full((64, 64, 3), 200))
    assert np.array_equal(middle_square(photo.transpose(1, 0, 2), 64), np.full((64, 64, 3), 200))
