"""`faststyle train`: learn a painting."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from faststyle.cli.console import StatusLine, needs
from faststyle.cli.steps import PLAIN_EVERY, duration
from faststyle.cli.weights import fetch
from faststyle.config import TrainConfig

if TYPE_CHECKING:
    from faststyle.training.callbacks import Progress

__all__ = ["Options", "run"]


@dataclass(frozen=True)
class Options(TrainConfig):
    """Learn a painting from a folder of photos, or several at once; writes NAME.onnx, its weights and its card, and
    prints the model's path.

    Ctrl-C stops after the step at hand and exports what was learned; --resume goes on from the last checkpoint.
    """

    style: Annotated[Positional[tuple[str, ...]], arg(metavar="PAINTING...", help_behavior_hint="(required)")]
    """The painting: an image file. Several become the styles of one model."""
    data: Annotated[str, arg(metavar="DIR")]
    """Folder of photos, searched recursively."""
    config: Annotated[str | None, arg(metavar="FILE")] = None
    """TOML file of settings, one `flag = value` a line; flags given here as well override it, but nothing undoes a
    `flag = true`. See presets/."""


def run(options: Options) -> int:
    """Train with a bar on a terminal and a line now and then elsewhere."""
    with needs("train"):
        from faststyle.training.run import fit
    config = TrainConfig(**{item.name: getattr(options, item.name) for item in fields(TrainConfig)})
    fetch(config.loss.loss_network, config.loss_weights)
    display = _Display()
    try:
        result = fit(config, display.show)
    finally:
        display.line.clear()
    if not result.main:
        return 0
    if not result.finished:
        display.line.say("stopped early: the model holds what was learned so far; --resume goes on")
    print(result.model)
    return 0


class _Display:
    """Shows the reports of a training run."""

    def __init__(self) -> None:
        self.line = StatusLine()
        self._last = -math.inf

    def show(self, progress: Progress) -> None:
        losses = progress.losses
        terms = f"content {losses['content']:.3f} style {losses['style']:.3f}"
        if progress.validation:
            self.line.say(f"step {progress.step}: validation {terms}")
            return
        text = f"{100 * progress.fraction:3.0f}% step {progress.step} {terms}"
        if math.isfinite(progress.images_per_second) and math.isfinite(progress.eta):
            text += f" {progress.images_per_second:.1f} images/s, {duration(progress.eta)} left"
        due = progress.seconds - self._last >= PLAIN_EVERY
        self.line.show(f"[{'#' * int(20 * progress.fraction):20}] {text}", plain=text if due else None)
        if due:
            self._last = progress.seconds
