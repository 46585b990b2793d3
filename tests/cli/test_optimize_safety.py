"""`faststyle gatys` and `faststyle dream`: no input is overwritten, nothing is lost, no folder is left behind."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from faststyle.cli import main
from faststyle.errors import OptimizeError, WriteError
from faststyle.video import FrameWriter


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with pictures for everything that a command reads."""
    random = np.random.default_rng(0)
    for name in ("photo.png", "wave.png", "start.png", "guide.png", "still.gif"):
        small = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        small.resize((64, 48), Image.Resampling.BICUBIC).save(tmp_path / name)
    Image.fromarray(np.eye(48, 64, dtype=np.uint8) * 255).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def gatys(folder: Path, random_vgg: str) -> list[str]:
    """The command line of two tiny steps."""
    line = "gatys photo.png wave.png --steps 2 --scales 1 --style-size 48 --style-layers relu1_2"
    return [*line.split(), *f"--content-layer relu1_2 --device cpu --loss-weights {random_vgg}".split()]


@pytest.fixture
def dream(folder: Path, random_vgg: str) -> list[str]:
    """The command line of a tiny dream."""
    return f"dream photo.png --steps 2 --octaves 1 --layer relu1_2 --device cpu --weights {random_vgg}".split()


def contents(folder: Path) -> dict[Path, bytes | None]:
    """All that lies in a folder."""
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def refused(folder: Path, line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command answers with, before any step, and without a trace in the folder."""
    before = contents(folder)
    assert main(line) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("faststyle: error: ")
    assert contents(folder) == before
    return err


@pytest.mark.parametrize(
    "output",
    [
        "-o photo.png",
        "-o ./photo.png",
        "-o wave.png",
        "-o mask.png --mask mask.png",
        "-o start.png --init start.png",
        "-o link.png",
        "-o out.png --save-every 1 --init out-00002.png",
        "-o out.png --init still.gif --timelapse still.gif",
        "-o out.png --mask still.gif --timelapse ./still.gif",
    ],
)
def test_gatys_writes_over_none_of_its_inputs(folder, gatys, capsys, output):
    Path("link.png").symlink_to("wave.png")
    shutil.copy("start.png", "out-00002.png")
    message = refused(folder, [*gatys, *output.split()], capsys)
    assert "is one of the pictures to be read and would be overwritten" in message


def test_gatys_writes_over_neither_photo_nor_style_with_a_film(folder, gatys, capsys):
    for position in (1, 2):
        line = [*gatys, "-o", "out.png", "--timelapse", "still.gif"]
        line[position] = "still.gif"
        assert "still.gif is one of the pictures to be read" in refused(folder, line, capsys)


@pytest.mark.parametrize(
    ("image", "more"),
    [
        ("photo.png", "-o photo.png"),
        ("photo.png", "-o ./photo.png"),
        ("photo.png", "-o guide.png --guide guide.png"),
        ("noise", "-o guide.png --guide guide.png"),
        ("photo.png", "--guide photo-dream.png"),
        ("still.gif", "-o still.gif --zoom 2"),
        ("photo.png", "-o still.gif --zoom 2 --guide still.gif"),
    ],
)
def test_a_dream_writes_over_none_of_its_inputs(folder, dream, capsys, image, more):
    shutil.copy("guide.png", "photo-dream.png")
    dream[1] = image
    message = refused(folder, [*dream, *more.split()], capsys)
    assert "is one of the pictures to be read and would be overwritten" in message


@pytest.mark.parametrize("command", ["gatys", "dream"])
def test_a_folder_in_the_place_of_the_result_is_refused_before_the_work(folder, command, request, capsys):
    Path("out.png").mkdir()
    Path("film.gif").mkdir()
    line = request.getfixturevalue(command)
    assert "out.png exists and is not a file" in refused(folder, [*line, "-o", "out.png"], capsys)
    film = ["--timelapse", "film.gif"] if command == "gatys" else ["--zoom", "2", "-o", "film.gif"]
    assert "film.gif exists and is not a file" in refused(folder, [*line, *film], capsys)


@pytest.mark.parametrize(
    ("command", "more", "message"),
    [
        ("gatys", "-o new/out.png --mask mask.png mask.png", "2 masks for 1 style"),
        ("gatys", "-o out.png --timelapse new/film.gif --mask mask.png mask.png", "2 masks for 1 style"),
        ("gatys", "-o new/out.png --mask black.png", "black.png is black all over"),
        ("gatys", "-o new/out.png --timelapse new/film.avi", "film.avi has the suffix .avi"),
        ("gatys", "-o new/out.png --loss-weights mask.png", "mask.png is truncated or no weights file"),
        ("dream", "-o new/out.png --layer relu1_2:64", "relu1_2 has channels 0 to 63"),
        ("dream", "-o new/zoom.gif --zoom 2 --weights mask.png", "mask.png is truncated or no weights file"),
        ("dream", "-o new/zoom.gif --zoom 0", "--zoom must be at least 1"),
    ],
)
def test_a_missing_folder_is_not_made_for_what_is_refused(folder, command, more, message, request, capsys):
    Image.new("L", (64, 48)).save("black.png")
    assert message in refused(folder, [*request.getfixturevalue(command), *more.split()], capsys)


def test_missing_folders_are_made_for_what_is_written(gatys, dream):
    assert main([*gatys, "-o", "one/deep/out.png", "--timelapse", "two/deep/film.gif"]) == 0
    assert main([*dream, "-o", "three/out.png"]) == 0
    assert main([*dream, "-o", "four/zoom.gif", "--zoom", "2"]) == 0
    for path in ("one/deep/out.png", "two/deep/film.gif", "three/out.png", "four/zoom.gif"):
        assert Path(path).is_file()


@pytest.mark.parametrize("image", ["noise", "photo.png"])
@pytest.mark.parametrize("zoom", [[], ["--zoom", "2", "-o", "zoom.gif"]])
def test_a_huge_dream_is_refused_before_anything_large_is_made(folder, dream, capsys, monkeypatch, image, zoom):
    for name in ("_noise", "resize_rgb", "open_backbone", "to_tensor"):
        monkeypatch.setattr(f"faststyle.optimize.deepdream.{name}", too_early)
    monkeypatch.setattr("faststyle.optimize.memory._available", lambda device: 2 * 10**9)
    dream[1] = image
    message = refused(folder, [*dream, "--size", "100000", *zoom], capsys)
    assert "GB, and 2.0 GB are free: choose a smaller --size or --tile" in message


def test_a_huge_painting_is_refused_before_anything_large_is_made(folder, gatys, capsys, monkeypatch):
    for name in ("resize_rgb", "load_weights", "to_tensor", "LossNetwork"):
        monkeypatch.setattr(f"faststyle.optimize.gatys.{name}", too_early)
    monkeypatch.setattr("faststyle.optimize.memory._available", lambda device: 2 * 10**9)
    message = refused(folder, [*gatys, "--size", "100000", "--mask", "mask.png"], capsys)
    assert "GB, and 2.0 GB are free: choose a smaller --size" in message


def too_early(*_: object, **__: object) -> None:
    raise AssertionError("memory is to be checked first")


@pytest.mark.parametrize("more", [[], ["--zoom", "2", "-o", "zoom.gif"]])
def test_a_truncated_guide_takes_one_line(folder, dream, capsys, more):
    Image.open("guide.png").save("guide.jpg")
    for name in ("guide.jpg", "still.gif"):
        whole = Path(name).read_bytes()
        Path(name).write_bytes(whole[: len(whole) // 2])
        assert f"{name} cannot be read" in refused(folder, [*dream, "--guide", name, *more], capsys)


def test_a_film_that_fails_leaves_the_picture(gatys, capsys, monkeypatch):
    assert main([*gatys, "-o", "whole.png", "--steps", "4", "--save-every", "1"]) == 0
    capsys.readouterr()
    Path("film.gif").write_bytes(b"an earlier one")
    add, frames, message = FrameWriter.add, 0, "film.gif cannot be written (No space left on device): free some space"

    def failing(writer: FrameWriter, rgb: NDArray[np.uint8]) -> None:
        nonlocal frames
        frames += 1
        if frames == 3:
            raise WriteError(message)
        add(writer, rgb)

    monkeypatch.setattr(FrameWriter, "add", failing)
    assert main([*gatys, "-o", "out.png", "--steps", "4", "--timelapse", "film.gif"]) == 1
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("faststyle: error: ")]
    assert out == "" and errors == [f"faststyle: error: {message}"]
    assert "out.png holds the picture as it was at step 2 of 4" in err and "Traceback" not in err
    assert Path("out.png").read_bytes() == Path("whole-00002.png").read_bytes()
    assert Path("film.gif").read_bytes() == b"an earlier one" and not list(Path().glob(".faststyle-*"))


@pytest.mark.parametrize(("steps", "shown"), [(2, [0, 1, 2]), (3, [0, 1, 2, 3]), (6, [0, 2, 4, 6]), (7, [0, 3, 6, 7])])
def test_a_film_ends_with_the_picture(gatys, monkeypatch, steps, shown):
    frames: list[Any] = []
    add = FrameWriter.add

    def recorded(writer: FrameWriter, rgb: NDArray[np.uint8]) -> None:
        frames.append(rgb)
        add(writer, rgb)

    monkeypatch.setattr(FrameWriter, "add", recorded)
    monkeypatch.setattr("faststyle.cli.gatys._FRAMES", 3)
    line = [*gatys, "-o", "out.png", "--steps", str(steps), "--save-every", "1", "--timelapse", "film.gif"]
    assert main(line) == 0
    saved = ["photo.png", *(f"out-{step:05}.png" for step in shown[1:])]
    for frame, name in zip(frames, saved, strict=True):
        assert np.array_equal(frame, np.asarray(Image.open(name)))
    assert np.array_equal(frames[-1], np.asarray(Image.open("out.png")))
    with Image.open("film.gif") as film:
        last = [np.asarray(frame.convert("RGB"), int) for frame in ImageSequence.Iterator(film)]
    assert len(last) == len(shown)
    # 256 colours only; but nearer to the end than to the start.
    assert np.abs(last[-1] - frames[-1]).mean() < 0.7 * np.abs(last[-1] - frames[0]).mean()


def test_a_dream_that_fails_on_the_way_still_leaves_the_picture(folder, dream, monkeypatch, capsys):
    from faststyle.optimize import deepdream
    from faststyle.optimize.loops import ascent

    def failing(*arguments):
        steps = ascent(*arguments)
        yield next(steps)
        raise OptimizeError("the memory did not suffice after all: choose a smaller --size")

    monkeypatch.setattr(deepdream, "ascent", failing)
    assert main([*dream, "-o", "out.png"]) == 1
    assert "shows 1 of" in (err := capsys.readouterr().err) and "Traceback" not in err
    assert not np.array_equal(np.asarray(Image.open("out.png")), np.asarray(Image.open("photo.png")))
