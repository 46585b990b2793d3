"""Int8 models: near the float32 ones, with the contract kept and integer convolutions inside."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from faststyle import ModelCard, Stylizer
from faststyle.cli import main
from faststyle.config import NETS
from faststyle.errors import ModelError
from faststyle.export import export_onnx
from faststyle.nets.files import save_net
from faststyle.nets.freezing import freeze
from faststyle.nets.transformer import TransformerNet
from faststyle.quantize import quantize_onnx


def photo(seed: int, height: int = 90, width: int = 120) -> np.ndarray:
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.sin(x[..., None] / random.uniform(5, 30, 3) + y[..., None] / random.uniform(5, 30, 3))
    noisy: np.ndarray = np.clip(128 + 100 * waves + random.normal(0, 8, waves.shape), 0, 255).astype(np.uint8)
    return noisy


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = freeze(
        TransformerNet(NETS["nano"]), (torch.from_numpy(photo(i)).permute(2, 0, 1)[None] / 255 for i in range(3))
    )
    path = tmp_path_factory.mktemp("weights") / "waves.safetensors"
    save_net(path, net, ModelCard("waves", net=asdict(net.config)))
    return path


def test_an_int8_model_is_near_the_float32_one_and_says_what_it_is(weights, tmp_path):
    likeness = quantize_onnx(weights, tmp_path / "int8.onnx", [photo(index) for index in range(3)])
    export_onnx(weights, tmp_path / "float32.onnx")
    small, exact = Stylizer(tmp_path / "int8.onnx"), Stylizer(tmp_path / "float32.onnx")
    errors = [np.mean((small(photo(i)).astype(float) - exact(photo(i))) ** 2) for i in range(3)]
    assert likeness == pytest.approx(10 * np.log10(255**2 / np.mean(errors)), abs=0.01)
    assert likeness > 30
    unseen = photo(9, 77, 130)
    assert np.mean((small(unseen).astype(float) - exact(unseen)) ** 2) < 65
    assert small.card is not None and exact.card is not None
    assert (small.card.precision, exact.card.precision) == ("int8", "float32")
    assert small.card.metrics["int8_psnr"] == round(likeness, 2)
    assert small.card == ModelCard.from_dict(json.loads((tmp_path / "int8.json").read_text()))
    assert small.signature == exact.signature
    assert np.array_equal(small.folded(unseen)(unseen), small(unseen))


def test_all_convolutions_but_the_last_are_in_integers(weights, tmp_path):
    quantize_onnx(weights, tmp_path / "int8.onnx", [photo(0)])
    graph = onnx.load(tmp_path / "int8.onnx").graph
    kinds = {item.name: item.data_type for item in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    sources = {}
    for node in graph.node:
        if node.op_type == "Conv":
            weight = made.get(node.input[1])
            source = node.input[1] if weight is None else weight.input[0]
            sources[source.removesuffix("_quantized")] = kinds[source]
    exact = {name for name, kind in sources.items() if kind == onnx.TensorProto.FLOAT}
    relief = {f"relief.{part}" for part in ("light", "slopes", "around", "thrice")}
    assert exact == {"head.0.weight", "blend.cells"} | relief, "the last values; the photo's own pixels and its relief"
    assert {kind for name, kind in sources.items() if name not in exact} == {onnx.TensorProto.INT8}
    assert len(sources) == 19


def test_a_net_with_instance_norms_has_no_int8_form(tmp_path):
    save_net(tmp_path / "n.safetensors", TransformerNet(NETS["nano"]), ModelCard("n", net=asdict(NETS["nano"])))
    with pytest.raises(ModelError, match=r"n\.safetensors holds instance norms.* train it on with --frozen first"):
        quantize_onnx(tmp_path / "n.safetensors", tmp_path / "n.onnx", [photo(0)])
    assert not (tmp_path / "n.onnx").exists()


def test_the_command(weights, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo(0)).save(tmp_path / "photos" / "a.png")
    target = tmp_path / "small.onnx"
    assert main(["export", str(weights), "-o", str(target), "--int8", str(tmp_path / "photos")]) == 0
    out, err = capsys.readouterr()
    assert out == f"{target}\n" and "int8 is within" in err
    assert Stylizer(target).card is not None
    (tmp_path / "empty").mkdir()
    assert main(["export", str(weights), "-o", str(target), "--int8", str(tmp_path / "empty")]) == 1
    assert "empty holds no photos: name another folder with --int8" in capsys.readouterr().err
    assert main(["export", str(weights), "--int8", str(tmp_path / "nowhere")]) == 1
    assert "nowhere is not a folder: name a folder of photos with --int8" in capsys.readouterr().err
    assert main(["export", str(weights), "--int8", str(tmp_path / "photos"), "--required-inputs"]) == 1
    assert "export without --required-inputs" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "empty" / "broken.png").write_bytes(b"no picture")
    assert main(["export", str(weights), "--int8", str(tmp_path / "empty")]) == 1
    assert "there are no photos to measure the ranges of" in capsys.readouterr().err
    assert not weights.with_name("waves-int8.onnx").exists()


def test_int8_does_not_take_the_place_of_the_float32_model(weights, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo(0)).save(tmp_path / "photos" / "a.png")
    assert main(["export", str(weights)]) == 0
    kept = weights.with_suffix(".onnx").read_bytes()
    assert main(["export", str(weights), "--int8", str(tmp_path / "photos")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(weights.with_name("waves-int8.onnx"))
    assert weights.with_suffix(".onnx").read_bytes() == kept
    assert main(["info", str(weights.with_name("waves-int8.onnx"))]) == 0
    assert "computes in int8" in " ".join(capsys.readouterr().out.split())


def test_a_model_that_suffers_is_not_written(weights, tmp_path, monkeypatch):
    monkeypatch.setattr("faststyle.quantize.LEAST_LIKENESS", 90.0)
    with pytest.raises(ModelError, match=r"suffers in int8 \(\d+\.\d dB\)"):
        quantize_onnx(weights, tmp_path / "a.onnx", [photo(0)])
    assert not (tmp_path / "a.onnx").exists()
