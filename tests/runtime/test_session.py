"""Choosing a provider: with the real onnxruntime on the CPU, and with a stand-in for machines we do not have."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from faststyle.errors import ConfigError, ModelError
from faststyle.runtime.session import Provider, open_session

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"


class FakeRuntime:
    """An onnxruntime that has `available` providers, of which only those in `working` start."""

    def __init__(self, available: list[str], working: list[str], raises: bool = False) -> None:
        self.available, self.working, self.raises = available, working, raises
        self.calls: list[list[Any]] = []
        self.preloaded = False

    def get_available_providers(self) -> list[str]:
        return self.available

    def SessionOptions(self) -> SimpleNamespace:
        return SimpleNamespace()

    def preload_dlls(self) -> None:
        print("this must not reach standard output")
        self.preloaded = True

    def InferenceSession(self, model: str, options: Any, *, providers: list[Any], enable_fallback: int) -> Any:
        assert enable_fallback == 0
        self.calls.append(providers)
        names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
        if names[0] not in self.working and self.raises:
            raise RuntimeError("CUDA failure 35: driver too old\nand more lines")
        return SimpleNamespace(get_providers=lambda: [name for name in names if name in self.working])


def install(monkeypatch: pytest.MonkeyPatch, runtime: FakeRuntime) -> FakeRuntime:
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    return runtime


def test_the_cpu_is_taken_where_there_is_nothing_else(negative: Path) -> None:
    session, provider = open_session(negative, "negative", threads=1)
    assert provider == "cpu"
    assert session.get_providers() == [CPU]
    assert session.get_session_options().intra_op_num_threads == 1


@pytest.mark.parametrize(
    ("available", "choice"),
    [
        ([TENSORRT, CUDA, CPU], "cuda"),
        (["CoreMLExecutionProvider", CPU], "coreml"),
        (["DmlExecutionProvider", CPU], "directml"),
        (["AzureExecutionProvider", CPU], "cpu"),
    ],
)
def test_the_best_that_is_installed_is_chosen(
    available: list[str], choice: Provider, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = install(monkeypatch, FakeRuntime(available, available))
    assert open_session(b"", "model")[1] == choice
    assert len(runtime.calls) == 1
    assert runtime.preloaded == (choice == "cuda")
    assert capsys.readouterr().out == ""


def test_cuda_does_not_try_every_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = install(monkeypatch, FakeRuntime([CUDA, CPU], [CUDA, CPU]))
    open_session(b"", "model")
    assert runtime.calls == [[(CUDA, {"cudnn_conv_algo_search": "HEURISTIC"}), CPU]]


def test_tensorrt_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = install(monkeypatch, FakeRuntime([TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU]))
    assert open_session(b"", "model", "tensorrt")[1] == "tensorrt"
    assert runtime.calls[0][0] == TENSORRT


@pytest.mark.parametrize("raises", [False, True])
def test_an_accelerator_that_does_not_start_leaves_the_cpu_and_a_note(
    raises: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "faststyle")
    install(monkeypatch, FakeRuntime([CUDA, CPU], [CPU], raises))
    assert open_session(b"", "model")[1] == "cpu"
    assert "the cuda provider does not work here" in caplog.text


@pytest.mark.parametrize("raises", [False, True])
def test_a_forced_provider_that_falls_back_is_an_error(raises: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeRuntime([CUDA, CPU], [CPU], raises))
    with pytest.raises(ModelError) as error:
        open_session(b"", "model", "cuda")
    message = str(error.value)
    assert message.startswith("the cuda provider does not work here (")
    assert "pip install 'faststyle-onnx[gpu]'" in message and "\n" not in message


@pytest.mark.parametrize(
    ("provider", "remedy"),
    [
        ("cuda", "pip install 'faststyle-onnx[gpu]'"),
        ("tensorrt", "pip install 'faststyle-onnx[gpu]' tensorrt"),
        ("coreml", "macOS"),
        ("directml", "pip install onnxruntime-directml"),
    ],
)
def test_a_forced_provider_that_is_missing(
    provider: Provider, remedy: str, negative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeRuntime([CPU], [CPU]))
    with pytest.raises(ModelError) as error:
        open_session(negative, "negative", provider)
    assert f"has no {provider} provider" in str(error.value) and remedy in str(error.value)


def test_unknown_provider_and_impossible_threads(negative: Path) -> None:
    with pytest.raises(ConfigError, match="the provider 'gpu' is unknown: take one of cpu, cuda"):
        open_session(negative, "negative", "gpu")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="threads must be at least 1, not 0"):
        open_session(negative, "negative", threads=0)


def test_without_onnxruntime(negative: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError) as error:
        open_session(negative, "negative")
    assert "onnxruntime cannot be imported" in str(error.value)
    assert "pip install 'faststyle-onnx[cpu]'" in str(error.value)


@pytest.mark.parametrize("data", [b"", b"hello world", b"\x08\x08\x12\x10"])
def test_what_is_no_onnx(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError) as error:
        open_session(path, str(path))
    assert str(error.value) == f"{path} is no ONNX model, or one cut short: name an .onnx file"


def test_a_model_cut_short(negative: Path) -> None:
    data = negative.read_bytes()
    with pytest.raises(ModelError, match="is no ONNX model, or one cut short"):
        open_session(data[:60], "the model")


def test_a_model_that_onnxruntime_does_not_know(negative: Path) -> None:
    from onnx import ModelProto

    model = ModelProto.FromString(negative.read_bytes())
    model.ir_version = 99
    with pytest.raises(ModelError) as error:
        open_session(model.SerializeToString(), "the model")
    message = str(error.value)
    assert message.startswith("the model cannot be loaded (Unsupported model IR version: 99")
    assert "update onnxruntime" in message and "\n" not in message
