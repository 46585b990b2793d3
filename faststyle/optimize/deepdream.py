"""DeepDream: change a picture until the layers of a network see more in it of what they see already.

The method of Mordvintsev et al. 2015, coarse to fine; docs/differences.md tells where it departs from theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from faststyle.colors import keep_chrominance, luminance
from faststyle.config import DreamConfig
from faststyle.errors import ConfigError, ImageError
from faststyle.images import resize_rgb
from faststyle.nets.backbones import Classifier, class_index, open_backbone, smallest_side
from faststyle.nets.devices import choose_device, precision_of
from faststyle.nets.fetch import Progress
from faststyle.nets.lossnet import LossNetwork, check_layers
from faststyle.optimize.loops import ascent
from faststyle.optimize.memory import check_memory
from faststyle.optimize.objectives import (
    LOGITS,
    DreamObjective,
    Goal,
    Target,
    channel_goal,
    class_goal,
    guide_goal,
    layer_goal,
    parse_targets,
)
from faststyle.optimize.pixels import Source, Step, read_picture, resize, to_rgb, to_tensor
from faststyle.optimize.transforms import Gradient, gradient_of, jittered, smoothed, tiled

__all__ = ["deepdream", "memory_of", "octaves_of", "targets_of", "zoom"]

DEFAULT_LAYERS = {
    "vgg16": "relu4_3",
    # Not looked at: no weights of these were at hand.
    "vgg19": "relu4_4",
    "inception_v3": "Mixed_6b",
    "googlenet": "inception4c",
    "resnet50": "layer3.3",
}
"""What each network dreams of where nothing is asked for."""
DEFAULT_SIZE, SMALL_SIZE = 1024, 512
"""Longer side where no size is asked for: at most for a photo, and that of noise and of a zoom."""
COARSEST = 96
"""Short side below which no further octave is added by itself."""
LEAST = 32
"""Shortest side of an octave, where the network does not need more."""
GUIDE_SIZE = 256
"""Longer side that a guide image is scaled down to: its shapes should be about as large as what a layer sees."""
ZOOM, ZOOM_STEPS, ZOOM_OCTAVES = 1.03, 2, 2
"""How much each frame of a zoom is larger than the last, and the steps at each of so many octaves that it gets."""
BYTES, BYTES_PER_PIXEL, BYTES_PER_TILE_PIXEL = 500_000_000, 180, 4000
"""Memory of the process, of each pixel of the picture, and of each that the network sees at once."""


@dataclass(frozen=True)
class _Task:
    """What one dream works with; `sizes` are its octaves' widths and heights, coarse to fine."""

    config: DreamConfig
    device: torch.device
    photo: NDArray[np.uint8]
    sizes: Sequence[tuple[int, int]]
    objective: DreamObjective
    generator: torch.Generator


def deepdream(
    image: Source,
    config: DreamConfig | None = None,
    *,
    guide: Source | None = None,
    network: LossNetwork | Classifier | None = None,
    on_fetch: Progress | None = None,
) -> Iterator[Step]:
    """Dream on a picture, step by step; the last step holds the result. `image` may be "noise".

    With a `guide` the layers follow what they find in that picture. A step's losses are those from before it; what is
    to rise stands there by its name, `total` is minus the weighted sum. Equal seeds give equal pictures, bit for bit on
    the CPU. `network` may be handed in so that many pictures share one; else its weights are found, or fetched, of
    which `on_fetch` hears. Raises FaststyleError's children for bad input and for too little memory, before the first
    step.

        for step in deepdream("photo.jpg"):
            print(step.step, step.losses["relu4_3"])
        Image.fromarray(step.image()).save("dream.png")
    """
    config = config or DreamConfig()
    return _steps(_prepare(image, config, guide, network, on_fetch, DEFAULT_SIZE))


