"""Dreams: octaves, tiles, noise, colours, the endless zoom, and what is refused before the work."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from faststyle.config import DreamConfig
from faststyle.errors import ConfigError, ImageError, OptimizeError
from faststyle.nets.lossnet import LossNetwork
from faststyle.optimize import deepdream as module
from faststyle.optimize import transforms
from faststyle.optimize.deepdream import deepdream, memory_of, octaves_of, targets_of, zoom


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    small = np.random.default_rng(0).integers(40, 216, (7, 9, 3), np.uint8)
    return np.array(Image.fromarray(small).resize((90, 70), Image.Resampling.BICUBIC))


def settings(**changes) -> DreamConfig:
    values: dict[str, Any] = {"layers": ("relu2_2",), "octaves": 2, "steps": 2, "device": "cpu", "precision": "float32"}
    return DreamConfig(**(values | changes))


def dream(photo, config, network, **more) -> NDArray[np.uint8]:
    *_, last = deepdream(photo, config, network=network, **more)
    return last.image()


def test_octaves_grow_by_the_scale_up_to_the_full_size():
    sizes = octaves_of(400, 267, settings(octaves=4, octave_scale=1.4))
    assert sizes == [(round(400 / 1.4**k), round(267 / 1.4**k)) for k in (3, 2, 1, 0)]
    assert octaves_of(90, 70, settings(octaves=1)) == [(90, 70)]


def test_as_many_octaves_as_stay_above_the_smallest():
    for side in (64, 150, 400, 3000):
        shorts = [min(size) for size in octaves_of(2 * side, side, settings(octaves=None))]
        assert shorts[-1] == side
        assert len(shorts) == 1 or shorts[0] >= module.COARSEST
        assert shorts[0] / 1.4 < module.COARSEST


def test_steps_tell_how_far_it_is(photo, network):
    steps = list(deepdream(photo, settings(), network=network))
    assert [step.step for step in steps] == [1, 2, 3, 4] and {step.steps for step in steps} == {4}
    assert [(step.width, step.height) for step in steps] == [(64, 50), (64, 50), (90, 70), (90, 70)]
    small, full = 64 * 50, 90 * 70
    assert [step.fraction for step in steps] == pytest.approx(
        [part / (small + full) for part in (small / 2, small, small + full / 2, small + full)]
    )
    assert all(step.image().shape == photo.shape for step in steps)


def test_the_objective_rises_from_octave_start_to_end(photo, network):
    steps = list(deepdream(photo, settings(steps=6), network=network))
    for octave in (steps[:6], steps[6:]):
        assert octave[-1].losses["relu2_2"] > octave[0].losses["relu2_2"]
        assert octave[0].losses["total"] == -octave[0].losses["relu2_2"]


@pytest.mark.parametrize("changes", [{}, {"smooth": 0.0}, {"keep_colors": True}, {"precision": "bfloat16"}])
def test_equal_seeds_give_equal_bytes(photo, network, changes):
    config = settings(jitter=8, **changes)
    assert np.array_equal(dream(photo, config, network), dream(photo, config, network))
    assert not np.array_equal(
        dream(photo, config, network), dream(photo, settings(jitter=8, seed=1, **changes), network)
    )


def test_only_the_detail_travels_between_octaves(photo, network):
    """Coarse octaves would blur the photo if their pictures were enlarged, not what they add."""
    sharp = np.random.default_rng(1).integers(60, 196, photo.shape, np.uint8)
    result = dream(sharp, settings(octaves=3, step_size=1e-6), network)
    assert np.abs(result.astype(int) - sharp).max() <= 1


def test_the_coarse_octave_reaches_the_result(photo, network, monkeypatch):
    def once(image: Tensor, gradient: object, steps: int, step_size: float):
        if image.shape[3] == 64:
            image += 0.1
        yield {"total": 0.0}

    monkeypatch.setattr(module, "ascent", once)
    result = dream(photo, settings(), network)
    expected = np.clip(photo.astype(int) + 0.1 * 255, 0, 255)
    assert np.abs(result - expected).max() <= 2


def test_large_pictures_are_seen_in_tiles_with_shifts_over_whole_tiles(network, monkeypatch):
    seen: list[tuple[int, int]] = []
    reaches = []

    def jittered(gradient, reach, generator):
        reaches.append(reach)
        return transforms.jittered(gradient, reach, generator)

    monkeypatch.setattr(module, "jittered", jittered)
    photo = np.random.default_rng(0).integers(0, 256, (40, 600, 3), np.uint8)
    config = settings(octaves=2, octave_scale=2.5, steps=1, tile=256, jitter=3, layers=("relu1_2",))
    handle = network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    try:
        with pytest.raises(ConfigError, match="--octaves"):
            deepdream(photo, config, network=network)
        photo = np.random.default_rng(0).integers(0, 256, (100, 600, 3), np.uint8)
        assert dream(photo, config, network).shape == photo.shape
    finally:
        handle.remove()
    assert seen == [(40, 240), (100, 200), (100, 200), (100, 200)]
    assert reaches == [3, 128]


def test_size_scales_up_and_down(photo, network):
    assert dream(photo, settings(size=45, octaves=1), network).shape == (35, 45, 3)
    assert dream(photo, settings(size=135, octaves=1), network).shape == (105, 135, 3)


@pytest.mark.parametrize(("height", "width"), [(40, 200), (200, 40)])
def test_elongated_photos(network, height, width):
    photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    steps = list(deepdream(photo, settings(octaves=None), network=network))
    assert [(step.width, step.height) for step in steps] == [(width, height)] * 2
    assert steps[-1].image().shape == photo.shape and steps[1].losses["relu2_2"] > steps[0].losses["relu2_2"]


def test_noise_is_square_seeded_and_without_grain(network):
    first = dream("noise", settings(size=64, step_size=1e-6), network)
    assert first.shape == (64, 64, 3)
    assert np.array_equal(first, dream("noise", settings(size=64, step_size=1e-6), network))
    assert not np.array_equal(first, dream("noise", settings(size=64, step_size=1e-6, seed=1), network))
    levels = first.astype(float)
    assert 20 < levels.std() < 45 and abs(levels.mean() - 127.5) < 10
    assert np.abs(np.diff(levels, axis=0)).mean() < levels.std() / 3


def test_colours_are_kept_within_a_level(photo, network):
    config = settings(step_size=0.02, keep_colors=True)
    result = dream(photo, config, network)
    yiq = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    before, after = photo @ yiq.T, result @ yiq.T
    assert np.abs(after - before)[..., 1:].max() <= 1
    assert np.abs(after - before)[..., 0].mean() > 1
    free = dream(photo, settings(step_size=0.02), network) @ yiq.T
    assert np.abs(free - before)[..., 1:].max() > 3


def follows(picture: NDArray[np.uint8], guide: NDArray[np.uint8], network: LossNetwork) -> float:
    """How far a picture follows a guide: the mean over relu1_2's positions of the largest dot product with a feature
    of the guide, over the guide's mean square feature."""
    with torch.no_grad():
        found, wanted = (
            network(torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255)["relu1_2"][0].flatten(1)
            for rgb in (picture, guide)
        )
    return float((wanted.T @ found).amax(0).mean() / wanted.square().sum(0).mean())


