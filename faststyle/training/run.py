"""The recipe: from a painting and a folder of photos to weights, card and a checked ONNX model."""

from __future__ import annotations

import io
import logging
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

import faststyle
from faststyle.config import TrainConfig
from faststyle.errors import ConfigError, TrainingError, WriteError, first_line
from faststyle.export import export_onnx
from faststyle.files import file_digest, write_file
from faststyle.modelcard import ModelCard, Style
from faststyle.nets.devices import out_of_memory
from faststyle.nets.files import save_net
from faststyle.nets.lossnet import LossNetwork
from faststyle.nets.weights import load_weights
from faststyle.training.callbacks import Board, Keep, Plateau, Preview, Progress, Report, Stop, validation_losses
from faststyle.training.clock import Clock
from faststyle.training.data import PhotoDataModule
from faststyle.training.start import complete, find_checkpoint, first_net, style_image
from faststyle.training.system import StyleTransferSystem

__all__ = ["TrainResult", "fit"]


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves behind."""

    model: Path
    weights: Path
    card: ModelCard
    main: bool
    """Whether this process wrote them: with several devices one of them does."""
    finished: bool
    """False where the run was interrupted; the files then hold what it had learned, and --resume goes on."""


def fit(config: TrainConfig, on_progress: Callable[[Progress], None] | None = None) -> TrainResult:
    """Train, validate and export a model of one style or several; `on_progress` is called after every step and
    validation.

    The first Ctrl-C (SIGINT) ends the run after its step and exports what it has; a second one breaks off. Raises
    FaststyleError's children for bad input and for a run that diverged.
    """
    config = complete(config)
    folder = Path(config.runs) / config.name
    checkpoint = folder / "last.ckpt"
    saved = find_checkpoint(config, checkpoint)
    style_images = [style_image(path, config.loss) for path in config.style]
    digests = [file_digest(path) for path in config.style]  # now: a file may be gone when the run ends
    clock = Clock(config.optim)
    photos = PhotoDataModule(config, clock)
    loss = config.loss
    weights = load_weights(loss.loss_network, config.loss_weights)
    judge = LossNetwork(loss.layers, weights, name=loss.loss_network)
    net, parent = first_net(config, photos, judge, style_images, saved)
    system = StyleTransferSystem(config, net, judge, style_images, clock)

    if parent is not None:
        system.origin = {
            "init": parent.name,
            "init_steps": _total(parent, "steps"),
            "init_seconds": _total(parent, "seconds"),
        }
    _claim(Path(config.out), "--out")
    _claim(folder, "--runs")
    stop = Stop()
    callbacks: list[pl.Callback] = [Board(style_images), Preview(folder / "preview.jpg", len(style_images))]
    if on_progress is not None:
        callbacks.append(Report(rank_zero_only(on_progress)))
    callbacks += [stop, Plateau(config.optim.patience), Keep(checkpoint, config.checkpoint_every)]
    # Lightning's own bar, summary and banners are for its own users; ours hear of a run through on_progress.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    trainer = _trainer(config, callbacks)
    with _quiet(), _graceful_interrupt(stop):
        clock.start()
        try:
            trainer.fit(system, photos, ckpt_path=checkpoint if saved else None)
        except MisconfigurationException as error:
            raise _refused(error) from None
        except SystemExit:  # what Lightning makes of a Ctrl-C, which is the second one here
            raise KeyboardInterrupt from None
        except RuntimeError as error:
            if out_of_memory(error):
                raise TrainingError("the memory did not suffice: lower the batch or the size of the --crops") from None
            raise
        except TrainingError as error:  # from one of the --workers torch brings a traceback as the message
            raise TrainingError(str(error).rpartition("TrainingError: ")[2].strip()) from None
        finished = clock.progress(trainer.global_step) >= 1.0
        trainer.save_checkpoint(checkpoint)
        if system.validated_at != trainer.global_step:
            trainer.validate(system, photos, verbose=False)
    result = _deliver(config, system, photos, parent, digests, finished)
    if finished and trainer.is_global_zero:
        checkpoint.unlink(missing_ok=True)
    return result


def _trainer(config: TrainConfig, callbacks: list[pl.Callback]) -> pl.Trainer:
    settings = config.trainer
    try:
        return pl.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=settings.strategy,
            precision="32-true" if settings.precision == "auto" else settings.precision,
            max_steps=config.optim.max_steps or -1,
            max_epochs=-1,
            gradient_clip_val=config.optim.gradient_clip,
            val_check_interval=config.val_every,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            callbacks=callbacks,
            plugins=[_WholeFiles()],
            logger=TensorBoardLogger(config.runs, config.name, version=""),
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except Exception as error:  # Lightning answers bad settings with half a dozen kinds
        raise _refused(error) from None


def _refused(error: Exception) -> ConfigError:
    remedy = "check --accelerator, --devices, --num-nodes, --strategy and --precision"
    return ConfigError(f"Lightning does not take these settings ({first_line(error)}): {remedy}")


class _WholeFiles(TorchCheckpointIO):
    """Checkpoints written whole or not at all: Lightning's own go through /tmp, which may be another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_file(path, buffer.getvalue())


