"""LPIPS, a learned distance between pictures (Zhang et al. 2018), where the package of that name is installed."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faststyle.optimize.pixels import to_tensor

__all__ = ["Distance", "open_lpips"]

Distance = Callable[[NDArray[np.uint8], NDArray[np.uint8]], float]
"""From two pictures of one size, uint8 H x W x 3, to how different they look: 0 for equal ones."""

_log = logging.getLogger("faststyle")


def open_lpips(weights: Callable[[], Mapping[str, Tensor]], device: torch.device) -> Distance | None:
    """LPIPS v0.1 on VGG-16; None, with a note that says how to get it, where the package is missing.

    `weights` gives VGG-16's convolutions under torchvision's names, when they are needed: the package would fetch its
    own copy from torchvision's host.
    """
    try:
        lpips = importlib.import_module("lpips")
    except ModuleNotFoundError as error:
        _log.info("LPIPS is left out, since %s is not installed: pip install lpips", error.name)
        return None
    with warnings.catch_warnings():  # it calls torchvision and torch as they were years ago
        warnings.simplefilter("ignore")
        metric = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    found = weights()
    # Its layers are numbered as torchvision's, within slices: slice2.5.weight is features.5.weight.
    names = {key: f"features.{key.partition('.')[2]}" for key in metric.net.state_dict()}
    metric.net.load_state_dict({key: found[name] for key, name in names.items()})
    metric.to(device)

    def distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
        with torch.no_grad():
            return float(metric(to_tensor(one, device), to_tensor(other, device), normalize=True))

    return distance
