"""What the commands that optimise one picture share: a result settled beforehand, and a display of the steps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from faststyle.cli.console import StatusLine
from faststyle.cli.jobs import overwrites
from faststyle.errors import ImageError

if TYPE_CHECKING:
    from faststyle.optimize.pixels import Step

__all__ = ["PLAIN_EVERY", "StepDisplay", "claim", "duration", "make_folder", "spare"]

PLAIN_EVERY = 10.0
"""Seconds between lines where the output is no terminal."""


def claim(path: Path, inputs: Iterable[str | None]) -> Path:
    """Refuse a picture that could not be written now, not after the work, or that would replace one of the inputs."""
    from faststyle.files import check_target
    from faststyle.images import format_of

    format_of(path)
    spare([path], inputs)
    check_target(path)
    return path


def spare(paths: Iterable[Path], inputs: Iterable[str | None]) -> None:
    """Refuse to write over one of the inputs."""
    if path := overwrites(paths, (source for source in inputs if source is not None)):
        raise ImageError(f"{path} is one of the pictures to be read and would be overwritten: choose another name")


def make_folder(path: Path) -> None:
    """Make the folder that a result goes to."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{path.parent} cannot be created ({error.strerror}): name another") from None


class StepDisplay:
    """Shows the steps of an optimisation: a bar with losses on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self.line = StatusLine()
        self._start = time.monotonic()
        self._last = -math.inf

    def show(self, step: Step) -> None:
        """Tell of one step."""
        seconds = time.monotonic() - self._start
        parts = " ".join(f"{name} {value:.3f}" for name, value in step.losses.items() if value and "_" not in name)
        text = f"{100 * step.fraction:3.0f}% step {step.step}/{step.steps} at {step.width}x{step.height} {parts}"
        if step.fraction > 0:
            text += f", {duration(seconds * (1 / step.fraction - 1))} left"
        due = seconds - self._last >= PLAIN_EVERY
        self.line.show(f"[{'#' * int(20 * step.fraction):20}] {text}", plain=text if due else None)
        if due:
            self._last = seconds


def duration(seconds: float) -> str:
    """Seconds as M:SS or H:MM:SS."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
