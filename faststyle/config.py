"""Settings as frozen dataclasses: the only source of defaults, command-line flags, help texts and card entries.

Each field's docstring is its help text. Values are checked on construction; the message names the flag.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from faststyle.errors import ConfigError

__all__ = [
    "NETS",
    "CropStage",
    "LossConfig",
    "NetConfig",
    "OptimConfig",
    "TrainConfig",
    "TrainerConfig",
    "parse_duration",
]


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


@dataclass(frozen=True)
class NetConfig:
    """The shape of a TransformerNet; `NETS` names the shapes on offer."""

    family: Literal["lowres", "johnson"] = "lowres"
    """lowres: no feature map at full resolution; johnson: the network of Johnson et al. 2016, for comparison."""
    channels: tuple[int, ...] = (16, 48)
    """Channels at half and quarter resolution (lowres), or at full, half and quarter resolution (johnson)."""
    blocks: int = 4
    """Residual blocks at quarter resolution."""
    padding: int = 32
    """Pixels by which the image is mirrored outwards before the first layer; cropped away at the end."""
    dither: float = 2.0
    """Levels (of 255) of fixed noise added to the input: strokes grow from it where a photo is perfectly flat."""

    def __post_init__(self) -> None:
        wanted = {"lowres": 2, "johnson": 3}
        _require(self.family in wanted, f"net family {self.family!r} is unknown: take one of {', '.join(wanted)}")
        _require(
            len(self.channels) == wanted[self.family] and min(self.channels) >= 1,
            f"a {self.family} net takes {wanted[self.family]} channel counts of at least 1, not {self.channels}",
        )
        _require(self.blocks >= 0, f"blocks must be 0 or more, not {self.blocks}")
        _require(self.dither >= 0, f"dither must be 0 or more, not {self.dither}")
        _require(self.padding >= 0 and self.padding % 4 == 0, f"padding must be a multiple of 4, not {self.padding}")


NETS: dict[str, NetConfig] = {
    "nano": NetConfig(channels=(8, 16), blocks=3),
    "fast": NetConfig(channels=(16, 32), blocks=3),
    "base": NetConfig(channels=(16, 48), blocks=4),
    "quality": NetConfig(channels=(24, 64), blocks=5),
    "johnson": NetConfig(family="johnson", channels=(32, 64, 128), blocks=5, padding=40, dither=0.0),
}
"""Named shapes, smallest first; `johnson` is the stock network of 2016 (9x9 ends, 1.68 M parameters)."""


@dataclass(frozen=True)
class LossConfig:
    """What the stylized image is compared with, and how hard. One set of values serves every painting."""

    strength: float = 0.5
    """How much style, from 0 (hardly any) to 1 (hardly any photo left)."""
    style_size: int = 256
    """Short side in pixels to which the style image is scaled: smaller means finer strokes and smaller motifs."""
    content_layer: str = "relu3_3"
    """Layer of the loss network whose features hold the photo's content."""
    style_layers: tuple[str, ...] = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
    """Layers of the loss network whose Gram matrices hold the style."""
    lattice_weight: float = 1000.0
    """Weight of the lattice loss, which forbids patterns locked to the network's own 4-pixel grid."""
    tv_weight: float = 0.0
    """Weight of total variation; the lattice loss and the padding make it unnecessary."""
    loss_network: Literal["vgg16", "vgg19"] = "vgg16"
    """The frozen network whose features are compared."""

    def __post_init__(self) -> None:
        _require(0.0 <= self.strength <= 1.0, f"--strength must lie between 0 and 1, not {self.strength}")
        _require(self.style_size >= 32, f"--style-size must be at least 32 pixels, not {self.style_size}")
        _require(bool(self.style_layers), "--style-layers needs at least one layer, such as relu4_3")
        _require(self.lattice_weight >= 0, f"--lattice-weight must be 0 or more, not {self.lattice_weight}")
        _require(self.tv_weight >= 0, f"--tv-weight must be 0 or more, not {self.tv_weight}")

    @property
    def style_weight(self) -> float:
        """Weight of the style loss against a content weight of 1: 1 at strength 0, 10 at 0.5, 100 at 1."""
        return float(10.0 ** (2.0 * self.strength))


@dataclass(frozen=True)
class CropStage:
    """One stage of the crop schedule, written SIZExBATCH:UNTIL, e.g. 128x4:0.25."""

    size: int
    batch: int
    until: float

    @classmethod
    def parse(cls, text: str) -> CropStage:
        """Read `128x4:0.25`: crops of 128 pixels, four a step, until a quarter of the training is done."""
        try:
            shape, until = text.split(":")
            size, batch = shape.lower().split("x")
            stage = cls(int(size), int(batch), float(until))
        except ValueError:
            raise ConfigError(f"--crops {text!r} is not of the form SIZExBATCH:UNTIL, such as 128x4:0.25") from None
        _require(stage.size >= 32, f"--crops {text!r}: crops must be at least 32 pixels")
        _require(stage.batch >= 1, f"--crops {text!r}: the batch must be at least 1")
        _require(0 < stage.until <= 1, f"--crops {text!r}: the end of a stage lies above 0 and at most at 1")
        return stage


