"""`faststyle sheet`: a photo in every style there is, on one sheet."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from faststyle import Stylizer
from faststyle.cli import main
from faststyle.images import fit_within, read_image
from faststyle.sheet import GAP

ROOT = Path(__file__).parents[2]


def rgb(path: str) -> NDArray[np.uint8]:
    return read_image(path).rgb


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that fails with one line, beside its progress, and writes nothing; returns that line."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("faststyle: error: ") == 1
    *progress, last = err.splitlines()
    assert all(": " in line and not line.startswith("faststyle") for line in progress)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    return last.removeprefix("faststyle: error: ")


def cells(picture: NDArray[np.uint8], width: int, height: int, columns: int) -> list[NDArray[np.uint8]]:
    """The pictures on a sheet, row by row."""
    across = width + GAP
    rows = (picture.shape[0] - GAP) // (height + 2 * max(11, width // 26) + GAP)
    down = (picture.shape[0] - GAP) // rows
    places = [(GAP + row * down, GAP + column * across) for row in range(rows) for column in range(columns)]
    return [picture[top : top + height, left : left + width] for top, left in places]


def test_as_a_user_runs_it(hall: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "faststyle", "sheet", "photo.png", "--model", "gallery", "negative"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout) == (0, b"photo-sheet.png\n")
    assert done.stderr.decode().splitlines() == [
        "gallery starry: The Starry Night, Vincent van Gogh",
        "gallery wave: The Great Wave, Katsushika Hokusai",
        "gallery sheet: Sheet 3/4",
        "negative: Negative, Nobody",
    ]


def test_the_photo_and_every_style_in_rows(hall: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sheet", "photo.png", "-o", "out/all.png"]) == 0
    assert capsys.readouterr().out == "out/all.png\n"
    picture, photo = rgb("out/all.png"), rgb("photo.png")
    # Five pictures of 60 x 45 pixels, three in a row, each with two lines of 11 pixels below it.
    assert picture.shape == (2 * (45 + 22 + GAP) + GAP, 3 * (60 + GAP) + GAP, 3)
    shown = cells(picture, 60, 45, 3)
    gallery = Stylizer("gallery", provider="cpu")
    expected = [photo, *(gallery.styled(name)(photo) for name in gallery.styles), 255 - photo]
    assert all(np.array_equal(one, other) for one, other in zip(shown, expected, strict=False))
    assert (shown[5] == 255).all() and (picture[:GAP] == 255).all() and (picture[:, :GAP] == 255).all()
    below = picture[GAP + 45 : GAP + 45 + 22, GAP : GAP + 60]
    assert (below < 128).any(), "there is a label"


def test_chosen_models_columns_and_size(hall: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(rgb("photo.png")).resize((600, 450)).save("large.jpg")
    one = ["sheet", "large.jpg", "-m", "negative", "checkpoints/negative.onnx", "--size", "100"]
    assert main([*one, "--columns", "2", "-o", "two.png"]) == 0
    picture, photo = rgb("two.png"), fit_within(read_image("large.jpg"), 100).rgb
    assert photo.shape == (75, 100, 3)
    assert picture.shape == (2 * (75 + 22 + GAP) + GAP, 2 * (100 + GAP) + GAP, 3)
    shown = cells(picture, 100, 75, 2)
    assert all(np.array_equal(one, other) for one, other in zip(shown, [photo, 255 - photo, 255 - photo], strict=False))
    assert main([*one, "--columns", "9", "-o", "three.png"]) == 0
    assert rgb("three.png").shape == (75 + 22 + 2 * GAP, 3 * (100 + GAP) + GAP, 3), "no wider than there are pictures"
    assert main(["sheet", "large.jpg", "-m", "negative"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "large-sheet.jpg"
    assert rgb("large-sheet.jpg").shape == (300 + 30 + 2 * GAP, 2 * (400 + GAP) + GAP, 3)


def test_a_model_without_a_card_goes_by_its_name(
    hall: Path, zoo_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sheet", "photo.png", "-m", str(zoo_model), "-o", "out.png"]) == 0
    assert "candy\n" in capsys.readouterr().err
    assert np.array_equal(cells(rgb("out.png"), 60, 45, 2)[1], 255 - rgb("photo.png"))


def test_labels_of_any_length_fit(hall: Path) -> None:
    Image.fromarray(rgb("photo.png")).resize((64, 17)).save("narrow.png")
    assert main(["sheet", "narrow.png", "-o", "out.png", "--size", "64"]) == 0
    assert (rgb("out.png")[:, -GAP:] == 255).all()


def test_a_photo_of_another_kind_goes_to_a_png(hall: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(rgb("photo.png")).save("anim.gif")
    assert main(["sheet", "anim.gif", "-m", "negative"]) == 0
    assert capsys.readouterr().out == "anim-sheet.png\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "missing.png does not exist: check the path"),
        (["text.png"], "text.png is no picture that can be read"),
        (["photo.png", "-m", "galery"], "there is no model galery: did you mean gallery?"),
        (["photo.png", "-m", "gallery", "text.png"], "text.png is no ONNX model, or one cut short"),
        (["photo.png", "-o", "photo.png"], "photo.png is one of the pictures to be read and would be overwritten"),
        (["photo.png", "-o", "./checkpoints/../photo.png"], "would be overwritten: choose another name"),
        (["photo.png", "-o", "sheet.xyz"], "which cannot be written"),
        (["photo.png", "-o", "text.png/sheet.png"], "text.png"),
        (["dot.png"], "dot.png has 9 x 9 pixels: take one of at least 16 x 16"),
    ],
)
def test_what_cannot_be_is_one_line(
    hall: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text.png").write_text("no picture")
    Image.new("RGB", (9, 9)).save("dot.png")
    assert message in fails(capsys, "sheet", *arguments)


def test_without_models(hall: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("checkpoints")
    assert fails(capsys, "sheet", "photo.png").startswith("there are no models in checkpoints: train one with ")


@pytest.mark.parametrize("arguments", [["--size", "10"], ["--columns", "0"], ["--columns", "x"], ["other.png"]])
def test_wrong_usage_exits_with_2(hall: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sheet", "photo.png", *arguments]) == 2
    assert capsys.readouterr().out == ""
