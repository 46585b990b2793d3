"""Shapes of the TransformerNet."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from faststyle.config.checks import require

__all__ = ["NETS", "NetConfig"]


@dataclass(frozen=True)
class NetConfig:
    """The shape of a TransformerNet; `NETS` names the shapes on offer."""

    family: Literal["lowres", "johnson"] = "lowres"
    """lowres: no feature map at full resolution; johnson: the network of Johnson et al. 2016, for comparison."""
    channels: tuple[int, ...] = (16, 32, 48)
    """Channels at half, quarter and eighth resolution (lowres), or at full, half and quarter resolution (johnson)."""
    blocks: int = 3
    """Residual blocks at the lowest resolution."""
    padding: int = 48
    """Pixels by which the image is mirrored outwards before the first layer; cropped away at the end."""
    dither: float = 2.0
    """Levels (of 255) of fixed noise added to the input: strokes grow from it where a photo is perfectly flat."""
    norm: Literal["instance", "frozen"] = "instance"
    """instance: statistics of the picture at hand; frozen: constants, measured on photos and trained on with."""
    styles: int = 1
    """Styles that the net holds, each a row of what is not shared: scales and shifts of the norms, seeds and banks."""

    def __post_init__(self) -> None:
        families = ("lowres", "johnson")
        require(self.family in families, f"net family {self.family!r} is unknown: take one of {', '.join(families)}")
        require(
            len(self.channels) == 3 and min(self.channels) >= 1,
            f"a net takes three channel counts of at least 1, not {self.channels}",
        )
        require(self.norm in ("instance", "frozen"), f"norm {self.norm!r} is unknown: take instance or frozen")
        require(self.styles >= 1, f"a net holds at least one style, not {self.styles}")
        require(self.norm == "instance" or self.styles == 1, "a frozen net holds one style only")
        require(self.blocks >= 0, f"blocks must be 0 or more, not {self.blocks}")
        require(self.dither >= 0, f"dither must be 0 or more, not {self.dither}")
        require(
            self.padding >= 0 and self.padding % self.stride == 0,
            f"padding must be a multiple of {self.stride}, not {self.padding}",
        )

    def to_dict(self) -> dict[str, Any]:
        """The shape as plain values for a card."""
        return asdict(self)

    @property
    def rows(self) -> int:
        """Rows of each norm: the styles' and, where the net has a strength, that of the photo."""
        return self.styles + (self.family == "lowres" and self.norm == "instance")

    @property
    def stride(self) -> int:
        """Pixels to a side of the cells that the net works on; padding makes height and width multiples of it."""
        return 8 if self.family == "lowres" else 4

    @property
    def reach(self) -> int:
        """Pixels from an output pixel to the farthest input pixel it depends on, norms apart; a multiple of stride."""
        # Half of each kernel, in pixels of the picture, from the stem to the head; a block has two convolutions. In
        # `lowres` the relief sees farther than the encoder: 8 squares of 4 pixels and 6 cells of 8.
        ends = 4 * 8 + 8 * 6 + 8 + 4 + 8 + 4 if self.family == "lowres" else 4 + 1 + 2 + 2 + 1 + 4
        # Up to stride - 1 more, since a pixel shares its cell with others; then rounded up.
        return (2 * self.stride * self.blocks + ends + 2 * (self.stride - 1)) // self.stride * self.stride


NETS: dict[str, NetConfig] = {
    "nano": NetConfig(channels=(16, 16, 32), blocks=2),
    "fast": NetConfig(channels=(16, 32, 48), blocks=3, padding=64),
    "quality": NetConfig(channels=(16, 48, 96), blocks=4, padding=64),
    "johnson": NetConfig(family="johnson", channels=(32, 64, 128), blocks=5, padding=40, dither=0.0),
}
"""Named shapes, smallest first; `johnson` is the stock network of 2016 (9x9 ends, 1.68 M parameters)."""
