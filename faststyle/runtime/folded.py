"""A model of our own, plain or folded: any size of photo in bounded memory."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from faststyle.images import fit_pixels
from faststyle.runtime.folding import ORIGIN, Statistics, fold_model, has_norms, measure, measuring_model
from faststyle.runtime.session import gist

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["ContractNetwork", "FoldedNetwork", "tiles"]

_log = logging.getLogger("faststyle")

FOLD_FROM = 2048 * 2048
"""Pixels from which a photo is repainted by a folded network: up to here the plain one is as soon done, and exact."""
STATISTICS = 1024 * 1024
"""Pixels to which a photo is scaled down for its statistics."""
TILE = 2048
"""Longest side of a tile in pixels, halo not counted."""
ALIGNMENT = 64
"""Tiles begin at multiples of this, which the sides of the networks' own cells divide."""


class ContractNetwork:
    """A model of our own: bytes in, bytes out, any size.

    `load` makes a session of the bytes of a model; `source` is where they are, read now, so that the file may change
    later. `halo` is the card's; 0 keeps the network from being folded. Not where an engine is built for minutes
    (`large` False): there a large photo goes through in one piece.
    """

    def __init__(
        self,
        session: InferenceSession,
        source: Path | bytes,
        halo: int,
        load: Callable[[bytes], InferenceSession],
        large: bool = True,
    ) -> None:
        self.halo = halo
        self._session, self._load, self._large = session, load, large
        self._model = source if isinstance(source, bytes) else source.read_bytes() if halo else b""
        self._measuring: InferenceSession | None = None
        self._static: FoldedNetwork | None = None
        # A file that was exported with its inputs required is called as one with defaults is: the first style alone.
        required = session.get_inputs()[1:]
        self._options: Mapping[str, NDArray[np.float32]] = {
            value.name: np.eye(1, *value.shape, dtype=np.float32)[0] for value in required
        }
        self.offered = {value.name for value in (*required, *session.get_overridable_initializers())}
        """Names of the inputs beside the picture."""

    def styled(self, options: Mapping[str, NDArray[np.float32]]) -> ContractNetwork:
        """The same network with values of the inputs that are offered."""
        styled = copy.copy(self)
        styled._options = {**self._options, **options}
        return styled

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if not self.halo or not self._large or pixels.shape[1] * pixels.shape[2] <= FOLD_FROM:
            return _run(self._session, pixels, self._options)
        return np.concatenate([self._large_photo(photo) for photo in pixels])

    def _large_photo(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One after another: each folded session keeps the memory of its tiles."""
        try:
            network = self.folded(photo)
        except Exception as error:  # onnxruntime's exceptions share no base class
            _log.warning("a large photo is repainted in one piece, since folding failed (%s)", gist(error))
            return _run(self._session, photo[None], self._options)
        return network(photo[None])

    def folded(self, photo: NDArray[np.uint8]) -> FoldedNetwork:
        """The network with the statistics of a photo, uint8 H x W x 3, built in; without a halo there is none."""
        if not has_norms(self._model):
            if self._static is None:
                self._static = FoldedNetwork(self._load(fold_model(self._model, Statistics((), ()))), self.halo)
            return self._static
        if self._measuring is None:
            self._measuring = self._load(measuring_model(self._model))
        statistics = measure(self._measuring, fit_pixels(photo, STATISTICS), self._options)
        return FoldedNetwork(self._load(fold_model(self._model, statistics, self._options)), self.halo)


class FoldedNetwork:
    """A model without norms: what it makes of a pixel depends on the pixels around it alone.

    So a large photo is repainted in tiles, each with a halo around it, and comes out as it would in one piece.
    """

    def __init__(self, session: InferenceSession, halo: int) -> None:
        self._session, self._halo = session, halo
        self._takes_origin = any(value.name == ORIGIN for value in session.get_overridable_initializers())

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = pixels.shape[1:3]
        if not self._halo or max(height, width) <= TILE:
            return _run(self._session, pixels)
        result = np.empty_like(pixels)
        for tile in tiles(height, width, self._halo):
            origin = np.array([tile.rows.start, tile.columns.start], np.int64)
            painted = _run(
                self._session,
                pixels[:, tile.rows, tile.columns],
                {ORIGIN: origin} if self._takes_origin else {},
            )
            top, left = tile.inner_rows.start - tile.rows.start, tile.inner_columns.start - tile.columns.start
            inner = result[:, tile.inner_rows, tile.inner_columns]
            inner[:] = painted[:, top : top + inner.shape[1], left : left + inner.shape[2]]
        return result


class Tile(NamedTuple):
    """What a tile reads of a picture, and the part of it that it is there for."""

    rows: slice
    columns: slice
    inner_rows: slice
    inner_columns: slice


def tiles(height: int, width: int, halo: int) -> Iterator[Tile]:
    """Tiles of at most TILE x TILE pixels that cover a picture, each with at least `halo` pixels around it."""
    for rows, inner_rows in _spans(height, halo):
        for columns, inner_columns in _spans(width, halo):
            yield Tile(rows, columns, inner_rows, inner_columns)


def _spans(length: int, halo: int) -> Iterator[tuple[slice, slice]]:
    count = -(-length // TILE)
    step = -(-length // (count * ALIGNMENT)) * ALIGNMENT
    before = -(-halo // ALIGNMENT) * ALIGNMENT
    for start in range(0, length, step):
        end = min(start + step, length)
        yield slice(max(0, start - before), min(end + halo, length)), slice(start, end)


def _run(
    session: InferenceSession, pixels: NDArray[np.uint8], options: Mapping[str, NDArray[Any]] | None = None
) -> NDArray[np.uint8]:
    result: NDArray[np.uint8] = session.run(None, {"image": np.ascontiguousarray(pixels), **(options or {})})[0]
    return result
