"""Where and how precisely to compute."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from faststyle.errors import ConfigError, first_line

__all__ = ["choose_device", "out_of_memory", "precision_of", "reduced"]


def choose_device(name: str) -> torch.device:
    """The device of a name; auto is CUDA, else Apple's MPS, else the CPU. Raises ConfigError where it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"--device {name} is unknown: take auto, cpu, cuda, cuda:1 or mps")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"--device {name} cannot be used ({first_line(error)}): take cpu, or leave it out") from None
    return device


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory: the CPU's allocator has no class of error of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate" in str(error)


def precision_of(name: str, device: torch.device) -> torch.dtype:
    """The number format of the loss network: auto is bfloat16 on processors that multiply it faster, else float32."""
    if name == "auto":
        fast = _multiplies_bfloat16() if device.type == "cpu" else device.type == "cuda" and _has_tensor_cores(device)
        name = "bfloat16" if fast else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def reduced(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """Within this, convolutions run in the given format; the losses are computed in float32 either way."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16)


def _has_tensor_cores(device: torch.device) -> bool:
    """Whether a CUDA device multiplies bfloat16: from compute capability 8, Ampere, on."""
    return torch.cuda.get_device_capability(device)[0] >= 8


@functools.cache
def _multiplies_bfloat16() -> bool:
    """Whether the CPU has bfloat16 products: elsewhere they are emulated, and slower than float32."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split())
    except (OSError, IndexError):
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16"})
