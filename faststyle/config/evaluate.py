"""Settings of the ruler that models are measured with."""

from __future__ import annotations

from dataclasses import dataclass

from faststyle.config.checks import require

__all__ = ["EvaluateConfig"]


@dataclass(frozen=True)
class EvaluateConfig:
    """How many photos a model is measured on, at which sizes, and against how long an optimisation."""

    sizes: tuple[int, ...] = (256, 512, 1024)
    """Sides in pixels of the squares that are repainted and judged."""
    count: int = 20
    """Most photos that are used, evenly spread over the folder."""
    steps: int = 100
    """Steps of the L-BFGS optimisation that the model is compared with, from each start, on each photo."""
    loss_weights: str | None = None
    """File with the loss network's weights; found or fetched by default."""

    def __post_init__(self) -> None:
        require(bool(self.sizes), "--sizes needs at least one size, such as 256")
        require(min(self.sizes) >= 32, f"--sizes must be at least 32, not {min(self.sizes)}")
        require(self.count >= 1, f"--count must be at least 1, not {self.count}")
        require(self.steps >= 1, f"--steps must be at least 1, not {self.steps}")
