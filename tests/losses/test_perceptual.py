"""The perceptual loss adds up its terms, recomputed from first principles."""

from __future__ import annotations

import pytest
import torch

from faststyle.losses import (
    PerceptualLoss,
    chequer_loss,
    color_loss,
    color_moments,
    content_loss,
    evenness_loss,
    gram_matrix,
    lattice_loss,
    light_loss,
    mean_loss,
    seam_loss,
    style_loss,
    texture_energies,
    texture_target,
    total_variation,
)


def rand(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_perceptual_loss_adds_its_weighted_terms():
    image = rand(2, 3, 32, 32)
    features = {"a": rand(2, 4, 8, 8, seed=3), "b": rand(2, 6, 4, 4, seed=4)}
    grams = {"a": gram_matrix(rand(1, 4, 9, 9, seed=5)), "b": gram_matrix(rand(1, 6, 5, 5, seed=6))}
    content = rand(2, 6, 4, 4, seed=7)
    criterion = PerceptualLoss(grams, "b", style_weight=10.0, lattice_weight=300.0, tv_weight=2.0)
    terms = criterion(image, features, content)
    style = (
        style_loss(gram_matrix(features["a"]), grams["a"]) + style_loss(gram_matrix(features["b"]), grams["b"])
    ) / 2
    lattice = lattice_loss(image) + 0.4 * (seam_loss(image) + chequer_loss(image))
    total = content_loss(features["b"], content) + 10 * style + 300 * lattice + 2 * total_variation(image)
    assert terms.total.item() == pytest.approx(total.item(), rel=1e-5)
    names = {"total", "content", "style", "evenness", "means", "colors", "light", "lattice", "total_variation"}
    assert set(terms.scalars()) == names | {"style_a", "style_b"}
    assert terms.evenness == terms.means == terms.colors == terms.light == 0
    terms = PerceptualLoss(grams, "b", style_weight=10.0)(image.requires_grad_(), features, content)
    assert terms.lattice == lattice and terms.total_variation == total_variation(image)
    assert not terms.lattice.requires_grad and not terms.total_variation.requires_grad, "what weighs nothing is cheap"


def test_perceptual_loss_of_a_network_has_evenness_means_colors_and_light():
    image = rand(2, 3, 32, 32)
    features = {"a": rand(2, 4, 8, 8, seed=3), "b": rand(2, 6, 4, 4, seed=4)}
    content = rand(2, 4, 8, 8, seed=5)
    painting = {"a": rand(1, 4, 9, 9, seed=7), "b": rand(1, 6, 5, 5, seed=8)}
    grams = {layer: gram_matrix(each) for layer, each in painting.items()}
    means = {layer: each.mean((2, 3)) for layer, each in painting.items()}
    textures = {"b": texture_target(painting["b"], 8)}
    colors = color_moments(rand(1, 3, 40, 48, seed=9))
    shares = {"a": 1.0, "b": 3.0}
    criterion = PerceptualLoss(grams, "a", 10.0, shares, means, 0.5, textures, 0.2, colors, 0.3, 5.0)
    photo = rand(2, 3, 32, 32, seed=10)
    terms = criterion(image, features, content, photo)
    plain = content_loss(features["a"], content)
    uneven = evenness_loss(texture_energies(features["b"], 8), textures["b"])
    a, b = (terms.style_layers[layer] + 0.5 * mean_loss(features[layer], means[layer]) for layer in "ab")
    # What is reported is the plain mean, whatever the layers weigh.
    assert terms.style.item() == pytest.approx(sum(map(float, terms.style_layers.values())) / 2)
    colored = color_loss(color_moments(image), colors)
    total = plain + 10 * ((a + 3 * b) / 4 + 0.2 * uneven + 0.3 * colored) + 5 * light_loss(image, photo)
    assert terms.total.item() == pytest.approx(total.item(), rel=1e-5)
    assert (terms.content.item(), terms.evenness.item()) == pytest.approx((plain.item(), uneven.item()))


@pytest.mark.parametrize(
    "loss",
    [
        content_loss,
        lambda x, t: style_loss(gram_matrix(x), gram_matrix(t)),
        lambda x, t: mean_loss(x, t.mean((2, 3))),
    ],
)
def test_gradients_point_downhill(loss):
    x, target = rand(1, 3, 6, 6).requires_grad_(), rand(1, 3, 6, 6, seed=2)
    before = loss(x, target)
    before.backward()
    assert x.grad is not None
    with torch.no_grad():
        assert loss(x - 1e-2 * x.grad / x.grad.norm(), target) < before


def test_a_region_counts_by_its_share_of_the_picture():
    image, features = rand(1, 3, 32, 32), {"a": rand(1, 4, 8, 8, seed=3)}
    masks = torch.zeros(2, 1, 32, 32)
    masks[0, :, :8], masks[1, :, 8:] = 1, 1
    grams = gram_matrix(rand(2, 4, 9, 9, seed=5))
    terms = PerceptualLoss({"a": grams}, "a", 1.0, masks=masks)(image, features, features["a"])
    each = [style_loss(gram_matrix(features["a"], masks[i : i + 1]), grams[i : i + 1]) for i in (0, 1)]
    assert terms.style.item() == pytest.approx((0.25 * each[0] + 0.75 * each[1]).item(), rel=1e-5)
