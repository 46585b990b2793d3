"""What the tests of the runtime share: a photo of waves with noise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """300 x 420 pixels, uint8 H x W x 3."""
    y, x = np.mgrid[:300, :420]
    waves = 128 + 90 * np.sin(x / 23)[..., None] * np.cos(y / 31)[..., None] * [1, 0.5, -1]
    noise = np.random.default_rng(1).normal(0, 12, waves.shape)
    noisy: NDArray[np.uint8] = np.clip(waves + noise, 0, 255).astype(np.uint8)
    return noisy
