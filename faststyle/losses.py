"""Perceptual losses on the features of a loss network, normalised so that one set of weights serves every painting.

The losses of Johnson et al. 2016, with changes. Each is divided by the size of what it is compared with, so that a
content loss of 1 means as far from the photo's features as black is, and a style loss lies between 0 and 1. A network
may also be held to as much texture in every part of the picture as the painting has, and to the channels' means beside
the Gram matrices: else it paints glaring patches, or buildings and no skies; to the moments of the painting's colours,
since deeper features hardly see light and contrast; to the photo's own large light and shade, which strokes must not
outweigh; and a lattice loss keeps it from weaving a pattern on its own pixel grid. Images are N x 3 x H x W in [0, 1];
features N x C x H x W as the LossNetwork gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from faststyle.colors import LUMA

__all__ = [
    "LossTerms",
    "PerceptualLoss",
    "channel_means",
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
    "stride_of",
    "style_loss",
    "texture_energies",
    "texture_target",
    "textures_between",
    "total_variation",
]

SEAMS = 0.4
"""Weight of the seams within the lattice term."""
WINDOW = 32
"""Pixels a side of a window whose texture is measured."""
SPREAD = 0.4
"""How much of the painting's own unevenness, from its median, is asked of a picture: a photo brings its own."""
OCTAVES = (1, 3, 5, 9, 17, 33, 65)
"""Sides in pixels of the squares between whose means the octaves of an image's colours lie."""
LIGHT_WINDOW = 32
"""Pixels a side of a square whose light should follow the photo's."""
QUANTILES = 64
"""Numbers that stand for a painting's windows, however many it has."""


def gram_matrix(features: Tensor, masks: Tensor | None = None) -> Tensor:
    """Correlations of the channels, N x C x C: F F^T / (C H W) (Johnson et al. 2016, equation 3), in float32.

    With `masks`, R x 1 x h x w in [0, 1] of any size, the features are one image's and the result is R x C x C: each
    region's own mean, pixels weighted by its mask (Gatys et al. 2017, section 4, with the mask itself as weight).
    The root of the divisor is taken from the features before the product: the sums would overflow in float16.
    """
    n, c, h, w = features.shape
    with torch.autocast(features.device.type, enabled=False):
        if masks is None:
            gram: Tensor = _Gram.apply(features)
            return gram
        flat = features.float().reshape(n, c, h * w) / (c * h * w) ** 0.5
        shares = F.adaptive_avg_pool2d(masks, (h, w)).reshape(-1, 1, h * w)
        weighted = flat * (shares / shares.mean(2, keepdim=True).clamp_min(1e-12))
        return torch.bmm(weighted, flat.expand_as(weighted).transpose(1, 2))


class _Gram(torch.autograd.Function):
    """F F^T / (C H W) with a slope of our own, (S + S^T) F for the slope S of the matrix.

    Autograd would form both halves of the sum by a product each, and lay the result out channel by channel: adding it
    to the slope that comes down from the next layer, pixel by pixel, then costs as much again.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        pixels = _pixels(features)
        return torch.bmm(pixels.transpose(1, 2), pixels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        n, c, h, w = features.shape
        both = (slope + slope.transpose(1, 2)) / (c * h * w) ** 0.5
        with torch.autocast(slope.device.type, enabled=False):
            product = torch.bmm(_pixels(features), both)
        return product.to(features.dtype).reshape(n, h, w, c).permute(0, 3, 1, 2)


def _pixels(features: Tensor) -> Tensor:
    """Features as N x H W x C, divided by the root of C H W, in float32: without moving them where they are laid out
    channels last."""
    n, c, h, w = features.shape
    divisor: float = (c * h * w) ** 0.5
    return features.permute(0, 2, 3, 1).reshape(n, h * w, c).float() / divisor


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Feature reconstruction: mean (F - F_C)^2 / mean F_C^2 over each image, averaged over the batch; a scalar from 0.

    Johnson et al. 2016, equation 2, divided by the target's mean square.
    """
    difference = (features.float() - target.float()).square().mean((1, 2, 3))
    return (difference / target.float().square().mean((1, 2, 3)).clamp_min(1e-12)).mean()


