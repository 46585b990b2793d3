"""What happens beside the training steps: progress reports, TensorBoard records, the end of the allotted time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import default_collate

from faststyle.images import Picture, save_image
from faststyle.training.system import StyleTransferSystem

__all__ = ["Board", "Keep", "Plateau", "Preview", "Progress", "Report", "Stop", "validation_losses"]

GRID = 4
"""Validation photos shown in the picture grid; as many as there are styles, if those are more."""
FIRST_PREVIEW = 30.0
"""Seconds until the first preview."""
LOG_EVERY = 10
LEAST_FALL = 0.005
"""Share by which the validation loss has to fall below the least so far to count as lower."""

_log = logging.getLogger("faststyle")


@dataclass(frozen=True)
class Progress:
    """One report of a training run: after a step, or after a validation."""

    step: int
    fraction: float
    """Share of the run that is done, in [0, 1]."""
    seconds: float
    """Time trained so far, earlier sessions included."""
    eta: float
    """Seconds left at the present pace."""
    images_per_second: float
    losses: dict[str, float]
    """The step's loss terms, or those of the validation photos."""
    validation: bool = False


class Report(pl.Callback):
    """Hands a Progress to a function after every step and every validation."""

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self._on_progress = on_progress
        self._first: tuple[float, float] | None = None
        self._rate = _Rate()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, StyleTransferSystem) and pl_module.terms is not None
        self._send(
            trainer, pl_module, pl_module.terms.scalars(), self._rate.add(len(batch) * trainer.world_size), False
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, StyleTransferSystem)
        self._send(trainer, pl_module, validation_losses(trainer), self._rate.value, True)
        self._rate.pause()

    def _send(
        self, trainer: pl.Trainer, system: StyleTransferSystem, losses: dict[str, float], rate: float, validation: bool
    ) -> None:
        clock = system.clock
        fraction, seconds = clock.progress(trainer.global_step), clock.seconds
        self._first = self._first or (fraction, seconds)
        done = fraction - self._first[0]
        eta = (1 - fraction) * (seconds - self._first[1]) / done if done > 0 else float("nan")
        self._on_progress(Progress(trainer.global_step, fraction, seconds, eta, rate, losses, validation))


class Stop(pl.Callback):
    """Ends the run when its progress is 1, or after the step at which Ctrl-C was pressed.

    Time is the first device's, and all devices stop at the same step: one alone would leave the others waiting for it.
    """

    interrupted = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, StyleTransferSystem)
        clock = pl_module.clock
        clock.tick(trainer.strategy.broadcast(clock.now()))
        over = self.interrupted or clock.progress(trainer.global_step) >= 1.0
        trainer.should_stop = trainer.strategy.reduce_boolean_decision(over, all=False)


