"""The TransformerNet: the image transformation network that repaints a photo in one pass (no attention in it)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from faststyle.config import NetConfig
from faststyle.nets.layers import (
    ConvNorm,
    Dither,
    FrozenNorm,
    ResidualBlock,
    Upsample,
    reflect_pad,
)

__all__ = ["TransformerNet"]

STRIDE = 4
"""Every net of the family works at a quarter of the resolution, so it wants multiples of 4; padding sees to that."""


class TransformerNet(nn.Module):
    """Repaints photos: N x 3 x H x W in [0, 1] to the same shape and range, for any H and W from 16 up.

    Two families share the body of residual blocks at quarter resolution:

    - `lowres` (a, b): 5x5 stride-2 stem 3 to a, 3x3 stride 2 to b, blocks, x2 to a, then a 3x3 convolution to 12
      channels that pixel shuffle lays out at full size. No feature map exists at full resolution, where the stock
      network spends a quarter of its time and most of its memory.
    - `johnson` (a, b, c): the network of Johnson et al. 2016 with instance norm (Ulyanov et al. 2016) and nearest
      upsampling: 9x9 ends at full resolution.

    The picture is mirrored outwards once, by `padding` pixels, and cropped at the end; the convolutions inside pad with
    zeros. Johnson et al. mirror the input by 40 and use unpadded residual blocks.
    """

    def __init__(self, config: NetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NetConfig()
        channels = config.channels
        if config.family == "lowres":
            self.encoder = nn.Sequential(
                ConvNorm(3, channels[0], 5, stride=2), ConvNorm(channels[0], channels[1], 3, stride=2)
            )
            self.decoder = nn.Sequential(Upsample(channels[1], channels[0]))
            self.head = nn.Sequential(nn.Conv2d(channels[0], 12, 3, padding=1), nn.PixelShuffle(2))
        else:
            self.encoder = nn.Sequential(
                ConvNorm(3, channels[0], 9),
                ConvNorm(channels[0], channels[1], 3, stride=2),
                ConvNorm(channels[1], channels[2], 3, stride=2),
            )
            self.decoder = nn.Sequential(Upsample(channels[2], channels[1]), Upsample(channels[1], channels[0]))
            self.head = nn.Sequential(nn.Conv2d(channels[0], 3, 9, padding=4))
        self.body = nn.Sequential(*(ResidualBlock(channels[-1]) for _ in range(config.blocks)))

        if config.norm == "frozen":
            for module in self.modules():
                if isinstance(module, ConvNorm):
                    module.norm = FrozenNorm(module.conv.out_channels)
        self.dither = Dither(config.dither)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        stylized = self.paint(reflect_pad(image, self.config.padding, STRIDE))
        pad = self.config.padding
        return stylized[:, :, pad : pad + height, pad : pad + width]

    def paint(self, padded: Tensor) -> Tensor:
        """Repaint a picture that is already padded: N x 3 x H x W in [0, 1], H and W multiples of 4."""
        # Centred input keeps the zeros of the inner padding at mid-grey; the sigmoid bounds the output by construction.
        x = self.encoder(self.dither(padded - 0.5))
        return F.sigmoid(self.head(self.decoder(self.body(x))))
