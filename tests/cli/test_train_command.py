"""`faststyle train` and `faststyle export` as commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import vgg16

from faststyle.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A folder with photos, a painting and random VGG weights; the command line of two tiny steps on them."""
    torch.manual_seed(0)
    weights = {key: value for key, value in vgg16(weights=None).state_dict().items() if key.startswith("features.")}
    torch.save(weights, tmp_path / "vgg16.pth")
    (tmp_path / "photos").mkdir()
    random = np.random.default_rng(0)
    for name in ("photos/a.png", "photos/b.png", "painting.png"):
        Image.fromarray(random.integers(0, 256, (80, 96, 3), dtype=np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    arguments = "train painting.png --data photos --net nano --max-steps 2 --crops 32x1:1 --accelerator cpu --devices 1"
    return [*arguments.split(), "--loss-weights", "vgg16.pth", "--style-size", "64"]


def test_training_prints_the_path_of_the_model_and_nothing_else(ready, tmp_path, capsys):
    assert main(ready) == 0
    out, err = capsys.readouterr()
    assert out == "checkpoints/painting.onnx\n"
    assert "validation content" in err and "Traceback" not in err
    for suffix in (".onnx", ".safetensors", ".json"):
        assert (tmp_path / "checkpoints" / f"painting{suffix}").is_file()


def test_the_model_it_wrote_repaints_and_exports_again_to_the_same_bytes(ready, tmp_path, capsys):
    assert main([*ready, "--name", "mine"]) == 0
    assert main(["stylize", "photos/a.png", "--model", "mine", "-o", "out.png"]) == 0
    with Image.open("out.png") as image:
        assert image.size == (96, 80)
    assert main(["export", "checkpoints/mine.safetensors", "-o", "again.onnx"]) == 0
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "checkpoints" / "mine.onnx").read_bytes()


def test_several_paintings_become_the_styles_of_one_model(ready, tmp_path, capsys):
    (tmp_path / "other.png").write_bytes((tmp_path / "photos" / "a.png").read_bytes())
    both = [ready[0], "other.png", *ready[1:]]
    assert main(both) == 1
    assert capsys.readouterr().err == "faststyle: error: several paintings need a --name for their model\n"
    assert main([*both, "--name", "both", "--title", "One", "Two"]) == 0
    assert capsys.readouterr().out == "checkpoints/both.onnx\n"
    assert main(["models"]) == 0
    shown = capsys.readouterr().out.splitlines()
    start = next(place for place, line in enumerate(shown) if line.split() == ["both", "2", "styles:"])
    assert [line.split() for line in shown[start + 1 : start + 3]] == [["other", "One"], ["painting", "Two"]]
    assert main(["stylize", "photos/a.png", "-m", "both", "-s", "painting", "--strength", "0.5", "-o", "out.png"]) == 0
    assert main(["export", "checkpoints/both.safetensors", "-o", "new/again.onnx"]) == 0
    assert (tmp_path / "new" / "again.onnx").read_bytes() == (tmp_path / "checkpoints" / "both.onnx").read_bytes()
    capsys.readouterr()
    assert main(["export", "both", "--required-inputs"]) == 0
    assert capsys.readouterr().out == "checkpoints/both-required.onnx\n"
    assert main(["stylize", "photos/a.png", "-m", "both-required", "-s", "painting", "--strength", "0.5"]) == 0
    same = Path("photos/a-painting.png").read_bytes()
    assert same == (tmp_path / "out.png").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--strength", "2"], "--strength must lie between 0 and 1"),
        (["--max-time", "soon"], "--max-time"),
        (["--crops", "128"], "--crops"),
        (["--net", "huge"], "take one of nano"),
        (["--init", "stary"], "there is no weights file stary"),
        (["--init", "starry", "--from-scratch"], "--from-scratch and --init exclude each other"),
        (["--title", "One", "Two"], "--title is given 2 times for 1 paintings"),
        (["--add"], "--add needs the model to add to: name its weights with --init"),
    ],
)
def test_a_bad_setting_takes_one_line(ready, capsys, changes, message):
    assert main([*ready, *changes]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("faststyle: error: ") and message in last


@pytest.mark.parametrize(("photos", "message"), [("missing", "is not a folder"), ("empty", "no usable photo")])
def test_a_folder_without_photos(ready, tmp_path, capsys, photos, message):
    (tmp_path / "empty").mkdir()
    ready[ready.index("photos")] = photos
    assert main(ready) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_painting_that_is_no_image(ready, tmp_path, capsys):
    (tmp_path / "painting.png").write_text("no painting")
    assert main(ready) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("faststyle: error: painting.png is no picture")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "missing.safetensors"], "there is no weights file missing.safetensors"),
        (["export", "painting.png"], "is no weights file"),
        (["export", "painting.png", "-o", "model.pt"], "does not end in .onnx"),
        (["export", "painting.png", "-o", "photos/a.png/model.onnx"], "cannot be written"),
    ],
)
def test_export_refuses_in_one_line(ready, capsys, arguments, message):
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


@pytest.mark.parametrize(("script", "command"), [("train.py", "train"), ("infer.py", "stylize")])
def test_the_thin_doors_are_the_commands(script, command):
    assert len((ROOT / script).read_text().splitlines()) <= 10
    one = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True)
    other = subprocess.run(
        [sys.executable, "-m", "faststyle", command, "--help"], capture_output=True, cwd=ROOT, text=True
    )
    assert one.returncode == 0 and one.stdout == other.stdout and f"faststyle {command}" in one.stdout
