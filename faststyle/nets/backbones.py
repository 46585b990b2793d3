"""Networks to dream on, by name: the LossNetwork, or a torchvision classifier that is called in the same way."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from faststyle.errors import ConfigError, ImageError, ModelError, WeightsError
from faststyle.nets.fetch import Progress, UnavailableError, published, torchvision_url
from faststyle.nets.lossnet import LAYERS, LossNetwork, distinct_layers
from faststyle.nets.weights import UnusableError, checked, load_weights, opened, read_torch

__all__ = [
    "BACKBONES",
    "Classifier",
    "categories",
    "class_index",
    "layer_names",
    "open_backbone",
    "smallest_side",
]

# For each layer, shallow to deep and under torchvision's name, the shortest side of a picture that reaches it. Shorter
# ones shrink to nothing in a pooling, or in a convolution without padding, before it.
_SMALLEST: dict[str, dict[str, int]] = {
    **{name: {layer: 2 ** (int(layer[4]) - 1) for layer in layers} | {"logits": 32} for name, layers in LAYERS.items()},
    "inception_v3": {
        "Conv2d_1a_3x3": 3,
        **dict.fromkeys(("Conv2d_2a_3x3", "Conv2d_2b_3x3"), 7),
        "Conv2d_3b_1x1": 11,
        "Conv2d_4a_3x3": 19,
        **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), 27),
        **dict.fromkeys(("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), 43),
        **dict.fromkeys(("Mixed_7a", "Mixed_7b", "Mixed_7c", "logits"), 75),
    },
    "googlenet": {
        "conv1": 1,
        **dict.fromkeys(("conv2", "conv3"), 3),
        **dict.fromkeys(("inception3a", "inception3b"), 7),
        **dict.fromkeys((f"inception4{letter}" for letter in "abcde"), 15),
        **dict.fromkeys(("inception5a", "inception5b", "logits"), 15),
    },
    # Padded everywhere; `relu` is the stem's end, before its pooling.
    "resnet50": {
        "relu": 1,
        **{f"layer{stage}.{block}": 1 for stage, depth in enumerate((3, 4, 6, 3), 1) for block in range(depth)},
        "logits": 1,
    },
}

BACKBONES: tuple[str, ...] = tuple(_SMALLEST)
"""Names of the networks that can be dreamed on."""

# Google's networks were trained on [-1, 1]. With its own weights torchvision wants ImageNet's normalisation all the
# same and turns it into [-1, 1] inside (`transform_input`); the two together are this mean and deviation.
_PLUS_MINUS_ONE = ("inception_v3", "googlenet")


def layer_names(name: str) -> tuple[str, ...]:
    """The layers of a network that can be dreamed on, shallow to deep; raises ConfigError for an unknown network."""
    return tuple(_layers(name))[:-1]


def smallest_side(name: str, layers: Iterable[str]) -> int:
    """The shortest side in pixels of a picture that reaches every one of the layers, of which "logits" may be one."""
    return _layers(name)[_deepest(name, layers)]


class Classifier(nn.Module):
    """A torchvision classifier of ImageNet, cut at the deepest layer asked for, frozen.

    Called like the LossNetwork: N x 3 x H x W in [0, 1] gives a dict of the named layers' features; mean and deviation
    are its own business. The layer "logits", N x 1000, is the classifier's verdict before the softmax. `weights` holds
    torchvision's tensors; None leaves random weights, for tests. Raises ConfigError for a layer that the network does
    not have, with the nearest name, UnusableError where the weights do not fit and ImageError for too small a picture.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: Iterable[str], weights: Mapping[str, Tensor] | None = None, *, name: str) -> None:
        super().__init__()
        self.name = name
        self.layers = distinct_layers(name, _layers(name), layers)
        # With weights to come, nothing is initialised, nor held in memory twice.
        with torch.device("cpu" if weights is None else "meta"):
            chain = _chain(name)
        del chain[1 + [layer for layer, _, _ in chain].index(_deepest(name, self.layers)) :]
        if weights is not None:
            _load(chain, weights, name)
        self._names = tuple(layer for layer, _, _ in chain)
        self.steps = nn.Sequential(*(step for _, _, step in chain))
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        if name in _PLUS_MINUS_ONE:
            mean = std = (0.5, 0.5, 0.5)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.requires_grad_(False)
        self.eval()
        self.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> Classifier:
        """Stay in evaluation mode, whatever a surrounding module switches to."""
        return super().train(False)

    def forward(self, image: Tensor, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Features of the network's layers, or of those of them named in `layers`: it runs no deeper than it must."""
        wanted = set(self.layers if layers is None else layers)
        height, width = image.shape[-2:]
        if min(height, width) < (side := smallest_side(self.name, wanted)):
            raise ImageError(
                f"{width} x {height} pixels are too few for {_deepest(self.name, wanted)} of {self.name}, which needs "
                f"{side} x {side}: take a larger picture or a shallower layer"
            )
        x = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        found: dict[str, Tensor] = {}
        for layer, step in zip(self._names, self.steps, strict=True):
            x = step(x)
            if layer in wanted:
                found[layer] = x
                if len(found) == len(wanted):
                    break
        return found

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Empty, like the LossNetwork's: frozen weights have no place in a checkpoint."""
        return {}


def open_backbone(
    name: str, layers: Iterable[str], file: str | Path | None = None, on_progress: Progress | None = None
) -> LossNetwork | Classifier:
    """A network with trained weights that returns the named layers: a LossNetwork for a VGG without "logits".

    Weights come from `file`, else for a LossNetwork as `load_weights` says, else from torch's own download folder,
    which torchvision's host fills. Raises ConfigError for unknown names and WeightsError where weights are not to be
    had or do not fit.
    """
    layers = distinct_layers(name, _layers(name), layers)
    if name in LAYERS and "logits" not in layers:
        return LossNetwork(layers, load_weights(name, file, on_progress), name=name)
    path = Path(file) if file is not None else _published(name, on_progress or (lambda source, done, total: None))
    try:
        with opened(path) as data:
            weights = read_torch(data)
        return Classifier(layers, weights, name=name)
    except UnusableError as error:
        raise WeightsError(f"{path} {error}: name torchvision's {name} .pth with --weights FILE") from None


def categories() -> list[str]:
    """Names of ImageNet's 1000 classes in the order of the logits; all the networks share them."""
    return list(_torchvision().ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def class_index(text: str) -> int:
    """The class that a name, in upper or lower case, or a number from 0 to 999 stands for.

    torchvision keeps only the first of ImageNet's synonyms, "tabby" of "tabby, tabby cat": so that "tabby cat" is
    understood, a cat or dog at the end of a name counts only where it makes a class. Raises ConfigError with the names
    that come near.
    """
    names = categories()
    lower = [name.casefold() for name in names]
    text = text.strip()
    shorter, _, kind = text.rpartition(" ")
    if text.casefold() not in lower and kind.casefold() in ("cat", "dog") and shorter.casefold() in lower:
        text = shorter
    if text.isdecimal():
        if int(text) < len(names):
            return int(text)
        raise ConfigError(f"there is no class {text}: take a number from 0 to {len(names) - 1}")
    if names.count(text) == 1:
        return names.index(text)
    wanted = text.casefold()
    same = [index for index, name in enumerate(lower) if name == wanted]
    if len(same) > 1:  # the jacket and the dog, both cardigans
        raise ConfigError(
            f"there is more than one class {text!r}: give its number, "
            + " or ".join(f"{index} ({names[index]})" for index in same)
        )
    if same:
        return same[0]
    near = [names[lower.index(name)] for name in _near(wanted, lower)]
    hint = f"did you mean {' or '.join(near)}?" if near else "take one of ImageNet's 1000 names, such as tabby"
    raise ConfigError(f"there is no class {text!r}: {hint}")


def _near(wanted: str, names: list[str]) -> list[str]:
    """Up to five names: those with the wanted words in them, those with a part of them, or else those spelt alike."""
    if not wanted:
        return []
    held = [name for name in names if wanted in name]
    whole = re.compile(rf"\b{re.escape(wanted)}\b")
    held.sort(key=lambda name: whole.search(name) is None)
    inside = [name for name in names if re.search(rf"\b{re.escape(name)}\b", wanted)]
    return (held + inside or difflib.get_close_matches(wanted, names, 5))[:5]


def _layers(name: str) -> dict[str, int]:
    if name not in _SMALLEST:
        near = difflib.get_close_matches(name, BACKBONES, 1)
        hint = f"did you mean {near[0]}?" if near else f"take one of {', '.join(BACKBONES)}"
        raise ConfigError(f"network {name!r} is unknown: {hint}")
    return _SMALLEST[name]


def _deepest(name: str, layers: Iterable[str]) -> str:
    known = tuple(_layers(name))
    return max(distinct_layers(name, known, layers), key=known.index)


def _torchvision() -> ModuleType:
    """torchvision's models, imported late: dreams on VGG features do without, and start a second sooner."""
    try:
        from torchvision import models
    except ImportError:
        remedy = "pip install 'faststyle-onnx[train]'"
        raise ModelError(f"classifiers need torchvision, which is not installed: {remedy}") from None
    return models  # type: ignore[no-any-return]


def _chain(name: str) -> list[tuple[str, str, nn.Module]]:
    """The classifier as the chain that it is at heart, each step with our layer's name, or "", and torchvision's."""
    google = {"aux_logits": False, "init_weights": False} if name in _PLUS_MINUS_ONE else {}
    model = _torchvision().get_model(name, weights=None, **google)
    steps: list[tuple[str, nn.Module]] = []
    for key, child in model.named_children():
        if isinstance(child, nn.Sequential):
            steps += [(f"{key}.{index}", step) for index, step in enumerate(child)]
        else:
            steps.append((key, child))
        if key == "avgpool":
            steps.append(("flatten", nn.Flatten()))
    for _, step in steps:
        if isinstance(step, nn.ReLU):
            step.inplace = False  # in a VGG it would overwrite the convolution before it, which is a layer too
    if name in LAYERS:
        features = [key for key, step in steps if isinstance(step, (nn.Conv2d, nn.ReLU)) and "features" in key]
        layers = dict(zip(features, LAYERS[name], strict=True))
    else:
        layers = {key: key for key in _layers(name)}
    layers[steps[-1][0]] = "logits"
    return [(layers.get(key, ""), key, step) for key, step in steps]


def _load(chain: list[tuple[str, str, nn.Module]], weights: Mapping[str, Tensor], name: str) -> None:
    """Put the tensors that the steps need, and no others, in the place of theirs."""
    shapes = {
        f"{key}.{part}": tuple(tensor.shape)
        for _, key, step in chain
        for part, tensor in step.state_dict().items()
        if not part.endswith("num_batches_tracked")  # old files have none, and nothing here reads it
    }
    tensors = checked(weights, shapes, name)
    for _, key, step in chain:
        own = {part: tensors.get(f"{key}.{part}", torch.tensor(0)) for part in step.state_dict()}
        step.load_state_dict(own, assign=True)


def _published(name: str, on_progress: Progress) -> Path:
    """torchvision's file in torch's own download folder, fetched if it is missing."""
    source = f"torchvision's {name} .pth"
    try:
        source = torchvision_url(name)
        return published(source, on_progress)
    except UnavailableError as error:
        remedy = f"download {source} elsewhere and name it with --weights FILE"
        raise WeightsError(f"no weights for {name}: {error}: {remedy}") from None
    except OSError as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise WeightsError(
            f"cannot keep the weights in {folder} ({error.strerror or error}): set TORCH_HOME to a folder with room to "
            f"write, or name torchvision's {name} .pth with --weights FILE"
        ) from None