def test_guides_differ(photo, network):
    """Each dream follows its own guide: further than it follows the other, than the other's dream and the photo do."""
    red, cyan = (np.full((40, 40, 3), color, np.uint8) for color in ((255, 0, 0), (0, 255, 255)))
    config = settings(layers=("relu1_2",), octaves=1, steps=6, step_size=0.02)
    reddish, bluish = (dream(photo, config, network, guide=guide) for guide in (red, cyan))
    for guide, other, own, others in ((red, cyan, reddish, bluish), (cyan, red, bluish, reddish)):
        assert follows(own, guide, network) > 1.05 * follows(own, other, network)
        assert follows(own, guide, network) > 1.05 * follows(others, guide, network)
        assert follows(own, guide, network) > 1.5 * follows(photo, guide, network)


def test_a_zoom_keeps_means_and_deviations(photo, network):
    config = settings(step_size=0.02)
    frames = list(zoom(photo, config, 5, network=network))
    assert len(frames) == 5 and all(frame.shape == photo.shape and frame.dtype == np.uint8 for frame in frames)
    assert np.array_equal(frames[0], dream(photo, config, network))
    for one, other in itertools.pairwise(frames):
        assert not np.array_equal(one, other)
        assert np.abs(other.mean((0, 1)) - frames[0].mean((0, 1))).max() < 2
        assert np.abs(other.std((0, 1)) - frames[0].std((0, 1))).max() < 2


