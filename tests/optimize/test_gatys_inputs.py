"""What Gatys is given: pictures of odd shapes, masks with alpha, a network of somebody else's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from faststyle.config import GatysConfig, PerceptualConfig
from faststyle.errors import ConfigError, ImageError
from faststyle.nets.lossnet import LossNetwork
from faststyle.optimize.gatys import gatys
from faststyle.optimize.pixels import Source, Step

LOSS = PerceptualConfig(style_layers=("relu1_2", "relu2_2"), content_layer="relu2_2", style_size=48)
CONFIG = GatysConfig(steps=3, scales=1, device="cpu", precision="float32", loss=LOSS)


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    rows, columns = np.mgrid[0:48, 0:64]
    return np.stack((rows * 5, columns * 3, 255 - rows - columns), 2).astype(np.uint8)


def run(
    photo: Source, style: Source, network: LossNetwork, config: GatysConfig = CONFIG, masks: tuple[Source, ...] = ()
) -> tuple[list[Step], NDArray[np.uint8]]:
    """All steps, and the last picture."""
    steps = list(gatys(photo, [style], config, masks=masks, network=network))
    return steps, steps[-1].image()


@pytest.mark.parametrize("keep_colors", [None, "luminance", "histogram"])
@pytest.mark.parametrize(("height", "width"), [(40, 200), (200, 40)])
def test_elongated_photos(network, height, width, keep_colors):
    steps, image = run(noise(height, width), noise(50, 60, 1), network, replace(CONFIG, keep_colors=keep_colors))
    assert image.shape == (height, width, 3)
    assert steps[-1].losses["total"] < steps[0].losses["total"]


@pytest.mark.parametrize(("height", "width"), [(12, 2000), (2000, 12)])
def test_a_very_long_painting_is_seen_with_both_sides_and_bounded(photo, network, height, width):
    seen: list[tuple[int, int]] = []
    handle = network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    try:
        steps, image = run(photo, noise(height, width, 1), network)
    finally:
        handle.remove()
    assert image.shape == photo.shape and steps[-1].losses["total"] < steps[0].losses["total"]
    (painting,) = {size for size in seen if size != (48, 64)}
    # The short side cannot be less than the losses need; the long one is what a square of the style size allows.
    assert min(painting) == 32 and max(painting) == round(2000 * 48 * (4 / (12 * 2000)) ** 0.5)


def test_a_very_long_painting_as_the_start(photo, network):
    first = next(gatys(photo, [noise(12, 2000, 1)], CONFIG, init="style", network=network))
    assert first.image().shape == photo.shape


def test_the_smallest_style_size_over_three_scales(photo, network):
    """Where the picture shrinks the painting would too, below what the losses are defined on."""
    seen: list[tuple[int, int]] = []
    handle = network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    config = replace(CONFIG, size=256, scales=3, optimizer="adam", loss=replace(LOSS, style_size=32))
    try:
        steps, image = run(photo, noise(50, 60, 1), network, config)
    finally:
        handle.remove()
    assert image.shape == (192, 256, 3)
    assert [size for size in seen if size not in {(48, 64), (96, 128), (192, 256)}] == [(32, 38)] * 3
    for width in (64, 128, 256):
        totals = [step.losses["total"] for step in steps if step.width == width]
        assert totals[-1] < totals[0]


@pytest.mark.parametrize("hidden", [(255, 255, 255), (0, 0, 0)], ids=["white", "black"])
def test_a_mask_counts_only_where_it_is_opaque(photo, network, tmp_path, hidden):
    """White painted on a transparent layer, whatever colour its transparent part has; half of it half opaque."""
    rgba = np.full((48, 64, 4), 255, np.uint8)
    rgba[:, 30:] = (*hidden, 0)
    rgba[:, 20:30, 3] = 128
    Image.fromarray(rgba).save(tmp_path / "mask.png")
    _, image = run(photo, noise(50, 60, 1), network, masks=(tmp_path / "mask.png",))
    assert np.array_equal(image[:, 30:], photo[:, 30:])
    assert np.abs(image[:, :20].astype(int) - photo[:, :20]).mean() > 2
    grey = np.repeat(rgba[..., 3:], 3, 2)
    _, same = run(photo, noise(50, 60, 1), network, masks=(grey,))
    assert np.abs(image.astype(int) - same).max() <= 1


def test_a_mask_without_an_opaque_pixel_is_refused(photo, network):
    clear = Image.new("RGBA", (64, 48), (255, 255, 255, 0))
    with pytest.raises(ImageError, match="mask 1 is black all over"):
        gatys(photo, [noise(50, 60, 1)], CONFIG, masks=[clear], network=network)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"style_layers": ("relu1_2", "relu3_1")}, "relu3_1"),
        ({"content_layer": "relu3_3"}, "relu3_3"),
        ({"style_layers": ("relu4_1", "relu3_1"), "content_layer": "relu1_1"}, "relu1_1, relu3_1, relu4_1"),
    ],
)
def test_a_network_without_the_layers_is_refused_at_the_call(photo, network, changes, missing):
    config = replace(CONFIG, loss=replace(LOSS, **changes))
    with pytest.raises(ConfigError, match=f"the network handed in was opened without {missing}: "):
        gatys(photo, [noise(50, 60, 1)], config, network=network)
