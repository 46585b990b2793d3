"""The loss network: named layers, torchvision's numbering, frozen, absent from checkpoints."""

from __future__ import annotations

import pytest
import torch
import torchvision

from faststyle.errors import ConfigError
from faststyle.nets.lossnet import LAYERS, LossNetwork


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_features_are_torchvisions(name):
    torch.manual_seed(0)
    reference = getattr(torchvision.models, name)(weights=None).eval()
    weights = {key: value for key, value in reference.state_dict().items() if key.startswith("features.")}
    relus = [layer for layer in LAYERS[name] if layer.startswith("relu")]
    image = torch.rand(1, 3, 32, 32)
    found = LossNetwork(relus, weights, name=name)(image)
    x = (image - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        1, 3, 1, 1
    )
    expected = []
    for layer in reference.features:
        # torchvision's ReLUs work in place; the loss network's must not, or conv1_1 would turn into relu1_1.
        x = layer(x.clone())
        if isinstance(layer, torch.nn.ReLU):
            expected.append(x)
    assert list(found) == relus
    for ours, theirs in zip(found.values(), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_it_is_cut_at_the_deepest_layer():
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in LossNetwork(["relu2_2", "relu1_1"]).features) == 4
    shallow = LossNetwork(["relu1_1", "relu4_3"])(torch.rand(1, 3, 16, 16), ["relu1_1"])
    assert list(shallow) == ["relu1_1"]


def test_conv_and_relu_are_told_apart():
    found = LossNetwork(["conv1_1", "relu1_1"])(torch.rand(1, 3, 16, 16))
    assert torch.equal(found["relu1_1"], found["conv1_1"].relu())
    assert found["conv1_1"].min() < 0


def test_it_is_frozen_and_lets_gradients_through():
    network = LossNetwork(["relu2_2"])
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not network.train().training
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    network(image)["relu2_2"].sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0


def test_it_has_no_state_to_save():
    assert torch.nn.ModuleDict({"loss": LossNetwork(["relu1_1"])}).state_dict() == {}


@pytest.mark.parametrize(
    ("layers", "name", "message"),
    [
        (["relu4_4"], "vgg16", "did you mean relu4_"),
        (["block"], "vgg16", "it has conv1_1"),
        ([], "vgg16", "at least one"),
        (["relu1_1"], "vgg13", "vgg16"),
    ],
)
def test_unknown_names_are_answered_with_what_there_is(layers, name, message):
    with pytest.raises(ConfigError, match=message):
        LossNetwork(layers, name=name)
