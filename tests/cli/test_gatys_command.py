"""`faststyle gatys` as a command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from faststyle.cli import main

ROOT = Path(__file__).parents[2]
FAST = "--steps 2 --scales 1 --style-size 48 --style-layers relu1_2 --content-layer relu1_2 --device cpu"


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_vgg: str) -> list[str]:
    """A folder with a photo and two paintings; the command line of two tiny steps on them."""
    random = np.random.default_rng(0)
    for name, size in (("photo.png", (64, 48)), ("wave.png", (50, 60)), ("other.png", (60, 50))):
        small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return ["gatys", "photo.png", "wave.png", *FAST.split(), "--loss-weights", random_vgg]


def test_it_prints_the_path_and_shows_the_losses(ready, capsys):
    assert main(ready) == 0
    out, err = capsys.readouterr()
    assert out == "photo-wave.png\n"
    # Piped: no bar that is redrawn, but a line to begin with.
    assert "\r" not in err and "[" not in err
    assert [line for line in err.splitlines() if "step 0/2 at 64x48 total " in line] == err.splitlines()[:1]
    assert "total" in err and "style_relu1_2" in err and "Traceback" not in err
    with Image.open("photo-wave.png") as image:
        assert image.size == (64, 48)


def test_alpha_and_size(ready):
    photo = Image.open("photo.png").convert("RGBA")
    photo.putalpha(Image.linear_gradient("L").resize(photo.size))
    photo.save("photo.png")
    assert main([*ready, "--size", "96", "-o", "new/out.png"]) == 0
    with Image.open("new/out.png") as image:
        assert image.size == (96, 72) and image.mode == "RGBA"
        assert np.asarray(image.getchannel("A")).min() < 5


def test_pictures_on_the_way_and_a_film(ready, capsys):
    assert main([*ready, "-o", "out.png", "--save-every", "1", "--timelapse", "out.gif"]) == 0
    assert capsys.readouterr().out == "out.gif\nout.png\n"
    with Image.open("out.gif") as film:
        assert len(list(ImageSequence.Iterator(film))) == 3 and film.size == (64, 48)
    assert Path("out-00001.png").is_file() and Path("out-00002.png").read_bytes() == Path("out.png").read_bytes()


def test_every_start(ready, negative):
    for init in ("noise", "style", "other.png", str(negative)):
        assert main([*ready, "-o", "out.png", "--init", init]) == 0


def pixels(path: str) -> NDArray[Any]:
    with Image.open(path) as image:
        return np.asarray(image, int)


def test_style_weights_count_by_their_ratio(ready):
    two = [*ready[:3], "other.png", *ready[3:]]
    for name, weights in (("even", "1 1"), ("double", "2 1"), ("same", "4 2"), ("reverse", "1 2"), ("one", "1 0")):
        assert main([*two, "-o", f"{name}.png", "--style-weights", *weights.split()]) == 0
    assert main([*two, "-o", "default.png"]) == main([*ready, "-o", "alone.png"]) == 0
    assert np.array_equal(pixels("even.png"), pixels("default.png"))
    assert np.array_equal(pixels("double.png"), pixels("same.png"))
    assert np.array_equal(pixels("one.png"), pixels("alone.png"))
    for one, other in (("even", "double"), ("even", "reverse"), ("double", "reverse"), ("double", "alone")):
        assert np.abs(pixels(f"{one}.png") - pixels(f"{other}.png")).max() > 2


def test_masks_say_where_each_style_applies(ready):
    left, right = (np.zeros((48, 64), np.uint8) for _ in range(2))
    left[:, :20], right[:, 44:] = 255, 255
    for name, mask in (("left.png", left), ("right.png", right)):
        Image.fromarray(mask).save(name)
    two = [*ready[:3], "other.png", *ready[3:], "--steps", "5"]
    assert main([*two, "-o", "one.png", "--mask", "left.png", "right.png"]) == 0
    assert main([*two, "-o", "swapped.png", "--mask", "right.png", "left.png"]) == 0
    photo, one, swapped = (pixels(name) for name in ("photo.png", "one.png", "swapped.png"))
    for picture in (one, swapped):
        assert np.array_equal(picture[:, 20:44], photo[:, 20:44])
        assert min(np.abs(picture - photo)[:, half].mean() for half in (slice(20), slice(44, 64))) > 2
    assert min(np.abs(one - swapped)[:, half].mean() for half in (slice(20), slice(44, 64))) > 2


def test_from_a_model_starts_with_what_it_makes_of_the_photo(ready, negative):
    # The first step of L-BFGS is a small one.
    assert main([*ready, "-o", "out.png", "--init", str(negative), "--steps", "1"]) == 0
    photo, image = (np.asarray(Image.open(path), dtype=int) for path in ("photo.png", "out.png"))
    assert np.abs(image - (255 - photo)).mean() < 0.04 * 255


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--style-layers", "relu4_9"], "vgg16 has no layer 'relu4_9': did you mean relu4_"),
        (["--init", "missing.onnx"], "there is no model missing.onnx"),
        (["--init", "missing.png"], "missing.png does not exist"),
        (["--mask", "missing.png"], "missing.png does not exist"),
        (["--mask", "photo.png", "photo.png"], "2 masks for 1 style"),
        (["-o", "out.gif"], "out.gif has the suffix .gif, which cannot be written"),
        (["--timelapse", "film.avi"], "film.avi"),
        (["--size", "20"], "--size must be at least 32"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--strength", "3"], "--strength must lie between 0 and 1"),
        (["--size", "100000"], "choose a smaller --size"),
        (["--device", "abacus"], "--device abacus is unknown"),
    ],
)
def test_bad_input_takes_one_line_and_leaves_no_file(ready, tmp_path, capsys, changes, message):
    before = sorted(tmp_path.rglob("*"))
    assert main([*ready, *changes]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("faststyle: error: ") and message in last
    assert sorted(tmp_path.rglob("*")) == before


def test_a_broken_picture_takes_one_line(ready, capsys):
    for name in ("photo.png", "wave.png"):
        kept = Path(name).read_bytes()
        Path(name).write_bytes(kept[:60])
        assert main(ready) == 1
        assert f"{name} cannot be read" in capsys.readouterr().err
        Path(name).write_bytes(kept)


def test_wrong_usage_exits_with_2(ready):
    assert main(["gatys", "photo.png"]) == 2
    assert main([*ready, "--save-every", "0"]) == 2


def test_ctrl_c_leaves_the_picture_so_far_and_the_film(ready, tmp_path):
    line = [*ready, "--steps", "100000", "-o", "out.png", "--timelapse", "f.gif", "--save-every", "4"]
    command = [sys.executable, "-m", "faststyle", *line]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        while not Path("out-00004.png").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == "f.gif\nout.png\n" and "stopped after step" in err and "Traceback" not in err
    assert pixels("out.png").shape == (48, 64, 3)
    assert np.abs(pixels("out.png") - pixels("photo.png")).mean() > 2
    with Image.open("f.gif") as film:
        assert film.size == (64, 48)
