"""The TransformerNet: the image transformation network that repaints a photo in one pass (no attention in it)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faststyle.config import NetConfig
from faststyle.nets.layers import (
    Blend,
    Chain,
    ConvNorm,
    DeepBlock,
    Dither,
    FrozenNorm,
    Relief,
    ResidualBlock,
    Upsample,
    reflect_pad,
)

__all__ = ["TransformerNet"]


class TransformerNet(nn.Module):
    """Repaints photos: N x 3 x H x W in [0, 1] to the same shape and range, for any H and W from 16 up.

    Two families:

    - `lowres` (a, b, c): 5x5 stride-2 stem 3 to a, 3x3 stride 2 to b, residual blocks of c channels at an eighth of the
      resolution beside a shortcut, enlarged bilinearly, one residual block of b, then a 3x3 convolution to 48 channels
      that pixel shuffle lays out at full size. Nothing is decoded above a quarter of the resolution, where the stock
      network spends most of its time and memory, and the blocks see twice as far.
    - `johnson` (a, b, c): the network of Johnson et al. 2016 with instance norm (Ulyanov et al. 2016) and nearest
      upsampling: 9x9 ends at full resolution, residual blocks at a quarter.

    One net holds several styles: every norm has a row of scales and shifts for each (Dumoulin et al. 2017), in `lowres`
    the seeds and banks too (see DeepBlock), all else is shared. `lowres` has one more row, which stands for the photo:
    the weaker the strength, the more of it enters, and the more of the photo shines through.

    The picture is mirrored outwards once, by `padding` pixels, and cropped at the end; the convolutions inside pad with
    zeros. Johnson et al. mirror the input by 40 and use unpadded residual blocks.
    """

    def __init__(self, config: NetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NetConfig()
        (a, b, c), rows = config.channels, config.rows
        self.blend: Blend | None = None
        if config.family == "lowres":
            self.encoder = Chain(ConvNorm(3, a, 5, stride=2, rows=rows), ConvNorm(a, b, 3, stride=2, rows=rows))
            self.decoder = Chain()
            self.head = nn.Sequential(nn.Conv2d(b, 48, 3, padding=1), nn.PixelShuffle(4))
            self.relief = Relief()
            self.body: nn.ModuleList | Chain = nn.ModuleList(
                [DeepBlock(b, c, config.blocks, rows=rows), ResidualBlock(b, rows=rows)]
            )
            self.blend = Blend(config.styles)
        else:
            self.encoder = Chain(
                ConvNorm(3, a, 9, rows=rows),
                ConvNorm(a, b, 3, stride=2, rows=rows),
                ConvNorm(b, c, 3, stride=2, rows=rows),
            )
            self.decoder = Chain(Upsample(c, b, rows=rows), Upsample(b, a, rows=rows))
            self.head = nn.Sequential(nn.Conv2d(a, 3, 9, padding=4))
            self.body = Chain(*(ResidualBlock(c, rows=rows) for _ in range(config.blocks)))
        if config.norm == "frozen":
            for module in self.modules():
                if isinstance(module, ConvNorm):
                    module.norm = FrozenNorm(module.conv.out_channels)
        self.dither = Dither(config.dither)

    def forward(
        self, image: Tensor, style_weights: Tensor | Sequence[float] | None = None, strength: float = 1.0
    ) -> Tensor:
        """`style_weights` has one number for each style, which are scaled to a sum of 1, or a row of them for each
        picture; by default the first style. `strength` in [0, 1] must be 1 where the net has no row for the photo.
        ValueError for another strength then, and for another count of weights."""
        height, width = image.shape[2:]
        padded = reflect_pad(image, self.config.padding, self.config.stride)
        stylized = self.paint(padded, self.mixture(style_weights, strength), height, width)
        pad = self.config.padding
        return stylized[:, :, pad : pad + height, pad : pad + width]

    def mixture(self, style_weights: Tensor | Sequence[float] | None = None, strength: float = 1.0) -> Tensor:
        """How much of each row of the norms goes into a picture: 1 x rows or N x rows, the styles first."""
        if strength != 1.0 and self.config.rows == self.config.styles:
            raise ValueError("this net has no row for the photo: its strength is 1")
        head = next(self.head.parameters())
        if style_weights is None:
            style_weights = [1.0] + [0.0] * (self.config.styles - 1)
        weights = torch.as_tensor(style_weights, dtype=head.dtype, device=head.device)
        if weights.ndim == 1:
            weights = weights[None]
        if weights.shape[1] != self.config.styles:
            raise ValueError(f"{weights.shape[1]} style weights for a net of {self.config.styles} styles")
        weights = strength * weights / weights.sum(1, keepdim=True)
        if self.config.rows > self.config.styles:
            weights = torch.cat([weights, 1 - weights.sum(1, keepdim=True)], 1)
        return weights

    def lay_noise(self, row: int = 0, column: int = 0) -> None:
        """Have the dither begin at a cell of `stride` pixels of its pattern, for pictures from now on.

        Where it begins at the same cell for every crop of a training, a net learns the noise by heart: it then paints
        the upper left corner of a picture, as large as a crop, in another way than the rest.
        """
        self.dither.origin = (row * self.config.stride, column * self.config.stride)

    @contextmanager
    def noise_moved(self, rows: int, columns: int) -> Iterator[None]:
        """Within this the dither begins some pixels further on, as for a photo without its first rows and columns."""
        before = self.dither.origin
        self.dither.origin = (before[0] + rows, before[1] + columns)
        try:
            yield
        finally:
            self.dither.origin = before

    def paint(self, padded: Tensor, mixture: Tensor, height: int, width: int) -> Tensor:
        """Repaint a picture of height x width that is already padded: N x 3 x H x W in [0, 1], H and W multiples of the
        stride."""
        # Centred input keeps the zeros of the inner padding at mid-grey; the sigmoid bounds the output by construction.
        photo = self.dither(padded - 0.5)
        x = self.encoder(photo, mixture)
        if isinstance(self.body, Chain):
            x = self.body(x, mixture)
        else:
            deep, last = self.body
            relief = self.relief(photo, self.config.padding, height, width)
            x = last(deep(x, relief, mixture), mixture)
        painted = F.sigmoid(self.head(self.decoder(x, mixture)))
        return painted if self.blend is None else self.blend(painted, padded, mixture)
