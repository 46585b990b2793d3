"""`faststyle weights`: the path on standard output, all else on standard error."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from faststyle.cli.weights import Options, run
from faststyle.errors import FaststyleError, WeightsError
from faststyle.nets import weights


def test_path_on_stdout_the_rest_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def find(name: str, file: str | None, on_progress: weights.Progress) -> weights.WeightsInfo:
        for done in (0, 1_000_000, 40_000_000, 64_000_000):
            on_progress("a host", done, 64_000_000)
        on_progress("a host", 5_000_000, 0)
        return weights.WeightsInfo(name, Path("somewhere/vgg16.safetensors"), 58_861_184, "a host", True)

    monkeypatch.setattr(weights, "find_weights", find)
    assert run(Options()) == 0
    out, err = capsys.readouterr()
    assert out == "somewhere/vgg16.safetensors\n"
    assert err.splitlines() == [
        "fetching from a host: 0 %",
        "fetching from a host: 50 %",
        "fetching from a host: 100 %",
        "fetching from a host",
        "vgg16: 58.9 MB from a host, digest ok",
    ]


def test_bar_on_a_terminal_clears_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def find(name: str, file: str | None, on_progress: weights.Progress) -> weights.WeightsInfo:
        on_progress("a host", 32_000_000, 64_000_000)
        raise WeightsError("no weights")

    monkeypatch.setattr(weights, "find_weights", find)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(WeightsError, match="no weights"):
        run(Options())
    assert capsys.readouterr().err == "\r\033[K[##########          ] 32 of 64 MB from a host\r\033[K"


def test_wrong_file_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        run(Options(file=str(tmp_path / "none.pth")))


def test_missing_torch_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faststyle.nets.weights", None)
    with pytest.raises(FaststyleError, match=r"pip install 'faststyle-onnx\[train\]'"):
        run(Options())
