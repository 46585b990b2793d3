"""What is optimised: the pixels of one picture, 1 x C x H x W float in [0, 1], and the ways in and out of that."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from faststyle.errors import ImageError
from faststyle.images import Picture, picture_from_pil, read_image

__all__ = ["Source", "Step", "read_picture", "resize", "to_rgb", "to_tensor"]

Source = Picture | NDArray[np.uint8] | Image.Image | str | os.PathLike[str]
"""A picture as a user has it: a path, a PIL image, a Picture, or uint8 H x W x 3."""


@dataclass(frozen=True)
class Step:
    """The state of an optimisation: which step it has done, the losses, and the picture.

    The losses are those of the picture as it stands; for dreams, of the picture before the step. `width` and `height`
    are those of the scale or octave at work. `fraction` runs from 0 to 1, by the pixels worked through. Call `image`
    before asking for the next step: it shows the picture as it is when called.
    """

    step: int
    steps: int
    fraction: float
    width: int
    height: int
    losses: dict[str, float]
    image: Callable[[], NDArray[np.uint8]]
    """The picture, uint8 H x W x 3, in the size asked for: at a coarser scale it is enlarged."""


def read_picture(source: Source) -> Picture:
    """A picture from whatever holds it; raises ImageError for one that cannot be read."""
    if isinstance(source, Picture):
        return source
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
            kind = f"{source.dtype} {' x '.join(map(str, source.shape))}"
            raise ImageError(f"the array is {kind}: convert it to uint8 H x W x 3")
        return Picture(source, name="the array")
    return picture_from_pil(source) if isinstance(source, Image.Image) else read_image(source)


def to_tensor(rgb: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 H x W x 3 as 1 x 3 x H x W in [0, 1]."""
    return torch.from_numpy(rgb.copy()).to(device).permute(2, 0, 1)[None].float().div(255).contiguous()


def to_rgb(image: Tensor) -> NDArray[np.uint8]:
    """1 x 3 x H x W in [0, 1] as uint8 H x W x 3."""
    levels = image.detach()[0].clamp(0, 1).mul(255).round().byte()
    return levels.permute(1, 2, 0).cpu().numpy()


def resize(image: Tensor, width: int, height: int) -> Tensor:
    """Scale 1 x C x H x W bicubically, without aliases; may overshoot the range."""
    return F.interpolate(image, size=(height, width), mode="bicubic", align_corners=False, antialias=True)
