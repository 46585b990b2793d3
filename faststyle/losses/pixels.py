"""Losses on pixels: the painting's colours, the photo's light, and what a network's own grid must not show."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from faststyle.colors import LUMA
from faststyle.losses.features import balanced

__all__ = [
    "chequer_loss",
    "color_loss",
    "color_moments",
    "colors_between",
    "lattice_loss",
    "light_loss",
    "seam_loss",
    "shift_loss",
    "total_variation",
]

OCTAVES = (1, 3, 5, 9, 17, 33, 65)
"""Sides in pixels of the squares between whose means the octaves of an image's colours lie."""
CELL = 8
"""Pixels a side of the cells that a network works on."""
LATTICE_WINDOW = 256
"""Pixels a side of the windows in which a weave is looked for."""
LIGHT_WINDOW = 32
"""Pixels a side of a square whose light should follow the photo's."""


def shift_loss(image: Tensor, moved: Tensor, rows: int, columns: int) -> Tensor:
    """Mean squared difference between a photo's picture and that of the photo without its first rows and columns; a
    scalar from 0 to 1.

    A network of strides 2 is no convolution: it may stamp one motif into each cell of its grid, wherever the photo lies
    on that, and a film that pans flickers. What follows the photo itself moves along. `image` is N x 3 x H x W, `moved`
    N x 3 x (H - rows) x (W - columns). Borders count, although the photo's end may make them different: where they were
    left out, a frame of stamps grew along them.
    """
    return (moved - image[:, :, rows:, columns:]).square().mean()


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
    return _squares(within, side, stride) - _squares(image, wider, stride)


def _squares(image: Tensor, side: int, stride: int) -> Tensor:
    """Means of squares, `stride` pixels apart, from running sums: on the CPU in half the time of an average pooling."""
    if side == 1:
        return image
    for _ in range(2):
        sums = F.pad(image.cumsum(-1), (1, 0))
        image = ((sums[..., side:] - sums[..., :-side]) / side)[..., ::stride].mT
    return image


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
    lines, in strokes or in large light and shade. `moments` is N x K x 3 x 4, `target` 1 or N x L x 3 x 4: a smaller
    picture has fewer octaves, and those that both have count.
    """
    moments, target = _shared(moments, target)
    target = target.expand_as(moments)
    apart = balanced(moments[..., :3].flatten(0, 1), target[..., :3].flatten(0, 1)).mean()
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


def total_variation(image: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, down plus across (anisotropic); a scalar in [0, 2]."""
    down = (image[:, :, 1:] - image[:, :, :-1]).abs().mean()
    return down + (image[:, :, :, 1:] - image[:, :, :, :-1]).abs().mean()


def lattice_loss(image: Tensor) -> Tensor:
    """What a picture has of a weave on the network's own grid, averaged over the batch; a scalar from 0.

    A network that works at an eighth of the resolution can match fine texture for nothing by painting the same weave
    into every cell of 8 x 8 pixels: the means of the 8 x 8 pixel phases then differ. So they do by chance, and where a
    stroke is long: one across lies in the same rows of all cells that it crosses. Both are there with cells of 7 and of
    9 pixels, too, on which no weave falls. So this is the variance of the phases' means, less what it is by chance,
    where that is positive. The variance alone forbids long strokes across and down, and a network lays all its strokes
    on diagonals for it. 0 for a picture of less than 18 pixels.
    """
    if min(image.shape[-2:]) < 2 * (CELL + 1):
        return image.new_zeros(())
    (smaller, many), (found, cells), (larger, few) = (
        _phase_variance(image, side) for side in range(CELL - 1, CELL + 2)
    )
    # Independent grains give 1 / cells of their own, a line across or down 1 / cells / side: these shares serve both.
    chance = ((CELL - 1) * many * smaller + (CELL + 1) * few * larger) / (2 * CELL * cells)
    return (found - chance).clamp_min(0).mean()


def _phase_variance(image: Tensor, side: int) -> tuple[Tensor, int]:
    """Variance over the side x side pixel phases of each phase's mean, of each picture, N, and the cells in a mean.

    Means are those of windows of LATTICE_WINDOW pixels, which overlap by half, or of the picture where it is smaller:
    in narrow windows strokes can be laid so as to hide a weave.
    """
    n, c, h, w = image.shape
    rows, columns = h // side, w // side
    window = [min(round(LATTICE_WINDOW / side), length) for length in (rows, columns)]
    phases = F.pixel_unshuffle(image[:, :, : rows * side, : columns * side].float(), side)
    steps = [(length + 1) // 2 for length in window]
    means = F.avg_pool2d(phases.reshape(n * c, side**2, rows, columns), window, steps)
    return means.var(1, correction=0).reshape(n, -1).mean(1), window[0] * window[1]


def seam_loss(image: Tensor) -> Tensor:
    """`lattice_loss` of the size of an image's edges, summed over directions; a scalar, 0 without seams or screens.

    Cells whose borders show, and strokes made of dots that stand in the same pixels of every cell, have none of a
    weave's constant colours: dark here and light there, their means agree. But their edges do fall on the same phases.
    Edges are differences of neighbours across, down and along both diagonals, and of a pixel from its four neighbours:
    a network finds dots for which some of these alone are even.
    """
    below, above = image[:, :, 1:], image[:, :, :-1]
    across = image[..., 1:] - image[..., :-1]
    around = image[:, :, :-2, 1:-1] + image[:, :, 2:, 1:-1] + image[:, :, 1:-1, :-2] + image[:, :, 1:-1, 2:]
    edges = (
        across,
        below - above,
        below[..., 1:] - above[..., :-1],
        below[..., :-1] - above[..., 1:],
        2 * image[:, :, 1:-1, 1:-1] - around / 2,
    )
    sizes = [each.abs().mean(1, keepdim=True) for each in edges if min(each.shape[2:]) > 0]
    return torch.stack([lattice_loss(each) for each in sizes]).sum() if sizes else image.new_zeros(())


def chequer_loss(image: Tensor) -> Tensor:
    """Mean square of the local contrast of a chequerboard of single pixels; a scalar, 0 without one.

    The diagonal detail of 2 x 2 pixels, by turns with either sign, averaged over squares of CELL pixels, half
    overlapping. A painting has such detail too, but with signs at random, which cancel. A network that may paint no
    other screen paints this one, all of whose pixels have equal edges.
    """
    down = image[:, :, 1:] - image[:, :, :-1]
    detail = (down[..., 1:] - down[..., :-1]) / 2
    height, width = detail.shape[2:]
    rows, columns = (1 - 2 * (torch.arange(size, device=image.device) % 2) for size in (height, width))
    side = min(CELL, height, width)
    if side == 0:
        return image.new_zeros(())
    return F.avg_pool2d(detail * (rows[:, None] * columns), side, max(1, side // 2)).square().mean()
