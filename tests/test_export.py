"""Export: the contract, parity with torch at odd sizes, reproducible bytes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from faststyle.config import NETS
from faststyle.errors import ModelError
from faststyle.export import OPSET, build_onnx, check_parity, export_onnx, repaint
from faststyle.modelcard import ModelCard, Style
from faststyle.nets.files import load_net, save_net
from faststyle.nets.freezing import freeze
from faststyle.nets.styles import style_rows
from faststyle.nets.transformer import TransformerNet
from faststyle.runtime.stylizer import Stylizer

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "starry.safetensors"


def make_weights(path: Path, name: str = "nano", styles: int = 1) -> Path:
    """A fresh net; of several styles one whose rows are all different."""
    torch.manual_seed(0)
    net = TransformerNet(replace(NETS[name], styles=styles))
    if styles > 1:
        for rows in style_rows(net):
            torch.nn.init.normal_(rows, rows.mean().item(), 0.3)
    card = ModelCard(name, tuple(Style(f"Test {number}") for number in range(styles)), net=asdict(net.config))
    save_net(path / f"{name}.safetensors", net, card)
    return path / f"{name}.safetensors"


def run(model: bytes, image: np.ndarray, **options: list[float]) -> np.ndarray:
    """What any other program gets: onnxruntime alone, with or without the optional inputs."""
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3  # it warns that optional inputs are no constants
    session = onnxruntime.InferenceSession(model, quiet, providers=["CPUExecutionProvider"])
    given = {name: np.array(value, np.float32) for name, value in options.items()}
    result: np.ndarray = session.run(None, {"image": image, **given})[0]
    return result


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
    inputs = [item for item in proto.graph.input if item.name not in {given.name for given in proto.graph.initializer}]
    for value, label in ((inputs, "image"), (proto.graph.output, "stylized")):
        assert [item.name for item in value] == [label], "all else has a default"
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


@pytest.mark.parametrize(
    ("name", "styles", "options"),
    [
        ("nano", 1, {"strength": [1]}),
        ("nano", 3, {"strength": [1], "style_weights": [3]}),
        ("johnson", 1, {}),
        ("johnson", 2, {"style_weights": [2]}),
    ],
)
def test_strength_and_styles_are_optional_inputs(tmp_path, name, styles, options):
    net, card = load_net(make_weights(tmp_path, name, styles))
    model = build_onnx(net, card)
    graph = onnx.load_from_string(model).graph
    assert [item.name for item in graph.input] == ["image", *options]
    for item in graph.input[1:]:
        tensor = item.type.tensor_type
        assert tensor.elem_type == onnx.TensorProto.FLOAT
        assert [dim.dim_value for dim in tensor.shape.dim] == options[item.name]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_inputs()] == ["image"], "nobody needs to give them"
    assert {item.name for item in session.get_overridable_initializers()} == set(options)
    images = photo(1, 45, 66)
    defaults = {"strength": [1.0], "style_weights": [1.0] + [0.0] * (styles - 1)}
    given = {key: value for key, value in defaults.items() if key in options}
    assert np.array_equal(run(model, images), run(model, images, **given))


@pytest.mark.parametrize(("name", "styles"), [("nano", 1), ("nano", 3), ("johnson", 2)])
def test_inputs_that_are_required(tmp_path, name, styles):
    """For programs that see no others; the file computes what that with defaults does."""
    net, card = load_net(make_weights(tmp_path, name, styles))
    model, usual = build_onnx(net, card, required=True), build_onnx(net, card)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert not session.get_overridable_initializers()
    names = [item.name for item in session.get_inputs()]
    assert names == ["image", *(item.name for item in onnx.load_from_string(usual).graph.input[1:])]
    given = {"strength": [0.6], "style_weights": [0.0, 0.4, 0.6][:styles]}
    given = {key: value for key, value in given.items() if key in names}
    images = photo(1, 45, 66)
    assert np.array_equal(run(model, images, **given), run(usual, images, **given))
    assert np.array_equal(Stylizer(model, provider="cpu")(images), run(usual, images))


def test_a_net_without_choices_cannot_require_them(tmp_path):
    with pytest.raises(ModelError, match="neither strength nor styles to choose: export it without --required-inputs"):
        export_onnx(make_weights(tmp_path, "johnson"), tmp_path / "a.onnx", required=True)
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.parametrize("name", ["nano", "fast", "johnson"])
def test_parity_of_mixtures_at_odd_sizes(tmp_path, name):
    net, card = load_net(make_weights(tmp_path, name, 3))
    model = build_onnx(net, card)
    for shape in ((1, 16, 16), (3, 45, 66), (1, 17, 203)):
        images = photo(*shape)
        for weights in ([0.0, 1.0, 0.0], [0.5, 0.2, 0.3]):
            for strength in (1.0, 0.5) if net.blend is not None else (1.0,):
                options = {"style_weights": weights} | ({} if net.blend is None else {"strength": [strength]})
                difference = np.abs(run(model, images, **options).astype(int) - repaint(net, images, weights, strength))
                assert difference.max() <= 2
                assert (difference > 1).mean() <= 1e-3
    assert check_parity(net, model) <= 2


def test_weights_are_scaled_and_strength_is_clipped(tmp_path):
    net, card = load_net(make_weights(tmp_path, styles=3))
    model, images = build_onnx(net, card), photo(1, 45, 66)

    def same(one, other):
        return np.abs(run(model, images, **one).astype(int) - run(model, images, **other)).max() <= 1

    assert same({"style_weights": [2, 6, 0]}, {"style_weights": [0.25, 0.75, 0]})
    assert same({"style_weights": [0, 0, 1e-3]}, {"style_weights": [0, 0, 1]})
    assert not same({"style_weights": [0, 0, 1]}, {"style_weights": [0, 1, 0]})
    assert same({"strength": [7]}, {"strength": [1]}) and same({"strength": [-2]}, {"strength": [0]})
    assert not same({"strength": [0.5]}, {"strength": [1]})


@pytest.mark.parametrize("styles", [1, 3])
def test_strength_0_gives_every_byte_back(tmp_path, styles):
    net, card = load_net(make_weights(tmp_path, styles=styles))
    model = build_onnx(net, card)
    levels = np.arange(256, dtype=np.uint8).repeat(3 * 20).reshape(1, 64, 80, 3)
    for images in (levels, np.random.default_rng(0).integers(0, 256, (2, 33, 50, 3), np.uint8)):
        assert np.array_equal(run(model, images, strength=[0]), images)
        assert np.array_equal(repaint(net, images, strength=0), images)
    if styles > 1:
        assert np.array_equal(run(model, levels, strength=[0], style_weights=[0, 0.3, 0.7]), levels)


def test_an_unlike_mixture_is_found_out(tmp_path, monkeypatch):
    """Parity looks at the optional inputs too, not only at the plain call."""

    def forgetful(net, images, style_weights=None, strength=1.0):
        return repaint(net, images)

    monkeypatch.setattr("faststyle.export.repaint", forgetful)
    with pytest.raises(ModelError, match="strays"):
        export_onnx(make_weights(tmp_path, styles=2), tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


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
    monkeypatch.setattr("faststyle.export.repaint", lambda net, *given: 255 - repaint(net, *given))
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
