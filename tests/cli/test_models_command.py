"""`faststyle models` and `faststyle info`: what they say of a model of several styles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from faststyle.cli import main


def test_a_line_for_each_style(hall: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("checkpoints/negative.onnx", "checkpoints/alone.onnx")
    assert main(["models"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "alone",
        "gallery   3 styles:",
        "          starry  The Starry Night, Vincent van Gogh, 1889",
        "          wave    The Great Wave, Katsushika Hokusai",
        "          sheet   Sheet 3/4",
        "negative  Negative, Nobody, 2024",
    ]


def test_info_names_the_styles(hall: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "gallery"]) == 0
    out = capsys.readouterr().out
    assert "starry: The Starry Night, Vincent van Gogh, 1889" in out
    assert "wave: The Great Wave, Katsushika Hokusai" in out
    assert main(["info", "gallery", "--json"]) == 0
    names = [style.get("name") for style in json.loads(capsys.readouterr().out)["styles"]]
    assert names == ["starry", "wave", "sheet"]
    assert main(["info", "negative"]) == 0
    assert "Negative, Nobody, 2024, CC0" in capsys.readouterr().out
