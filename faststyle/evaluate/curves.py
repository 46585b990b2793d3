"""The optimisation that models are compared with, and how its loss falls: one curve for each photo and start.

Plain single-scale L-BFGS as in Gatys et al. 2016 and Johnson et al. 2016, torch's own. A curve takes about a
minute on two cores and does not depend on the model, so each is kept in the cache as soon as it is done.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faststyle.errors import WriteError
from faststyle.evaluate.ruler import Ruler
from faststyle.files import check_target, write_file
from faststyle.optimize.pixels import to_tensor
from faststyle.optimize.transforms import Gradient, gradient_of

__all__ = ["STARTS", "claim_curve", "curve", "curve_path", "descend", "keep_curve", "read_curve", "steps_to"]

STARTS = ("photo", "noise")
"""What an optimisation starts from."""
SCHEMA = 1
"""To be raised with any change that makes other curves of the same input: kept ones are then computed again."""
SEED = 0
"""Of the noise, the same for every photo."""

_log = logging.getLogger("faststyle")

_lbfgs = functools.partial(torch.optim.LBFGS, max_iter=1, tolerance_grad=0, tolerance_change=0)


def descend(
    image: Tensor,
    gradient: Gradient,
    steps: int,
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer] = _lbfgs,
) -> Iterator[float]:
    """The optimisation as everyone writes it: one scale, one of torch's optimisers, the pixels clipped after each step.

    Changes `image`, 1 x C x H x W in [0, 1], in place and yields the total loss of the picture as it stands, once
    before the first step and once after each. `optimizer` makes the optimiser from what it shall change; by default
    L-BFGS, with one evaluation of the loss network a step.
    """
    method = optimizer([image])
    losses, image.grad = gradient(image)

    def known() -> float:  # the slope is there already when the optimiser asks for the loss
        return losses["total"]

    yield known()
    for _ in range(steps):
        method.step(known)
        image.clamp_(0, 1)
        losses, image.grad = gradient(image)
        yield known()


def curve(ruler: Ruler, photo: NDArray[np.uint8], start: str, steps: int) -> Iterator[float]:
    """Losses before the first step and after each, on a photo, uint8 H x W x 3, from one of `STARTS`."""
    first = photo if start == "photo" else np.random.default_rng(SEED).integers(0, 256, photo.shape, np.uint8)
    yield from descend(to_tensor(first, ruler.device), gradient_of(ruler.against(photo)), steps)


def steps_to(losses: Sequence[float], target: float) -> float:
    """The step at which a curve is first as low as a loss, interpolated between steps; infinite where it never is."""
    if losses[0] <= target:
        return 0.0
    for step, (before, after) in enumerate(itertools.pairwise(losses)):
        if after <= target:
            return step + (before - target) / (before - after)
    return math.inf


def curve_path(folder: Path, ruler: Ruler, photo: NDArray[np.uint8], start: str) -> Path:
    """Where a curve is kept, by a digest of all that it depends on but its length: a long one serves for a short."""
    about = json.dumps([SCHEMA, ruler.digest, start, SEED, photo.shape])
    return folder / f"{hashlib.sha256(about.encode() + photo.tobytes()).hexdigest()}.json"


def read_curve(path: Path, steps: int) -> list[float] | None:
    """The losses before the first of `steps` steps and after each; None where they are not kept, or damaged."""
    try:
        kept: Any = json.loads(path.read_bytes())
        losses = [float(loss) for loss in kept["losses"]]
        if not losses or not all(map(math.isfinite, losses)):
            raise ValueError("no losses")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        _log.warning("%s is damaged: its curve is computed again", path)
        return None
    return losses[: steps + 1] if len(losses) > steps else None


def claim_curve(path: Path) -> None:
    """Find out before the work whether a curve can be kept there; raises WriteError."""
    with _room(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        check_target(path)


def keep_curve(path: Path, losses: Sequence[float]) -> None:
    """Keep a curve, whole or not at all; raises WriteError where the disk does not take it."""
    with _room(path):
        write_file(path, json.dumps({"schema": SCHEMA, "losses": list(losses)}).encode())


@contextlib.contextmanager
def _room(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, WriteError):
        remedy = "set FASTSTYLE_CACHE to a folder with room to write"
        raise WriteError(f"no curve of L-BFGS steps can be kept in {path.parent}: {remedy}") from None
