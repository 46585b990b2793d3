"""Fixtures that several test files share: tiny models, random weights of VGG-16, and a photo to repaint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from torchvision.models import vgg16

from faststyle.modelcard import ModelCard, Style


@pytest.fixture(scope="session")
def random_vgg(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with random VGG-16 features in torchvision's layout."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    torch.save(
        {key: value for key, value in vgg16(weights=None).state_dict().items() if key.startswith("features.")}, path
    )
    return str(path)


@pytest.fixture(scope="session")
def build_model() -> Callable[..., ModelProto]:
    """Makes a model that turns a picture into its negative, 255 - x: `build_model(input, output, type, shape)`."""

    def make(
        image: str, result: str, kind: int, shape: list[int | str], *, metadata: dict[str, str] | None = None
    ) -> ModelProto:
        nodes = [
            helper.make_node("Cast", [image], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["white", "pixels"], ["negative"]),
            helper.make_node("Cast", ["negative"], [result], to=kind),
        ]
        graph = helper.make_graph(
            nodes,
            "negative",
            [helper.make_tensor_value_info(image, kind, shape)],
            [helper.make_tensor_value_info(result, kind, shape)],
            [helper.make_tensor("white", TensorProto.FLOAT, [], [255.0])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, metadata or {})
        return model

    return make


@pytest.fixture(scope="session")
def card() -> ModelCard:
    style = Style("Negative", artist="Nobody", year="2024", licence="CC0")
    return ModelCard(name="negative", styles=(style,), net={"family": "lowres", "channels": [16, 48]}, min_size=16)


@pytest.fixture(scope="session")
def negative(tmp_path_factory: pytest.TempPathFactory, card: ModelCard, build_model: Callable[..., ModelProto]) -> Path:
    """A model in faststyle's own contract, with its card in the file and beside it."""
    path = tmp_path_factory.mktemp("models") / "negative.onnx"
    model = build_model("image", "stylized", TensorProto.UINT8, ["N", "H", "W", 3], metadata=card.to_metadata())
    path.write_bytes(model.SerializeToString())
    path.with_suffix(".json").write_text(json.dumps(card.to_dict()))
    return path


@pytest.fixture(scope="session")
def zoo_model(tmp_path_factory: pytest.TempPathFactory, build_model: Callable[..., ModelProto]) -> Path:
    """A model such as others published: float N x 3 x H x W, 0 to 255, any size."""
    path = tmp_path_factory.mktemp("models") / "candy.onnx"
    path.write_bytes(build_model("input1", "output1", TensorProto.FLOAT, [1, 3, "H", "W"]).SerializeToString())
    return path


@pytest.fixture(scope="session")
def pixels() -> NDArray[np.uint8]:
    """A small smooth photo, 30 x 41 pixels, uint8 H x W x 3."""
    rows, columns = np.mgrid[0:30, 0:41]
    return np.stack((rows * 8, columns * 6, 255 - rows - columns), axis=2).astype(np.uint8)
