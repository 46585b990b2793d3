"""Settings of image optimisation: Gatys style transfer and DeepDream."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from faststyle.config.checks import require
from faststyle.config.loss import PerceptualConfig

__all__ = ["DreamConfig", "GatysConfig"]


@dataclass(frozen=True)
class GatysConfig:
    """Optimise the pixels of one picture until the loss network finds in it the photo's content and the painting's
    style."""

    size: int | None = None
    """Longer side of the picture in pixels, to which the photo is scaled; by default its own, at most 512."""
    steps: int = 150
    """Optimiser steps at the full size, one evaluation of the loss network each; coarser scales take up to 100."""
    scales: int | None = None
    """Sizes to work through, each twice the one before; by default from about 100 pixels on, and the full size alone
    where --init is a picture or a model."""
    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    """L-BFGS needs fewer steps, Adam less memory."""
    learning_rate: float = 0.03
    """Adam's learning rate, where 1 is the range from black to white."""
    keep_colors: Literal["luminance", "histogram"] | None = None
    """Keep the photo's colours: transfer the luminance alone, or give the painting the photo's colours first."""
    style_weights: tuple[float, ...] = ()
    """How much each of several style images counts, relative to the others; by default all alike."""
    seed: int = 0
    """Seed of the noise."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, mps."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the loss network; auto is bfloat16 on CPUs and GPUs that multiply it natively, else float32."""
    loss_weights: str | None = None
    """File with the loss network's weights; found or fetched by default."""
    loss: PerceptualConfig = field(default_factory=PerceptualConfig)

    def __post_init__(self) -> None:
        require(self.size is None or self.size >= 32, f"--size must be at least 32, not {self.size}")
        require(self.steps >= 1, f"--steps must be at least 1, not {self.steps}")
        require(self.scales is None or self.scales >= 1, f"--scales must be at least 1, not {self.scales}")
        require(0 < self.learning_rate <= 1, f"--learning-rate must lie between 0 and 1, not {self.learning_rate}")
        require(
            all(0 <= weight < math.inf for weight in self.style_weights)
            and (not self.style_weights or sum(self.style_weights) > 0),
            "--style-weights must be 0 or more, and not all 0",
        )
        require(self.seed >= 0, f"--seed must be 0 or more, not {self.seed}")


@dataclass(frozen=True)
class DreamConfig:
    """Change the pixels of one picture until the layers of a network see more in it of what they see already."""

    size: int | None = None
    """Longer side of the picture in pixels, to which the photo is scaled up or down. Large ones are worked through in
    tiles: they take time, hardly memory."""
    layers: tuple[str, ...] = ()
    """Layers to bring out, or single channels of them; several count alike unless weights say otherwise."""
    class_name: str | None = None
    """Bring out one of ImageNet's 1000 classes instead, such as tabby; needs the whole classifier's weights."""
    network: Literal["vgg16", "vgg19", "inception_v3", "googlenet", "resnet50"] = "vgg16"
    """The frozen network whose layers dream."""
    weights: str | None = None
    """File with the network's weights, as torchvision publishes them."""
    octaves: int | None = None
    """Sizes to work through, small to large; the smaller the first, the larger the shapes."""
    octave_scale: float = 1.4
    """How much larger each size is than the one before."""
    steps: int = 10
    """Steps at each size, one evaluation of the network each."""
    step_size: float = 0.006
    """Mean change of a pixel in one step, where 1 is the range from black to white."""
    jitter: int = 32
    """Shift the picture by up to so many pixels at each step, so that the network's own grid does not show."""
    smooth: float = 1.0
    """Blur each step's change with a Gaussian of so many pixels, which calms fine grain; 0 leaves it."""
    tile: int = 512
    """Longest side in pixels of what the network sees at once: decides the memory."""
    keep_colors: bool = False
    """Keep the photo's colours: only the luminance dreams."""
    seed: int = 0
    """Seed of the shifts and of the noise."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, mps."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the network; auto is bfloat16 on CPUs and GPUs that multiply it natively, else float32."""

    def __post_init__(self) -> None:
        require(self.size is None or self.size >= 32, f"--size must be at least 32, not {self.size}")
        require(
            self.class_name is None or not self.layers,
            "--class and --layer exclude each other: a class is found in the network's last layer",
        )
        require(self.octaves is None or self.octaves >= 1, f"--octaves must be at least 1, not {self.octaves}")
        require(1.1 <= self.octave_scale <= 4, f"--octave-scale must lie between 1.1 and 4, not {self.octave_scale}")
        require(self.steps >= 1, f"--steps must be at least 1, not {self.steps}")
        require(0 < self.step_size <= 1, f"--step-size must lie above 0 and at most at 1, not {self.step_size}")
        require(self.jitter >= 0, f"--jitter must be 0 or more, not {self.jitter}")
        require(0 <= self.smooth <= 32, f"--smooth must lie between 0 and 32, not {self.smooth}")
        require(self.tile >= 256, f"--tile must be at least 256, not {self.tile}")
        require(self.seed >= 0, f"--seed must be 0 or more, not {self.seed}")
