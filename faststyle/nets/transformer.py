"""The TransformerNet: the image transformation network that repaints a photo in one pass (no attention in it)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from faststyle.config import NetConfig
from faststyle.nets.layers import (
    ConvNorm,
    DeepBlock,
    Dither,
    FrozenNorm,
    ResidualBlock,
    Upsample,
    reflect_pad,
)

__all__ = ["TransformerNet"]


class TransformerNet(nn.Module):
    """Repaints photos: N x 3 x H x W in [0, 1] to the same shape and range, for any H and W from 16 up.

    Two families:

    - `lowres` (a, b, c): 5x5 stride-2 stem 3 to a, 3x3 stride 2 to b, residual blocks of c channels at an eighth of the
      resolution beside a shortcut, one residual block of b, then a 3x3 convolution to 48 channels that pixel shuffle
      lays out at full size. Nothing is decoded above a quarter of the resolution, where the stock network spends most
      of its time and memory, and the blocks see twice as far.
    - `johnson` (a, b, c): the network of Johnson et al. 2016 with instance norm (Ulyanov et al. 2016) and nearest
      upsampling: 9x9 ends at full resolution, residual blocks at a quarter.

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
            self.decoder = nn.Sequential()
            self.head = nn.Sequential(nn.Conv2d(channels[1], 48, 3, padding=1), nn.PixelShuffle(4))
            self.body = nn.Sequential(DeepBlock(channels[1], channels[2], config.blocks), ResidualBlock(channels[1]))
        else:
            self.encoder = nn.Sequential(
                ConvNorm(3, channels[0], 9),
                ConvNorm(channels[0], channels[1], 3, stride=2),
                ConvNorm(channels[1], channels[2], 3, stride=2),
            )
            self.decoder = nn.Sequential(Upsample(channels[2], channels[1]), Upsample(channels[1], channels[0]))
            self.head = nn.Sequential(nn.Conv2d(channels[0], 3, 9, padding=4))
            self.body = nn.Sequential(*(ResidualBlock(channels[2]) for _ in range(config.blocks)))
        if config.norm == "frozen":
            for module in self.modules():
                if isinstance(module, ConvNorm):
                    module.norm = FrozenNorm(module.conv.out_channels)
        self.dither = Dither(config.dither)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        stylized = self.paint(reflect_pad(image, self.config.padding, self.config.stride))
        pad = self.config.padding
        return stylized[:, :, pad : pad + height, pad : pad + width]

    def paint(self, padded: Tensor) -> Tensor:
        """Repaint a picture that is already padded: N x 3 x H x W in [0, 1], H and W multiples of the stride."""
        # Centred input keeps the zeros of the inner padding at mid-grey; the sigmoid bounds the output by construction.
        x = self.encoder(self.dither(padded - 0.5))
        return F.sigmoid(self.head(self.decoder(self.body(x))))
