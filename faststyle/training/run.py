"""The recipe: from a painting and a folder of photos to weights, card and a checked ONNX model."""

from __future__ import annotations

import hashlib
import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from PIL import Image
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

import faststyle
from faststyle.checkpoints import find_weights
from faststyle.config import NETS, TrainConfig
from faststyle.errors import ConfigError, ModelError, TrainingError, WriteError
from faststyle.export import export_onnx
from faststyle.images import read_image
from faststyle.modelcard import ModelCard, Style
from faststyle.nets.files import load_net, save_net
from faststyle.nets.lossnet import LossNetwork
from faststyle.nets.transformer import TransformerNet
from faststyle.nets.weights import load_weights
from faststyle.training.callbacks import Board, Progress, Report, StopOnTime, validation_losses
from faststyle.training.clock import Clock
from faststyle.training.data import PhotoDataModule
from faststyle.training.system import StyleTransferSystem

__all__ = ["TrainResult", "fit"]


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves behind."""

    model: Path
    weights: Path
    card: ModelCard
    finished: bool
    """False where the run was interrupted; the files then hold what it had learned, and --resume goes on."""


def fit(config: TrainConfig, on_progress: Callable[[Progress], None] | None = None) -> TrainResult:
    """Train, validate and export one style; `on_progress` is called after every step and validation.

    The first Ctrl-C (SIGINT) ends the run after its step and exports what it has; a second one breaks off. Raises
    FaststyleError's children for bad input and for a run that diverged.
    """
    config = _complete(config)
    folder = Path(config.runs) / config.name
    checkpoint = _checkpoint(config, folder / "last.ckpt")
    style_image = _style_image(config)
    clock = Clock(config.optim)
    photos = PhotoDataModule(config, clock)
    net, parent = _net(config)
    loss = config.loss
    weights = load_weights(loss.loss_network, config.loss_weights)
    judge = LossNetwork((*loss.style_layers, loss.content_layer), weights, name=loss.loss_network)
    system = StyleTransferSystem(config, net, judge, style_image, clock)

    _claim(Path(config.out))
    callbacks: list[pl.Callback] = [StopOnTime(), Board(style_image)]
    if on_progress is not None:
        callbacks.append(Report(rank_zero_only(on_progress)))
    callbacks.append(
        ModelCheckpoint(folder, "last", every_n_train_steps=config.checkpoint_every, enable_version_counter=False)
    )
    # Lightning's own bar, summary and banners are for its own users; ours hear of a run through on_progress.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    trainer = _trainer(config, callbacks)
    with _quiet(), _graceful_interrupt(trainer):
        clock.start()
        try:
            trainer.fit(system, photos, ckpt_path=checkpoint)
        except torch.OutOfMemoryError:
            raise TrainingError("the device is out of memory: lower the batch or the size of the --crops") from None
        finished = clock.progress(trainer.global_step) >= 1.0
        if not finished:
            trainer.save_checkpoint(folder / "last.ckpt")
        if system.validated_at != trainer.global_step:
            trainer.validate(system, photos, verbose=False)
    result = _deliver(config, system, photos, parent, finished)
    if finished:
        (folder / "last.ckpt").unlink(missing_ok=True)
    return result


def _trainer(config: TrainConfig, callbacks: list[pl.Callback]) -> pl.Trainer:
    settings = config.trainer
    try:
        return pl.Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=settings.strategy,
            precision=settings.precision,  # type: ignore[arg-type]
            max_steps=config.optim.max_steps,
            max_epochs=-1,
            gradient_clip_val=config.optim.gradient_clip,
            val_check_interval=config.val_every,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            callbacks=callbacks,
            logger=TensorBoardLogger(config.runs, config.name, version=""),
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except Exception as error:  # Lightning answers bad settings with half a dozen kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        remedy = "check --accelerator, --devices, --num-nodes, --strategy and --precision"
        raise ConfigError(f"Lightning does not take these settings ({reason}): {remedy}") from None


def _complete(config: TrainConfig) -> TrainConfig:
    """Fill in what depends on other settings, and check what only the disk can tell."""
    if config.net not in NETS:
        raise ConfigError(f"--net {config.net!r} is unknown: take one of {', '.join(NETS)}")
    return config if config.name else replace(config, name=Path(config.style).stem)


def _checkpoint(config: TrainConfig, path: Path) -> Path | None:
    """The checkpoint to go on from; refuses to mix two runs."""
    if not config.resume:
        if path.exists():
            raise TrainingError(
                f"{path} holds an unfinished run: continue it with --resume, or delete it, or choose another --name"
            )
        return None
    if not path.exists():
        raise TrainingError(f"{path} does not exist: there is no run to resume; leave --resume out to start one")
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)["faststyle"]["config"]
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise TrainingError(
            f"{path} cannot be read ({str(error).splitlines()[0]}): delete it and start again"
        ) from None
    now = asdict(config)
    free = {"optim": {"max_steps", "max_time", "learning_rate", "gradient_clip"}}
    for group in ("loss", "optim"):
        for key, value in now[group].items():
            if key not in free.get(group, ()) and saved[group][key] != value:
                flag = f"--{key.replace('_', '-')}"
                raise TrainingError(
                    f"the run {config.name} was started with {flag} {saved[group][key]}: resume with the same"
                )
    for key in ("style", "net", "init"):
        if saved[key] != now[key]:
            what = "the painting" if key == "style" else f"--{key}"
            raise TrainingError(f"the run {config.name} was started with {what} {saved[key]}: resume with the same")
    return path


def _claim(folder: Path) -> None:
    """Make the folder for the results now: hours later would be late to learn that it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".faststyle-trial.tmp").touch()
        (folder / ".faststyle-trial.tmp").unlink()
    except OSError as error:
        raise WriteError(f"{folder} cannot be written to ({error.strerror}): name another folder with --out") from None