@dataclass(frozen=True)
class OptimConfig:
    """Adam with a warm-up and a cosine, and how long it runs."""

    max_steps: int = 4000
    """Optimiser steps to train for."""
    max_time: str | None = None
    """Stop after this long, as HH:MM:SS; the schedules then follow the clock if it runs out before --max-steps."""
    learning_rate: float = 3e-3
    """Adam's learning rate after the warm-up."""
    warmup_steps: int = 50
    """Steps over which the learning rate rises from 0."""
    final_rate: float = 0.02
    """Share of the learning rate that is left at the end of the cosine."""
    gradient_clip: float = 5.0
    """Largest norm of the gradient."""
    crops: tuple[str, ...] = ("128x4:0.25", "192x4:0.6", "256x2:1")
    """Crop schedule, SIZExBATCH:UNTIL; small crops first, since the loss network's cost grows with the area."""
    seed: int = 0
    """Seed of the weights, the photos' order and the crops."""

    def __post_init__(self) -> None:
        _require(self.max_steps >= 1, f"--max-steps must be at least 1, not {self.max_steps}")
        if self.max_time is not None:
            parse_duration(self.max_time)
        _require(self.learning_rate > 0, f"--learning-rate must be above 0, not {self.learning_rate}")
        _require(self.warmup_steps >= 0, f"--warmup-steps must be 0 or more, not {self.warmup_steps}")
        _require(0 <= self.final_rate <= 1, f"--final-rate must lie between 0 and 1, not {self.final_rate}")
        _require(self.seed >= 0, f"--seed must be 0 or more, not {self.seed}")
        _require(self.gradient_clip > 0, f"--gradient-clip must be above 0, not {self.gradient_clip}")
        ends = [stage.until for stage in self.stages]
        _require(bool(ends) and ends == sorted(set(ends)) and ends[-1] == 1, "--crops: stages must rise and end at 1")

    @property
    def stages(self) -> tuple[CropStage, ...]:
        """The crop schedule, parsed."""
        return tuple(CropStage.parse(text) for text in self.crops)

    @property
    def max_seconds(self) -> float:
        """`max_time` in seconds; infinite without one."""
        return math.inf if self.max_time is None else parse_duration(self.max_time)

    def stage_at(self, progress: float) -> CropStage:
        """The stage that serves a progress in [0, 1]."""
        return next((stage for stage in self.stages if progress < stage.until), self.stages[-1])

    def rate_at(self, step: int, progress: float) -> float:
        """The factor on the learning rate: linear warm-up by steps, then a cosine by progress in [0, 1]."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
        return warm * (self.final_rate + (1.0 - self.final_rate) * cosine)


@dataclass(frozen=True)
class TrainerConfig:
    """Where training runs: handed to Lightning's Trainer as they are."""

    accelerator: str = "auto"
    """Lightning's accelerator: auto, cpu, gpu, mps."""
    devices: str = "auto"
    """How many devices, or which: auto, 2, or 0,1."""
    num_nodes: int = 1
    """Machines to train on."""
    strategy: str = "auto"
    """Lightning's strategy: auto or ddp."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Number format of the networks; the losses are computed in float32 whichever is chosen."""
    workers: int = 0
    """Processes that load photos; 0 loads them in the training process."""

    def __post_init__(self) -> None:
        _require(self.num_nodes >= 1, f"--num-nodes must be at least 1, not {self.num_nodes}")
        _require(self.workers >= 0, f"--workers must be 0 or more, not {self.workers}")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that one training run depends on."""

    style: str
    """The painting: an image file."""
    data: str
    """Folder of photos, searched recursively."""
    name: str = ""
    """Name of the style and of the files written; the painting's file name by default."""
    net: str = "quality"
    """Shape of the network: nano, fast, base, quality, johnson. It decides the speed of the model, hardly that of
    training."""
    init: str | None = None
    """Weights to start from: a .safetensors file, or the name of a style in checkpoints."""
    val_data: str | None = None
    """Folder of validation photos, of which up to 32 are used; by default up to 16 of the photos are held out."""
    out: str = "checkpoints"
    """Folder for the finished weights, card and ONNX model."""
    runs: str = "runs"
    """Folder for checkpoints and TensorBoard logs, one subfolder per name."""
    resume: bool = False
    """Continue the run of this name from its last checkpoint."""
    title: str = ""
    """Title of the painting, for the card."""
    artist: str = ""
    """Who painted it, for the card."""
    year: str = ""
    """When, for the card."""
    licence: str = ""
    """Licence of the painting, for the card."""
    loss_weights: str | None = None
    """File with the loss network's weights; found or fetched by default."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    val_every: int = 500
    """Steps between validations, each with a picture grid for TensorBoard."""
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        _require(not set(self.name) & set("/\\"), f"--name {self.name!r} is a path: name the folder with --out instead")
        _require(self.checkpoint_every >= 1, f"--checkpoint-every must be at least 1, not {self.checkpoint_every}")
        _require(self.val_every >= 1, f"--val-every must be at least 1, not {self.val_every}")


def parse_duration(text: str) -> float:
    """Seconds in HH:MM:SS."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise ConfigError(f"--max-time {text!r} is not of the form HH:MM:SS, such as 00:30:00")
    hours, minutes, seconds = (int(part) for part in parts)
    total = 3600 * hours + 60 * minutes + seconds
    _require(
        total > 0 and minutes < 60 and seconds < 60, f"--max-time {text!r} is not a time above zero such as 00:30:00"
    )
    return float(total)
