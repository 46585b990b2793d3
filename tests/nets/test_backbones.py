"""Backbones by name: torchvision's features to the last bit that matters, cut, frozen; weights files; classes."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from faststyle.errors import ConfigError, ImageError, WeightsError
from faststyle.nets.backbones import (
    BACKBONES,
    Classifier,
    categories,
    class_index,
    layer_names,
    open_backbone,
    smallest_side,
)
from faststyle.nets.lossnet import LAYERS, LossNetwork

# As torchvision makes them for its own weights, auxiliary heads included.
_GOOGLE = {"transform_input": True, "aux_logits": True, "init_weights": False}
_SETTINGS: dict[str, dict[str, Any]] = {"inception_v3": _GOOGLE, "googlenet": _GOOGLE, "resnet50": {}}


def torchvisions(name: str) -> nn.Module:
    """torchvision's own model with random weights, and batch norms that know the statistics of its features."""
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.get_model(name, weights=None, **_SETTINGS[name]).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train().momentum = 1.0
    with torch.no_grad():
        model(torch.randn(2, 3, 96, 96))
    return model.eval()


@pytest.fixture(scope="module", params=list(_SETTINGS))
def reference(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    return request.param, torchvisions(request.param)


@pytest.fixture(scope="module")
def stem() -> dict[str, Tensor]:
    """The tensors that GoogLeNet's first layer needs."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"conv.weight": (64, 3, 7, 7)} | dict.fromkeys(("bn.weight", "bn.bias", "bn.running_mean"), (64,))
    tensors = {f"conv1.{key}": torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    return tensors | {"conv1.bn.running_var": torch.rand(64, generator=generator) + 0.5}


def normalised(name: str, image: Tensor) -> Tensor:
    """As torchvision documents it."""
    transforms = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].transforms()
    mean, std = torch.tensor(transforms.mean), torch.tensor(transforms.std)
    return (image - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


def recorded(model: nn.Module, names: tuple[str, ...], x: Tensor) -> dict[str, Tensor]:
    """What the named modules return while torchvision's model runs, in the order in which they do."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        # A copy, for a later module may work in place.
        return lambda module, inputs, output: found.update({name: output.clone()})

    modules = dict(model.named_modules())
    hooks = [modules[name].register_forward_hook(keep(name)) for name in names]
    try:
        with torch.no_grad():
            found["logits"] = model(x)
    except (RuntimeError, ValueError):
        pass  # the picture was too small for what came next
    finally:
        for hook in hooks:
            hook.remove()
    return found


# Features


def test_features_are_torchvisions(reference: tuple[str, nn.Module]) -> None:
    name, model = reference
    image = torch.rand(1, 3, 80, 96)
    network = Classifier([*layer_names(name), "logits"], model.state_dict(), name=name)
    expected = recorded(model, layer_names(name), normalised(name, image))
    found = network(image)
    assert list(found) == list(expected) == [*layer_names(name), "logits"]
    for layer in found:
        assert expected[layer].std() > 1e-3, layer
        assert (found[layer] - expected[layer]).norm() < 1e-4 * expected[layer].norm(), layer
    assert found["logits"].shape == (1, 1000)


def test_smallest_sides_are_where_torchvision_begins_to_work(reference: tuple[str, nn.Module]) -> None:
    name, model = reference
    for side in sorted({smallest_side(name, [layer]) for layer in layer_names(name)}):
        enough = recorded(model, layer_names(name), torch.rand(1, 3, side, 96))
        assert [layer for layer in layer_names(name) if smallest_side(name, [layer]) <= side] == [
            layer for layer in enough if layer != "logits"
        ]
        if side > 1:
            less = recorded(model, layer_names(name), torch.rand(1, 3, 96, side - 1))
            assert [layer for layer in layer_names(name) if smallest_side(name, [layer]) < side] == list(less)


def test_vgg_layers_and_logits() -> None:
    torch.manual_seed(0)
    reference = torchvision.models.vgg16(weights=None, init_weights=False).eval()
    weights = reference.state_dict()
    layers = ["conv1_1", "relu1_1", "relu5_3", "logits"]
    image = torch.rand(1, 3, 32, 40)
    found = Classifier(layers, weights, name="vgg16")(image)
    with torch.no_grad():
        logits = reference(normalised("vgg16", image))
    torch.testing.assert_close(found["logits"], logits)
    for layer, features in LossNetwork(layers[:3], weights)(image).items():
        torch.testing.assert_close(found[layer], features)


def test_vgg_names_and_sizes() -> None:
    assert BACKBONES == ("vgg16", "vgg19", "inception_v3", "googlenet", "resnet50")
    for name in ("vgg16", "vgg19"):
        assert layer_names(name) == LAYERS[name]
        for layer in ("conv1_1", "relu2_2", "conv5_1"):
            side = smallest_side(name, ["conv1_1", layer])
            network = LossNetwork([layer], name=name)
            network(torch.rand(1, 3, side, side))
            if side > 1:
                with pytest.raises(RuntimeError, match="too small"):
                    network(torch.rand(1, 3, side - 1, side))
        assert smallest_side(name, ["logits"]) == 32


def test_it_runs_no_deeper_than_it_must(stem: dict[str, Tensor]) -> None:
    assert len(Classifier(["conv1"], stem, name="googlenet").steps) == 1
    network = Classifier(["inception3a", "conv2"], name="googlenet")
    assert [layer for layer in network._names if layer] == ["conv1", "conv2", "conv3", "inception3a"]
    ran = []
    for index, step in enumerate(network.steps):
        step.register_forward_hook(lambda module, inputs, output, index=index: ran.append(index))
    assert list(network(torch.rand(1, 3, 32, 32), ["conv2"])) == ["conv2"]
    assert ran == [0, 1, 2]


def test_it_is_frozen_lets_gradients_through_and_has_no_state(stem: dict[str, Tensor]) -> None:
    network = Classifier(["conv1"], stem, name="googlenet")
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not network.train().training and not any(module.training for module in network.modules())
    assert nn.ModuleDict({"dream": network}).state_dict() == {}
    before = {key: tensor.clone() for key, tensor in stem.items()}
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    features = network(image)["conv1"]
    assert features.is_contiguous(memory_format=torch.channels_last)
    features.sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert all(torch.equal(stem[key], before[key]) for key in stem)


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [
        ("googlenet", ["inception4"], r"googlenet has no layer 'inception4': did you mean inception4"),
        ("inception_v3", ["relu4_3"], r"inception_v3 has no layer 'relu4_3': it has Conv2d_1a_3x3, "),
        ("vgg16", ["logit"], r"did you mean logits\?"),
        ("resnet50", [], "name at least one layer of resnet50"),
        ("inception", ["Mixed_5b"], r"network 'inception' is unknown: did you mean inception_v3\?"),
        ("alexnext", ["conv1"], "take one of vgg16, vgg19, "),
    ],
)
def test_unknown_names_are_answered_with_what_there_is(name: str, layers: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_backbone(name, layers, "none.pth")
    assert "\n" not in str(caught.value)


def test_too_small_a_picture_is_one_line(stem: dict[str, Tensor]) -> None:
    network = Classifier(["conv1", "inception3a"], name="googlenet")
    assert list(network(torch.rand(1, 3, 1, 1), ["conv1"])) == ["conv1"]
    message = "40 x 6 pixels are too few for inception3a of googlenet, which needs 7 x 7: take a larger picture or a "
    with pytest.raises(ImageError, match=f"^{message}shallower layer$"):
        network(torch.rand(1, 3, 6, 40))


# Files of weights


def same_stem(network: LossNetwork | Classifier, stem: dict[str, Tensor]) -> bool:
    assert isinstance(network, Classifier)
    own = nn.Module.state_dict(network)
    return all(torch.equal(own[key.replace("conv1", "steps.0")], tensor) for key, tensor in stem.items())


@pytest.mark.parametrize("modern", [True, False])
def test_files_of_torch_old_and_new(modern: bool, tmp_path: Path, stem: dict[str, Tensor]) -> None:
    file = tmp_path / "own.pth"
    extras = {"conv1.bn.num_batches_tracked": torch.tensor(7), "aux1.fc2.bias": torch.zeros(9)}
    torch.save(stem | extras, file, _use_new_zipfile_serialization=modern)
    assert same_stem(open_backbone("googlenet", ["conv1"], file), stem)


def test_a_file_as_published_loads(tmp_path: Path) -> None:
    model, file = torchvisions("googlenet"), tmp_path / "googlenet.pth"
    assert any(key.startswith("aux1.") for key in model.state_dict())
    torch.save(model.state_dict(), file)
    image = torch.rand(1, 3, 64, 64)
    logits = open_backbone("googlenet", ["logits"], str(file))(image)["logits"]
    with torch.no_grad():
        expected = model(normalised("googlenet", image))
    assert (logits - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04rest", b"\x80\x03}q", b"<html>404</html>"])
def test_rubbish_is_one_line(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "rubbish.pth"
    file.write_bytes(data)
    message = f"^{file} is damaged or holds more than tensors: name torchvision's resnet50 .pth with --weights FILE$"
    with pytest.raises(WeightsError, match=message):
        open_backbone("resnet50", ["relu"], file)


def test_files_that_do_not_fit(tmp_path: Path, stem: dict[str, Tensor]) -> None:
    file = tmp_path / "own.pth"
    torch.save(stem, file)
    with pytest.raises(WeightsError, match=r"own.pth has no tensor conv1.weight, which resnet50 needs: name "):
        open_backbone("resnet50", ["relu"], file)
    torch.save(stem | {"conv1.bn.bias": torch.zeros(3)}, file)
    with pytest.raises(WeightsError, match=r"own.pth holds conv1.bn.bias of shape \(3,\) where googlenet has \(64,\)"):
        open_backbone("googlenet", ["conv1"], file)
    with pytest.raises(WeightsError, match=r"none.pth does not exist: name torchvision's googlenet .pth with "):
        open_backbone("googlenet", ["conv1"], tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        open_backbone("googlenet", ["conv1"], tmp_path)


def test_vggs_are_loss_networks_unless_they_classify(tmp_path: Path) -> None:
    file = tmp_path / "vgg16.pth"
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in LossNetwork(["relu5_3"]).features.state_dict().items()}
    # One stored number each: the file stays small.
    torch.save({f"features.{key}": torch.tensor(0.5).expand(shape) for key, shape in shapes.items()}, file)
    network = open_backbone("vgg16", ["relu1_1"], file)
    assert isinstance(network, LossNetwork)
    assert torch.equal(nn.Module.state_dict(network)["features.0.weight"], torch.full((64, 3, 3, 3), 0.5))
    with pytest.raises(WeightsError, match=r"vgg16.pth has no tensor classifier.0.weight, which vgg16 needs: name "):
        open_backbone("vgg16", ["relu1_1", "logits"], file)


# Where they come from


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stem: dict[str, Tensor]) -> Path:
    """torchvision's file on a host that is a folder here, named with its digest; torch's own folder is empty."""
    plain = tmp_path / "plain.pth"
    torch.save(stem, plain)
    file = plain.rename(tmp_path / f"googlenet-{hashlib.sha256(plain.read_bytes()).hexdigest()[:8]}.pth")
    weights = {"IMAGENET1K_V1": SimpleNamespace(url=file.as_uri())}
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: weights)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return file