def zoom(
    image: Source,
    config: DreamConfig | None = None,
    frames: int = 250,
    *,
    guide: Source | None = None,
    network: LossNetwork | Classifier | None = None,
    on_fetch: Progress | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """The endless zoom: a dream, then frame by frame the last one enlarged around its centre and dreamt on.

    Yields `frames` pictures, uint8 H x W x 3. The channels' means and deviations stay those of the first, so that
    neither colours nor contrast run away. Takes what `deepdream` takes and raises what it raises.
    """
    config = config or DreamConfig()
    if frames < 1:
        raise ConfigError(f"--zoom must be at least 1, not {frames}")
    if config.keep_colors:
        raise ConfigError("--keep-colors and --zoom exclude each other: after some frames nothing of the photo is left")
    return _frames(_prepare(image, config, guide, network, on_fetch, SMALL_SIZE), frames)


def targets_of(config: DreamConfig, guided: bool) -> tuple[Target, ...]:
    """What a dream brings out; raises ConfigError where that contradicts itself, or for unknown layers and classes."""
    if guided and config.class_name is not None:
        raise ConfigError("--guide and --class exclude each other: take one")
    if config.class_name is not None:
        targets: tuple[Target, ...] = (Target(LOGITS, class_index(config.class_name)),)
    else:
        targets = parse_targets(config.layers or (DEFAULT_LAYERS[config.network],))
        if any(target.layer == LOGITS for target in targets):
            raise ConfigError(f"--layer {LOGITS} holds the classes: name one with --class")
    if guided and any(target.channel is not None for target in targets):
        raise ConfigError("--guide follows whole layers: name --layer without a channel")
    smallest_side(config.network, {target.layer for target in targets})  # raises for layers that are not there
    return targets


def octaves_of(width: int, height: int, config: DreamConfig, least: int = LEAST) -> list[tuple[int, int]]:
    """Width and height of each octave for a picture of this size, coarse to fine."""
    short = min(width, height)
    if short < least:
        raise ImageError(f"the picture's short side would have {short} pixels, {least} are needed: raise --size")
    count = config.octaves
    if count is None:
        count = 1
        while short / config.octave_scale**count >= max(COARSEST, least):
            count += 1
    elif short / config.octave_scale ** (count - 1) < least:
        raise ConfigError(f"--octaves {count} would start below {least} pixels: take fewer, or a larger --size")
    factors = [config.octave_scale**-level for level in reversed(range(count))]
    return [(round(width * factor), round(height * factor)) for factor in factors]


def memory_of(width: int, height: int, config: DreamConfig) -> int:
    """Bytes that a dream takes, as measured with VGG-16 cut at relu4_3."""
    seen = min(width, config.tile) * min(height, config.tile)
    return BYTES + width * height * BYTES_PER_PIXEL + seen * BYTES_PER_TILE_PIXEL


def _prepare(
    image: Source,
    config: DreamConfig,
    guide: Source | None,
    network: LossNetwork | Classifier | None,
    on_fetch: Progress | None,
    largest: int,
) -> _Task:
    """Read and check everything, cheapest first."""
    targets = targets_of(config, guide is not None)
    layers = {target.layer for target in targets}
    source = None if isinstance(image, str) and image == "noise" else read_picture(image).rgb
    if source is None:
        width = height = config.size or SMALL_SIZE
    else:
        height, width = source.shape[:2]
        factor = (config.size or min(largest, max(width, height))) / max(width, height)
        width, height = max(1, round(width * factor)), max(1, round(height * factor))
    least = max(LEAST, smallest_side(config.network, layers))
    sizes = octaves_of(width, height, config, least)
    hint = None if guide is None else read_picture(guide).rgb
    device = choose_device(config.device)
    check_memory(memory_of(width, height, config), device, "choose a smaller --size or --tile")
    if network is None:
        network = open_backbone(config.network, sorted(layers), config.weights, on_fetch)
    else:
        check_layers(network.layers, layers)
    photo = _noise(width, config.seed) if source is None else resize_rgb(source, width, height)
    network = network.to(device)
    goals = _goals(targets, config, network, device, hint, least)
    objective = DreamObjective(network, goals, precision_of(config.precision, device))
    return _Task(config, device, photo, sizes, objective, torch.Generator().manual_seed(config.seed))


def _noise(size: int, seed: int) -> NDArray[np.uint8]:
    """Noise around grey, size x size x 3, as strong in large blots as in those of 4 pixels; finer ones would stay."""
    random = np.random.default_rng(seed)
    total = torch.zeros(1, 3, size, size)
    cells = size // 4
    while cells >= 4:
        noise = torch.from_numpy(random.standard_normal((1, 3, cells, cells), np.float32))
        total += F.interpolate(noise, size=(size, size), mode="bicubic", align_corners=False)
        cells //= 2
    return to_rgb(0.5 + 0.12 * total / total.std())


def _goals(
    targets: Sequence[Target],
    config: DreamConfig,
    network: LossNetwork | Classifier,
    device: torch.device,
    guide: NDArray[np.uint8] | None,
    least: int,
) -> list[Goal]:
    if config.class_name is not None:
        return [class_goal(config.class_name, class_index(config.class_name))]
    layers = {target.layer for target in targets}
    if guide is not None:
        height, width = guide.shape[:2]
        factor = min(1.0, GUIDE_SIZE / max(height, width))
        size = [max(least, round(side * factor)) for side in (width, height)]
        with torch.no_grad():
            found = network(to_tensor(resize_rgb(guide, *size), device), layers)
        return [guide_goal(target, found[target.layer]) for target in targets]
    if any(target.channel is not None for target in targets):
        with torch.no_grad():
            found = network(torch.zeros(1, 3, least, least, device=device), layers)
        for target in targets:
            if target.channel is not None and target.channel >= (count := found[target.layer].shape[1]):
                raise ConfigError(f"--layer {target.name}: {target.layer} has channels 0 to {count - 1}")
    return [layer_goal(target) if target.channel is None else channel_goal(target) for target in targets]


def _steps(task: _Task) -> Iterator[Step]:
    config, sizes = task.config, task.sizes
    areas = [width * height for width, height in sizes]
    photo = to_tensor(task.photo, task.device)
    for octave, step, losses, image, base in _dream(task, photo, sizes, config.steps):
        width, height = sizes[octave]
        fraction = (sum(areas[:octave]) + areas[octave] * step / config.steps) / sum(areas)
        done, steps = octave * config.steps + step, len(sizes) * config.steps
        yield Step(done, steps, fraction, width, height, losses, _picture(task, photo, image, base))


def _dream(
    task: _Task, photo: Tensor, sizes: Sequence[tuple[int, int]], steps: int
) -> Iterator[tuple[int, int, dict[str, float], Tensor, Tensor]]:
    """Octave, step in it, losses, the picture and the photo in that size; what is added goes from octave to octave."""
    detail = None
    for octave, (width, height) in enumerate(sizes):
        base = resize(photo, width, height).clamp(0, 1)
        image = base.clone() if detail is None else resize(detail, width, height).add_(base).clamp_(0, 1)
        detail = None
        gradient = _gradient(task, width, height)
        for step, losses in enumerate(ascent(image, gradient, steps, task.config.step_size), 1):
            yield octave, step, losses, image, base
        detail = image - base


def _gradient(task: _Task, width: int, height: int) -> Gradient:
    config, gradient, reach = task.config, gradient_of(task.objective), task.config.jitter
    if max(width, height) > config.tile:
        gradient = tiled(gradient, config.tile)
        # A seam can lie anywhere, so that none is seen.
        reach = max(reach, config.tile // 2)
    gradient = jittered(gradient, reach, task.generator)
    return smoothed(gradient, config.smooth) if config.smooth else gradient


def _picture(task: _Task, photo: Tensor, image: Tensor, base: Tensor) -> Callable[[], NDArray[np.uint8]]:
    """How the picture looks in the full size: the photo, and over it what the dream has added so far."""

    def show() -> NDArray[np.uint8]:
        height, width = photo.shape[2:]
        seen = image if image.shape == photo.shape else resize(image - base, width, height).add_(photo)
        rgb = to_rgb(seen)
        return keep_chrominance(luminance(rgb), task.photo) if task.config.keep_colors else rgb

    return show


def _frames(task: _Task, frames: int) -> Iterator[NDArray[np.uint8]]:
    image = _dreamt(task, to_tensor(task.photo, task.device), task.sizes, task.config.steps)
    mean, deviation = image.mean((2, 3), keepdim=True), image.std((2, 3), keepdim=True)
    yield to_rgb(image)
    for _ in range(frames - 1):
        image = _dreamt(task, _enlarged(image), task.sizes[-ZOOM_OCTAVES:], ZOOM_STEPS)
        spread = deviation / image.std((2, 3), keepdim=True).clamp_min(1e-3)
        image = ((image - image.mean((2, 3), keepdim=True)) * spread + mean).clamp_(0, 1)
        yield to_rgb(image)


def _dreamt(task: _Task, photo: Tensor, sizes: Sequence[tuple[int, int]], steps: int) -> Tensor:
    """What a dream ends with."""
    result = photo
    for _, _, _, image, _ in _dream(task, photo, sizes, steps):
        result = image
    return result


def _enlarged(image: Tensor) -> Tensor:
    """The picture a little larger around its centre, in its own size."""
    matrix = torch.tensor([[[1 / ZOOM, 0.0, 0.0], [0.0, 1 / ZOOM, 0.0]]], device=image.device)
    grid = F.affine_grid(matrix, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp_(0, 1)
