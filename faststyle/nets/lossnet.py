"""The LossNetwork: a frozen VGG whose named layers training, Gatys optimisation and DeepDream read."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from faststyle.errors import ConfigError

__all__ = ["LAYERS", "LossNetwork", "check_layers", "distinct_layers"]

# Convolutions of each of the five stages; Simonyan and Zisserman 2015, configurations D and E.
_STAGES = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)

LAYERS: dict[str, tuple[str, ...]] = {
    name: tuple(
        f"{kind}{stage}_{index}"
        for stage, depth in enumerate(depths, 1)
        for index in range(1, depth + 1)
        for kind in ("conv", "relu")
    )
    for name, depths in _STAGES.items()
}
"""Layer names of each network, shallow to deep: conv1_1, relu1_1, conv1_2, ..."""


def distinct_layers(name: str, known: Collection[str], layers: Iterable[str]) -> tuple[str, ...]:
    """The layers without repetition; raises ConfigError for one that the network does not have, or for none."""
    layers = tuple(dict.fromkeys(layers))
    for layer in layers:
        if layer not in known:
            near = difflib.get_close_matches(layer, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
            raise ConfigError(f"{name} has no layer {layer!r}: {hint}")
    if not layers:
        raise ConfigError(f"name at least one layer of {name}")
    return layers


def check_layers(opened: Iterable[str], layers: Iterable[str]) -> None:
    """Raise ConfigError where a network that a caller opened and handed in lacks a layer that is needed."""
    if missing := sorted(set(layers) - set(opened)):
        raise ConfigError(f"the network handed in was opened without {', '.join(missing)}: open it with all the layers")


class LossNetwork(nn.Module):
    """VGG-16 or VGG-19 without its classifier, cut at the deepest layer asked for, frozen.

    Called with N x 3 x H x W in [0, 1]; returns a dict of the named layers' features. The ImageNet mean and deviation
    are its own business. `weights` holds torchvision's `features.*` tensors; None leaves random weights, for tests of
    the maths. Raises ConfigError for a layer the network does not have, with the nearest name.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, layers: Iterable[str], weights: Mapping[str, Tensor] | None = None, *, name: str = "vgg16"
    ) -> None:
        super().__init__()
        if name not in _STAGES:
            raise ConfigError(f"loss network {name!r} is unknown: take one of {', '.join(_STAGES)}")
        known = LAYERS[name]
        self.layers = distinct_layers(name, known, layers)
        deepest = max(known.index(layer) for layer in self.layers)
        # Numbered as in torchvision's `features`, pooling included, so that its weights load by name.
        self.features = nn.Sequential()
        self._names: dict[int, str] = {}
        inputs, seen = 3, -1
        for stage, (depth, width) in enumerate(zip(_STAGES[name], _WIDTHS, strict=True), 1):
            for index in range(1, depth + 1):
                for kind in ("conv", "relu"):
                    seen += 1
                    if seen <= deepest:
                        self._names[len(self.features)] = f"{kind}{stage}_{index}"
                        self.features.append(nn.Conv2d(inputs, width, 3, padding=1) if kind == "conv" else nn.ReLU())
                inputs = width
            if seen < deepest:
                self.features.append(nn.MaxPool2d(2))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        if weights is not None:
            self.features.load_state_dict({key: weights[f"features.{key}"] for key in self.features.state_dict()})
        self.requires_grad_(False)
        self.eval()
        # 10 % faster forward and backward on the CPU, and what tensor cores want.
        self.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> LossNetwork:
        """Stay in evaluation mode, whatever a surrounding module switches to."""
        return super().train(False)

    def forward(self, image: Tensor, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Features of the network's layers, or of those of them named in `layers`: it runs no deeper than it must."""
        wanted = set(self.layers if layers is None else layers)
        x = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        found: dict[str, Tensor] = {}
        for index, layer in enumerate(self.features):
            x = layer(x)
            if (name := self._names.get(index)) in wanted:
                found[name] = x
                if len(found) == len(wanted):
                    break
        return found

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Empty: frozen weights of 30 to 80 MB have no place in a checkpoint."""
        return {}
