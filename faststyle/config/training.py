"""Settings of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

from faststyle.config.checks import require
from faststyle.config.loss import LossConfig
from faststyle.errors import ConfigError

__all__ = ["CropStage", "OptimConfig", "TrainConfig", "TrainerConfig", "parse_duration"]


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
        require(stage.size >= 32, f"--crops {text!r}: crops must be at least 32 pixels")
        require(stage.batch >= 1, f"--crops {text!r}: the batch must be at least 1")
        require(0 < stage.until <= 1, f"--crops {text!r}: the end of a stage lies above 0 and at most at 1")
        return stage


@dataclass(frozen=True)
class OptimConfig:
    """SOAP with a warm-up and a cosine, and how long it runs."""

    max_steps: int | None = None
    """Optimiser steps to train for; by default 1500 from a base or other weights, or what four and a half minutes
    have room for, 4000 from scratch, and as many as --max-time has room for where that is given."""
    max_time: str | None = None
    """Stop after this long, as HH:MM:SS; the schedules then follow the clock if it runs out before --max-steps."""
    learning_rate: float = 3e-3
    """SOAP's learning rate after the warm-up."""
    warmup_steps: int = 50
    """Steps over which the learning rate rises from 0."""
    final_rate: float = 0.02
    """Share of the learning rate that is left at the end of the cosine."""
    patience: int = 3
    """Validations in a row without a lower loss after which the run is brought to its end; 0 for never."""
    gradient_clip: float = 5.0
    """Largest norm of the gradient."""
    crops: tuple[str, ...] = ("256x1:1",)
    """Crop schedule, SIZExBATCH:UNTIL. One large crop a step: what counts on a CPU is how many steps there are."""
    seed: int = 0
    """Seed of the weights, the photos' order and the crops."""

    def __post_init__(self) -> None:
        require(self.max_steps is None or self.max_steps >= 1, f"--max-steps must be at least 1, not {self.max_steps}")
        if self.max_time is not None:
            parse_duration(self.max_time)
        require(self.learning_rate > 0, f"--learning-rate must be above 0, not {self.learning_rate}")
        require(self.warmup_steps >= 0, f"--warmup-steps must be 0 or more, not {self.warmup_steps}")
        require(self.patience >= 0, f"--patience must be 0 or more, not {self.patience}")
        require(0 <= self.final_rate <= 1, f"--final-rate must lie between 0 and 1, not {self.final_rate}")
        require(self.seed >= 0, f"--seed must be 0 or more, not {self.seed}")
        require(self.gradient_clip > 0, f"--gradient-clip must be above 0, not {self.gradient_clip}")
        ends = [stage.until for stage in self.stages]
        require(bool(ends) and ends == sorted(set(ends)) and ends[-1] == 1, "--crops: stages must rise and end at 1")

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
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """Number format of the networks; the losses are computed in float32 whichever is chosen. auto: float32, but
    bfloat16 for the loss network on a CPU or GPU that multiplies it faster."""
    workers: int = 0
    """Processes that load photos; 0 loads them in the training process."""

    def __post_init__(self) -> None:
        require(self.num_nodes >= 1, f"--num-nodes must be at least 1, not {self.num_nodes}")
        require(self.workers >= 0, f"--workers must be 0 or more, not {self.workers}")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that one training run depends on."""

    style: tuple[str, ...]
    """The painting: an image file. Several become the styles of one model."""
    data: str
    """Folder of photos, searched recursively."""
    name: str = ""
    """Name of the style and of the files written; the painting's file name by default. Several paintings need one."""
    net: str | None = None
    """Shape of the network: nano, fast, quality, johnson; by default that of --init, or fast. It decides the speed of
    the model, hardly that of training."""
    init: str | None = None
    """Weights to start from: a .safetensors file, or the name of a model in checkpoints. By default gallery for
    --net fast, starry for quality; nano and johnson start from random weights."""
    from_scratch: bool = False
    """Start from random weights, for 4000 steps unless --max-steps or --max-time says otherwise; the shipped styles
    took more."""
    add: bool = False
    """Keep the styles of --init as they are, to the bit, and add the painting to them: only its own rows of scales,
    shifts, seeds and banks are learned."""
    frozen: bool = False
    """Make the norms constants, measured on the photos, and train on with those: the fastest graph, convolutions
    and the photo's relief. Needs --init."""
    val_data: str | None = None
    """Folder of validation photos, of which up to 32 are used; by default up to 16 of the photos are held out."""
    out: str = "checkpoints"
    """Folder for the finished weights, card and ONNX model."""
    runs: str = "runs"
    """Folder for checkpoints and TensorBoard logs, one subfolder per name."""
    resume: bool = False
    """Continue the run of this name from its last checkpoint."""
    title: tuple[str, ...] = ()
    """Title of the painting, for the card; one for each painting, after the paintings."""
    artist: tuple[str, ...] = ()
    """Who painted it, for the card; one for each painting, after the paintings."""
    year: tuple[str, ...] = ()
    """When, for the card; one for each painting, after the paintings."""
    licence: tuple[str, ...] = ()
    """Licence of the painting, for the card; one for each painting, after the paintings."""
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
        require(not set(self.name) & set("/\\"), f"--name {self.name!r} is a path: name the folder with --out instead")
        require(bool(self.style), "name at least one painting")
        require(not isinstance(self.style, str), "style is a tuple of paintings, not one path")
        stems = [PurePath(path).stem for path in self.style]
        twice = next((stem for stem in stems if stems.count(stem) > 1), None)
        require(twice is None, f"two paintings are named {twice}, which is how a style is chosen: rename one")
        odd = next((stem for stem in stems if set(stem) & set(",:") or stem != stem.strip()), None)
        several = len(stems) > 1 or self.add
        require(not several or odd is None, f"{odd} cannot name a style, since , and : separate names: rename the file")
        require(len(self.style) == 1 or bool(self.name), "several paintings need a --name for their model")
        for flag in ("title", "artist", "year", "licence"):
            given = len(getattr(self, flag))
            require(given in (0, len(self.style)), f"--{flag} is given {given} times for {len(self.style)} paintings")
        require(not self.add or self.init is not None, "--add needs the model to add to: name its weights with --init")
        require(not (self.add and self.frozen), "--add and --frozen exclude each other: a frozen net holds one style")
        require(not (self.init and self.from_scratch), "--from-scratch and --init exclude each other")
        require(not self.frozen or len(self.style) == 1, "--frozen takes one painting: a frozen net holds one style")
        require(not self.frozen or self.init is not None, "--frozen needs trained weights: name them with --init")
        require(self.checkpoint_every >= 1, f"--checkpoint-every must be at least 1, not {self.checkpoint_every}")
        require(self.val_every >= 1, f"--val-every must be at least 1, not {self.val_every}")


def parse_duration(text: str) -> float:
    """Seconds in HH:MM:SS."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise ConfigError(f"--max-time {text!r} is not of the form HH:MM:SS, such as 00:30:00")
    hours, minutes, seconds = (int(part) for part in parts)
    total = 3600 * hours + 60 * minutes + seconds
    require(
        total > 0 and minutes < 60 and seconds < 60, f"--max-time {text!r} is not a time above zero such as 00:30:00"
    )
    return float(total)
