"""Gatys style transfer with random weights: the objective falls, masks and colours hold, equal seeds, equal bytes."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from faststyle.colors import LUMA
from faststyle.config import GatysConfig, PerceptualConfig
from faststyle.errors import ConfigError, ImageError, OptimizeError
from faststyle.losses import content_loss, gram_matrix, style_loss
from faststyle.nets.lossnet import LossNetwork
from faststyle.optimize import memory
from faststyle.optimize.gatys import gatys, memory_of, scales_of
from faststyle.optimize.pixels import Step, to_tensor

LOSS = PerceptualConfig(style_layers=("relu1_2", "relu2_2"), content_layer="relu2_2", style_size=48)


def smooth(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    return smooth(48, 64, 1)


@pytest.fixture(scope="module")
def painting() -> NDArray[np.uint8]:
    stripes = np.indices((60, 50)).sum(0)[..., None] * np.array([29, 15, 3]) % 256
    return np.asarray(stripes, np.uint8)


def settings(**changes: Any) -> GatysConfig:
    values: dict[str, Any] = {"steps": 5, "scales": 1, "device": "cpu", "precision": "float32", "loss": LOSS}
    return GatysConfig(**(values | changes))


def paint(photo: Any, styles: Any, network: LossNetwork, *, init: Any = "content", masks: Any = (), **changes: Any):
    """The losses of every step, and the last picture."""
    steps = list(gatys(photo, styles, settings(**changes), init=init, masks=masks, network=network))
    return [step.losses for step in steps], steps[-1].image()


def test_the_paintings_grain_is_taken_away_where_that_is_asked(photo, network):
    painting = smooth(48, 60, 2)
    painting[::5, ::5] = 255
    clean = np.array(Image.fromarray(painting).filter(ImageFilter.MedianFilter(3)))
    grainy, asked, before = (
        paint(photo, [style], network, loss=replace(LOSS, style_median=side))[0]
        for style, side in ((painting, 1), (painting, 3), (clean, 1))
    )
    assert asked == before != grainy


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize(
    "init", ["content", "noise", "style", smooth(20, 30, 7)], ids=["content", "noise", "style", "picture"]
)
@pytest.mark.parametrize("keep_colors", [None, "luminance", "histogram"])
def test_the_total_falls_in_five_steps(photo, painting, network, optimizer, init, keep_colors):
    losses, image = paint(photo, [painting], network, init=init, optimizer=optimizer, keep_colors=keep_colors)
    assert losses[-1]["total"] < losses[0]["total"]
    assert image.shape == photo.shape and image.dtype == np.uint8


def test_the_losses_are_those_that_training_reports(photo, painting, network):
    """Recomputed from the functions of `losses` for the photo itself, which the optimisation starts from."""
    losses, _ = paint(photo, [painting], network, init=smooth(48, 64, 3), steps=1)
    device = torch.device("cpu")
    style = np.array(Image.fromarray(painting).resize((48, round(60 * 48 / 50)), Image.Resampling.LANCZOS))
    with torch.no_grad():
        found, wanted = network(to_tensor(smooth(48, 64, 3), device)), network(to_tensor(photo, device))
        target = network(to_tensor(style, device))
    layers = {layer: float(style_loss(gram_matrix(found[layer]), gram_matrix(target[layer]))) for layer in found}
    content = float(content_loss(found["relu2_2"], wanted["relu2_2"]))
    assert losses[0]["style_relu1_2"] == pytest.approx(layers["relu1_2"], rel=1e-4)
    assert losses[0]["content"] == pytest.approx(content, rel=1e-4)
    assert losses[0]["total"] == pytest.approx(content + 10 * sum(layers.values()) / 2, rel=1e-4)


def test_equal_seeds_give_equal_bytes_and_others_do_not(photo, painting, network):
    first, second, other = (
        paint(photo, [painting], network, init="noise", seed=seed, scales=None, size=200, steps=2)[1]
        for seed in (3, 3, 4)
    )
    assert first.tobytes() == second.tobytes() != other.tobytes()


def test_coarse_to_fine_works_through_the_sizes_and_shows_the_full_one(photo, painting, network):
    steps: list[Step] = []
    for step in gatys(photo, [painting], settings(size=256, scales=3, steps=2), network=network):
        steps.append(step)
        assert step.image().shape == (192, 256, 3)
    assert [step.step for step in steps] == list(range(7)) and steps[-1].steps == 6
    sizes = [(64, 48)] * 3 + [(128, 96)] * 2 + [(256, 192)] * 2
    assert [(step.width, step.height) for step in steps] == sizes
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1


def test_the_detail_of_the_photo_comes_with_the_finer_scale(network):
    """A photo that is its own style stays as it is, though the coarser scale cannot hold its one-pixel stripes."""
    stripes = np.where(np.arange(192)[None, :, None] % 2, 200, 60).astype(np.uint8).repeat(192, 0).repeat(3, 2)
    loss = PerceptualConfig(style_layers=("relu1_2",), content_layer="relu1_2", style_size=192, strength=0)
    _, image = paint(stripes, [stripes], network, scales=2, steps=1, loss=loss)
    assert np.abs(image.astype(int) - stripes).mean() < 6


def test_noise_is_there_once_not_anew_at_each_scale(photo, painting, network):
    """The finer scale starts from the enlarged result of the coarser: noise of its own size would be left in it."""
    coarse: list[NDArray[Any]] = []
    fine: list[NDArray[Any]] = []
    for step in gatys(photo, [painting], settings(size=128, scales=2), init="noise", network=network):
        (coarse if step.width == 64 else fine).append(step.image().astype(int))
    assert np.abs(fine[0] - coarse[-1]).mean() < 1  # L-BFGS's first step is a small one
    assert grain(fine[0]) < 1.1 * grain(coarse[-1])
    alone = next(gatys(photo, [painting], settings(size=128), init="noise", network=network)).image()
    assert grain(alone) > 3 * grain(coarse[0])


def grain(rgb: NDArray[Any]) -> float:
    """How much neighbours differ from what lies between the ones beyond them: the finest detail alone."""
    return float(np.abs(np.diff(rgb.astype(int), 2, axis=1)).mean())


@pytest.mark.parametrize("scales", [1, 2])
def test_a_function_makes_the_start_from_the_photo_in_the_full_size(photo, painting, network, scales):
    seen = []

    def negative(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        seen.append(rgb)
        return 255 - rgb

    first = next(gatys(photo, [painting], settings(size=128, scales=scales), init=negative, network=network))
    full = np.array(Image.fromarray(photo).resize((128, 96), Image.Resampling.LANCZOS))
    assert len(seen) == 1 and np.array_equal(seen[0], full)
    assert np.array_equal(first.image(), 255 - full)


@pytest.mark.parametrize(
    ("init", "width"), [("content", 128), ("noise", 128), ("style", 128), (smooth(20, 30, 7), 256), (np.fliplr, 256)]
)
def test_only_a_start_without_large_shapes_is_worked_through_from_coarse_to_fine(photo, painting, network, init, width):
    first = next(gatys(photo, [painting], settings(size=256, scales=None), init=init, network=network))
    assert first.width == width


def test_scales():
    config = GatysConfig()
    assert scales_of(4000, 3000, config) == [(128, 96), (256, 192), (512, 384)]
    assert scales_of(300, 200, config) == [(150, 100), (300, 200)]
    assert scales_of(300, 200, GatysConfig(size=600))[-1] == (600, 400)
    assert scales_of(300, 200, GatysConfig(scales=1)) == scales_of(300, 200, config, whole=True) == [(300, 200)]
    assert len(scales_of(300, 200, GatysConfig(scales=2), whole=True)) == 2
    with pytest.raises(ConfigError, match="--scales 5"):
        scales_of(300, 200, GatysConfig(scales=5))
    with pytest.raises(ImageError, match="raise --size"):
        scales_of(1000, 20, config)


def test_outside_its_mask_a_style_changes_nothing(photo, painting, network):
    mask = np.zeros((48, 64, 3), np.uint8)
    mask[:, :20], mask[:, 20:30] = 255, 128
    losses, image = paint(photo, [painting], network, masks=[mask])
    assert losses[-1]["total"] < losses[0]["total"]
    assert np.array_equal(image[:, 30:], photo[:, 30:])
    change = np.abs(image.astype(int) - photo)
    assert change[:, :20].mean() > 2 and 0 < change[:, 20:30].mean() <= 128


@pytest.mark.parametrize("init", ["content", "noise"])
def test_at_a_coarser_scale_too_the_picture_shows_the_photo_outside_the_mask(painting, network, init):
    photo, mask = smooth(96, 128, 1), np.zeros((96, 128, 3), np.uint8)
    mask[:, :63] = 255  # no edge of the coarser scale's pixels
    for step in gatys(photo, [painting], settings(scales=2), init=init, masks=[mask], network=network):
        image = step.image()
        assert image.shape == photo.shape
        assert np.array_equal(image[:, 63:], photo[:, 63:])
    assert step.step == 10 and np.abs(image[:, :63].astype(int) - photo[:, :63]).mean() > 2


def test_each_region_takes_its_own_style(photo, painting, network):
    """Far from the border the left half does not notice which style the right half has."""
    left = np.zeros((48, 64, 3), np.uint8)
    left[:, :32] = 255
    far = slice(0, 12)  # relu2_2 sees 7 pixels to each side
    results = [
        paint(photo, [painting, other], network, masks=[left, 255 - left], optimizer="adam")[1]
        for other in (smooth(50, 50, 5), smooth(40, 60, 6))
    ]
    # Not to the last bit: the left style's statistics include pixels at the border, which the other style moves too.
    assert np.abs(results[0][:, far].astype(int) - results[1][:, far]).mean() < 0.5
    assert np.abs(results[0][:, 32:].astype(int) - results[1][:, 32:]).mean() > 1


def test_several_styles_mix_by_their_weights(photo, painting, network):
    other = smooth(50, 50, 5)
    alone = paint(photo, [painting], network)[1]
    assert np.array_equal(paint(photo, [painting, other], network, style_weights=(1.0, 0.0))[1], alone)
    assert not np.array_equal(paint(photo, [painting, other], network)[1], alone)


def chrominance(rgb: NDArray[np.uint8]) -> Any:
    """What is left of each channel without the luminance, in levels."""
    return rgb - (rgb @ np.array(LUMA))[..., None]


def test_luminance_transfer_keeps_every_pixels_chrominance(photo, painting, network):
    _, image = paint(photo, [painting], network, keep_colors="luminance")
    assert np.abs(image.astype(int) - photo).mean() > 2
    assert np.abs(chrominance(image) - chrominance(photo)).max() <= 1


def test_histogram_matching_paints_with_the_photos_colours(photo, network):
    orange = np.clip(smooth(50, 60, 2) * 0.3 + np.array([170, 90, 0]), 0, 255).astype(np.uint8)
    matched = paint(photo, [orange], network, keep_colors="histogram", steps=20)[1]
    plain = paint(photo, [orange], network, steps=20)[1]
    off = [np.abs(image.mean((0, 1)) - photo.mean((0, 1))).max() for image in (matched, plain)]
    assert off[0] < 10 < off[1]


def test_bfloat16_comes_near(photo, painting, network):
    exact, rough = (paint(photo, [painting], network, precision=name)[0] for name in ("float32", "bfloat16"))
    assert rough[0]["total"] == pytest.approx(exact[0]["total"], rel=0.01)  # of the same picture
    assert rough[-1]["total"] < 1.2 * exact[-1]["total"] < exact[0]["total"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"styles": []}, ConfigError, "at least one style"),
        ({"style_weights": (1.0, 2.0)}, ConfigError, "2 values for 1 style"),
        ({"masks": [np.full((8, 8, 3), 9, np.uint8)] * 2}, ConfigError, "2 masks for 1 style"),
        ({"masks": [np.full((8, 8, 3), 9, np.uint8)], "style_weights": (1.0,)}, ConfigError, "exclude each other"),
        ({"masks": [np.zeros((48, 64, 3), np.uint8)]}, ImageError, "black all over"),
        ({"init": "missing.png"}, ImageError, "missing.png does not exist"),
        ({"init": np.zeros((8, 8), np.uint8)}, ImageError, "uint8 H x W x 3"),
        ({"device": "cuda:99"}, ConfigError, "--device cuda:99"),
        ({"device": "abacus"}, ConfigError, "--device abacus"),
    ],
)
def test_bad_input_is_refused_before_the_first_step(photo, painting, network, changes, error, message):
    values = {"styles": [painting], "init": "content", "masks": ()} | changes
    styles, init, masks = values.pop("styles"), values.pop("init"), values.pop("masks")
    with pytest.raises(error, match=message) as caught:
        gatys(photo, styles, settings(**values), init=init, masks=masks, network=network)
    assert "\n" not in str(caught.value)


def test_a_mask_of_another_size_is_scaled_with_a_note(photo, painting, network, caplog):
    with caplog.at_level(logging.INFO, "faststyle"):
        paint(photo, [painting], network, masks=[np.full((20, 20, 3), 255, np.uint8)], steps=1)
    assert caplog.messages == ["mask 1 is 20 x 20 and the photo 64 x 48: the mask is scaled to fit"]


def test_too_little_memory_is_said_before_the_start(photo, painting, network, monkeypatch):
    monkeypatch.setattr(memory, "_available", lambda device: 10**8)
    with pytest.raises(OptimizeError, match="choose a smaller --size"):
        gatys(photo, [painting], settings(), network=network)


def test_adam_takes_less_memory():
    assert memory_of(512, 512, GatysConfig(optimizer="adam")) < memory_of(512, 512, GatysConfig())