def stride_of(features: Tensor, image: Tensor) -> int:
    """Pixels of the image to a feature's side."""
    return round(image.shape[-1] / features.shape[-1])


def texture_energies(features: Tensor, stride: int) -> Tensor:
    """How much texture each window of a picture has, in rising order: N x C x H x W to N x windows, in float32.

    The log of the variance of each channel within the window, averaged over the channels; windows of WINDOW pixels, at
    `stride` pixels a feature, half overlapping, one where the picture is smaller.
    """
    side = min(max(2, WINDOW // stride), *features.shape[-2:])
    values, step = features.float(), max(1, side // 2)
    variance = F.avg_pool2d(values.square(), side, step) - F.avg_pool2d(values, side, step).square()
    energies = variance.clamp_min(0).mean(1).flatten(1)
    # Of what is flat, log 0 would have no end, and neither would its slope.
    return (energies + 1e-3 * energies.detach().mean(1, keepdim=True) + 1e-12).log().sort(1).values


def texture_target(features: Tensor, stride: int) -> Tensor:
    """What `evenness_loss` asks for in the manner of a painting, whose features these are: N x QUANTILES."""
    energies = texture_energies(features, stride)
    median = energies.median(1, keepdim=True).values
    return _quantiles(median + SPREAD * (energies - median), QUANTILES)


def evenness_loss(energies: Tensor, target: Tensor) -> Tensor:
    """Mean |E - E_S| between two pictures' `texture_energies`, both in rising order; a scalar from 0.

    The distance of their distributions (in one dimension the optimal transport is that of order). Gram matrices are
    sums over the picture, which a few glaring patches meet, or buildings alone, as well as strokes everywhere do: a
    picture of those has windows of far more and of far less texture than the painting. 0.7 is a factor of two.
    `energies` is N x windows, `target` 1 x any number or N x any number.
    """
    return (energies - _quantiles(target, energies.shape[1])).abs().mean()


def textures_between(energies: Tensor, target: Tensor, strength: float) -> Tensor:
    """`energies` of a photo, and what lies `strength` of the way from there to a painting's `target`: N x windows."""
    return energies.lerp(_quantiles(target, energies.shape[1]), strength)


def light_loss(image: Tensor, photo: Tensor) -> Tensor:
    """How much of a picture's large light and shade is not the photo's own, averaged over the batch; from 0 to about 1.

    The luminance of squares of LIGHT_WINDOW pixels, a quarter of that apart, less the best multiple of the photo's:
    its mean square over the variance of the picture's pixels, which counts as a constant. The painting's contrast may
    be another, and strokes may be light and dark, but neither patches of motifs nor what grows from noise may outweigh
    the sky, the face or the shadow that are there. Both are N x 3 x H x W in [0, 1].
    """
    wide, found = _wide_light(image)
    own, _ = _wide_light(photo)
    multiple = (wide * own).mean((1, 2, 3), keepdim=True) / (own.square().mean((1, 2, 3), keepdim=True) + 1e-4)
    strange = (wide - multiple.clamp_min(0) * own).square().mean((1, 2, 3))
    return (strange / (found.detach().var((1, 2, 3), correction=0) + 1e-3)).mean()


def _wide_light(image: Tensor) -> tuple[Tensor, Tensor]:
    """The luminance of squares, less its mean, and of pixels: N x 1 x any two sizes each."""
    luma = (image.float() * image.new_tensor(LUMA, dtype=torch.float32)[:, None, None]).sum(1, keepdim=True)
    side = min(LIGHT_WINDOW, *luma.shape[-2:])
    wide = F.avg_pool2d(luma, side, max(1, side // 4))
    return wide - wide.mean((2, 3), keepdim=True), luma


def _quantiles(rising: Tensor, count: int) -> Tensor:
    """N x any number in rising order as N x count, from the least to the largest."""
    return F.interpolate(rising[:, None], size=count, mode="linear", align_corners=True)[:, 0]


def style_loss(gram: Tensor, target: Tensor, shares: Tensor | None = None) -> Tensor:
    """Balanced distance of Gram matrices: |G - G_S|^2 / (|G|^2 + |G_S|^2), averaged over the batch; a scalar in [0, 1].

    After Cheng et al. 2021, who divide each layer's loss by its largest possible value, so that layers and paintings
    weigh alike. |G|^2 counts as a constant: with a gradient through it, growing G would pay. `gram` is N x C x C,
    `target` 1 x C x C or N x C x C; with `shares`, N, the sum weighted by them takes the mean's place.
    """
    distance = _balanced(gram, target)
    return distance.mean() if shares is None else (distance * shares).sum()


def mean_loss(features: Tensor, target: Tensor) -> Tensor:
    """Balanced distance of the channels' means: |m - m_S|^2 / (|m|^2 + |m_S|^2), averaged over the batch; in [0, 1].

    A Gram matrix holds second moments, which a few glaring patches on an untouched photo match as well as strokes
    everywhere do; their means differ (Risser et al. 2017 match whole histograms for the same reason). |m|^2 counts as a
    constant, as in `style_loss`. `features` is N x C x H x W, `target` 1 x C or N x C, as `channel_means` gives them.
    """
    return _balanced(channel_means(features), target).mean()


def channel_means(features: Tensor) -> Tensor:
    """Mean of each channel, N x C x H x W to N x C, in float32.

    Pixel by pixel, so that the slope has the layout of features that are channels last: laid out channel by channel it
    takes four times as long to form.
    """
    return features.permute(0, 2, 3, 1).flatten(1, 2).mean(1, dtype=torch.float32)


def color_moments(image: Tensor) -> Tensor:
    """Covariance and mean of an image's colours, N x 3 x H x W in [0, 1] to N x K x 3 x 4, in float32.

    Along the second dimension: of the pixels, then of each octave from fine to coarse, which is the mean of a square of
    OCTAVES[k] pixels less that of the square of OCTAVES[k + 1] around it, as far as the image holds that; 7 for an
    image of 65 pixels and more. The first three columns are the covariance, the last is the mean.
    """
    image = image.float()
    fitting = [side for side in OCTAVES if side <= min(image.shape[-2:])]
    return torch.stack([_moments(image), *(_moments(_octave(image, *pair)) for pair in pairwise(fitting))], 1)


def _octave(image: Tensor, side: int, wider: int) -> Tensor:
    """Means of squares less those of wider ones with the same centres, at distances of about half the smaller side."""
    # An odd distance: squares that all lay on the network's own cells would have it paint those cells in one colour.
    stride, inset = max(1, side // 2 - 1), (wider - side) // 2
    within = image[:, :, inset : image.shape[2] - inset, inset : image.shape[3] - inset]
    return F.avg_pool2d(within, side, stride) - F.avg_pool2d(image, wider, stride)


def _moments(image: Tensor) -> Tensor:
    pixels = image.flatten(2)
    mean = pixels.mean(2, keepdim=True)
    centred = pixels - mean
    with torch.autocast(image.device.type, enabled=False):
        covariance = torch.bmm(centred, centred.transpose(1, 2)) / pixels.shape[2]
    return torch.cat([covariance, mean], 2)


def color_loss(moments: Tensor, target: Tensor) -> Tensor:
    """Distance of `color_moments`, averaged over the batch; a scalar from 0.

    The balanced distance of the covariances, as in `style_loss`, averaged over pixels and octaves, and a quarter of the
    squared distance of the pixels' means in units of the target's variance: a mean that is one deviation off counts a
    quarter of a picture without contrast. The octaves hold what the pixels' moments leave open, where contrast is: in
    grain, in strokes or in large light and shade. `moments` is N x K x 3 x 4, `target` 1 or N x L x 3 x 4: a smaller
    picture has fewer octaves, and those that both have count.
    """
    moments, target = _shared(moments, target)
    target = target.expand_as(moments)
    apart = _balanced(moments[..., :3].flatten(0, 1), target[..., :3].flatten(0, 1)).mean()
    variance = target[:, 0, :, :3].diagonal(dim1=1, dim2=2).sum(1).clamp_min(1e-4)
    return apart + 0.25 * ((moments[:, 0, :, 3] - target[:, 0, :, 3]).square().sum(1) / variance).mean()


def colors_between(moments: Tensor, target: Tensor, strength: float) -> Tensor:
    """`color_moments` of photos, and what lies `strength` of the way from there to a painting's `target`."""
    moments, target = _shared(moments, target)
    return moments.lerp(target, strength)


def _shared(moments: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The octaves that both pictures have: a smaller one has fewer."""
    count = min(moments.shape[1], target.shape[1])
    return moments[:, :count], target[:, :count]


def _balanced(found: Tensor, target: Tensor) -> Tensor:
    """|F - T|^2 / (|F|^2 + |T|^2) of each of N, the first term of the divisor without a slope."""
    difference = (found - target).square().flatten(1).sum(1)
    size = target.square().flatten(1).sum(1) + found.detach().square().flatten(1).sum(1)
    return difference / size.clamp_min(1e-24)


def total_variation(image: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, down plus across (anisotropic); a scalar in [0, 2]."""
    down = (image[:, :, 1:] - image[:, :, :-1]).abs().mean()
    return down + (image[:, :, :, 1:] - image[:, :, :, :-1]).abs().mean()


def lattice_loss(image: Tensor, period: int = 8, window: int = 8) -> Tensor:
    """Variance over the period x period pixel phases of each phase's local mean; a scalar, 0 without a lattice.

    A network that works at an eighth of the resolution can match fine texture for nothing by painting the same weave
    into every 8 x 8 cell. A painting has no such lattice: the means of its pixel phases agree. Height and width are
    cut to multiples of the period, and are at least the period; windows are
    smaller where the image has fewer cells.
    """
    n, c, h, w = image.shape
    window = min(window, h // period, w // period)
    cells = image[:, :, : h // period * period, : w // period * period]
    phases = F.pixel_unshuffle(cells, period).reshape(n * c, period * period, h // period, w // period)
    return F.avg_pool2d(phases, window).var(1, correction=0).mean()


def seam_loss(image: Tensor) -> Tensor:
    """Variance over 8 phases of the mean size of slopes, across columns plus across rows; a scalar, 0 without seams.

    The same for edges as `lattice_loss` for colours: cells whose borders show have none of a weave's constant colours,
    but their edges fall on one phase. Means are local, of 8 x 8 cells; an image below 9 pixels a side has no seams.
    """
    return _seams(image) + _seams(image.transpose(2, 3))


def _seams(image: Tensor, period: int = 8, window: int = 8) -> Tensor:
    slopes = (image[..., 1:] - image[..., :-1]).abs().mean(1)
    n, (rows, columns) = len(slopes), (length // period for length in slopes.shape[1:])
    if rows == 0 or columns == 0:
        return image.new_zeros(())
    cells = slopes[:, : rows * period, : columns * period].reshape(n, rows, period, columns, period)
    size = min(window, rows, columns)
    phases = F.avg_pool2d(cells.mean(2).permute(0, 3, 1, 2), size, max(1, size // 2))
    return phases.var(1, correction=0).mean()


@dataclass(frozen=True)
class LossTerms:
    """One evaluation of a PerceptualLoss: unweighted terms, the style term by layer, and the weighted total."""

    content: Tensor
    style: Tensor
    evenness: Tensor
    means: Tensor
    colors: Tensor
    light: Tensor
    lattice: Tensor
    total_variation: Tensor
    style_layers: dict[str, Tensor]
    total: Tensor

    def scalars(self) -> dict[str, float]:
        """All terms as floats, the layers' style losses as `style_relu4_3` and so on."""
        terms = {
            "total": self.total,
            "content": self.content,
            "style": self.style,
            "evenness": self.evenness,
            "means": self.means,
            "colors": self.colors,
            "light": self.light,
            "lattice": self.lattice,
            "total_variation": self.total_variation,
        }
        terms.update({f"style_{layer}": value for layer, value in self.style_layers.items()})
        return {name: float(value.detach()) for name, value in terms.items()}


@dataclass(frozen=True)
class PerceptualLoss:
    """Content + style_weight x (style + mean_weight x means + evenness_weight x evenness + color_weight x colors) +
    light_weight x light + lattice_weight x lattice + tv_weight x total variation.

    The style term is the mean of the layers' Gram losses, the means term that of their mean losses; in the total layers
    count by their `layer_weights`, alike where there are none. `style_grams` holds the style image's Gram matrices,
    1 x C x C each, `style_means` its channels' means in the same layers, 1 x C each, `style_textures` its texture
    energies in some of them (`texture_target`), 1 x any number each, `style_colors` its colours' moments,
    1 x K x 3 x 4; a term without its target is 0, light without the photo. `masks`, R x 1 x H x W in [0, 1], gives each
    region of one image a style of its own: the matrices are then R x C x C, and a region counts by its share of the
    picture.
    """

    style_grams: Mapping[str, Tensor]
    content_layer: str
    style_weight: float
    layer_weights: Mapping[str, float] = field(default_factory=dict)
    style_means: Mapping[str, Tensor] = field(default_factory=dict)
    mean_weight: float = 0.0
    style_textures: Mapping[str, Tensor] = field(default_factory=dict)
    evenness_weight: float = 0.0
    style_colors: Tensor | None = None
    color_weight: float = 0.0
    light_weight: float = 0.0
    lattice_weight: float = 0.0
    tv_weight: float = 0.0
    masks: Tensor | None = None

    def __call__(
        self, image: Tensor, features: Mapping[str, Tensor], target: Tensor, photo: Tensor | None = None
    ) -> LossTerms:
        """Judge a stylized `image` by its `features`; `target` are the photo's at the content layer.

        The light of the image is compared with that of the `photo` itself.
        """
        shares = None if self.masks is None else self.masks.mean((1, 2, 3))
        layers = {
            layer: style_loss(gram_matrix(features[layer], self.masks), target, shares)
            for layer, target in self.style_grams.items()
        }
        style = torch.stack(list(layers.values()))
        means = torch.zeros_like(style)
        colors = evenness = light = style.new_zeros(())
        if self.style_means:
            means = torch.stack([mean_loss(features[layer], self.style_means[layer]) for layer in layers])
        if self.style_textures:
            evenness = torch.stack(
                [
                    evenness_loss(texture_energies(features[layer], stride_of(features[layer], image)), texture)
                    for layer, texture in self.style_textures.items()
                ]
            ).mean()
        if self.style_colors is not None:
            colors = color_loss(color_moments(image), self.style_colors)
        if photo is not None:
            light = light_loss(image, photo)
        content = content_loss(features[self.content_layer], target)
        lattice, variation = lattice_loss(image) + SEAMS * seam_loss(image), total_variation(image)
        weights = style.new_tensor([self.layer_weights[layer] if self.layer_weights else 1.0 for layer in layers])
        strokes = (weights * (style + self.mean_weight * means)).sum() / weights.sum()
        strokes = strokes + self.evenness_weight * evenness + self.color_weight * colors
        total = content + self.style_weight * strokes + self.light_weight * light
        total = total + self.lattice_weight * lattice + self.tv_weight * variation
        return LossTerms(
            content, style.mean(), evenness, means.mean(), colors, light, lattice, variation, layers, total
        )
