"""Toward what: the things a dream can bring out in a picture, each a number that is to rise.

A layer, one of its channels, the features of a guide image, or a class of ImageNet; several add up by their weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from faststyle.errors import ConfigError
from faststyle.nets.backbones import Classifier
from faststyle.nets.devices import reduced
from faststyle.nets.lossnet import LossNetwork

__all__ = [
    "DreamObjective",
    "DreamTerms",
    "Goal",
    "Target",
    "channel_goal",
    "class_goal",
    "guide_goal",
    "layer_goal",
    "parse_targets",
]

LOGITS = "logits"
"""The layer that holds a classifier's verdict, one channel to a class."""
_TINY = 1e-12
_CHUNK = 1 << 24
"""Dot products that are held at once while a guide is matched: 64 MB."""


@dataclass(frozen=True)
class Target:
    """A layer to bring out, or one of its channels, and how much it counts."""

    layer: str
    channel: int | None = None
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read NAME[:CHANNEL][=WEIGHT], such as `relu4_3`, `relu4_3:123` or `relu4_3=0.5`; raises ConfigError."""
        rest, equals, weight = text.partition("=")
        layer, colon, channel = rest.partition(":")
        try:
            target = cls(layer, int(channel) if colon else None, float(weight) if equals else 1.0)
        except ValueError:
            target = None
        if target is None or not layer or (target.channel or 0) < 0:
            raise ConfigError(f"--layer {text!r} is not of the form NAME[:CHANNEL][=WEIGHT], such as relu4_3:123=0.5")
        if not (target.weight > 0 and math.isfinite(target.weight)):
            raise ConfigError(f"--layer {text!r}: a weight must be above 0")
        return target

    @property
    def name(self) -> str:
        """What the losses call it: `relu4_3` or `relu4_3:123`."""
        return self.layer if self.channel is None else f"{self.layer}:{self.channel}"


def parse_targets(texts: Iterable[str]) -> tuple[Target, ...]:
    """Read several targets; raises ConfigError for one that is none, or that is named twice."""
    targets = tuple(map(Target.parse, texts))
    names = [target.name for target in targets]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--layer names {name} twice: name it once, with a weight such as {name}=2")
    return targets


@dataclass(frozen=True)
class Goal:
    """A number that is to rise: `measure` takes it from the features of one layer, 1 x C x h x w or 1 x C."""

    name: str
    layer: str
    measure: Callable[[Tensor], Tensor]
    weight: float = 1.0


@dataclass(frozen=True)
class DreamTerms:
    """One evaluation of a DreamObjective: the goals' unweighted values by name, and minus their weighted sum."""

    values: dict[str, Tensor]
    total: Tensor

    def scalars(self) -> dict[str, float]:
        """All as floats, the total first."""
        return {"total": float(self.total.detach())} | {
            name: float(value.detach()) for name, value in self.values.items()
        }


@dataclass(frozen=True)
class DreamObjective:
    """Minus the weighted sum of the goals, so that what minimises it makes them rise; takes 1 x 3 x H x W in [0, 1].

    The network computes in `precision`, the goals in float32.
    """

    network: LossNetwork | Classifier
    goals: Sequence[Goal]
    precision: torch.dtype = torch.float32

    def __call__(self, image: Tensor) -> DreamTerms:
        with reduced(image.device, self.precision):
            features = self.network(image, {goal.layer for goal in self.goals})
        values = {goal.name: goal.measure(features[goal.layer].float()) for goal in self.goals}
        total = -torch.stack([goal.weight * values[goal.name] for goal in self.goals]).sum()
        return DreamTerms(values, total)


def layer_goal(target: Target) -> Goal:
    """All that a layer sees: the logarithm of its features' mean square.

    Mordvintsev et al. 2015 maximise the square itself. The slope has the same direction, but layers whose features
    differ in size by orders weigh alike.
    """
    return Goal(target.name, target.layer, lambda features: _mean_square(features).log(), target.weight)


def channel_goal(target: Target) -> Goal:
    """What one channel sees: its mean over the layer's root mean square, which counts as a constant.

    Where a channel behind a ReLU is 0 all over there is no slope, and the picture stays as it is.
    """
    channel = target.channel

    def measure(features: Tensor) -> Tensor:
        return features[:, channel].mean() / _mean_square(features).sqrt().detach()

    return Goal(target.name, target.layer, measure, target.weight)


def guide_goal(target: Target, guide: Tensor) -> Goal:
    """What a guide image shows: at each position the dot product with the guide's most similar feature, their mean.

    `guide` holds its features, 1 x C x h x w. Most similar is the largest dot product, chosen anew at each step; the
    choice counts as a constant (the guided dream of Mordvintsev et al. 2015). Divided by the guide's mean square
    feature: 1 is about as much as in the guide itself.
    """
    vectors = guide.detach().float()[0].flatten(1)
    size = vectors.square().sum(0).mean().clamp_min(_TINY)

    def measure(features: Tensor) -> Tensor:
        found = features[0].flatten(1)
        matches = vectors[:, _nearest(found.detach(), vectors)]
        return (found * matches).sum(0).mean() / size

    return Goal(f"guide {target.name}", target.layer, measure, target.weight)


def class_goal(name: str, index: int) -> Goal:
    """A class of ImageNet: its logit."""
    return Goal(name, LOGITS, lambda features: features[:, index].mean())


def _mean_square(features: Tensor) -> Tensor:
    return features.square().mean().clamp_min(_TINY)


def _nearest(features: Tensor, vectors: Tensor) -> Tensor:
    """For each column of C x N the column of C x P with the largest dot product; N indices, found in chunks."""
    chunk = max(1, _CHUNK // vectors.shape[1])
    return torch.cat([(vectors.T @ part).argmax(0) for part in torch.split(features, chunk, 1)])