def _style_image(config: TrainConfig) -> Tensor:
    """The painting as 1 x 3 x H x W in [0, 1], its short side scaled to `style_size`."""
    image = Image.fromarray(read_image(config.style).rgb)
    scale = config.loss.style_size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255


def _net(config: TrainConfig) -> tuple[TransformerNet, ModelCard | None]:
    """A fresh net, or the one that --init names with its card."""
    if config.init is None:
        with torch.random.fork_rng():
            torch.manual_seed(config.optim.seed)
            return TransformerNet(NETS[config.net]), None
    path = find_weights(config.init)
    net, card = load_net(path)
    if net.config != NETS[config.net]:
        raise ModelError(
            f"{path} holds a net of another shape than --net {config.net}: take the one that it was trained with"
        )
    return net, card


def _deliver(
    config: TrainConfig, system: StyleTransferSystem, photos: PhotoDataModule, parent: ModelCard | None, finished: bool
) -> TrainResult:
    """Write weights, card and the checked model."""
    style = Style(
        title=config.title or config.name,
        artist=config.artist,
        year=config.year,
        licence=config.licence,
        sha256=hashlib.sha256(Path(config.style).read_bytes()).hexdigest(),
    )
    optim = config.optim
    training = {
        "photos": len(photos.photos),
        "steps": system.trainer.global_step,
        "crops": system.crops,
        "seconds": round(system.clock.seconds),
        "finished": finished,
        "init": parent.name if parent else None,
        "init_steps": _total(parent, "steps"),
        "init_seconds": _total(parent, "seconds"),
        "learning_rate": optim.learning_rate,
        "crop_schedule": list(optim.crops),
        "seed": optim.seed,
    }
    card = ModelCard(
        name=config.name,
        styles=(style,),
        net=asdict(system.net.config),
        loss=asdict(config.loss),
        training=training,
        metrics={name: round(value, 5) for name, value in sorted(validation_losses(system.trainer).items())},
        versions={"faststyle": faststyle.__version__, "torch": torch.__version__.split("+")[0]},
    )
    out = Path(config.out)
    weights, model = out / f"{config.name}.safetensors", out / f"{config.name}.onnx"
    if system.trainer.is_global_zero:
        save_net(weights, system.net, card)
        export_onnx(weights, model)
    return TrainResult(model, weights, card, finished)


def _total(parent: ModelCard | None, key: str) -> int:
    """Steps or seconds that went into the weights a run started from, those of their own start included."""
    return int(parent.training.get(key, 0) + parent.training.get(f"init_{key}", 0)) if parent else 0


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
def _graceful_interrupt(trainer: pl.Trainer) -> Iterator[None]:
    """The first SIGINT lets the step end and the run close in order; the next one interrupts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        trainer.should_stop = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
