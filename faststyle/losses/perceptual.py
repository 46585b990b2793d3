"""The perceptual loss: all terms of one evaluation and their weighted total."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from faststyle.losses.features import (
    content_loss,
    evenness_loss,
    gram_matrix,
    mean_loss,
    stride_of,
    style_loss,
    texture_energies,
)
from faststyle.losses.pixels import (
    chequer_loss,
    color_loss,
    color_moments,
    lattice_loss,
    light_loss,
    seam_loss,
    total_variation,
)

__all__ = ["LossTerms", "PerceptualLoss"]

SCREENS = 0.4
"""Weight of seams, screens and chequerboards within the lattice term."""


@dataclass(frozen=True)
class LossTerms:
    """One evaluation of a PerceptualLoss: unweighted terms, the style term by layer, and the weighted total."""

    content: Tensor
    style: Tensor
    evenness: Tensor
    means: Tensor
    colors: Tensor
    light: Tensor
    lattice: Tensor
    total_variation: Tensor
    style_layers: dict[str, Tensor]
    total: Tensor
    shift: Tensor | None = None
    """Only where a network was asked for a second picture, of the photo moved."""

    def with_shift(self, shift: Tensor, weight: float) -> LossTerms:
        """The same evaluation with the shift loss in its total."""
        return replace(self, shift=shift, total=self.total + weight * shift)

    def scalars(self) -> dict[str, float]:
        """All terms as floats, the layers' style losses as `style_relu4_3` and so on."""
        terms = {
            "total": self.total,
            "content": self.content,
            "style": self.style,
            "evenness": self.evenness,
            "means": self.means,
            "colors": self.colors,
            "light": self.light,
            "lattice": self.lattice,
            "total_variation": self.total_variation,
        }
        if self.shift is not None:
            terms["shift"] = self.shift
        terms.update({f"style_{layer}": value for layer, value in self.style_layers.items()})
        return {name: float(value.detach()) for name, value in terms.items()}


@dataclass(frozen=True)
class PerceptualLoss:
    """Content + style_weight x (style + mean_weight x means + evenness_weight x evenness + color_weight x colors) +
    light_weight x light + lattice_weight x lattice + tv_weight x total variation.

    The style term is the mean of the layers' Gram losses, the means term that of their mean losses; in the total layers
    count by their `layer_weights`, alike where there are none. `style_grams` holds the style image's Gram matrices, 1 x
    C x C each, `style_means` its channels' means in the same layers, 1 x C each, `style_textures` its texture energies
    in some of them (`texture_target`), 1 x any number each, `style_colors` its colours' moments, 1 x K x 3 x 4, or N of
    each for a batch of pictures with a style each; a term without its target is 0, light without the photo. `masks`, R
    x 1 x H x W in [0, 1], gives each region of one image a style of its own: the matrices are then R x C x C, and a
    region counts by its share of the picture.
    """

    style_grams: Mapping[str, Tensor]
    content_layer: str
    style_weight: float
    layer_weights: Mapping[str, float] = field(default_factory=dict)
    style_means: Mapping[str, Tensor] = field(default_factory=dict)
    mean_weight: float = 0.0
    style_textures: Mapping[str, Tensor] = field(default_factory=dict)
    evenness_weight: float = 0.0
    style_colors: Tensor | None = None
    color_weight: float = 0.0
    light_weight: float = 0.0
    lattice_weight: float = 0.0
    tv_weight: float = 0.0
    masks: Tensor | None = None

    def __call__(
        self, image: Tensor, features: Mapping[str, Tensor], target: Tensor, photo: Tensor | None = None
    ) -> LossTerms:
        """Judge a stylized `image` by its `features`; `target` are the photo's at the content layer.

        The light of the image is compared with that of the `photo` itself.
        """
        shares = None if self.masks is None else self.masks.mean((1, 2, 3))
        layers = {
            layer: style_loss(gram_matrix(features[layer], self.masks), target, shares)
            for layer, target in self.style_grams.items()
        }
        style = torch.stack(list(layers.values()))
        means = torch.zeros_like(style)
        colors = evenness = light = style.new_zeros(())
        if self.style_means:
            means = torch.stack([mean_loss(features[layer], self.style_means[layer]) for layer in layers])
        if self.style_textures:
            evenness = torch.stack(
                [
                    evenness_loss(texture_energies(features[layer], stride_of(features[layer], image)), texture)
                    for layer, texture in self.style_textures.items()
                ]
            ).mean()
        if self.style_colors is not None:
            colors = color_loss(color_moments(image), self.style_colors)
        if photo is not None:
            light = light_loss(image, photo)
        content = content_loss(features[self.content_layer], target)
        with _slopes_for(self.lattice_weight):
            lattice = lattice_loss(image) + SCREENS * (seam_loss(image) + chequer_loss(image))
        with _slopes_for(self.tv_weight):
            variation = total_variation(image)
        weights = style.new_tensor([self.layer_weights[layer] if self.layer_weights else 1.0 for layer in layers])
        strokes = (weights * (style + self.mean_weight * means)).sum() / weights.sum()
        strokes = strokes + self.evenness_weight * evenness + self.color_weight * colors
        total = content + self.style_weight * strokes + self.light_weight * light
        total = total + self.lattice_weight * lattice + self.tv_weight * variation
        return LossTerms(
            content, style.mean(), evenness, means.mean(), colors, light, lattice, variation, layers, total
        )


def _slopes_for(weight: float) -> torch.set_grad_enabled:
    """What counts for nothing is reported, and not differentiated."""
    return torch.set_grad_enabled(torch.is_grad_enabled() and weight > 0)
