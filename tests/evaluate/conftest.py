"""What the tests of the ruler share: a shallow loss network with random weights, a painting, photos, and a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto
from PIL import Image

from faststyle.config import PerceptualConfig
from faststyle.evaluate import run
from faststyle.evaluate.ruler import Ruler
from faststyle.modelcard import ModelCard
from faststyle.nets.lossnet import LossNetwork
from faststyle.nets.weights import load_weights
from faststyle.runtime.stylizer import Stylizer


def smooth(seed: int, width: int, height: int) -> NDArray[np.uint8]:
    """Smooth noise, uint8 H x W x 3."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="session")
def shallow() -> PerceptualConfig:
    """Loss settings that two convolutions serve."""
    return PerceptualConfig(strength=0.25, style_size=40, style_layers=("relu1_1", "relu1_2"), content_layer="relu1_2")


@pytest.fixture
def painting() -> NDArray[np.uint8]:
    return smooth(100, 60, 50)


@pytest.fixture
def photo() -> NDArray[np.uint8]:
    return smooth(0, 32, 32)


@pytest.fixture(scope="session")
def network(random_vgg: str, shallow: PerceptualConfig) -> LossNetwork:
    return LossNetwork(shallow.style_layers, load_weights("vgg16", random_vgg))


@pytest.fixture
def ruler(painting: NDArray[np.uint8], shallow: PerceptualConfig, network: LossNetwork) -> Ruler:
    return Ruler(painting, shallow, network)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photos of different shapes, one in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.png", "sub/c.png")):
        Image.fromarray(smooth(index, 70 + 20 * index, 80)).save(folder / name)
    return folder


@pytest.fixture
def stylizer(build_model: Callable[..., ModelProto], shallow: PerceptualConfig) -> Stylizer:
    """A model that makes negatives, and says that it was trained with `shallow`."""
    card = ModelCard(name="negative", loss={**asdict(shallow), "lattice_weight": 1000.0})
    model = build_model("image", "stylized", TensorProto.UINT8, ["N", "H", "W", 3], metadata=card.to_metadata())
    return Stylizer(model.SerializeToString(), provider="cpu")


@pytest.fixture
def tiny_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Curves at 32 x 32, kept in a cache of the test's own."""
    monkeypatch.setattr(run, "CURVE_SIZE", 32)
    monkeypatch.setenv("FASTSTYLE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "curves"
