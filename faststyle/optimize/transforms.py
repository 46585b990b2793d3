"""Seen through what: the gradient of an objective, taken through shifts, tiles and other views of the picture.

A `Gradient` maps a picture, 1 x C x H x W in [0, 1], to the losses there and the slope of their total, of the
picture's shape. `gradient_of` makes one from an objective; the others wrap one in another.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from faststyle.errors import OptimizeError
from faststyle.nets.devices import out_of_memory

__all__ = ["Gradient", "Objective", "Terms", "blended", "gradient_of", "greyscale", "jittered", "smoothed", "tiled"]

Gradient = Callable[[Tensor], tuple[dict[str, float], Tensor]]


class Terms(Protocol):
    """What an objective finds: a total to be minimised, and its parts by name."""

    @property
    def total(self) -> Tensor: ...
    def scalars(self) -> dict[str, float]: ...


Objective = Callable[[Tensor], Terms]


def gradient_of(objective: Objective) -> Gradient:
    """The gradient with respect to the pixels, by one backward pass."""

    def gradient(image: Tensor) -> tuple[dict[str, float], Tensor]:
        pixels = image.detach().requires_grad_()
        try:
            terms = objective(pixels)
            (slope,) = torch.autograd.grad(terms.total, pixels)
        except RuntimeError as error:
            if out_of_memory(error):
                raise OptimizeError("the memory did not suffice after all: choose a smaller --size") from None
            raise
        return terms.scalars(), slope.contiguous()

    return gradient


def greyscale(gradient: Gradient) -> Gradient:
    """Optimise one channel that the loss network sees as grey: luminance."""

    def seen(image: Tensor) -> tuple[dict[str, float], Tensor]:
        losses, slope = gradient(image.expand(-1, 3, -1, -1).contiguous())
        return losses, slope.sum(1, keepdim=True)

    return seen


def blended(gradient: Gradient, photo: Tensor, mask: Tensor) -> Gradient:
    """See the picture through a mask, 1 x 1 x H x W in [0, 1], laid over a photo: where it is 0 there is the photo."""

    def seen(image: Tensor) -> tuple[dict[str, float], Tensor]:
        losses, slope = gradient(photo + (image - photo) * mask)
        return losses, slope * mask

    return seen


def jittered(gradient: Gradient, reach: int, generator: torch.Generator) -> Gradient:
    """Shift the picture around the torus by up to `reach` pixels each way, and the slope back.

    A new shift at every step: what the loss network's own grid favours at one place is spread out (Mordvintsev et al.
    2015).
    """

    def seen(image: Tensor) -> tuple[dict[str, float], Tensor]:
        down, right = (int(torch.randint(-reach, reach + 1, (), generator=generator)) for _ in range(2))
        losses, slope = gradient(image.roll((down, right), (2, 3)))
        return losses, slope.roll((-down, -right), (2, 3))

    return seen


def tiled(gradient: Gradient, tile: int) -> Gradient:
    """Take the gradient in tiles of at most `tile` pixels a side, one after the other: bounded memory for any picture.

    Losses and slope are means over the tiles, weighted by area: those of the whole picture where the objective is a
    mean over its pixels; an objective that measures against the picture's own size does so in each tile. Seams vanish
    where `jittered` around this one moves them at every step.
    """

    def seen(image: Tensor) -> tuple[dict[str, float], Tensor]:
        rows, columns = _bounds(image.shape[2], tile), _bounds(image.shape[3], tile)
        losses: dict[str, float] = {}
        slope = torch.empty_like(image)
        for top, bottom in rows:
            for left, right in columns:
                here = (..., slice(top, bottom), slice(left, right))
                share = (bottom - top) * (right - left) / (image.shape[2] * image.shape[3])
                found, part = gradient(image[here].contiguous())
                slope[here] = part * share
                for name, value in found.items():
                    losses[name] = losses.get(name, 0.0) + share * value
        return losses, slope

    return seen


def _bounds(length: int, tile: int) -> list[tuple[int, int]]:
    """A side cut into equal parts of at most `tile` pixels."""
    count = math.ceil(length / tile)
    edges = [round(index * length / count) for index in range(count + 1)]
    return list(itertools.pairwise(edges))


def smoothed(gradient: Gradient, sigma: float) -> Gradient:
    """Blur the slope with a Gaussian of `sigma` pixels: larger shapes, less fine grain."""
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()

    def seen(image: Tensor) -> tuple[dict[str, float], Tensor]:
        losses, slope = gradient(image)
        channels = slope.shape[1]
        column = kernel.to(slope).view(1, 1, -1, 1).expand(channels, 1, -1, 1)
        for weight, padding in ((column, (0, 0, reach, reach)), (column.transpose(2, 3), (reach, reach, 0, 0))):
            slope = F.conv2d(F.pad(slope, padding, mode="replicate"), weight, groups=channels)
        return losses, slope

    return seen
