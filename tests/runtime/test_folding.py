"""Folding: equal to the norms it replaces, and a graph that onnxruntime runs in its fast layout throughout."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from faststyle.config import NETS
from faststyle.export import build_onnx
from faststyle.modelcard import ModelCard
from faststyle.nets.layers import Smooth, StyleBank
from faststyle.nets.styles import style_rows
from faststyle.nets.transformer import TransformerNet
from faststyle.runtime.folding import (
    ORIGIN,
    STRENGTH,
    STYLE_WEIGHTS,
    Statistics,
    fold_model,
    has_norms,
    measure,
    measuring_model,
)

Pixels = NDArray[np.uint8]


Options = dict[str, NDArray[np.float32]]


def exported(name: str, styles: int = 1) -> bytes:
    torch.manual_seed(0)
    config = replace(NETS[name], styles=styles)
    net = TransformerNet(config)
    for rows in style_rows(net):
        torch.nn.init.normal_(rows, rows.mean().item(), 0.3)
    return build_onnx(net, ModelCard(name, net=asdict(config)))


def mixed(name: str) -> Options:
    """A mixture of three styles at half the strength, as the model's optional inputs."""
    options = {STYLE_WEIGHTS: np.array([1, 2, 0.5], np.float32)}
    return options if name == "johnson" else {**options, STRENGTH: np.array([0.5], np.float32)}