def _claim(folder: Path, flag: str) -> None:
    """Make a folder for results now: hours later would be late to learn that it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WriteError(f"{folder} cannot be written to ({error.strerror}): name another folder with {flag}") from None


def _deliver(
    config: TrainConfig,
    system: StyleTransferSystem,
    photos: PhotoDataModule,
    parent: ModelCard | None,
    digests: list[str],
    finished: bool,
) -> TrainResult:
    """Write weights, card and the checked model."""
    count, several = len(config.style), system.net.config.styles > 1
    names = tuple(Path(path).stem for path in config.style) if several else (config.name,)
    blank = ("",) * count
    facts = (config.title or names, config.artist or blank, config.year or blank, config.licence or blank)
    styles = tuple(map(Style, *facts, digests, names if several else blank))
    losses = validation_losses(system.trainer)
    if config.add:
        assert parent is not None
        styles = tuple(replace(style, name=style.name or parent.name) for style in parent.styles) + styles
        losses = _joined(parent, losses, len(styles))
        if parent.loss != config.loss.to_dict():  # the totals are no sums of the same terms
            losses.pop("total", None)
    metrics = {name: round(value, 5) for name, value in sorted(losses.items())}
    optim = config.optim
    training = {
        "photos": len(photos.photos),
        "steps": system.trainer.global_step,
        "crops": system.crops,
        "seconds": round(system.clock.seconds),
        "finished": finished,
        **system.origin,
        "learning_rate": optim.learning_rate,
        "crop_schedule": list(optim.crops),
        "seed": optim.seed,
    }
    card = ModelCard(
        name=config.name,
        styles=styles,
        net=system.net.config.to_dict(),
        loss=config.loss.to_dict(),
        training=training,
        metrics=metrics,
        halo=system.net.config.reach,
        versions={"faststyle": faststyle.__version__, "torch": torch.__version__.split("+")[0]},
    )
    out = Path(config.out)
    weights, model = out / f"{config.name}.safetensors", out / f"{config.name}.onnx"
    if system.trainer.is_global_zero:
        save_net(weights, system.net, card)
        export_onnx(weights, model)
    return TrainResult(model, weights, card, system.trainer.is_global_zero, finished)


def _joined(parent: ModelCard, added: dict[str, float], count: int) -> dict[str, float]:
    """Losses of a model to which styles were added: each style's own, and their means as far as the card has them."""
    each = parent.metrics if len(parent.styles) > 1 else {f"{name}/0": value for name, value in parent.metrics.items()}
    each = {**each, **added}
    joined = {name: value for name, value in each.items() if "/" in name}
    for name in added.keys() - joined.keys():
        values = [each[key] for index in range(count) if (key := f"{name}/{index}") in each]
        if len(values) == count:
            joined[name] = sum(values) / count
    return joined


def _total(parent: ModelCard, key: str) -> int:
    """Steps or seconds that went into the weights a run started from, those of their own start included."""
    return int(parent.training.get(key, 0) + parent.training.get(f"init_{key}", 0))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of Lightning that are about what we do on purpose, or about Lightning itself."""
    with warnings.catch_warnings():
        for message in (
            "Checkpoint directory .* exists and is not empty",  # the log lies in the same folder
            r"Found \d+ module\(s\) in eval mode",  # the loss network is frozen
            "The '.*' does not have many workers",  # --workers is the user's to set
            "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning 2.6 with torch 2.14
        ):
            warnings.filterwarnings("ignore", message)
        yield


@contextmanager
def _graceful_interrupt(stop: Stop) -> Iterator[None]:
    """The first SIGINT lets the step end and the run close in order; the next one interrupts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        stop.interrupted = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
