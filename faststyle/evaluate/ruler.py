"""What pictures are judged by: content and style loss toward one painting, as training computes them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faststyle.config import PerceptualConfig
from faststyle.errors import ConfigError, ModelError, WeightsError
from faststyle.images import scale_short_side, without_grain
from faststyle.losses import LossTerms, PerceptualLoss, gram_matrix
from faststyle.modelcard import ModelCard
from faststyle.nets.lossnet import LossNetwork
from faststyle.optimize.pixels import to_tensor
from faststyle.optimize.transforms import Objective

__all__ = ["Ruler", "loss_settings"]


def loss_settings(card: ModelCard | None) -> PerceptualConfig:
    """The settings that a model was trained with, by its card; the defaults where it says nothing of them.

    Raises ModelError for a card with settings that do not hold.
    """
    known = {item.name for item in fields(PerceptualConfig)}
    try:
        values = {key: value for key, value in (card.loss if card else {}).items() if key in known}
        if "style_layers" in values:
            values["style_layers"] = tuple(values["style_layers"])
        return PerceptualConfig(**values)
    except (ConfigError, TypeError, AttributeError) as error:
        raise ModelError(f"the model's card has damaged loss settings ({error}): export the model again") from None


class Ruler:
    """Judges pictures by content loss + style_weight x style loss, float32, toward one painting.

    Nothing else counts: neither lattice nor total variation, which say how a network was trained and not what a picture
    is like. `painting` is uint8 H x W x 3; its short side is scaled to `style_size`, whatever the size of the pictures,
    and its grain taken away by `style_median`.
    `network` must have been opened with the layers of `loss`. Raises WeightsError where the network's features are not
    finite.
    """

    digest: str
    """Changes with everything that the losses depend on: settings, painting, the network's weights."""
    device: torch.device
    """Where it computes."""

    def __init__(self, painting: NDArray[np.uint8], loss: PerceptualConfig, network: LossNetwork) -> None:
        self._network, self._content_layer = network, loss.content_layer
        self.device = network.mean.device
        style = without_grain(scale_short_side(painting, loss.style_size), loss.style_median)
        with torch.no_grad():
            features = network(to_tensor(style, self.device), loss.style_layers)
            grams = {layer: gram_matrix(features[layer]) for layer in loss.style_layers}
        if not all(bool(gram.isfinite().all()) for gram in grams.values()):
            raise WeightsError("the loss network's features are not finite: check its weights with faststyle weights")
        self._criterion = PerceptualLoss(grams, loss.content_layer, loss.style_weight)
        about = [loss.loss_network, loss.content_layer, loss.style_layers, loss.style_weight, style.shape]
        digest = hashlib.sha256(json.dumps(about).encode())
        digest.update(style.tobytes())
        for name, tensor in network.features.state_dict().items():
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        self.digest = digest.hexdigest()

    def against(self, photo: NDArray[np.uint8]) -> Objective:
        """A function from a picture, 1 x 3 x H x W in [0, 1], to its losses as a repainting of `photo`.

        `photo` is uint8 H x W x 3 of the same size, at least 32 pixels a side.
        """
        with torch.no_grad():
            content = self._network(to_tensor(photo, self.device), (self._content_layer,))[self._content_layer]

        def objective(image: Tensor) -> LossTerms:
            return self._criterion(image, self._network(image), content)

        return objective
