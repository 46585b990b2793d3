"""onnxruntime sessions: which execution provider, how many threads, and errors that say what to do."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from faststyle.errors import ConfigError, ModelError, first_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["Provider", "gist", "open_session"]

Provider = Literal["cpu", "cuda", "tensorrt", "coreml", "directml"]

_NAMES: dict[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
_ACCELERATORS: tuple[Provider, ...] = ("cuda", "coreml", "directml")
"""The order of choice where none is forced, before the CPU. Not TensorRT: it builds an engine for minutes first."""
_REMEDIES: dict[Provider, str] = {
    "cpu": "pip install 'faststyle-onnx[cpu]'",
    "cuda": "pip install 'faststyle-onnx[gpu]', and check the NVIDIA driver, CUDA and cuDNN",
    "tensorrt": "pip install 'faststyle-onnx[gpu]' tensorrt, and check the NVIDIA driver, CUDA and cuDNN",
    "coreml": "pip install 'faststyle-onnx[cpu]' on macOS",
    "directml": "pip install onnxruntime-directml on Windows",
}
# Trying every convolution algorithm, the default, costs seconds for each new picture size.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC"}
_LOG_FATAL = 4

_log = logging.getLogger("faststyle")


def open_session(
    model: Path | bytes, name: str, provider: Provider | None = None, threads: int | None = None
) -> tuple[InferenceSession, Provider]:
    """Load an ONNX model and say where it runs; `name` is what messages call it.

    Without `provider` the best one that works is taken. A forced one that is missing, or that onnxruntime drops
    silently, raises ModelError, as do files that are no ONNX and an onnxruntime that is not installed.
    """
    if provider is not None and provider not in _NAMES:
        raise ConfigError(f"the provider {provider!r} is unknown: take one of {', '.join(get_args(Provider))}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads must be at least 1, not {threads}")
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(f"onnxruntime cannot be imported ({first_line(error)}): {_REMEDIES['cpu']}") from None

    installed = onnxruntime.get_available_providers()
    if provider is not None and _NAMES[provider] not in installed:
        raise ModelError(f"the installed onnxruntime has no {provider} provider: {_REMEDIES[provider]}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_FATAL  # what goes wrong comes as an exception, too
    if threads is not None:
        options.intra_op_num_threads = threads

    wanted = _ACCELERATORS if provider is None else () if provider == "cpu" else (provider,)
    for choice in wanted:
        if _NAMES[choice] not in installed:
            continue
        try:
            session = _load(onnxruntime, model, options, choice)
            if session.get_providers()[0] == _NAMES[choice]:
                return session, choice
            reason = "onnxruntime fell back to another one"
        except Exception as error:  # onnxruntime's exceptions share no base class
            if _is_no_onnx(error):
                raise _load_error(name, error) from None
            reason = gist(error)
        if provider is not None:
            raise ModelError(f"the {choice} provider does not work here ({reason}): {_REMEDIES[choice]}")
        _log.info("the %s provider does not work here (%s)", choice, reason)
    try:
        return _load(onnxruntime, model, options, "cpu"), "cpu"
    except Exception as error:
        raise _load_error(name, error) from None


def _load(onnxruntime: Any, model: Path | bytes, options: Any, provider: Provider) -> InferenceSession:
    providers: list[Any] = [_NAMES[provider]]
    if provider == "cuda":
        providers = [(_NAMES["cuda"], _CUDA_OPTIONS)]
    elif provider == "tensorrt":
        providers.append((_NAMES["cuda"], _CUDA_OPTIONS))
    if provider in ("cuda", "tensorrt"):
        _preload(onnxruntime)
    if provider != "cpu":
        providers.append(_NAMES["cpu"])
    # Its own fallback would print to standard output and start again on the CPU.
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=providers, enable_fallback=0)


@functools.cache  # sessions are opened again for large photos, from any thread: standard output is everybody's
def _preload(onnxruntime: Any) -> None:
    """Load CUDA's libraries from the Python packages that hold them, once."""
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            onnxruntime.preload_dlls()


def _is_no_onnx(error: Exception) -> bool:
    return type(error).__name__ == "InvalidProtobuf" or "No graph was found" in str(error)


def _load_error(name: str, error: Exception) -> ModelError:
    if _is_no_onnx(error):
        return ModelError(f"{name} is no ONNX model, or one cut short: name an .onnx file")
    return ModelError(f"{name} cannot be loaded ({gist(error)}): update onnxruntime, or export the model again")


def gist(error: Exception) -> str:
    """The gist of an onnxruntime message in one line, without its code and the place in its source."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", first_line(error))
    return re.sub(r"^/\S+:\d+ .*?\) (?=[A-Z])", "", text)[:200].strip()
