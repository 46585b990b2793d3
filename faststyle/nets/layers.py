"""Building blocks of the transformer network and the padding it is wrapped in."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from faststyle.colors import LUMA

__all__ = [
    "Blend",
    "Chain",
    "ConvNorm",
    "DeepBlock",
    "Dither",
    "FrozenNorm",
    "Relief",
    "ResidualBlock",
    "Seeds",
    "Smooth",
    "StyleBank",
    "StyleNorm",
    "Upsample",
    "odd_pad",
    "reflect_pad",
]

NOISE_PERIOD = 61 * 64
"""Rows and columns after which the dither repeats."""
SCALES = (1.5, 3.0)
"""Deviations of the Gaussians by which a relief looks at the photo, in squares of 4 pixels."""
SPREAD = 1.6
"""How many times wider the Gaussian is that says what the surroundings are."""
FIELDS = 3 * len(SCALES)
"""Fields of a relief: two slopes and a spot of each scale."""
WIDE = 3.0
"""Deviation of the Gaussian over which a relief is evened out, in cells of 8 pixels."""
FAINTEST = 1e-8
"""Mean square of slopes below which a relief is not enlarged any further: far less than the dither has."""


def reflect_pad(x: Tensor, padding: int, multiple: int) -> Tensor:
    """Mirror a picture outwards by `padding` pixels, and further at the bottom and right to a multiple of `multiple`.

    Works for any height and width from 1 up: where the padding is wider than the picture, it is mirrored again at the
    opposite border, which torch's own reflect mode refuses.
    """
    for dim in (2, 3):
        size = x.shape[dim]
        total = (size + 2 * padding + multiple - 1) // multiple * multiple
        x = x.index_select(dim, _mirrored(torch.arange(total, device=x.device) - padding, size))
    return x


def odd_pad(x: Tensor, padding: int, height: int, width: int) -> Tensor:
    """Continue a picture straight on, to height x width with `padding` above and to the left of it.

    What lies beyond a border is twice the border less the mirrored picture, which farther out than the picture is
    large turns around at its other border. Mirrored alone, a sky that grows darker
    upwards has a crease along its border, which is a line as no photo has one.
    """
    places = [torch.arange(total, device=x.device) - padding for total in (height, width)]
    sizes = x.shape[2:]
    rows, columns = (_mirrored(place, size) for place, size in zip(places, sizes, strict=True))
    edge_rows, edge_columns = (place.clamp(0, size - 1) for place, size in zip(places, sizes, strict=True))
    return 2 * x[:, :, edge_rows][..., edge_columns] - x[:, :, rows][..., columns]


def _mirrored(position: Tensor, size: int) -> Tensor:
    """Where in a row of `size` pixels a position is taken from, which may lie beyond its ends."""
    # A triangular wave of period 2 (size - 1): 0 1 2 ... size-1 ... 2 1 0 1 ...; the distance to its peak is even.
    peak = size - 1
    return peak - ((position.abs() % (2 * peak)) - peak).abs() if peak else position * 0


class Dither(nn.Module):
    """Adds fixed white noise, uniform in +- `levels` / 255 and the same in all colours, to N x 3 x H x W.

    A convolutional net maps a perfectly flat area to a flat one, whatever it has learned: a black or white background
    would stay a grey patch amid the strokes. Noise of two levels, which nobody sees, is enough for strokes to grow.

    A small pattern laid side by side would let the same stroke grow once in every copy, which is seen in skies. So a
    pattern of 64 x 64 values is multiplied by one of 61 x 61 signs: shifted by the side of either, the other one makes
    the two independent, and nothing repeats within 64 * 61 values.
    """

    noise: Tensor
    signs: Tensor
    origin: tuple[int, int] = (0, 0)
    """Row and column of the pattern that lie at the upper left corner; training moves them, a picture's are 0."""

    def __init__(self, levels: float) -> None:
        super().__init__()
        # RandomState's stream is frozen by numpy's policy, that of the newer generators is not.
        noise = np.random.RandomState(0).uniform(-1, 1, (64, 64)) * levels / 255
        signs = np.random.RandomState(1).randint(0, 2, (61, 61)) * 2 - 1
        self.register_buffer("noise", torch.from_numpy(noise).float(), persistent=False)
        self.register_buffer("signs", torch.from_numpy(signs).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self._laid(self.noise, *x.shape[2:]) * self._laid(self.signs, *x.shape[2:])

    def _laid(self, pattern: Tensor, height: int, width: int) -> Tensor:
        """A pattern laid side by side, from `origin` on: height x width."""
        rows, columns = (
            torch.arange(begin, begin + size, device=pattern.device) % side
            for begin, size, side in zip(self.origin, (height, width), pattern.shape, strict=True)
        )
        return pattern[rows][:, columns]


class Relief(nn.Module):
    """What little there is in each part of a photo, brought to one size everywhere: N x 3 x H x W, centred, to N x 6 x
    H/8 x W/8, H and W multiples of 8. The photo itself, height x width, lies `padding` pixels from the upper left
    corner; its light alone is looked at, continued beyond its borders by `odd_pad`.

    At two scales how the photo's light stands out from its surroundings, and how its slopes across and down do, each
    over the root mean square of the three near there. So a cloud has as much relief as a house, and a flat area, or one
    that only grows darker, that of the dither.
    """

    light: Tensor
    """1 x 3 x 4 x 4: the mean luminance of squares of 4 pixels."""
    slopes: Tensor
    """6 x 1 x 17 x 17: slope across, slope down and spot of each scale, each with a square sum of 1. Even light and
    light that grows evenly give nothing: a sky would otherwise be one slope, with nothing for strokes to follow."""
    around: Tensor
    """2 x 3 x 13 x 13: the mean square of a scale's three fields, weighted by a Gaussian."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("light", torch.tensor(LUMA).reshape(1, 3, 1, 1).expand(1, 3, 4, 4) / 16, persistent=False)
        kernels = []
        place = np.arange(17) - 8
        for scale in SCALES:
            near, far = _gaussian(scale, 17), _gaussian(SPREAD * scale, 17)
            slope = near / (near * place**2).sum() - far / (far * place**2).sum()
            kernels += [slope * place, slope * place[:, None], near - far]
        kernels = [kernel / np.sqrt(np.square(kernel).sum()) for kernel in kernels]
        self.register_buffer("slopes", torch.from_numpy(np.stack(kernels)[:, None]).float(), persistent=False)
        window = torch.from_numpy(_gaussian(WIDE, 13)).float() / 3
        self.register_buffer("around", window.expand(len(SCALES), 3, 13, 13).clone(), persistent=False)

    @property
    def margin(self) -> int:
        """Squares of 4 pixels by which the light is continued farther outwards, so that no kernel looks beyond it."""
        return self.slopes.shape[-1] // 2 + self.around.shape[-1] // 2 * 2

    def forward(self, photo: Tensor, padding: int, height: int, width: int) -> Tensor:
        with torch.autocast(photo.device.type, enabled=False):  # it enlarges what bfloat16 would round away
            light = F.conv2d(photo.float(), self.light, stride=4)
            before, margin = padding // 4, self.margin
            inside = light[:, :, before : before + height // 4, before : before + width // 4]
            light = odd_pad(inside, before + margin, *(size + 2 * margin for size in light.shape[2:]))
            slopes = F.conv2d(light, self.slopes, stride=2)
            size = (F.conv2d(slopes.square(), self.around, groups=len(SCALES)) + FAINTEST).sqrt()
        edge = self.around.shape[-1] // 2
        return slopes[:, :, edge:-edge, edge:-edge] / size.repeat_interleave(3, 1)


class Seeds(nn.Module):
    """Adds a photo's Relief, N x 6 x H x W, to N x channels x H x W, times a gain for each field and channel; from it
    strokes grow where the photo has too little to grow them from.

    Each row of gains, 6 x channels, is a style's, as in a StyleNorm. A net without seeds can paint a sky only by what
    little is in it, enlarged so far that buildings drown: instance norms take one scale for both. Fixed noise (Ulyanov
    et al. 2016) does too, but grows the same strokes at the same places in every photo, across every face.
    """

    def __init__(self, channels: int, rows: int) -> None:
        super().__init__()
        self.gain = nn.Parameter((torch.randn(FIELDS, channels) / FIELDS**0.5).repeat(rows, 1, 1))

    def forward(self, x: Tensor, relief: Tensor, mixture: Tensor) -> Tensor:
        gains = torch.einsum("nr,rfc->ncf", mixture, self.gain)
        return x + torch.matmul(gains, relief.flatten(2)).view_as(x)


def _gaussian(deviation: float, side: int) -> NDArray[np.float64]:
    """side x side weights with a sum of 1."""
    row = np.exp(-np.square(np.arange(side) - side // 2) / (2 * deviation**2))
    weights: NDArray[np.float64] = np.outer(row, row) / row.sum() ** 2
    return weights


class StyleNorm(nn.Module):
    """Conditional instance norm (Dumoulin et al. 2017, equation 5): each row is a style's scales and shifts.

    (x - mean) / sqrt(variance + eps) * scale + shift, statistics taken from each channel of each picture; N x C x H x W
    to the same. `mixture`, N x rows or 1 x rows, says how much of each row goes into a picture's scale and shift.
    """

    def __init__(self, channels: int, rows: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(rows, channels))
        self.bias = nn.Parameter(torch.zeros(rows, channels))

    def forward(self, x: Tensor, mixture: Tensor) -> Tensor:
        scale, shift = ((mixture @ rows)[:, :, None, None] for rows in (self.weight, self.bias))
        return torch.addcmul(shift, F.instance_norm(x, eps=self.eps), scale)


class StyleBank(nn.Module):
    """A 1x1 convolution of each style's own, N x C x H x W to the same: which channels a stroke is made of.

    After StyleBank (Chen et al. 2017), whose styles have filters of their own between a shared encoder and decoder;
    theirs are several 3x3 layers. Scales and shifts alone leave all styles the same strokes in other colours. Each row
    begins as the identity; a `mixture` of rows, N x rows or 1 x rows, is a mixture of their filters.
    """

    def __init__(self, channels: int, rows: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(channels).repeat(rows, 1, 1))

    def forward(self, x: Tensor, mixture: Tensor) -> Tensor:
        filters = torch.einsum("nr,rij->nij", mixture, self.weight)
        return torch.matmul(filters, x.flatten(2)).view_as(x)


class FrozenNorm(nn.Module):
    """A StyleNorm of one style whose statistics no longer come from the picture: an affine map of every channel.

    (x - mean) / sqrt(variance + eps) * weight + bias, N x C x H x W to the same. `mean` and `variance` are constants
    that `nets.freezing` measures, `weight` and `bias` are learned on. Unlike a batch norm it has no other mode.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift of each channel, C and C: the norm is x * scale + shift."""
        scale = self.weight * torch.rsqrt(self.variance + self.eps)
        return scale, self.bias - self.mean * scale

    def forward(self, x: Tensor, mixture: Tensor) -> Tensor:
        scale, shift = self.affine()
        return x * scale[:, None, None] + shift[:, None, None]


class Chain(nn.Sequential):
    """Modules one after the other, each of which is told the mixture of styles."""

    def forward(self, x: Tensor, mixture: Tensor) -> Tensor:  # type: ignore[override]
        for part in self:
            x = part(x, mixture)
        return x


class ConvNorm(nn.Module):
    """Convolution, zero padded to keep the size at stride 1, then conditional instance norm and, if asked, ReLU.

    The convolution has no bias: the norm would take it away again. Shapes: N x in x H x W to N x out x H/stride x
    W/stride.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, relu: bool = True, rows: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm: StyleNorm | FrozenNorm = StyleNorm(outputs, rows)
        self.relu = relu

    def forward(self, x: Tensor, mixture: Tensor) -> Tensor:
        x = self.norm(self.conv(x), mixture)
        return F.relu(x) if self.relu else x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, without a ReLU after the sum (Johnson et al. 2016, supplement)."""

    def __init__(self, channels: int, *, rows: int = 1) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels, 3, rows=rows)
        self.second = ConvNorm(channels, channels, 3, relu=False, rows=rows)

    def forward(self, x: Tensor, mixture: Tensor) -> Tensor:
        return torch.add(x, self.second(self.first(x, mixture), mixture))


class DeepBlock(nn.Module):
    """Residual blocks at half the size and with channels of their own, around a shortcut: strokes far wider than a
    convolution, at a quarter of its cost. They are given the photo's relief to grow strokes from, and each style mixes
    the channels in its own way before every block and after the last.

    N x channels x H x W to the same, H and W even; the relief is N x 6 x H/2 x W/2.
    """

    def __init__(self, channels: int, inner: int, blocks: int, *, rows: int = 1) -> None:
        super().__init__()
        self.down = ConvNorm(channels, inner, 3, stride=2, rows=rows)
        self.seeds = Seeds(inner, rows)
        self.blocks = Chain(*(ResidualBlock(inner, rows=rows) for _ in range(blocks)))
        self.banks = nn.ModuleList(StyleBank(inner, rows) for _ in range(blocks + 1))
        # Before the enlargement a 3x3 costs a quarter and sees twice as far.
        self.back = ConvNorm(inner, channels, 3, relu=False, rows=rows)
        # Nearest neighbours alone show as 8-pixel cells in the picture, whatever the convolutions after them learn.
        self.nearest = nn.Upsample(scale_factor=2.0)
        self.smooth = Smooth(channels)

    def forward(self, x: Tensor, relief: Tensor, mixture: Tensor) -> Tensor:
        inner = self.seeds(self.down(x, mixture), relief, mixture)
        for part in self.steps():
            inner = part(inner, mixture)
        return torch.add(x, self.smooth(self.nearest(self.back(inner, mixture))))

    def steps(self) -> list[nn.Module]:
        """Banks and blocks in turn, in the order in which features pass through them."""
        return [self.banks[0], *(part for pair in zip(self.blocks, self.banks[1:], strict=True) for part in pair)]


class Smooth(nn.Module):
    """Weights (1, 2, 1) / 4 across and down, each channel by itself, zeros outside: N x C x H x W to the same.

    After an enlargement by nearest neighbours this is bilinear interpolation, and a convolution, which onnxruntime
    keeps in its fast layout as it does not its own bilinear Resize.
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        weights = torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = torch.outer(weights, weights).expand(channels, 1, 3, 3).contiguous()
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, padding=1, groups=len(self.kernel))


