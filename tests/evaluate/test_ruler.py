"""What pictures are judged by, computed once more from first principles."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from faststyle.config import LossConfig, PerceptualConfig
from faststyle.errors import ModelError, WeightsError
from faststyle.evaluate.ruler import Ruler, loss_settings
from faststyle.modelcard import ModelCard
from faststyle.nets.lossnet import LossNetwork
from faststyle.nets.weights import load_weights
from faststyle.optimize.pixels import to_tensor


def features(rgb: Any, weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """relu1_1 and relu1_2 of uint8 H x W x 3, each C x HW, in float64."""
    exact = {name: tensor.double() for name, tensor in weights.items()}
    x = torch.from_numpy(np.array(rgb)).double().permute(2, 0, 1) / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (x - mean.double().view(3, 1, 1)) / deviation.double().view(3, 1, 1)
    first = F.relu(F.conv2d(x[None], exact["features.0.weight"], exact["features.0.bias"], padding=1))
    second = F.relu(F.conv2d(first, exact["features.2.weight"], exact["features.2.bias"], padding=1))
    return first[0].flatten(1), second[0].flatten(1)


def test_the_losses_are_those_of_the_papers_formulas(ruler, photo, painting, random_vgg):
    weights = load_weights("vgg16", random_vgg)
    painted = 255 - photo
    terms = ruler.against(photo)(to_tensor(painted, ruler.device))
    style = Image.fromarray(painting).resize((48, 40), Image.Resampling.LANCZOS)  # short side 40, of 60 x 50
    layers = []
    for ours, theirs in zip(features(painted, weights), features(style, weights), strict=True):
        gram, target = ours @ ours.T / ours.numel(), theirs @ theirs.T / theirs.numel()
        layers.append(float(((gram - target) ** 2).sum() / ((gram**2).sum() + (target**2).sum())))
    before, after = features(photo, weights)[1], features(painted, weights)[1]
    content = float(((before - after) ** 2).mean() / (before**2).mean())
    found = terms.scalars()
    assert found["content"] == pytest.approx(content, rel=1e-4)
    assert [found["style_relu1_1"], found["style_relu1_2"]] == pytest.approx(layers, rel=1e-3)
    assert found["style"] == pytest.approx(sum(layers) / 2, rel=1e-3)
    # Strength 0.25 is a style weight of the root of 10; lattice and total variation do not count.
    assert found["total"] == pytest.approx(content + 10**0.5 * sum(layers) / 2, rel=1e-4)


def test_the_photo_itself_has_no_content_loss_and_the_painting_no_style_loss(shallow, network, photo):
    ruler = Ruler(photo, replace(shallow, style_size=32), network)
    found = ruler.against(photo)(to_tensor(photo, ruler.device)).scalars()
    assert found["content"] == 0 and found["style"] == pytest.approx(0, abs=1e-6)


def test_the_digest_tells_what_the_losses_depend_on(shallow, network, painting, ruler):
    assert Ruler(painting, shallow, network).digest == ruler.digest
    assert Ruler(painting, replace(shallow, tv_weight=3.0), network).digest == ruler.digest
    torch.manual_seed(1)
    others = [
        Ruler(painting[::-1].copy(), shallow, network),
        Ruler(painting, replace(shallow, style_size=41), network),
        Ruler(painting, replace(shallow, style_median=3), network),
        Ruler(painting, replace(shallow, strength=0.3), network),
        Ruler(painting, replace(shallow, style_layers=("relu1_2", "relu1_1")), network),
        Ruler(painting, replace(shallow, content_layer="relu1_1"), network),
        Ruler(painting, shallow, LossNetwork(shallow.style_layers)),
    ]
    assert len({ruler.digest, *(other.digest for other in others)}) == 1 + len(others)


def test_weights_that_are_no_numbers_are_refused(shallow, painting):
    broken = LossNetwork(shallow.style_layers)
    next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(WeightsError, match="not finite: check its weights"):
        Ruler(painting, shallow, broken)


def test_settings_come_from_the_card():
    loss = LossConfig(strength=0.7, style_size=200, style_layers=("relu2_2",), content_layer="relu2_2")
    written = ModelCard.from_metadata(ModelCard(name="wave", loss=asdict(loss)).to_metadata())
    assert loss_settings(written) == PerceptualConfig(0.7, 200, 3, "relu2_2", ("relu2_2",))
    assert loss_settings(ModelCard(name="wave")) == loss_settings(None) == PerceptualConfig()


@pytest.mark.parametrize("loss", [{"strength": 7}, {"style_size": "large"}, {"style_layers": 3}, ["relu1_2"]])
def test_a_damaged_card_is_said(loss):
    with pytest.raises(ModelError, match=r"card has damaged loss settings .*: export the model again"):
        loss_settings(ModelCard(name="wave", loss=loss))