def session(model: bytes, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if optimized:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def photo() -> Pixels:
    y, x = np.mgrid[:83, :118]
    ramps = np.stack([y * 3, x * 2, 255 - x - y], axis=2)
    return np.clip(ramps + np.random.default_rng(0).normal(0, 20, ramps.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def tiny() -> bytes:
    """Two instance norms in a row, with a scale, a bias and an epsilon of their own, on an image as it is."""
    nodes = [
        helper.make_node("Transpose", ["image"], ["moved"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["moved"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("InstanceNormalization", ["x", "scale", "bias"], ["y"], epsilon=0.5),
        helper.make_node("Sigmoid", ["y"], ["z"]),
        helper.make_node("InstanceNormalization", ["z", "scale", "bias"], ["stylized"]),
    ]
    graph = helper.make_graph(
        nodes,
        "norms",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "H", "W", 3])],
        [helper.make_tensor_value_info("stylized", TensorProto.FLOAT, [1, 3, "H", "W"])],
        [
            numpy_helper.from_array(np.array([1, 2, 3], np.float32), "scale"),
            numpy_helper.from_array(np.array([0, -1, 9], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def test_statistics_are_means_and_variances(tiny: bytes, photo: Pixels) -> None:
    statistics = measure(session(measuring_model(tiny)), photo)
    flat = photo.reshape(-1, 3).astype(float)
    assert np.allclose(statistics.means[0], flat.mean(0), rtol=1e-5)
    assert np.allclose(statistics.variances[0], flat.var(0), rtol=1e-3)
    second = 1 / (1 + np.exp(-((flat - flat.mean(0)) / np.sqrt(flat.var(0) + 0.5) * [1, 2, 3] + [0, -1, 9])))
    assert np.allclose(statistics.means[1], second.mean(0), rtol=1e-4)
    assert np.allclose(statistics.variances[1], second.var(0), rtol=1e-2, atol=1e-6)


def test_a_folded_norm_is_the_affine_map_of_its_statistics(tiny: bytes, photo: Pixels) -> None:
    means = (np.array([1, 2, 3], np.float32), np.array([0.1, 0.2, 0.3], np.float32))
    variances = (np.array([4, 5, 6], np.float32), np.array([0.5, 0.6, 0.7], np.float32))
    model = fold_model(tiny, Statistics(means, variances))
    result = session(model).run(None, {"image": photo[None]})[0][0].transpose(1, 2, 0)
    scale, bias = np.array([1, 2, 3]), np.array([0, -1, 9])
    first = (photo - means[0]) / np.sqrt(variances[0] + 0.5) * scale + bias
    expected = (1 / (1 + np.exp(-first)) - means[1]) / np.sqrt(variances[1] + 1e-5) * scale + bias
    assert np.allclose(result, expected, atol=1e-4)


def test_edited_models_are_valid_and_everything_else_stays(photo: Pixels) -> None:
    model = exported("nano")
    before = onnx.load_from_string(model)
    for edited in (measuring_model(model), fold_model(model, measure(session(measuring_model(model)), photo))):
        onnx.checker.check_model(edited, full_check=True)
        after = onnx.load_from_string(edited)
        assert after.metadata_props == before.metadata_props
        assert after.opset_import == before.opset_import
        assert after.graph.input[0] == before.graph.input[0] and after.graph.output[0] == before.graph.output[0]
        names = {item.name for item in before.graph.initializer}
        assert [item for item in after.graph.initializer if item.name in names] == list(before.graph.initializer)
    assert [value.name for value in after.graph.input] == ["image", ORIGIN], "the folded one can be a tile"
    assert has_norms(model) and not has_norms(edited)


@pytest.mark.parametrize("name", ["nano", "fast", "johnson"])
def test_folded_with_a_photos_own_statistics_it_gives_the_same_picture(name: str, photo: Pixels) -> None:
    model = exported(name)
    plain = session(model).run(None, {"image": photo[None]})[0].astype(int)
    folded = fold_model(model, measure(session(measuring_model(model)), photo))
    assert np.abs(session(folded).run(None, {"image": photo[None]})[0] - plain).max() <= 1


@pytest.mark.parametrize("name", ["nano", "fast", "johnson"])
def test_folded_with_a_mixture_it_gives_the_mixtures_picture(name: str, photo: Pixels) -> None:
    model, options = exported(name, 3), mixed(name)
    image = {"image": photo[None]}
    plain = session(model).run(None, {**image, **options})[0].astype(int)
    assert np.abs(session(model).run(None, image)[0] - plain).max() > 10, "the mixture is another picture"
    folded = fold_model(model, measure(session(measuring_model(model)), photo, options), options)
    assert np.abs(session(folded).run(None, image)[0] - plain).max() <= 1


def test_statistics_are_those_of_the_mixture(photo: Pixels) -> None:
    measuring = session(measuring_model(exported("nano", 3)))
    plain, mixture = measure(measuring, photo), measure(measuring, photo, mixed("nano"))
    assert np.array_equal(plain.means[0], mixture.means[0]), "no norm lies before the first"
    assert not np.allclose(plain.means[1], mixture.means[1], rtol=0.05)


@pytest.mark.parametrize("options", [{}, mixed("nano")], ids=["plain", "mixed"])
def test_strength_and_styles_are_constants_of_a_folded_model(options: Options, photo: Pixels) -> None:
    model = exported("nano", 3)
    assert {STRENGTH, STYLE_WEIGHTS} < {value.name for value in onnx.load_from_string(model).graph.input}
    folded = fold_model(model, measure(session(measuring_model(model)), photo, options), options)
    onnx.checker.check_model(folded, full_check=True)
    graph = onnx.load_from_string(folded).graph
    assert [value.name for value in graph.input] == ["image", ORIGIN]
    found = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    assert found[STRENGTH].tolist() == options.get(STRENGTH, np.ones(1)).tolist()
    assert found[STYLE_WEIGHTS].tolist() == options.get(STYLE_WEIGHTS, np.eye(3)[0]).tolist()
    assert len(found) == len(graph.initializer), "each constant is there once"


@pytest.mark.parametrize("how", ["plain", "mixed"])
@pytest.mark.parametrize("name", ["nano", "fast", "quality", "johnson"])
def test_the_folded_graph_stays_in_the_fast_layout(name: str, how: str, photo: Pixels, tmp_path: Path) -> None:
    model, options = (exported(name), None) if how == "plain" else (exported(name, 3), mixed(name))
    folded = fold_model(model, measure(session(measuring_model(model)), photo, options), options)
    session(folded, tmp_path / "optimized.onnx")
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert not kinds["InstanceNormalization"] and not kinds["BatchNormalization"]
    assert not kinds["Relu"] and not kinds["Sigmoid"], "fused into the convolutions"
    net = TransformerNet(NETS[name])
    assert kinds["ReorderInput"] + kinds["ReorderOutput"] <= 2 + 4 * (net.blend is not None), (
        "four on the way to the relief, which has few channels"
    )
    convolutions = sum(isinstance(part, (torch.nn.Conv2d, Smooth, StyleBank)) for part in net.modules())
    assert kinds["Conv"] == convolutions + 7 * (net.blend is not None), (
        "one takes the photo to the head's pixels, four make the relief, two add it"
    )
    assert not kinds["Pad"]
    assert not kinds["MatMul"] and not kinds["Split"] and not kinds["Clip"], "nothing is left of the rows"
