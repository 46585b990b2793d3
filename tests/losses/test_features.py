"""Losses on features, recomputed from first principles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from faststyle.losses import (
    content_loss,
    evenness_loss,
    gram_matrix,
    mean_loss,
    style_loss,
    texture_energies,
    texture_target,
    textures_between,
)


@pytest.fixture
def features() -> torch.Tensor:
    return torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def rand(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_gram_matrix_is_the_mean_product_of_channels(features):
    gram = gram_matrix(features)
    for n in range(2):
        for i in range(3):
            for j in range(3):
                product = sum(features[n, i, y, x] * features[n, j, y, x] for y in range(4) for x in range(5))
                assert gram[n, i, j].item() == pytest.approx(product.item() / (3 * 4 * 5), rel=1e-5)


def test_gram_matrix_of_half_precision_does_not_overflow():
    assert torch.isfinite(gram_matrix(torch.full((1, 4, 64, 64), 200.0, dtype=torch.float16))).all()


def test_gram_matrix_does_not_depend_on_the_size_of_a_repeated_picture(features):
    assert torch.allclose(gram_matrix(features), gram_matrix(features.repeat(1, 1, 2, 3)))


def test_content_loss_is_the_mean_square_against_the_targets(features):
    target = features.flip(0)
    expected = sum(((features[n] - target[n]) ** 2).mean() / (target[n] ** 2).mean() for n in range(2)) / 2
    assert content_loss(features, target).item() == pytest.approx(expected.item(), rel=1e-5)
    assert content_loss(target, target) == 0
    assert content_loss(torch.zeros_like(target), target).item() == pytest.approx(1)


@pytest.mark.parametrize(("stride", "side"), [(2, 16), (4, 8), (16, 2)])
def test_texture_energies_are_the_variances_within_windows(stride, side):
    features = rand(2, 3, 30, 41)
    found = texture_energies(features, stride)
    for n in range(2):
        energies = []
        for y in range(0, 30 - side + 1, side // 2):
            for x in range(0, 41 - side + 1, side // 2):
                window = features[n, :, y : y + side, x : x + side].double().numpy()
                energies.append(window.var((1, 2)).mean())
        expected = np.sort(np.log(np.array(energies) + 1e-3 * np.mean(energies)))
        assert found[n].numpy() == pytest.approx(expected, abs=1e-3)


def test_texture_of_what_is_flat_or_small_has_a_slope_nevertheless():
    for features in (torch.ones(1, 3, 16, 16), torch.zeros(1, 3, 1, 2), rand(1, 3, 5, 40)):
        features.requires_grad_()
        loss = evenness_loss(texture_energies(features, 4), texture_target(rand(1, 3, 40, 30, seed=2), 4))
        (slope,) = torch.autograd.grad(loss, features)
        assert loss.isfinite() and slope.isfinite().all()


def test_evenness_is_the_distance_of_two_distributions():
    features = rand(1, 4, 40, 40) * torch.linspace(0.2, 2, 40)
    energies = texture_energies(features, 4)
    assert evenness_loss(energies, energies) == 0
    assert evenness_loss(energies, energies + 0.5).item() == pytest.approx(0.5)
    assert evenness_loss(texture_energies(features.flip(2, 3), 4), energies) < 1e-5, "wherever it is"
    # A ramp of other length is the same distribution.
    assert evenness_loss(torch.linspace(0, 1, 9)[None], torch.linspace(0, 1, 100)[None]) == pytest.approx(0, abs=1e-6)


def test_patches_and_bare_parts_are_uneven():
    painting = rand(1, 4, 48, 48, seed=1)
    target = texture_target(painting, 4)
    everywhere, patches = rand(1, 4, 48, 48, seed=2), rand(1, 4, 48, 48, seed=2) * 0.2
    patches[..., :24, :24] *= 10  # as much in all: 0.75 x 0.04 + 0.25 x 4 = 1.03
    assert evenness_loss(texture_energies(everywhere, 4), target) < 0.2
    assert evenness_loss(texture_energies(patches, 4), target) > 1


def test_a_target_has_less_spread_than_the_painting():
    painting = rand(2, 4, 60, 60) * torch.linspace(0.1, 3, 60)
    energies, target = texture_energies(painting, 4), texture_target(painting, 4)
    assert target.shape == (2, 64) and (target.diff(dim=1) >= 0).all()
    assert (target[:, -1] - target[:, 0]).numpy() == pytest.approx(0.4 * np.ptp(energies.numpy(), 1), rel=1e-4)
    middle = energies.median(1).values
    assert target.median(1).values.numpy() == pytest.approx(middle.numpy(), abs=0.05)


def test_a_single_window_aims_at_the_middle():
    target = torch.tensor([[0.0, 1.0, 4.0, 5.0, 9.0]])
    assert evenness_loss(torch.tensor([[4.0]]), target) == 0


def test_textures_between_a_photo_and_a_painting():
    photo, target = texture_energies(rand(1, 3, 30, 30), 4), texture_target(rand(1, 3, 50, 40, seed=2) * 3, 4)
    assert textures_between(photo, target, 0.0).equal(photo)
    assert evenness_loss(textures_between(photo, target, 1.0), target) == pytest.approx(0, abs=1e-6)
    half = evenness_loss(photo, textures_between(photo, target, 0.5))
    assert half.item() == pytest.approx(evenness_loss(photo, target).item() / 2, rel=1e-4)


def test_style_loss_is_balanced():
    gram, target = rand(2, 5, 5, seed=1), rand(1, 5, 5, seed=2)
    expected = sum(((g - target[0]) ** 2).sum() / ((g**2).sum() + (target[0] ** 2).sum()) for g in gram) / 2
    assert style_loss(gram, target).item() == pytest.approx(expected.item(), rel=1e-5)
    assert style_loss(target, target) == 0
    assert style_loss(gram, target).item() == pytest.approx(style_loss(gram * 1000, target * 1000).item(), rel=1e-4)
    assert 0 <= style_loss(torch.zeros_like(target), target) <= 1


def test_style_loss_has_no_gradient_through_its_denominator():
    gram, target = rand(1, 4, 4).requires_grad_(), rand(1, 4, 4, seed=2)
    style_loss(gram, target).backward()
    size = (target**2).sum() + (gram.detach() ** 2).sum()
    assert gram.grad is not None
    assert torch.allclose(gram.grad, 2 * (gram.detach() - target) / size)


def test_mean_loss_by_hand():
    features = torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]]])  # means 2 and 1
    assert mean_loss(features, torch.tensor([[2.0, 1.0]])) == 0
    assert mean_loss(features, torch.tensor([[4.0, 1.0]])).item() == pytest.approx(4 / (5 + 17))
    assert mean_loss(features, torch.zeros(1, 2)) == 1


def test_means_tell_glaring_patches_from_what_lies_everywhere():
    everywhere = rand(1, 4, 8, 8)
    patches = torch.zeros_like(everywhere)
    patches[..., :2, :] = 2 * everywhere[..., :2, :]  # a quarter of the picture, twice as strong
    gram = gram_matrix(everywhere)
    assert style_loss(gram_matrix(patches), gram) < 0.01
    assert mean_loss(patches, everywhere.mean((2, 3))) > 0.1


def test_gram_matrix_of_a_region_is_that_of_its_pixels_alone():
    features = rand(1, 5, 6, 8)
    left = torch.zeros(1, 1, 6, 8)
    left[..., :4] = 1
    masks = torch.cat([left, 1 - left])
    found = gram_matrix(features, masks)
    expected = [gram_matrix(features[..., :4])[0], gram_matrix(features[..., 4:])[0]]
    assert torch.allclose(found, torch.stack(expected), atol=1e-6)
    assert torch.allclose(gram_matrix(features, torch.ones(1, 1, 12, 16)), gram_matrix(features), atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_slope_of_a_gram_matrix_is_autograds(layout, kind):
    torch.manual_seed(0)
    features = torch.rand(2, 3, 5, 4).to(kind).to(memory_format=layout).requires_grad_()
    towards = torch.rand(2, 3, 3)
    (ours,) = torch.autograd.grad((gram_matrix(features) * towards).sum(), features)
    flat = features.float().flatten(2)
    (theirs,) = torch.autograd.grad((flat @ flat.transpose(1, 2) / 60 * towards).sum(), features)
    assert ours.dtype == kind and ours.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(ours.float(), theirs.float(), rtol=1e-5 if kind == torch.float32 else 1e-2)
