"""How far training has come, on which every schedule depends."""

from __future__ import annotations

import math
import time

from faststyle.config import OptimConfig

__all__ = ["Clock"]


class Clock:
    """Progress in [0, 1]: the share of the steps, or of the time where that is further on.

    Without a time limit it is a pure function of the step, which makes an interrupted run repeatable bit for bit. Time
    is read once a step, by `tick`, so that learning rate, crops and the end of a step agree, on several devices too.
    The time that earlier sessions of a resumed run took counts.
    """

    def __init__(self, optim: OptimConfig) -> None:
        self._optim = optim
        self._before = 0.0
        self._started: float | None = None
        self.seconds = 0.0
        """Seconds trained at the last tick, earlier sessions included."""

    def start(self) -> None:
        """Let the time run."""
        self._started = time.monotonic()

    def now(self) -> float:
        """Seconds trained so far."""
        return self._before + (time.monotonic() - self._started if self._started is not None else 0.0)

    def tick(self, seconds: float) -> None:
        """Take over the time of this step."""
        self.seconds = seconds

    def restore(self, seconds: float) -> None:
        """Go on from an earlier session's seconds."""
        self._before = self.seconds = seconds

    def progress(self, step: int) -> float:
        """Progress when `step` steps are done."""
        return min(1.0, max(step / (self._optim.max_steps or math.inf), self.seconds / self._optim.max_seconds))
