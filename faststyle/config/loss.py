"""What a stylized image is judged by: what training and Gatys optimisation share, and what only training has."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from faststyle.config.checks import require

__all__ = ["LossConfig", "PerceptualConfig"]


@dataclass(frozen=True)
class PerceptualConfig:
    """What a stylized image is compared with, and how hard. One set of values serves every painting."""

    strength: float = 0.5
    """How much style, from 0 (hardly any) to 1 (hardly any photo left)."""
    style_size: int = 256
    """Short side in pixels to which the style image is scaled: smaller means finer strokes and smaller motifs."""
    style_median: int = 1
    """Side in pixels of the median filter that takes the scaled style image's grain away, odd; 1 leaves it."""
    content_layer: str = "relu3_3"
    """Layer of the loss network whose features hold the photo's content."""
    style_layers: tuple[str, ...] = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
    """Layers of the loss network whose Gram matrices hold the style."""
    tv_weight: float = 0.0
    """Weight of total variation, which smooths; nothing here has needed it."""
    loss_network: Literal["vgg16", "vgg19"] = "vgg16"
    """The frozen network whose features are compared."""

    def __post_init__(self) -> None:
        require(0.0 <= self.strength <= 1.0, f"--strength must lie between 0 and 1, not {self.strength}")
        require(self.style_size >= 32, f"--style-size must be at least 32 pixels, not {self.style_size}")
        odd = self.style_median % 2 == 1 and self.style_median >= 1
        require(
            odd, f"--style-median must be an odd number of pixels such as 3, or 1 for none, not {self.style_median}"
        )
        require(bool(self.style_layers), "--style-layers needs at least one layer, such as relu4_3")
        require(0 <= self.tv_weight < math.inf, f"--tv-weight must be 0 or more, not {self.tv_weight}")

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer of the loss network that is looked at."""
        return (*self.style_layers, self.content_layer)

    @property
    def style_weight(self) -> float:
        """Weight of the style loss against a content weight of 1: 1 at strength 0, 10 at 0.5, 100 at 1."""
        return float(10.0 ** (2.0 * self.strength))


@dataclass(frozen=True)
class LossConfig(PerceptualConfig):
    """The perceptual loss with what only a network needs."""

    style_size: int = 384
    """Short side in pixels to which the style image is scaled: smaller means finer strokes and smaller motifs."""
    style_median: int = 3
    """Side in pixels of the median filter that takes the scaled style image's grain away, odd; 1 leaves it."""
    layer_weights: tuple[float, ...] = ()
    """Weight of each of the style layers; by default all alike."""
    evenness_weight: float = 0.2
    """Weight of evenness beside the Gram matrices: as much texture in each part of the picture as the painting has. It
    is looked at in relu3_3, and not at all where the style layers lack it."""
    mean_weight: float = 0.5
    """Weight of the channels' means beside their Gram matrices: it spreads the style over the whole picture."""
    color_weight: float = 1.0
    """Weight of the colours' means, and covariances in every octave, beside the Gram matrices: contrast is the
    painting's, in strokes and in large forms."""
    light_weight: float = 1.0
    """Weight of light: the large light and shade of the picture are the photo's, whatever is painted there."""
    lattice_weight: float = 20000.0
    """Weight of the lattice loss, which forbids patterns and screens locked to the network's own 8-pixel grid."""
    shift_weight: float = 400.0
    """Weight of the shift loss: a photo moved by some pixels must give the picture moved by as much, which stamps that
    stand in cells of the network's grid do not."""

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = self.layer_weights
        require(
            not weights or (len(weights) == len(self.style_layers) and min(weights) >= 0 and sum(weights) > 0),
            f"--layer-weights needs one number for each of {', '.join(self.style_layers)}, 0 or more, not all 0",
        )
        require(self.evenness_weight >= 0, f"--evenness-weight must be 0 or more, not {self.evenness_weight}")
        require(self.mean_weight >= 0, f"--mean-weight must be 0 or more, not {self.mean_weight}")
        require(self.color_weight >= 0, f"--color-weight must be 0 or more, not {self.color_weight}")
        require(self.light_weight >= 0, f"--light-weight must be 0 or more, not {self.light_weight}")
        require(self.lattice_weight >= 0, f"--lattice-weight must be 0 or more, not {self.lattice_weight}")
        require(self.shift_weight >= 0, f"--shift-weight must be 0 or more, not {self.shift_weight}")

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values, for a card; the layers' weights are spelt out."""
        return {**asdict(self), "style_layers": list(self.style_layers), "layer_weights": list(self.weights.values())}

    @property
    def texture_layers(self) -> tuple[str, ...]:
        """The style layers in which evenness is looked at: that of strokes, where the loss has it. relu2_2 is met by a
        canvas of dots."""
        return tuple(layer for layer in self.style_layers if layer == "relu3_3")

    @property
    def weights(self) -> dict[str, float]:
        """What each style layer weighs in the total."""
        return dict(zip(self.style_layers, self.layer_weights or (1.0,) * len(self.style_layers), strict=True))