class Upsample(nn.Module):
    """Nearest-neighbour x2 followed by a 3x3 ConvNorm: no checkerboard of a transposed convolution (Odena et al. 2016).

    The scale factor is a constant on purpose: onnxruntime keeps its fast layout through it.
    """

    def __init__(self, inputs: int, outputs: int, *, relu: bool = True, rows: int = 1) -> None:
        super().__init__()
        self.nearest = nn.Upsample(scale_factor=2.0)
        self.conv = ConvNorm(inputs, outputs, 3, relu=relu, rows=rows)

    def forward(self, x: Tensor, mixture: Tensor) -> Tensor:
        x = self.conv(self.nearest(x), mixture)
        return x


class Blend(nn.Module):
    """Joins the photo and what was painted over it, both N x 3 x H x W in [0, 1], to the same.

    0.5 + strength * (painted - 0.5) + share * (photo - 0.5), clipped. `mixture`, N x rows or 1 x rows, holds the
    weights of the styles first; their sum is the strength, and what is missing from 1 belongs to the photo. So strength
    0 is the photo itself, whatever was learned. Each style also learns a share of the photo that shines through.
    """

    def __init__(self, styles: int) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.zeros(styles))

    def forward(self, painted: Tensor, photo: Tensor, mixture: Tensor) -> Tensor:
        styles = mixture[:, : len(self.share)]
        strength = styles.sum(1)
        # Not a matrix product, which autocast would round: the share is small beside 1.
        share = (styles * self.share).sum(1) + (1 - strength)
        strength, share = strength[:, None, None, None], share[:, None, None, None]
        return (0.5 + strength * (painted - 0.5) + share * (photo - 0.5)).clamp(0, 1)
