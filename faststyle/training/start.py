"""What a run begins with: checked settings, a checkpoint, paintings, and a net that knows as much as we can give it."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from faststyle.checkpoints import find_weights, list_weights
from faststyle.config import NETS, LossConfig, NetConfig, TrainConfig
from faststyle.errors import ConfigError, ModelError, TrainingError, first_line
from faststyle.files import file_digest
from faststyle.images import read_image, scale_short_side, without_grain
from faststyle.modelcard import ModelCard
from faststyle.nets.files import load_net
from faststyle.nets.freezing import freeze
from faststyle.nets.layers import FIELDS
from faststyle.nets.lossnet import LossNetwork
from faststyle.nets.rescaling import rescale
from faststyle.nets.styles import with_rows
from faststyle.nets.transformer import TransformerNet
from faststyle.training.clock import Clock
from faststyle.training.data import PhotoDataModule
from faststyle.training.system import StyleTransferSystem

__all__ = ["complete", "find_checkpoint", "first_net", "style_image"]

BASES = {"fast": "gallery", "quality": "starry"}
"""Shapes of net and the shipped weights that a new style starts from."""
STEPS, STEPS_FROM_SCRATCH = 1500, 4000
"""Steps of a run that starts from trained weights, and of one that does not."""
TIME = "00:04:30"
"""Longest training of a run that starts from trained weights: with what goes before and after it, five minutes."""
TRIED_ON = 3
"""Photos on which the rows of the weights at hand are tried for a new painting."""

_log = logging.getLogger("faststyle")


def complete(config: TrainConfig) -> TrainConfig:
    """Fill in what depends on other settings, and check what only the disk can tell.

    Without --init and --from-scratch, `init` becomes the base of the chosen net, where there is one.
    """
    if importlib.util.find_spec("onnxruntime") is None:  # needed at the end, when hours would be lost
        raise ConfigError("onnxruntime, which checks the exported model, is missing: pip install 'faststyle-onnx[cpu]'")
    if config.net is None:
        config = replace(config, net=_shape(config.init))
    if config.net not in NETS:
        raise ConfigError(f"--net {config.net!r} is unknown: take one of {', '.join(NETS)}")
    if config.init is None and not config.from_scratch:
        base = BASES.get(config.net)
        if base in list_weights():
            config = replace(config, init=base)
        else:
            _log.warning("there is no base for --net %s: training starts from random weights", config.net)
    if config.optim.max_steps is None and config.optim.max_time is None:
        steps, time = (STEPS_FROM_SCRATCH, None) if config.init is None else (STEPS, TIME)
        config = replace(config, optim=replace(config.optim, max_steps=steps, max_time=time))
    return config if config.name else replace(config, name=Path(config.style[0]).stem)


def _shape(init: str | None) -> str:
    """The name of the shape of the weights to start from; `fast` where there are none, or it has no name."""
    if init is None:
        return "fast"
    shape = replace(load_net(find_weights(init))[0].config, norm="instance", styles=1)
    return next((name for name, net in NETS.items() if net == shape), "fast")


def _named_net(config: TrainConfig) -> NetConfig:
    assert config.net is not None  # `complete` has settled it
    return NETS[config.net]


def find_checkpoint(config: TrainConfig, path: Path) -> dict[str, Any] | None:
    """The shape of the net in the checkpoint to go on from, None for a new run; refuses to mix two runs."""
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
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        saved: dict[str, Any] = checkpoint["faststyle"]["config"]
        net: dict[str, Any] = checkpoint["faststyle"]["net"]
        (optimizer,) = checkpoint["optimizer_states"]
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise TrainingError(f"{path} cannot be read ({first_line(error)}): delete it and start again") from None
    if "styles" not in net:
        raise TrainingError(f"{path} holds a run of faststyle 0.1, which cannot be resumed: choose another --name")
    older = TrainingError(f"{path} holds a run of an older version: choose another --name")
    by_adam = any("every" not in group for group in optimizer["param_groups"])  # SOAP cannot go on from its state
    gains = checkpoint["state_dict"].get("net.body.0.seeds.gain")
    of_noise = gains is not None and gains.shape[1] != FIELDS  # which a relief has replaced
    if by_adam or of_noise or "suspect" not in checkpoint["faststyle"]:
        raise older
    now = asdict(config)
    free = {"optim": {"max_steps", "max_time", "learning_rate", "gradient_clip", "patience"}}
    for group in ("loss", "optim"):
        for key, value in now[group].items():
            if key not in saved[group]:
                raise older
            if key not in free.get(group, ()) and saved[group][key] != value:
                flag = f"--{key.replace('_', '-')}"
                raise TrainingError(
                    f"the run {config.name} was started with {flag} {saved[group][key]}: resume with the same"
                )
    for key in ("style", "data", "val_data", "net", "init", "frozen", "add"):
        if saved[key] != now[key]:
            what = "the painting" if key == "style" else f"--{key.replace('_', '-')}"
            value = " ".join(saved[key]) if key == "style" else saved[key]
            if key == "init" and value is None:
                what, value = "--from-scratch", ""
            text = f"{what} {value}".rstrip()
            raise TrainingError(f"the run {config.name} was started with {text}: resume with the same")
    if tuple(net["channels"]) != _named_net(config).channels:
        raise TrainingError(
            f"{path} holds a run of a version whose --net {config.net} was another: choose another --name"
        )
    return net


def style_image(path: str, loss: LossConfig) -> Tensor:
    """A painting as 1 x 3 x H x W in [0, 1], its short side scaled to the style size, without its grain.

    Canvas, paper, print and JPEG leave a painting more contrast from pixel to pixel than a stroke has, at random, which
    a network cannot paint: it makes up for it by a screen of dots.
    """
    image = without_grain(scale_short_side(read_image(path).rgb, loss.style_size), loss.style_median)
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


def first_net(
    config: TrainConfig,
    photos: PhotoDataModule,
    judge: LossNetwork,
    style_images: Sequence[Tensor],
    saved: dict[str, Any] | None,
) -> tuple[TransformerNet, ModelCard | None]:
    """A fresh net, or the one that `init` names with its card, frozen if asked, else ready to learn anew (`rescale`).

    Its last styles are those of the paintings; with `add` it has those of `init` before them. A run that goes on names
    the shape that it `saved`, which the checkpoint will fill.
    """
    count = len(config.style)
    if config.init is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.optim.seed)
            return TransformerNet(replace(_named_net(config), styles=count)), None
    path = find_weights(config.init)
    net, card = load_net(path)
    if replace(net.config, norm="instance", styles=1) != _named_net(config):
        raise ModelError(
            f"{path} holds a net of another shape than --net {config.net}: take the one that it was trained with, or"
            " start with --from-scratch, or from other weights with --init"
        )
    if net.config.norm == "frozen" and not config.frozen:
        raise ModelError(f"{path} holds a frozen net, which cannot be thawed: train it on with --frozen")
    if config.add and card.loss != config.loss.to_dict():
        _log.warning(
            "%s was trained with other loss settings: the card will hold those of the new style, by which `faststyle"
            " evaluate` then judges all",
            path,
        )
    kept = list(range(net.config.styles)) if config.add else []
    names = {style.name or card.name for style in card.styles} if config.add else set()
    if taken := names & {Path(painting).stem for painting in config.style}:
        raise TrainingError(f"{path} has a style {min(taken)} already: give the painting's file another name")
    if saved is not None:
        norm: Literal["instance", "frozen"] = "frozen" if config.frozen else "instance"
        net = TransformerNet(replace(net.config, styles=len(kept) + count, norm=norm))
        if net.config.to_dict() != saved:
            raise TrainingError(
                f"{path} is not what the run {config.name} was started from any more: choose another --name"
            )
        return net, card
    if net.config.norm == "instance":
        net = with_rows(net, kept + _nearest(config, net, card, photos, judge, style_images))
        if config.frozen:
            net = freeze(net, (photo[None].float() / 255 for photo in photos.calibration()))
        elif not config.add:  # which leaves the filters to the bit
            rescale(net)
    return net, card


def _nearest(
    config: TrainConfig,
    net: TransformerNet,
    card: ModelCard,
    photos: PhotoDataModule,
    judge: LossNetwork,
    style_images: Sequence[Tensor],
) -> list[int]:
    """For each painting the style of the net to begin with: itself if it is there, else the one with the least loss."""
    styles, count = net.config.styles, len(config.style)
    if styles == 1:
        return [0] * count
    known = {style.sha256: index for index, style in enumerate(card.styles) if style.sha256}
    rows = [known.get(file_digest(path), -1) for path in config.style]
    unknown = [place for place, row in enumerate(rows) if row < 0]
    if not unknown:
        return rows
    shown = photos.validation
    batch = torch.stack([shown[index] for index in range(min(TRIED_ON, len(shown)))]).float() / 255
    system = StyleTransferSystem(config, with_rows(net, [0] * count), judge, style_images, Clock(config.optim))
    least = [math.inf] * count
    for row in range(styles):
        system.net = with_rows(net, [row] * count)
        for place in unknown:
            with torch.no_grad():
                total = float(system.judge(batch, place)[0].total)
            if total < least[place]:
                rows[place], least[place] = row, total
    return [max(row, 0) for row in rows]
