"""The recipe: from a painting and a folder of photos to weights, card and a checked ONNX model."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import logging
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from torch import Tensor

import faststyle
from faststyle.checkpoints import find_weights
from faststyle.config import NETS, TrainConfig
from faststyle.errors import ConfigError, ModelError, TrainingError, WriteError
from faststyle.export import export_onnx
from faststyle.files import write_file
from faststyle.images import read_image, scale_short_side
from faststyle.modelcard import ModelCard, Style
from faststyle.nets.files import load_net, save_net
from faststyle.nets.freezing import freeze
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
    main: bool
    """Whether this process wrote them: with several devices one of them does."""
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
    net, parent = _net(config, photos, checkpoint)
    loss = config.loss
    weights = load_weights(loss.loss_network, config.loss_weights)
    judge = LossNetwork((*loss.style_layers, loss.content_layer), weights, name=loss.loss_network)
    system = StyleTransferSystem(config, net, judge, style_image, clock)

    if parent is not None:
        system.origin = {
            "init": parent.name,
            "init_steps": _total(parent, "steps"),
            "init_seconds": _total(parent, "seconds"),
        }
    _claim(Path(config.out), "--out")
    _claim(folder, "--runs")
    stop = StopOnTime()
    callbacks: list[pl.Callback] = [Board(style_image)]
    if on_progress is not None:
        callbacks.append(Report(rank_zero_only(on_progress)))
    callbacks.append(stop)
    callbacks.append(
        ModelCheckpoint(folder, "last", every_n_train_steps=config.checkpoint_every, enable_version_counter=False)
    )
    # Lightning's own bar, summary and banners are for its own users; ours hear of a run through on_progress.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    trainer = _trainer(config, callbacks)
    with _quiet(), _graceful_interrupt(stop):
        clock.start()
        try:
            trainer.fit(system, photos, ckpt_path=checkpoint)
        except torch.OutOfMemoryError:
            raise TrainingError("the device is out of memory: lower the batch or the size of the --crops") from None
        except MisconfigurationException as error:
            raise _refused(error) from None
        finished = clock.progress(trainer.global_step) >= 1.0
        trainer.save_checkpoint(folder / "last.ckpt")
        if system.validated_at != trainer.global_step:
            trainer.validate(system, photos, verbose=False)
    result = _deliver(config, system, photos, finished)
    if finished and trainer.is_global_zero:
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
            precision="32-true" if settings.precision == "auto" else settings.precision,
            max_steps=config.optim.max_steps,
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
    reason = (str(error) or type(error).__name__).splitlines()[0]
    remedy = "check --accelerator, --devices, --num-nodes, --strategy and --precision"
    return ConfigError(f"Lightning does not take these settings ({reason}): {remedy}")


class _WholeFiles(TorchCheckpointIO):
    """Checkpoints written whole or not at all: Lightning's own go through /tmp, which may be another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_file(path, buffer.getvalue())


def _complete(config: TrainConfig) -> TrainConfig:
    """Fill in what depends on other settings, and check what only the disk can tell."""
    if importlib.util.find_spec("onnxruntime") is None:  # needed at the end, when hours would be lost
        raise ConfigError("onnxruntime, which checks the exported model, is missing: pip install 'faststyle-onnx[cpu]'")
    if config.net not in NETS:
        raise ConfigError(f"--net {config.net!r} is unknown: take one of {', '.join(NETS)}")
    return config if config.name else replace(config, name=Path(config.style).stem)