def test_download_goes_to_torchs_own_folder_once(host: Path, tmp_path: Path, stem: dict[str, Tensor]) -> None:
    seen: list[tuple[str, int, int]] = []
    size = host.stat().st_size
    assert same_stem(open_backbone("googlenet", ["conv1"], on_progress=lambda *step: seen.append(step)), stem)
    assert seen[-1][1:] == (size, size)
    host.unlink()
    assert same_stem(open_backbone("googlenet", ["conv1"]), stem)
    assert [file.name for file in (tmp_path / "hub" / "checkpoints").iterdir()] == [host.name]


def test_damaged_download_is_fetched_again(
    host: Path, tmp_path: Path, stem: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    kept = tmp_path / "hub" / "checkpoints" / host.name
    kept.parent.mkdir(parents=True)
    kept.write_bytes(host.read_bytes()[:-9])
    with caplog.at_level(logging.WARNING, "faststyle"):
        assert same_stem(open_backbone("googlenet", ["conv1"]), stem)
    assert f"{kept} is damaged" in caplog.text and kept.read_bytes() == host.read_bytes()


def test_failed_downloads_are_one_line_and_leave_nothing(host: Path, tmp_path: Path) -> None:
    def interrupt(source: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_backbone("googlenet", ["conv1"], on_progress=interrupt)
    host.write_bytes(host.read_bytes()[:-9])
    remedy = f"download {host.as_uri()} elsewhere and name it with --weights FILE$"
    with pytest.raises(WeightsError, match=f"^no weights for googlenet: .* is incomplete or changed .*: {remedy}"):
        open_backbone("googlenet", ["conv1"])
    host.unlink()
    with pytest.raises(WeightsError, match=f"^no weights for googlenet: .*No such file.*: {remedy}") as caught:
        open_backbone("googlenet", ["conv1"])
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "hub" / "checkpoints").iterdir()) == []