class Plateau(pl.Callback):
    """Begins the end of the run when `patience` validations in a row were not lower than the least before them."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._least, self._stale = float("inf"), 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, StyleTransferSystem)
        clock, step = pl_module.clock, trainer.global_step
        if trainer.should_stop and step % trainer.val_check_interval:
            return  # Lightning's own at an end or a Ctrl-C: a run that goes on later is to count as the whole one does
        total = validation_losses(trainer)["total"]
        if total < self._least * (1.0 - LEAST_FALL):
            self._least, self._stale = total, 0
            return
        self._stale += 1
        if 0 < self._patience <= self._stale and clock.end is None and clock.progress(step) < 1.0:
            left = clock.wind_up(step)
            if trainer.is_global_zero:
                _log.info("the validation loss has stopped falling: the run ends in %d steps", left)

    def state_dict(self) -> dict[str, Any]:
        return {"least": self._least, "stale": self._stale}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._least, self._stale = state_dict["least"], state_dict["stale"]


class Keep(pl.callbacks.Checkpoint):
    """Writes a checkpoint every so many steps; where a validation is due after a step, once that is over.

    Lightning's own is written before it, and a run that goes on from there leaves that validation out.
    """

    def __init__(self, path: Path, every: int) -> None:
        self._path, self._every = path, every

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        if trainer.global_step % trainer.val_check_interval:
            self._write(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and trainer.global_step % trainer.val_check_interval == 0:
            self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        if trainer.global_step % self._every == 0:
            trainer.save_checkpoint(self._path)


class Preview(pl.Callback):
    """Writes a picture of photo | stylized after half a minute, after a minute, two, four and so on: a painting or a
    strength that does not suit shows before the run is over."""

    def __init__(self, path: Path, styles: int) -> None:
        self._path, self._styles = path, styles
        self._due = FIRST_PREVIEW

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, StyleTransferSystem)
        if not trainer.is_global_zero or pl_module.clock.seconds < self._due:
            return
        first = self._due == FIRST_PREVIEW
        while self._due <= pl_module.clock.seconds:
            self._due *= 2
        grid = (_grid(trainer, pl_module, self._styles) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0)
        save_image(Picture(rgb=grid.cpu().numpy()), self._path)
        if first:
            _log.info("what it has learned so far is shown in %s", self._path)


class Board(pl.Callback):
    """TensorBoard: loss terms, learning rate and images/s; the style images once; a grid of photo | stylized at
    validations, the styles in turn."""

    def __init__(self, style_images: Sequence[Tensor]) -> None:
        self._styles = style_images
        self._rate = _Rate()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (board := _board(trainer)) is not None:
            for number, image in enumerate(self._styles):
                board.add_image("style" if len(self._styles) == 1 else f"style {number}", image[0], 0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, StyleTransferSystem) and pl_module.terms is not None
        rate = self._rate.add(len(batch) * trainer.world_size)
        if trainer.global_step % LOG_EVERY == 0 and (board := _board(trainer)) is not None:
            values = {f"train/{name}": value for name, value in pl_module.terms.scalars().items()}
            values["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
            values["images_per_second"] = rate
            for name, value in values.items():
                board.add_scalar(name, value, trainer.global_step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, StyleTransferSystem)
        self._rate.pause()
        if (board := _board(trainer)) is None:
            return
        board.add_image("photo | stylized", _grid(trainer, pl_module, len(self._styles)), trainer.global_step)


def _grid(trainer: pl.Trainer, system: StyleTransferSystem, styles: int) -> Tensor:
    """Validation photos, each beside its repainting in one of the styles in turn: 3 x H x W in [0, 1]."""
    shown = trainer.datamodule.validation  # type: ignore[attr-defined]
    count = min(max(GRID, styles), len(shown))
    photos = default_collate([shown[index] for index in range(count)]).to(system.device) / 255
    with torch.no_grad():
        painted = [system(photo[None], place % styles) for place, photo in enumerate(photos)]
    return torch.cat(list(torch.cat([photos, torch.cat(painted)], dim=3)), dim=1)


def validation_losses(trainer: pl.Trainer) -> dict[str, float]:
    """The loss terms of the last validation, averaged over its photos."""
    metrics = trainer.callback_metrics.items()
    return {key.removeprefix("val/"): float(value) for key, value in metrics if key.startswith("val/")}


class _Rate:
    """Images per second, smoothed over some ten steps."""

    def __init__(self) -> None:
        self._last: float | None = None
        self.value = float("nan")

    def add(self, images: int) -> float:
        now = time.monotonic()
        if self._last is not None:
            rate = images / max(now - self._last, 1e-9)
            self.value = rate if self.value != self.value else 0.9 * self.value + 0.1 * rate
        self._last = now
        return self.value

    def pause(self) -> None:
        """The time until the next step does not count."""
        self._last = None


def _board(trainer: pl.Trainer) -> Any:
    """The TensorBoard writer; None on other ranks and where the run is not logged."""
    logger = trainer.logger
    return logger.experiment if trainer.is_global_zero and isinstance(logger, TensorBoardLogger) else None