def _checkpoint(config: TrainConfig, path: Path) -> Path | None:
    """The checkpoint to go on from; refuses to mix two runs."""
    if not config.resume:
        finished = Path(config.out) / f"{config.name}.onnx"
        if finished.exists():
            raise TrainingError(f"{finished} exists already: choose another --name or --out, or delete it")
        if path.exists():
            raise TrainingError(
                f"{path} holds an unfinished run: continue it with --resume, or delete it, or choose another --name"
            )
        return None
    if not path.exists():
        raise TrainingError(f"{path} does not exist: there is no run to resume; leave --resume out to start one")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)["faststyle"]
        saved, channels = checkpoint["config"], tuple(checkpoint["net"]["channels"])
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise TrainingError(
            f"{path} cannot be read ({str(error).splitlines()[0]}): delete it and start again"
        ) from None
    now = asdict(config)
    free = {"optim": {"max_steps", "max_time", "learning_rate", "gradient_clip"}}
    for group in ("loss", "optim"):
        for key, value in now[group].items():
            if key not in free.get(group, ()) and saved[group].get(key) != value:
                flag = f"--{key.replace('_', '-')}"
                raise TrainingError(
                    f"the run {config.name} was started with {flag} {saved[group].get(key)}: resume with the same"
                )
    for key in ("style", "data", "val_data", "net", "init", "frozen"):
        if saved.get(key, False) != now[key]:  # checkpoints of 0.1.0 know nothing of --frozen
            what = "the painting" if key == "style" else f"--{key.replace('_', '-')}"
            raise TrainingError(f"the run {config.name} was started with {what} {saved.get(key)}: resume with the same")
    if channels != NETS[config.net].channels:
        raise TrainingError(
            f"{path} holds a run of a version whose --net {config.net} was another: choose another --name"
        )
    return path


def _claim(folder: Path, flag: str) -> None:
    """Make a folder for results now: hours later would be late to learn that it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WriteError(f"{folder} cannot be written to ({error.strerror}): name another folder with {flag}") from None


def _style_image(config: TrainConfig) -> Tensor:
    """The painting as 1 x 3 x H x W in [0, 1], its short side scaled to `style_size`."""
    image = scale_short_side(read_image(config.style).rgb, config.loss.style_size)
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


def _net(
    config: TrainConfig, photos: PhotoDataModule, checkpoint: Path | None
) -> tuple[TransformerNet, ModelCard | None]:
    """A fresh net, or the one that --init names with its card, frozen if asked; a checkpoint will fill it."""
    if config.init is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.optim.seed)
            return TransformerNet(NETS[config.net]), None
    path = find_weights(config.init)
    net, card = load_net(path)
    if replace(net.config, norm="instance") != NETS[config.net]:
        raise ModelError(
            f"{path} holds a net of another shape than --net {config.net}: take the one that it was trained with"
        )
    if net.config.norm == "frozen" and not config.frozen:
        raise ModelError(f"{path} holds a frozen net, which cannot be thawed: train it on with --frozen")
    if config.frozen and net.config.norm != "frozen":
        if checkpoint is None:
            net = freeze(net, (photo[None].float() / 255 for photo in photos.calibration()))
        else:
            net = TransformerNet(replace(net.config, norm="frozen"))
    return net, card


def _deliver(config: TrainConfig, system: StyleTransferSystem, photos: PhotoDataModule, finished: bool) -> TrainResult:
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
        **system.origin,
        "learning_rate": optim.learning_rate,
        "crop_schedule": list(optim.crops),
        "seed": optim.seed,
    }
    card = ModelCard(
        name=config.name,
        styles=(style,),
        net=system.net.config.to_dict(),
        loss=asdict(config.loss),
        training=training,
        metrics={name: round(value, 5) for name, value in sorted(validation_losses(system.trainer).items())},
        halo=system.net.config.reach,
        versions={"faststyle": faststyle.__version__, "torch": torch.__version__.split("+")[0]},
    )
    out = Path(config.out)
    weights, model = out / f"{config.name}.safetensors", out / f"{config.name}.onnx"
    if system.trainer.is_global_zero:
        save_net(weights, system.net, card)
        export_onnx(weights, model)
    return TrainResult(model, weights, card, system.trainer.is_global_zero, finished)


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
def _graceful_interrupt(stop: StopOnTime) -> Iterator[None]:
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
