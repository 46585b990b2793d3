"""What a dream is to bring out: parsed, measured, and rising."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from faststyle.errors import ConfigError
from faststyle.nets.backbones import Classifier
from faststyle.nets.lossnet import LossNetwork
from faststyle.optimize import objectives
from faststyle.optimize.loops import ascent
from faststyle.optimize.objectives import (
    DreamObjective,
    Goal,
    Target,
    channel_goal,
    class_goal,
    guide_goal,
    layer_goal,
    parse_targets,
)
from faststyle.optimize.transforms import gradient_of


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("relu4_3", Target("relu4_3", None, 1.0)),
        ("relu4_3:123", Target("relu4_3", 123, 1.0)),
        ("relu4_3=2", Target("relu4_3", None, 2.0)),
        ("layer3.2:0=0.5", Target("layer3.2", 0, 0.5)),
    ],
)
def test_a_target_is_read(text, target):
    assert Target.parse(text) == target


@pytest.mark.parametrize(
    "text", ["", ":3", "=2", "relu4_3:", "relu4_3:x", "relu4_3:-1", "relu4_3:1.5", "relu4_3=", "relu4_3=much"]
)
def test_nonsense_is_refused_with_the_form(text):
    with pytest.raises(ConfigError, match=r"NAME\[:CHANNEL\]\[=WEIGHT\]") as caught:
        Target.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf"])
def test_a_weight_is_above_zero(weight):
    with pytest.raises(ConfigError, match="above 0"):
        Target.parse(f"relu4_3={weight}")


def test_a_target_is_named_once():
    assert len(parse_targets(["relu4_3", "relu4_3:1", "relu4_3:2"])) == 3
    with pytest.raises(ConfigError, match="relu4_3 twice"):
        parse_targets(["relu4_3", "relu5_1", "relu4_3=2"])


def test_the_values_are_what_they_say(network, image):
    features = network(image)["relu2_2"]
    guide = torch.rand(1, 128, 3, 5, generator=torch.Generator().manual_seed(2))
    goals = [layer_goal(Target("relu2_2", None, 2.0)), channel_goal(Target("relu2_2", 7))]
    goals.append(guide_goal(Target("relu2_2", None, 0.5), guide))
    terms = DreamObjective(network, goals)(image)
    square = float(features.square().mean())
    layer, channel = math.log(square), float(features[0, 7].mean()) / math.sqrt(square)
    # At every position the guide's vector with the largest product.
    vectors = guide[0].flatten(1).T
    products = vectors @ features[0].flatten(1)
    guided = float(products.max(0).values.mean()) / float(vectors.square().sum(1).mean())
    values = terms.scalars()
    assert list(values) == ["total", "relu2_2", "relu2_2:7", "guide relu2_2"]
    assert values["relu2_2"] == pytest.approx(layer, rel=1e-4)
    assert values["relu2_2:7"] == pytest.approx(channel, rel=1e-4)
    assert values["guide relu2_2"] == pytest.approx(guided, rel=1e-4)
    assert values["total"] == pytest.approx(-(2 * layer + channel + 0.5 * guided), rel=1e-4)


def test_matching_in_chunks_changes_nothing(network, image, monkeypatch):
    guide = network(image.flip(3))["relu2_2"]
    whole = guide_goal(Target("relu2_2"), guide).measure(network(image)["relu2_2"])
    monkeypatch.setattr(objectives, "_CHUNK", 1000)
    assert torch.allclose(guide_goal(Target("relu2_2"), guide).measure(network(image)["relu2_2"]), whole)


def test_a_guide_is_about_one_in_itself(network, image):
    features = network(image)["relu2_2"]
    assert 1 <= float(guide_goal(Target("relu2_2"), features).measure(features)) < 2


def goals_by_name(network: LossNetwork, image: Tensor) -> dict[str, list[Goal]]:
    guide = network(image.flip(2, 3))["relu2_2"]
    return {
        "layer": [layer_goal(Target("relu2_2"))],
        "channel": [channel_goal(Target("relu2_2", 5))],
        "guide": [guide_goal(Target("relu2_2"), guide)],
        "several": [layer_goal(Target("relu2_2", None, 0.5)), layer_goal(Target("relu1_2"))],
    }


@pytest.mark.parametrize("kind", ["layer", "channel", "guide", "several"])
def test_it_rises_in_five_steps(network, image, kind):
    objective = DreamObjective(network, goals_by_name(network, image)[kind])
    before = objective(image).scalars()
    for _ in ascent(image, gradient_of(objective), 5, 0.01):
        pass
    after = objective(image).scalars()
    assert all(after[name] > before[name] for name in before if name != "total")
    assert after["total"] < before["total"]


def test_a_class_rises_in_five_steps(image):
    torch.manual_seed(0)
    objective = DreamObjective(Classifier(["logits"], name="resnet50"), [class_goal("tabby", 281)])
    before = objective(image).scalars()
    for _ in ascent(image, gradient_of(objective), 5, 0.01):
        pass
    assert objective(image).scalars()["tabby"] > before["tabby"]


def test_a_dead_channel_leaves_the_picture_alone(network, image):
    goal = channel_goal(Target("relu2_2", 0))
    dead = Goal(goal.name, goal.layer, lambda features: goal.measure(features * 0))
    start = image.clone()
    for losses in ascent(image, gradient_of(DreamObjective(network, [dead])), 2, 0.01):
        assert losses["total"] == 0
    assert torch.equal(image, start)


def test_a_step_moves_a_pixel_by_the_step_size_on_average(network):
    image = torch.full((1, 3, 32, 32), 0.5)
    calls = []
    gradient = gradient_of(DreamObjective(network, [layer_goal(Target("relu2_2"))]))

    def counted(picture: Tensor) -> tuple[dict[str, float], Tensor]:
        calls.append(picture.clone())
        return gradient(picture)

    for step, _ in enumerate(ascent(image, counted, 3, 0.004), 1):
        assert float((image - calls[-1]).abs().mean()) == pytest.approx(0.004, rel=1e-3)
        assert len(calls) == step