def test_a_zoom_goes_in(photo):
    bright = np.zeros((60, 60, 3), np.uint8)
    bright[20:40, 20:40] = 200
    tensor = torch.from_numpy(bright).permute(2, 0, 1)[None].float() / 255
    larger = module._enlarged(tensor)
    assert larger.shape == tensor.shape
    assert float(larger.mean() / tensor.mean()) == pytest.approx(module.ZOOM**2, abs=0.02)
    assert torch.allclose(larger, larger.flip(2), atol=1e-5) and torch.allclose(larger, larger.flip(3), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "guided", "message"),
    [
        ({"layers": ("relu4_9",)}, False, "did you mean relu4_"),
        ({"layers": ("relu2_2:x",)}, False, "NAME"),
        ({"layers": ("logits",)}, False, "--class"),
        ({"layers": ("relu2_2:3",)}, True, "without a channel"),
        ({"layers": (), "class_name": "tabby"}, True, "--guide and --class"),
        ({"layers": (), "class_name": "tabbi"}, False, "did you mean"),
    ],
)
def test_targets_that_cannot_be(changes, guided, message):
    with pytest.raises(ConfigError, match=message) as caught:
        targets_of(settings(**changes), guided)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ("relu2_2:128",)}, "relu2_2 has channels 0 to 127"),
        ({"layers": ("relu3_3",)}, "opened without relu3_3"),
        ({"octaves": 9}, "--octaves 9 would start below 32"),
        ({"device": "cuda:99"}, "--device cuda:99"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_the_first_step(photo, network, changes, message):
    with pytest.raises(ConfigError, match=message):
        deepdream(photo, settings(**changes), network=network)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 31),
        ("octaves", 0),
        ("octave_scale", 1.0),
        ("steps", 0),
        ("step_size", 0.0),
        ("jitter", -1),
        ("smooth", -0.5),
        ("tile", 100),
        ("seed", -1),
    ],
)
def test_values_out_of_range_name_their_flag(field, value):
    with pytest.raises(ConfigError, match=f"--{field.replace('_', '-')} must"):
        DreamConfig(**{field: value})


def test_a_class_excludes_layers():
    with pytest.raises(ConfigError, match="--class and --layer"):
        DreamConfig(class_name="tabby", layers=("relu4_3",))


def test_too_small_a_picture(network):
    with pytest.raises(ImageError, match="short side would have 20 pixels"):
        deepdream(np.zeros((20, 90, 3), np.uint8), settings(), network=network)


def test_too_little_memory_is_said_before_the_start(photo, network, monkeypatch):
    monkeypatch.setattr("faststyle.optimize.memory._available", lambda device: 1_000_000)
    with pytest.raises(OptimizeError, match="--size or --tile"):
        deepdream(photo, settings(), network=network)


def test_memory_follows_the_tile_not_the_picture():
    large = memory_of(4000, 3000, DreamConfig())
    assert large < 4 * 2**30
    assert large - memory_of(512, 512, DreamConfig()) < 200 * 4000 * 3000


@pytest.mark.parametrize(
    ("frames", "changes", "message"), [(0, {}, "--zoom must"), (3, {"keep_colors": True}, "--keep-colors and --zoom")]
)
def test_zooms_that_cannot_be(photo, network, frames, changes, message):
    with pytest.raises(ConfigError, match=message):
        zoom(photo, settings(**changes), frames, network=network)
