"""Repaint pictures with an exported model."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faststyle.checkpoints import find_model
from faststyle.errors import FaststyleError, ImageError, ModelError
from faststyle.images import Picture, encode_image, picture_from_pil, read_image
from faststyle.modelcard import ModelCard
from faststyle.runtime.folded import ContractNetwork
from faststyle.runtime.mixing import Mixture, model_options, style_names
from faststyle.runtime.networks import network_for, signature
from faststyle.runtime.session import Provider, gist, open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["Stylizer"]

_MIN_SIZE = 16
"""Smallest side of a photo for models without a card."""


class Stylizer:
    """A loaded model: call it with a picture and get the same kind of thing back, repainted and exactly as large.

    `model` is a path, the name of a model in `checkpoints`, or the bytes of an ONNX file. `provider` forces where it
    runs (cpu, cuda, tensorrt, coreml, directml); by default the best that is installed. `threads` is how many the CPU
    uses. A photo above 4 megapixels is repainted in tiles, by a network that is folded for it (see `folded`), where the
    model's card names a halo and it does not run in TensorRT. Raises ModelError for a model that is missing, no ONNX or
    of another kind, and for a provider that is missing.
    """

    card: ModelCard | None
    """What the model says about itself; None for one that faststyle did not export."""
    provider: Provider
    """Where it runs."""
    signature: str
    """Its inputs and outputs in one line."""

    def __init__(
        self, model: str | os.PathLike[str] | bytes, *, provider: Provider | None = None, threads: int | None = None
    ) -> None:
        source = model if isinstance(model, bytes) else find_model(model)
        self._name = "the model" if isinstance(source, bytes) else str(source)
        session, self.provider = open_session(source, self._name, provider, threads)
        try:
            self.card = ModelCard.from_metadata(session.get_modelmeta().custom_metadata_map)
        except ModelError as error:
            raise ModelError(f"{self._name}: {error}") from None
        self.signature = signature(session)
        halo = self.card.halo if self.card else 0
        load = partial(_load, name=self._name, provider=self.provider, threads=threads)
        large = self.provider != "tensorrt"  # each folded photo would wait for an engine
        self._network = network_for(session, self._name, lambda: ContractNetwork(session, source, halo, load, large))
        self._plain = self._network
        self._min_size = self.card.min_size if self.card else _MIN_SIZE

    @overload
    def __call__(self, picture: Picture) -> Picture: ...
    @overload
    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]: ...
    @overload
    def __call__(self, picture: bytes) -> bytes: ...
    @overload
    def __call__(self, picture: Image.Image | str | os.PathLike[str]) -> Image.Image: ...
    def __call__(
        self, picture: Picture | NDArray[np.uint8] | bytes | Image.Image | str | os.PathLike[str]
    ) -> Picture | NDArray[np.uint8] | bytes | Image.Image:
        """Repaint one picture, or a batch of equal size.

        A uint8 array H x W x 3 or N x H x W x 3 gives an array; a Picture gives a Picture; a PIL image gives one, and
        so does a path; an encoded file as bytes gives bytes in the same format (PNG where that cannot be written).
        Alpha, colour profile, EXIF and XMP are kept, and EXIF orientation is applied. Raises ImageError for a picture
        that cannot be read or is too small.
        """
        if isinstance(picture, np.ndarray):
            return self._array(picture)
        if isinstance(picture, Picture):
            return self._picture(picture)
        result = self._picture(_picture_of(picture))
        return encode_image(result, result.format) if isinstance(picture, bytes) else result.to_pil()

    def folded(self, picture: Picture | NDArray[np.uint8] | bytes | Image.Image | str | os.PathLike[str]) -> Stylizer:
        """A stylizer with the statistics of this picture built in, for others of the same look, such as a video's
        frames.

        It is faster by a tenth to a third, since no norm is left in the graph (see `runtime.folding`), paints equal
        pixels alike wherever and whenever they occur, and repaints a picture of any size in bounded memory. Statistics
        are taken from at most one megapixel. An array is H x W x 3. A folded stylizer can be folded anew, at a change
        of scene. Raises what a call raises, and ModelError for a model whose card names no halo.
        """
        plain = self._plain
        if not isinstance(plain, ContractNetwork) or not plain.halo:
            raise ModelError(f"{self._name} cannot be folded: take a model that this version of faststyle exported")
        if isinstance(picture, np.ndarray):
            rgb, name = _checked(picture, {3: "H x W x 3"})[0], "the array"
        else:
            photo = picture if isinstance(picture, Picture) else _picture_of(picture)
            rgb, name = photo.rgb, photo.name
        self._check_size(rgb.shape[:2], name)
        folded = copy.copy(self)
        try:
            folded._network = plain.folded(rgb)
        except FaststyleError:
            raise
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelError(f"{self._name} cannot be folded ({gist(error)}): export it again") from None
        return folded

    @property
    def styles(self) -> list[str]:
        """Names of the styles that the model holds; none for one that faststyle did not export."""
        return style_names(self.card)

    def styled(self, style: Mixture | None = None, strength: float | None = None) -> Stylizer:
        """A stylizer for another of the model's styles, or a mixture, and for a strength from 0, the photo, to 1.

        `style` is a name, "wave"; names with weights, "starry:0.6,wave:0.4" or a mapping; or a weight for each style.
        Weights are scaled to a sum of 1. What is None stays as it is. It shares the model with this one, which keeps
        its own style. Fold afterwards: a folded stylizer becomes a plain one. Raises ModelError for a style or a
        strength that the model does not offer, ConfigError for values that do not hold.

            wave = Stylizer("gallery").styled("wave", strength=0.7)
        """
        plain = self._plain
        offered = plain.offered if isinstance(plain, ContractNetwork) else set()
        options = model_options(offered, self.card, style, strength, self._name)
        styled = copy.copy(self)
        if isinstance(plain, ContractNetwork):
            styled._plain = styled._network = plain.styled(options)
        return styled

    def _picture(self, picture: Picture) -> Picture:
        return replace(picture, rgb=self._run(picture.rgb[None], picture.name)[0])

    def _array(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        result = self._run(_checked(pixels, {3: "H x W x 3", 4: "N x H x W x 3"}), "the array")
        return result[0] if pixels.ndim == 3 else result

    def _run(self, pixels: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
        height, width = pixels.shape[1:3]
        self._check_size((height, width), name)
        try:
            result = self._network(pixels)
        except FaststyleError:
            raise
        except Exception as error:  # onnxruntime's exceptions share no base class
            what = f"{self._name} failed at {width} x {height} pixels"
            raise ModelError(f"{what} ({gist(error)}): try a smaller picture") from None
        if result.shape != pixels.shape:
            raise ModelError(f"{self._name} answers {pixels.shape} with {result.shape}: export it again")
        return result

    def _check_size(self, size: tuple[int, ...], name: str) -> None:
        height, width = size
        least = self._min_size
        if min(height, width) < least:
            raise ImageError(f"{name} has {width} x {height} pixels: take one of at least {least} x {least}")


def _load(model: bytes, *, name: str, provider: Provider, threads: int | None) -> InferenceSession:
    return open_session(model, name, provider, threads)[0]


def _picture_of(picture: bytes | Image.Image | str | os.PathLike[str]) -> Picture:
    return picture_from_pil(picture) if isinstance(picture, Image.Image) else read_image(picture)


def _checked(pixels: NDArray[np.uint8], shapes: Mapping[int, str]) -> NDArray[np.uint8]:
    """An array as a batch, N x H x W x 3; raises ImageError for one of another kind, `shapes` being what is taken."""
    if pixels.dtype != np.uint8 or pixels.ndim not in shapes or pixels.shape[-1] != 3 or not len(pixels):
        kind = f"{pixels.dtype} {' x '.join(map(str, pixels.shape))}"
        raise ImageError(f"the array is {kind}: convert it to uint8 {' or '.join(shapes.values())}")
    return pixels if pixels.ndim == 4 else pixels[None]
