"""`faststyle evaluate` as a command."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto
from PIL import Image

from faststyle.cli import main
from faststyle.cli.painting import for_painting
from faststyle.config import PerceptualConfig
from faststyle.errors import ImageError, ModelError
from faststyle.evaluate import run
from faststyle.modelcard import ModelCard
from faststyle.runtime.stylizer import Stylizer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_vgg: str, build_model: Callable[..., ModelProto]
) -> list[str]:
    """A folder with photos, a painting and a model; the command line that measures it with curves of two steps."""
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name, size in (("photos/a.png", (96, 72)), ("photos/b.png", (64, 80)), ("painting.png", (60, 50))):
        small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(tmp_path / name)
    loss = PerceptualConfig(style_size=40, style_layers=("relu1_1",), content_layer="relu1_1")
    card = ModelCard(name="negative", loss=asdict(loss))
    model = build_model("image", "stylized", TensorProto.UINT8, ["N", "H", "W", 3], metadata=card.to_metadata())
    (tmp_path / "negative.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "negative.json").write_text(card.to_json())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTSTYLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(run, "CURVE_SIZE", 32)
    monkeypatch.setitem(sys.modules, "lpips", None)
    line = "evaluate negative.onnx --photos photos --style painting.png --sizes 32 40 --steps 2 --loss-weights"
    return [*line.split(), random_vgg]


def test_it_prints_a_table_and_two_lines(ready, capsys):
    assert main(ready) == 0
    out, err = capsys.readouterr()
    heads, *rows, photo, noise = out.splitlines()
    assert heads.split() == ["size", "content", "style", "relu1_1", "total"]
    assert [row.split()[0] for row in rows] == ["32", "40"]
    assert all(re.fullmatch(r" *\d+(  +\d+\.\d{4}){4}", row) and len(row) == len(heads) for row in rows)
    assert photo == "equals 0 L-BFGS steps from the photo (quartiles 0 to 0, 2 photos)"
    steps = r"(>2|\d+)"
    assert re.fullmatch(rf"equals {steps} L-BFGS steps from noise \(quartiles {steps} to {steps}, 2 photos\)", noise)
    # Piped: no line that is redrawn.
    assert "\r" not in err and "losses 1/2 at 32 x 32" in err
    assert "note: LPIPS is left out, since lpips is not installed: pip install lpips" in err


def test_json_on_standard_output_and_in_a_file(ready, capsys):
    assert main([*ready, "--json", "-o", "new/out.json"]) == 0
    out = capsys.readouterr().out
    assert Path("new/out.json").read_text() == out
    found = json.loads(out)
    assert (found["model"], found["photos"], found["style"]) == ("negative.onnx", "photos", "painting.png")
    assert found["count"] == 2 and [row["size"] for row in found["sizes"]] == [32, 40]
    assert found["loss"]["style_layers"] == ["relu1_1"]
    row = found["sizes"][0]
    assert row["total"] == pytest.approx(row["content"] + 10 * row["style"], abs=1e-4)
    assert found["equals_lbfgs_steps"]["photo"]["each"] == [0.0, 0.0]
    assert main([*ready, "-o", "other.json"]) == 0
    assert capsys.readouterr().out.startswith("size ")
    assert json.loads(Path("other.json").read_text()) == found


def test_more_steps_than_were_made_are_said(ready, capsys, monkeypatch):
    monkeypatch.setattr(run, "steps_to", lambda losses, target: float("inf"))
    assert main(ready) == 0
    assert "equals >2 L-BFGS steps from noise (quartiles >2 to >2, 2 photos)" in capsys.readouterr().out


def test_the_line_on_a_terminal(ready, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(ready) == 0
    lines = capsys.readouterr().err.split("\r\033[K")
    assert "losses 2/2 at 40 x 40" in lines
    assert any(re.fullmatch(r"curves 2/2 from noise, step 1, \d+:\d\d left", line) for line in lines)
    assert lines[-1] == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--style", "negative.json"], "negative.json is no picture that can be read"),
        (["--style", "missing.png"], "missing.png does not exist"),
        (["--photos", "missing"], "missing is not a folder: name a folder of photos with --photos"),
        (["--photos", "empty"], "empty holds no photos: name another folder with --photos"),
        (["--sizes", "256", "31"], "--sizes must be at least 32, not 31"),
        (["--sizes", "100000"], "choose smaller --sizes"),
        (["--count", "0"], "--count must be at least 1"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--loss-weights", "missing.pth"], "missing.pth does not exist"),
        (["-o", "out.txt"], "--output out.txt does not end in .json"),
        (["-o", "negative.json"], "--output negative.json is the model's card and would be overwritten"),
        (["-o", "painting.png/out.json"], "out.json cannot be written"),
    ],
)
def test_bad_input_takes_one_line_and_leaves_no_file(ready, tmp_path, capsys, changes, message):
    Path("empty").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main([*ready, *changes]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("faststyle: error: ") and message in last
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_model_of_another_kind_takes_one_line(ready, capsys, build_model):
    for content in (b"no model", build_model("a", "b", TensorProto.INT64, ["N"]).SerializeToString()):
        Path("other.onnx").write_bytes(content)
        assert main([ready[0], "other.onnx", *ready[2:]]) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("faststyle: error: ") and "other.onnx" in last
    assert main([ready[0], "missing.onnx", *ready[2:]]) == 1
    assert "there is no model missing.onnx" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_takes_one_line(ready, capsys):
    Path("cache").write_text("a file")
    assert main(ready) == 1
    assert "set FASTSTYLE_CACHE to a folder with room to write" in capsys.readouterr().err.splitlines()[-1]


def test_wrong_usage_exits_with_2(ready):
    assert main(ready[:2]) == 2


def test_ctrl_c_keeps_the_curves_that_are_done(ready, tmp_path):
    command = [sys.executable, "-m", "faststyle", *ready, "--steps", "5"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    curves = tmp_path / "cache" / "curves"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        while not list(curves.glob("*.json")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == "" and "Traceback" not in err
    assert 1 <= len(list(curves.iterdir())) < 4


def test_the_style_that_learned_the_painting_is_judged(gallery: Path, negative: Path, tmp_path: Path) -> None:
    """Known by its file's digest, or else by its name."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8))
    pixels = np.asarray(picture)
    for name in ("wave", "other"):
        picture.save(tmp_path / f"{name}.png")
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    stylizer = Stylizer(gallery, provider="cpu")
    by_name = for_painting(stylizer, str(tmp_path / "wave.png"))
    assert np.array_equal(by_name(pixels), stylizer.styled("wave")(pixels))
    with pytest.raises(ModelError, match=r"has learned .*other\.png: name the painting of starry, wave, sheet"):
        for_painting(stylizer, str(tmp_path / "other.png"))
    assert stylizer.card is not None
    digest = hashlib.sha256((tmp_path / "wave.png").read_bytes()).hexdigest()
    starry = replace(stylizer.card.styles[0], sha256=digest)
    stylizer.card = replace(stylizer.card, styles=(starry, *stylizer.card.styles[1:]))
    by_digest = for_painting(stylizer, str(tmp_path / "wave.png"))
    assert np.array_equal(by_digest(pixels), stylizer.styled("starry")(pixels)), "whatever the file is called"
    with pytest.raises(ImageError, match=r"missing\.png cannot be read"):
        for_painting(stylizer, str(tmp_path / "missing.png"))
    only = Stylizer(negative)
    assert for_painting(only, str(tmp_path / "missing.png")) is only
