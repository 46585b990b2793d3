"""Losses on features of a loss network: content, Gram matrices, means of channels, evenness."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = [
    "balanced",
    "channel_means",
    "content_loss",
    "evenness_loss",
    "gram_matrix",
    "mean_loss",
    "stride_of",
    "style_loss",
    "texture_energies",
    "texture_target",
    "textures_between",
]

WINDOW = 32
"""Pixels a side of a window whose texture is measured."""
SPREAD = 0.4
"""How much of the painting's own unevenness, from its median, is asked of a picture: a photo brings its own."""
QUANTILES = 64
"""Numbers that stand for a painting's windows, however many it has."""


def gram_matrix(features: Tensor, masks: Tensor | None = None) -> Tensor:
    """Correlations of the channels, N x C x C: F F^T / (C H W) (Johnson et al. 2016, equation 3), in float32.

    With `masks`, R x 1 x h x w in [0, 1] of any size, the features are one image's and the result is R x C x C: each
    region's own mean, pixels weighted by its mask (Gatys et al. 2017, section 4, with the mask itself as weight).
    """
    n, c, h, w = features.shape
    with torch.autocast(features.device.type, enabled=False):
        if masks is None:
            gram: Tensor = _Gram.apply(features)
            return gram
        flat = features.float().reshape(n, c, h * w)
        shares = F.adaptive_avg_pool2d(masks, (h, w)).reshape(-1, 1, h * w)
        weighted = flat * (shares / shares.mean(2, keepdim=True).clamp_min(1e-12))
        return torch.bmm(weighted, flat.expand_as(weighted).transpose(1, 2)) / (c * h * w)


class _Gram(torch.autograd.Function):
    """F F^T / (C H W) with a slope of our own, (S + S^T) F for the slope S of the matrix.

    Autograd would form both halves of the sum by a product each, and lay the result out channel by channel: adding it
    to the slope that comes down from the next layer, pixel by pixel, then costs as much again.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        pixels = _pixels(features).float()
        return torch.bmm(pixels.transpose(1, 2), pixels) / features[0].numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        n, c, h, w = features.shape
        both = (slope + slope.transpose(1, 2)) / (c * h * w)
        # In bfloat16 where the features are, as all slopes below are then; float16 would lose the small ones.
        dtype = features.dtype if features.dtype == torch.bfloat16 else torch.float32
        with torch.autocast(slope.device.type, enabled=False):
            product = torch.bmm(_pixels(features).to(dtype), both.to(dtype))
        return product.to(features.dtype).reshape(n, h, w, c).permute(0, 3, 1, 2)


def _pixels(features: Tensor) -> Tensor:
    """Features as N x H W x C: without moving them where they are laid out channels last."""
    n, c, h, w = features.shape
    return features.permute(0, 2, 3, 1).reshape(n, h * w, c)


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

    The log of the channels' mean variance within the window; windows of WINDOW pixels, at `stride` pixels a feature,
    half overlapping, one where the picture is smaller.
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


def _quantiles(rising: Tensor, count: int) -> Tensor:
    """N x any number in rising order as N x count, from the least to the largest; the middle one where count is 1."""
    if count == 1:
        return rising[:, rising.shape[1] // 2, None]
    return F.interpolate(rising[:, None], size=count, mode="linear", align_corners=True)[:, 0]


def style_loss(gram: Tensor, target: Tensor, shares: Tensor | None = None) -> Tensor:
    """Balanced distance of Gram matrices: |G - G_S|^2 / (|G|^2 + |G_S|^2), averaged over the batch; a scalar in [0, 1].

    After Cheng et al. 2021, who divide each layer's loss by its largest possible value, so that layers and paintings
    weigh alike. |G|^2 counts as a constant: with a gradient through it, growing G would pay. `gram` is N x C x C,
    `target` 1 x C x C or N x C x C; with `shares`, N, the sum weighted by them takes the mean's place.
    """
    distance = balanced(gram, target)
    return distance.mean() if shares is None else (distance * shares).sum()


def mean_loss(features: Tensor, target: Tensor) -> Tensor:
    """Balanced distance of the channels' means: |m - m_S|^2 / (|m|^2 + |m_S|^2), averaged over the batch; in [0, 1].

    A Gram matrix holds second moments, which a few glaring patches on an untouched photo match as well as strokes
    everywhere do; their means differ (Risser et al. 2017 match whole histograms for the same reason). |m|^2 counts as a
    constant, as in `style_loss`. `features` is N x C x H x W, `target` 1 x C or N x C, as `channel_means` gives them.
    """
    return balanced(channel_means(features), target).mean()


def channel_means(features: Tensor) -> Tensor:
    """Mean of each channel, N x C x H x W to N x C, in float32.

    Pixel by pixel, so that the slope has the layout of features that are channels last: laid out channel by channel it
    takes four times as long to form.
    """
    return features.permute(0, 2, 3, 1).flatten(1, 2).mean(1, dtype=torch.float32)


def balanced(found: Tensor, target: Tensor) -> Tensor:
    """|F - T|^2 / (|F|^2 + |T|^2) of each of N, the first term of the divisor without a slope."""
    difference = (found - target).square().flatten(1).sum(1)
    size = target.square().flatten(1).sum(1) + found.detach().square().flatten(1).sum(1)
    return difference / size.clamp_min(1e-24)
