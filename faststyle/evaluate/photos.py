"""The photos that a model is measured on: the same ones for every model."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faststyle.errors import ImageError
from faststyle.images import list_images, read_image

__all__ = ["MIN_SIDE", "find_photos", "spread"]

MIN_SIDE = 64
"""Photos with a shorter side than this are passed over, as in training: enlarged they are mere blur."""

_log = logging.getLogger("faststyle")


def find_photos(folder: str | os.PathLike[str], flag: str = "--photos") -> list[Path]:
    """The pictures below a folder, sorted; raises ImageError where it is missing or holds none."""
    if not os.path.isdir(folder):
        raise ImageError(f"{os.fspath(folder)} is not a folder: name a folder of photos with {flag}")
    if not (paths := list_images(folder)):
        raise ImageError(f"{os.fspath(folder)} holds no photos: name another folder with {flag}")
    return paths


def spread(paths: Sequence[Path], count: int) -> Iterator[NDArray[np.uint8]]:
    """At most `count` photos, evenly spread over the paths, uint8 H x W x 3, upright.

    The first usable photo of each of `count` equal parts, since folders are often sorted by subject; what cannot be
    read or is too small is passed over with a note.
    """
    edges = [len(paths) * part // count for part in range(count + 1)]
    for start, end in itertools.pairwise(edges):
        for path in paths[start:end]:
            try:
                rgb = read_image(path).rgb
            except ImageError as error:
                _log.warning("passed over: %s", error)
                continue
            height, width = rgb.shape[:2]
            if min(height, width) >= MIN_SIDE:
                yield rgb
                break
            _log.warning("passed over: %s has only %d x %d pixels", path, width, height)
