"""`faststyle stylize --style --strength --keep-colors`."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from faststyle import Stylizer
from faststyle.checkpoints import read_sidecar
from faststyle.cli import main
from faststyle.colors import LUMA
from faststyle.images import read_image

ROOT = Path(__file__).parents[2]


def rgb(path: str) -> NDArray[np.uint8]:
    return read_image(path).rgb


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that fails with one line and writes nothing, and return that line."""
    before = sorted(Path().rglob("*"))
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("faststyle: error: ") and err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
    return err.removeprefix("faststyle: error: ").rstrip("\n")


def chrominance(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Each channel less the luminance."""
    pixels = image.astype(float)
    difference: NDArray[np.float64] = pixels - (pixels @ np.array(LUMA))[..., None]
    return difference


def test_as_a_user_runs_it(hall: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "faststyle", "stylize", "photo.png", "--style", "wave", "--strength", "0.5"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"photo-wave.png\n", b"")
    expected = Stylizer("gallery", provider="cpu").styled("wave", 0.5)(rgb("photo.png"))
    assert np.array_equal(rgb("photo-wave.png"), expected)


def test_the_gallerys_first_style_is_the_default(hall: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stylize", "photo.png"]) == 0
    assert main(["stylize", "photo.png", "--style", "starry", "-m", "gallery"]) == 0
    assert capsys.readouterr().out == "photo-gallery.png\nphoto-starry.png\n"
    assert np.array_equal(rgb("photo-gallery.png"), rgb("photo-starry.png"))


def test_a_mixture_is_called_after_its_styles(hall: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stylize", "photo.png", "-s", "starry:0.6,wave:0.4"]) == 0
    assert capsys.readouterr().out == "photo-starry-wave.png\n"
    expected = Stylizer("gallery", provider="cpu").styled([0.6, 0.4, 0])(rgb("photo.png"))
    assert np.array_equal(rgb("photo-starry-wave.png"), expected)


def test_strength_0_is_the_photo(hall: Path) -> None:
    assert main(["stylize", "photo.png", "--strength", "0", "-o", "same.png"]) == 0
    assert np.array_equal(rgb("same.png"), rgb("photo.png"))


def test_a_batch_in_one_style(hall: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.png").write_bytes(Path("photo.png").read_bytes())
    assert main(["stylize", "photo.png", "other.png", "-s", "wave", "--keep-colors", "luminance", "-o", "out"]) == 0
    assert main(["stylize", "photo.png", "-s", "wave", "--keep-colors", "luminance", "-o", "one.png"]) == 0
    assert np.array_equal(rgb("out/other.png"), rgb("one.png"))
    assert np.array_equal(rgb("out/photo.png"), rgb("one.png"))


def test_kept_chrominance_is_the_photos(hall: Path) -> None:
    for keep in ([], ["--keep-colors", "luminance"]):
        assert main(["stylize", "photo.png", "-s", "wave", *keep, "-o", f"{len(keep)}.png"]) == 0
    photo, plain, kept = rgb("photo.png"), rgb("0.png"), rgb("2.png")
    assert np.allclose(chrominance(kept), chrominance(photo), atol=1e-6)
    assert np.abs(chrominance(plain) - chrominance(photo)).max() > 20
    free = (kept.min(2) > 0) & (kept.max(2) < 255)
    assert free.mean() > 0.3
    light = [image[free].astype(float) @ np.array(LUMA) for image in (kept, plain)]
    assert np.abs(light[0] - light[1]).max() < 1, "light and dark are the painting's"
    assert not np.array_equal(kept, photo)


def test_matched_colours_are_the_photos(hall: Path) -> None:
    for keep in ([], ["--keep-colors", "histogram"]):
        assert main(["stylize", "photo.png", "-s", "wave", *keep, "-o", f"{len(keep)}.png"]) == 0
    photo, plain, kept = (rgb(name).reshape(-1, 3).astype(float) for name in ("photo.png", "0.png", "2.png"))
    assert np.abs(kept.mean(0) - photo.mean(0)).max() < 4 < np.abs(plain.mean(0) - photo.mean(0)).max()
    assert np.abs(np.cov(kept.T) - np.cov(photo.T)).max() < 0.15 * np.cov(photo.T).max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-s", "waves"], "checkpoints/gallery.onnx holds no style waves: did you mean wave?"),
        (["-s", "kandinsky"], "checkpoints/gallery.onnx holds no style kandinsky: take one of starry, wave, sheet"),
        (["-s", "starry:0.5,wafe:0.5"], "checkpoints/gallery.onnx holds no style wafe: did you mean wave?"),
        (["-s", "../starry"], "checkpoints/gallery.onnx holds no style ../starry: did you mean starry?"),
        (["-s", "a/b"], "checkpoints/gallery.onnx holds no style a/b: take one of starry, wave, sheet"),
        (["-s", "wave:much"], "the style 'wave:much' is not of the form NAME or NAME:WEIGHT, such as wave:0.4"),
        (["-s", ""], "the style '' is not of the form NAME or NAME:WEIGHT, such as wave:0.4"),
        (["-s", "wave:0"], "the weights of the styles must be 0 or more, and one of them above 0"),
        (["-m", "negative", "-s", "wave"], "checkpoints/negative.onnx holds no style wave: take one of negative"),
        (
            ["-m", "negative", "--strength", "0.5"],
            "checkpoints/negative.onnx has no strength to choose: take one of this version, neither frozen nor johnson",
        ),
    ],
)
def test_bad_wishes_are_one_line(
    hall: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails(capsys, "stylize", "photo.png", *arguments) == message


def test_the_only_style_of_a_model_may_be_named(hall: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stylize", "photo.png", "-m", "negative", "-s", "negative", "-o", "out.png"]) == 0
    assert np.array_equal(rgb("out.png"), 255 - rgb("photo.png"))


def test_a_result_is_no_path_into_another_folder(hall: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Titles, which stand in for names, hold all sorts of characters."""
    model, card = onnx.load("checkpoints/gallery.onnx"), read_sidecar(Path("checkpoints/gallery.onnx"))
    assert card is not None and card.styles[2].title == "Sheet 3/4"
    nameless = replace(card, styles=tuple(replace(style, name="") for style in card.styles))
    helper.set_model_props(model, nameless.to_metadata())
    onnx.save(model, "checkpoints/nameless.onnx")
    assert main(["stylize", "photo.png", "-m", "nameless", "-s", "Sheet 3/4"]) == 0
    (path,) = capsys.readouterr().out.splitlines()
    assert Path(path).parent == Path() and Path(path).is_file()
