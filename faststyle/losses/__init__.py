"""Perceptual losses on the features of a loss network, normalised so that one set of weights serves every painting.

The losses of Johnson et al. 2016, with changes. Each is divided by the size of what it is compared with, so that a
content loss of 1 means as far from the photo's features as black is, and a style loss lies between 0 and 1. A network
may also be held to as much texture in every part of the picture as the painting has, and to the channels' means beside
the Gram matrices: else it paints glaring patches, or buildings and no skies; to the moments of the painting's colours,
since deeper features hardly see light and contrast; to the photo's own large light and shade, which strokes must not
outweigh; a lattice loss keeps it from weaving a pattern on its own pixel grid, and a shift loss from painting by that
grid at all. Images are N x 3 x H x W in [0, 1]; features N x C x H x W as the LossNetwork gives them.
"""

from __future__ import annotations

from faststyle.losses.features import (
    channel_means,
    content_loss,
    evenness_loss,
    gram_matrix,
    mean_loss,
    stride_of,
    style_loss,
    texture_energies,
    texture_target,
    textures_between,
)
from faststyle.losses.perceptual import LossTerms, PerceptualLoss
from faststyle.losses.pixels import (
    chequer_loss,
    color_loss,
    color_moments,
    colors_between,
    lattice_loss,
    light_loss,
    seam_loss,
    shift_loss,
    total_variation,
)

__all__ = [
    "LossTerms",
    "PerceptualLoss",
    "channel_means",
    "chequer_loss",
    "color_loss",
    "color_moments",
    "colors_between",
    "content_loss",
    "evenness_loss",
    "gram_matrix",
    "lattice_loss",
    "light_loss",
    "mean_loss",
    "seam_loss",
    "shift_loss",
    "stride_of",
    "style_loss",
    "texture_energies",
    "texture_target",
    "textures_between",
    "total_variation",
]
