"""Export: the contract, parity with torch at odd sizes, reproducible bytes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from faststyle.config import NETS
from faststyle.errors import ModelError
from faststyle.export import OPSET, build_onnx, export_onnx, repaint
from faststyle.modelcard import ModelCard, Style
from faststyle.nets.files import load_net, save_net
from faststyle.nets.freezing import freeze
from faststyle.nets.transformer import TransformerNet
from faststyle.runtime.stylizer import Stylizer

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "starry.safetensors"


def make_weights(path: Path, name: str = "nano") -> Path:
    torch.manual_seed(0)
    card = ModelCard(name, (Style("Test"),), net=asdict(NETS[name]))
    save_net(path / f"{name}.safetensors", TransformerNet(NETS[name]), card)
    return path / f"{name}.safetensors"


def photo(n: int, height: int, width: int) -> np.ndarray:
    """Colour ramps with noise."""
    y, x = np.mgrid[:height, :width]
    ramps = np.stack([y % 256, x % 256, (x + y) // 3 % 256], axis=-1)[None].repeat(n, 0)
    return np.clip(ramps + np.random.default_rng(0).normal(0, 10, ramps.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", NETS)
def test_the_file_keeps_the_contract(tmp_path, name):
    model = tmp_path / f"{name}.onnx"
    card = export_onnx(make_weights(tmp_path, name), model)
    proto = onnx.load(model)
    assert proto.opset_import[0].version == OPSET == 17
    for value, label in ((proto.graph.input, "image"), (proto.graph.output, "stylized")):
        assert [item.name for item in value] == [label]
        tensor = value[0].type.tensor_type
        assert tensor.elem_type == onnx.TensorProto.UINT8
        assert [dim.dim_param or dim.dim_value for dim in tensor.shape.dim] == ["N", "H", "W", 3]
    assert all(item.data_location == onnx.TensorProto.DEFAULT for item in proto.graph.initializer)
    assert ModelCard.from_metadata({item.key: item.value for item in proto.metadata_props}) == card
    assert ModelCard.from_dict(json.loads(model.with_suffix(".json").read_text())) == card


@pytest.mark.parametrize("name", ["nano", "fast", "johnson"])
def test_parity_with_torch_at_odd_sizes(tmp_path, name):
    net, card = load_net(make_weights(tmp_path, name))
    stylizer = Stylizer(build_onnx(net, card), provider="cpu")
    for shape in ((1, 16, 16), (3, 45, 66), (1, 17, 203)):
        difference = np.abs(stylizer(photo(*shape)).astype(int) - repaint(net, photo(*shape)))
        assert difference.max() <= 2
        assert (difference > 1).mean() <= 1e-3


def test_a_frozen_net_is_a_chain_of_convolutions(tmp_path):
    """Its norms go into the weights, the file opens again, and onnxruntime computes what torch does."""
    net, card = load_net(make_weights(tmp_path, "fast"))
    frozen = freeze(net, [torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64) * 0.5])
    save_net(tmp_path / "frozen.safetensors", frozen, replace(card, net=asdict(frozen.config)))
    export_onnx(tmp_path / "frozen.safetensors", tmp_path / "frozen.onnx")
    kinds = {node.op_type for node in onnx.load(tmp_path / "frozen.onnx").graph.node}
    assert "Conv" in kinds and not kinds & {"InstanceNormalization", "BatchNormalization"}
    stylizer = Stylizer(tmp_path / "frozen.onnx", provider="cpu")
    images = photo(2, 77, 90)
    assert np.abs(stylizer(images).astype(int) - repaint(frozen, images)).max() <= 2
    assert np.array_equal(stylizer.folded(images[0])(images), stylizer(images)), "there is nothing left to fold"


@pytest.mark.skipif(not SHIPPED.exists(), reason="this checkout ships no weights")
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("size", [(256, 256), (333, 517), (1080, 721)])
def test_the_shipped_model_agrees_with_its_weights(size, n):
    net, _ = load_net(SHIPPED)
    images = photo(n, *size)
    difference = np.abs(
        Stylizer(SHIPPED.with_suffix(".onnx"), provider="cpu")(images).astype(int) - repaint(net, images)
    )
    assert difference.max() <= 2
    assert (difference > 1).mean() <= 1e-3


@pytest.mark.skipif(not SHIPPED.exists(), reason="this checkout ships no weights")
def test_the_shipped_model_is_what_its_weights_export_to(tmp_path):
    export_onnx(SHIPPED, tmp_path / "starry.onnx")
    for suffix in (".onnx", ".json"):
        assert (tmp_path / f"starry{suffix}").read_bytes() == SHIPPED.with_suffix(suffix).read_bytes()


def test_equal_weights_give_equal_bytes(tmp_path):
    weights = make_weights(tmp_path)
    export_onnx(weights, tmp_path / "a.onnx")
    export_onnx(weights, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_model_that_strays_from_torch_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("faststyle.export.repaint", lambda net, images: 255 - repaint(net, images))
    with pytest.raises(ModelError, match="strays"):
        export_onnx(make_weights(tmp_path), tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


def test_the_pictures_of_a_batch_do_not_mix(tmp_path):
    net, card = load_net(make_weights(tmp_path))
    stylizer = Stylizer(build_onnx(net, card), provider="cpu")
    images = photo(3, 40, 56)
    images[1] = 255 - images[1]
    alone = np.concatenate([stylizer(image[None]) for image in images])
    assert np.abs(stylizer(images).astype(int) - alone).max() <= 1
