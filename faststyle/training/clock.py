"""How far training has come, on which every schedule depends."""

from __future__ import annotations

import time

from faststyle.config import OptimConfig

__all__ = ["Clock"]


class Clock:
    """Progress in [0, 1]: the share of the steps, or of the time where that is further on.

    Without a time limit it is a pure function of the step, which makes an interrupted run repeatable bit for bit. The
    time that earlier sessions of a resumed run took counts.
    """

    def __init__(self, optim: OptimConfig) -> None:
        self._optim = optim
        self._before = 0.0
        self._started: float | None = None

    def start(self) -> None:
        """Let the time run."""
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds trained so far, earlier sessions included."""
        return self._before + (time.monotonic() - self._started if self._started is not None else 0.0)

    def restore(self, seconds: float) -> None:
        """Go on from an earlier session's seconds."""
        self._before = seconds

    def progress(self, step: int) -> float:
        """Progress when `step` steps are done."""
        return min(1.0, max(step / self._optim.max_steps, self.seconds / self._optim.max_seconds))