def test_folder_that_cannot_be_written_is_named(host: Path, tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("")
    with pytest.raises(WeightsError, match=r"cannot keep the weights in .*checkpoints \(.*\): set TORCH_HOME to "):
        open_backbone("googlenet", ["conv1"])


# Classes


def test_classes_by_name_and_number() -> None:
    names = categories()
    assert len(names) == 1000 and names[281] == "tabby" and names[0] == "tench"
    assert class_index("tabby cat") == 281 and class_index("tiger cat") == names.index("tiger cat")
    assert (class_index("tabby"), class_index(" TABBY "), class_index("281")) == (281, 281, 281)
    assert class_index("golden Retriever") == names.index("golden retriever")
    assert (class_index("Cardigan"), class_index("cardigan")) == (264, 474)
    unique = [name for name in names if names.count(name) == 1]
    assert [class_index(name) for name in unique] == [names.index(name) for name in unique]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1000", "there is no class 1000: take a number from 0 to 999"),
        ("CARDIGAN", r"more than one class 'CARDIGAN': give its number, 264 \(Cardigan\) or 474 \(cardigan\)"),
        ("tabbi", r"there is no class 'tabbi': did you mean tabby"),
        ("golden retreiver", r"did you mean golden retriever"),
        ("cat", r"did you mean tiger cat or Persian cat or Siamese cat or Egyptian cat or Madagascar cat\?"),
        ("terrier", r"did you mean (\w+ [\w ]*terrier or ){4}\w+ [\w ]*terrier\?"),
        ("qqqq", "take one of ImageNet's 1000 names, such as tabby"),
        ("", "such as tabby"),
    ],
)
def test_other_classes_are_answered_with_near_ones(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        class_index(text)
    assert "\n" not in str(caught.value)
