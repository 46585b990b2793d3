"""How far training has come, on which every schedule depends."""

from __future__ import annotations

import math
import time

from faststyle.config import OptimConfig

__all__ = ["Clock"]

WIND_UP = 0.1
"""Steps in which a run whose end has begun is over, as a share of those before: the learning rate has to come down."""


class Clock:
    """Progress in [0, 1]: the share of the steps, or of the time where that is further on, until the end has begun.

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
        self.end: tuple[int, float] | None = None
        """Step and progress at which the end has begun before its time."""

    def start(self) -> None:
        """Let the time run."""
        self._started = time.monotonic()

    def now(self) -> float:
        """Seconds trained so far."""
        return self._before + (time.monotonic() - self._started if self._started is not None else 0.0)

    def tick(self, seconds: float) -> None:
        """Take over the time of this step."""
        self.seconds = seconds

    def restore(self, seconds: float, end: tuple[int, float] | None) -> None:
        """Go on from an earlier session's seconds and, where it had begun, its end."""
        self._before = self.seconds = seconds
        self.end = end

    def wind_up(self, step: int) -> int:
        """Begin the end after `step` steps; how many more there will be at most."""
        self.end = step, self.progress(step)
        return self._last_steps(step)

    def progress(self, step: int) -> float:
        """Progress when `step` steps are done."""
        usual = max(step / (self._optim.max_steps or math.inf), self.seconds / self._optim.max_seconds)
        if self.end is not None:
            begun, before = self.end
            usual = max(usual, before + (1.0 - before) * (step - begun) / self._last_steps(begun))
        return min(1.0, usual)

    def _last_steps(self, begun: int) -> int:
        return max(1, round(WIND_UP * begun))
