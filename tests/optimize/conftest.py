"""A loss network that the tests of image optimisation share."""

from __future__ import annotations

import pytest
import torch

from faststyle.nets.lossnet import LossNetwork


@pytest.fixture(scope="session")
def network() -> LossNetwork:
    """The first four convolutions of VGG-16 with random weights."""
    torch.manual_seed(0)
    return LossNetwork(("relu1_2", "relu2_2"))
