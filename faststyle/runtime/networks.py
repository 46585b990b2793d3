"""What a model takes and gives: our own contract, or the float models that others have published.

Both are called with uint8 N x H x W x 3 and answer with the same shape.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from faststyle.errors import ModelError
from faststyle.images import resize_rgb
from faststyle.runtime.folding import STRENGTH, STYLE_WEIGHTS

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

    from faststyle.runtime.folded import ContractNetwork

__all__ = ["Network", "network_for", "signature"]

_ZOO_STRIDE = 4
"""The published networks halve the picture twice; other sizes come back larger than they went in."""

_log = logging.getLogger("faststyle")


class Network(Protocol):
    """Repaints uint8 N x H x W x 3 and keeps the shape."""

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]: ...


def network_for(session: InferenceSession, name: str, contract: Callable[[], ContractNetwork]) -> Network:
    """Recognise a model by its signature; raises ModelError, with the signature, for one of another kind.

    `contract` makes the network of a model of our own.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if inputs and outputs:
        image, result = inputs[0], outputs[0]
        ours = image.name == "image" and {value.name for value in inputs[1:]} <= {STRENGTH, STYLE_WEIGHTS}
        if ours and _is(image, "uint8", 3, (3,)) and _is(result, "uint8", 3, (3, None)):
            return contract()
        if len(inputs) == 1 and _is(image, "float", 1, (3,)) and _is(result, "float", 1, (3, None)):
            return _ZooNetwork(session, name)
    raise ModelError(
        f"{name} is no style model, its signature is {signature(session)}: "
        "take one that faststyle exported, or one from float N x 3 x H x W to the same"
    )


def signature(session: InferenceSession) -> str:
    """Inputs, those with defaults in brackets, and outputs in one line.

    For instance `image uint8 [N, H, W, 3] (optional: strength float [1]) -> stylized uint8 [N, H, W, 3]`.
    """

    def side(values: list[NodeArg]) -> str:
        return ", ".join(
            f"{value.name} {value.type.removeprefix('tensor(').removesuffix(')')} "
            f"[{', '.join('?' if length is None else str(length) for length in value.shape)}]"
            for value in values
        )

    optional = side(session.get_overridable_initializers())
    return (
        f"{side(session.get_inputs())}{f' (optional: {optional})' if optional else ''} -> {side(session.get_outputs())}"
    )


def _is(value: NodeArg, kind: str, axis: int, channels: tuple[int | None, ...]) -> bool:
    """Whether this is a batch of pictures with one of these numbers of channels on an axis; None is one left open."""
    if value.type != f"tensor({kind})" or len(value.shape) != 4:
        return False
    return (value.shape[axis] if isinstance(value.shape[axis], int) else None) in channels


class _ZooNetwork:
    """A model such as the ONNX zoo's candy: float N x 3 x H x W, values from 0 to 255, often of one fixed size."""

    def __init__(self, session: InferenceSession, name: str) -> None:
        self._session = session
        self._name = name
        source = session.get_inputs()[0]
        self._input: str = source.name
        self._height, self._width = (length if isinstance(length, int) else None for length in source.shape[2:])
        _log.info("%s has no faststyle card: taken for a model of float pixels from 0 to 255", name)
        if self._height or self._width:
            size = f"{self._width or 'any'} x {self._height or 'any'}"
            _log.warning("%s takes %s pixels only: photos are scaled to that and back, which blurs them", name, size)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.stack([self._repaint(photo) for photo in pixels])

    def _repaint(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self._height or photo.shape[0], self._width or photo.shape[1]
        fitted = photo if (height, width) == photo.shape[:2] else resize_rgb(photo, width, height)
        free = [0 if fixed else -side % _ZOO_STRIDE for fixed, side in ((self._height, height), (self._width, width))]
        padded = np.pad(fitted, ((0, free[0]), (0, free[1]), (0, 0)), mode="reflect")
        result = self._run(padded)[:height, :width]
        return result if fitted is photo else resize_rgb(result, photo.shape[1], photo.shape[0])

    def _run(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        values = np.ascontiguousarray(photo.transpose(2, 0, 1)[None], dtype=np.float32)
        result = self._session.run(None, {self._input: values})[0]
        if result.shape != values.shape:
            raise ModelError(f"{self._name} answers {values.shape} with {result.shape}: it is no style model")
        stylized: NDArray[np.float32] = result[0]
        pixels: NDArray[np.uint8] = np.rint(stylized.clip(0, 255)).astype(np.uint8)
        return pixels.transpose(1, 2, 0)
