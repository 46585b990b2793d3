"""How much memory an optimisation takes, said before it starts: a killed process would save nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from faststyle.errors import OptimizeError

__all__ = ["check_memory"]

_log = logging.getLogger("faststyle")


def check_memory(need: int, device: torch.device, remedy: str) -> None:
    """Say how much is needed where that is much; raise OptimizeError with the remedy where it is not there."""
    free = _available(device)
    if free is not None and need > free:
        raise OptimizeError(f"this needs about {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free: {remedy}")
    if need > 1 << 30:
        there = "" if free is None else f" of {free / 1e9:.1f} GB that are free"
        _log.info("this takes about %.1f GB%s", need / 1e9, there)


def _available(device: torch.device) -> int | None:
    """Bytes that can still be taken; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    found = [limit for limit in (_system(), _control_group()) if limit is not None]
    return min(found, default=None)


def _system() -> int | None:
    """Linux's own estimate of what can be taken without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _control_group() -> int | None:
    """What a container's limit leaves; files in the page cache count as used, but give way."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        cached = next(
            int(line.split()[1])
            for line in (group / "memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        )
    except (OSError, ValueError, StopIteration):
        return None
    return None if limit == "max" else int(limit) - used + cached
