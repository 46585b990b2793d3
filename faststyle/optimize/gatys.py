"""Gatys style transfer: optimise the pixels until the loss network finds the photo's content and the painting's style.

The method of Gatys et al. 2016 with the losses that training uses, coarse to fine; docs/differences.md tells where it
departs from the paper.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from faststyle.colors import LUMA, keep_chrominance, luminance, match_colors, match_luminance
from faststyle.config import GatysConfig, PerceptualConfig
from faststyle.errors import ConfigError, ImageError
from faststyle.images import resize_rgb, with_pixels, without_grain
from faststyle.losses import LossTerms, PerceptualLoss, gram_matrix
from faststyle.nets.devices import choose_device, precision_of, reduced
from faststyle.nets.lossnet import LAYERS, LossNetwork, check_layers, distinct_layers
from faststyle.nets.weights import Progress, load_weights
from faststyle.optimize import loops
from faststyle.optimize.memory import check_memory
from faststyle.optimize.pixels import Source, Step, read_picture, resize, to_rgb, to_tensor
from faststyle.optimize.transforms import Gradient, Objective, blended, gradient_of, greyscale

__all__ = ["gatys", "memory_of", "scales_of"]

DEFAULT_SIZE = 512
"""Longer side at most, where no size is asked for."""
SMALLEST = 96
"""Short side below which a coarser scale shows the loss network too little to help."""
LEAST = 32
"""Shortest side that the losses are defined on."""
COARSE_STEPS = 100
"""Steps at most at each coarser scale: more change little at the full size."""
LONGEST = 4
"""Most pixels of a style image, over those of a square with its short side."""
BYTES, BYTES_PER_PIXEL = 850_000_000, 2600
"""Memory of the process, and of each pixel of the picture at the largest scale."""
BYTES_PER_MASK, BYTES_PER_STYLE_PIXEL = 400, 800
"""Memory of each pixel for every mask, and of each pixel of a style image; counted, not measured."""

_log = logging.getLogger("faststyle")


@dataclass(frozen=True)
class _Task:
    """What one optimisation works with; photo and start in the full size, `masks` R x 1 x H x W in [0, 1] or None."""

    config: GatysConfig
    network: LossNetwork
    device: torch.device
    photo: NDArray[np.uint8]
    start: NDArray[np.uint8]
    detailed: bool
    """Whether the start's detail, which a coarser scale cannot show, belongs into the picture."""
    paintings: list[NDArray[np.uint8]]
    shares: list[float]
    masks: Tensor | None
    sizes: list[tuple[int, int]]


def gatys(
    content: Source,
    styles: Sequence[Source],
    config: GatysConfig | None = None,
    *,
    init: str | Source | Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = "content",
    masks: Sequence[Source] = (),
    network: LossNetwork | None = None,
    on_fetch: Progress | None = None,
) -> Iterator[Step]:
    """Repaint `content` in the style of one or several pictures, step by step; the last step holds the result.

    `init` is what the optimisation starts from: "content", "noise" or "style", or a picture, or a function from the
    photo, uint8 H x W x 3, to one of its size, such as a Stylizer. `masks`, one to each style, say by their brightness
    where a style applies: white everywhere, black nowhere; where all are black the photo stays as it is. Equal seeds
    give equal pictures, bit for bit on the CPU. `network` may be handed in so that many pictures share one; else its
    weights are found, or fetched, of which `on_fetch` hears. Raises FaststyleError's children for bad input and for too
    little memory, before the first step.

        for step in gatys("photo.jpg", ["painting.jpg"]):
            print(step.step, step.losses["total"])
        Image.fromarray(step.image()).save("painted.png")
    """
    config = config or GatysConfig()
    loss = config.loss
    layers = distinct_layers(loss.loss_network, LAYERS[loss.loss_network], loss.layers)
    if network is not None:
        check_layers(network.layers, layers)
    photo, paintings = read_picture(content).rgb, [read_picture(style).rgb for style in styles]
    if not paintings:
        raise ConfigError("name at least one style image")
    words = isinstance(init, str) and init in ("content", "noise", "style")
    sizes = scales_of(photo.shape[1], photo.shape[0], config, whole=not words)
    full = sizes[-1]
    shares = _shares(config, len(paintings), bool(masks))
    device = choose_device(config.device)
    check_memory(memory_of(*full, config, len(masks)), device, "choose a smaller --size")
    regions = _regions(masks, len(paintings), photo, full, device)
    photo = resize_rgb(photo, *full)
    if config.keep_colors == "histogram":
        paintings = [match_colors(painting, photo) for painting in paintings]
    elif config.keep_colors == "luminance":
        target = luminance(photo)
        greys = [match_luminance(luminance(painting), target) for painting in paintings]
        paintings = [np.repeat(np.rint(grey * 255).astype(np.uint8)[..., None], 3, 2) for grey in greys]
    start = _start(init, photo, paintings, config.seed)
    detailed = not words or init == "content"
    if network is None:
        network = LossNetwork(
            layers, load_weights(loss.loss_network, config.loss_weights, on_fetch), name=loss.loss_network
        )
    network = network.to(device)
    return _optimise(_Task(config, network, device, photo, start, detailed, paintings, shares, regions, sizes))


def scales_of(width: int, height: int, config: GatysConfig, whole: bool = False) -> list[tuple[int, int]]:
    """Width and height of each scale for a photo of this size, coarse to fine; the last is the result's.

    Where the start is `whole`, with its large shapes in place already, there is one scale unless the config says more.
    """
    longer = config.size or min(DEFAULT_SIZE, max(width, height))
    factor = longer / max(width, height)
    short = min(width, height) * factor
    if short < LEAST:
        raise ImageError(f"the picture's short side would have {round(short)} pixels, {LEAST} are needed: raise --size")
    count = config.scales
    if count is None:
        count = 1
        while not whole and short / 2**count >= SMALLEST:
            count += 1
    elif short / 2 ** (count - 1) < LEAST:
        raise ConfigError(f"--scales {count} would start below {LEAST} pixels: take fewer, or a larger --size")
    factors = [factor / 2**level for level in reversed(range(count))]
    return [(round(width * factor), round(height * factor)) for factor in factors]


def memory_of(width: int, height: int, config: GatysConfig, masks: int = 0) -> int:
    """Bytes that an optimisation takes at its largest scale, as measured with VGG-16 cut at relu4_3."""
    pixels = BYTES_PER_PIXEL + (2 * loops.HISTORY * 12 if config.optimizer == "lbfgs" else 0) + masks * BYTES_PER_MASK
    style = LONGEST * config.loss.style_size**2 * BYTES_PER_STYLE_PIXEL
    return BYTES + max(width * height * pixels, style)


def _optimise(task: _Task) -> Iterator[Step]:
    config = task.config
    counts = [min(config.steps, COARSE_STEPS)] * (len(task.sizes) - 1) + [config.steps]
    work = [width * height * steps for (width, height), steps in zip(task.sizes, counts, strict=True)]
    image = start = torch.empty(0)
    done, spent = 0, 0
    for (width, height), steps, share in zip(task.sizes, counts, work, strict=True):
        before, start = start, _channels(task, to_tensor(resize_rgb(task.start, width, height), task.device))
        if not done:
            image = start.clone()
        elif task.detailed:  # what the last scale changed, enlarged, over the start with the detail it could not show
            image = (start + resize(image - before, width, height)).clamp(0, 1)
        else:
            image = resize(image, width, height).clamp(0, 1)
        gradient = _gradient(task, image)
        if config.optimizer == "adam":
            run = loops.adam(image, gradient, steps, config.learning_rate)
        else:
            run = loops.lbfgs(image, gradient, steps)
        for step, losses in enumerate(run):
            if step or not done:  # a scale starts from the picture that the last one ended with
                fraction = (spent + share * step / steps) / sum(work)
                yield Step(done + step, sum(counts), fraction, width, height, losses, _picture(task, image, start))
        done, spent = done + steps, spent + share


def _gradient(task: _Task, image: Tensor) -> Gradient:
    """The gradient at the image's scale, seen in grey or through masks where that is asked for."""
    height, width = image.shape[2:]
    photo = _channels(task, to_tensor(resize_rgb(task.photo, width, height), task.device))
    masks = None if task.masks is None else F.interpolate(task.masks, size=(height, width), mode="area")
    gradient = gradient_of(_objective(task, photo.expand(-1, 3, -1, -1), masks))
    if photo.shape[1] == 1:
        gradient = greyscale(gradient)
    return gradient if masks is None else blended(gradient, photo, masks.sum(0, keepdim=True))


def _picture(task: _Task, image: Tensor, start: Tensor) -> Callable[[], NDArray[np.uint8]]:
    """How the picture looks in the full size: as it goes on there, blended with the photo outside the masks."""

    def show() -> NDArray[np.uint8]:
        width, height = task.sizes[-1]
        seen = image
        if image.shape[2:] != (height, width):
            fine = _channels(task, to_tensor(task.start, task.device))
            seen = resize(image - start, width, height) + fine if task.detailed else resize(image, width, height)
        seen = seen.clamp(0, 1)
        if task.masks is not None:
            photo = _channels(task, to_tensor(task.photo, task.device))
            seen = photo + (seen - photo) * task.masks.sum(0, keepdim=True)
        return keep_chrominance(seen[0, 0].cpu().numpy(), task.photo) if seen.shape[1] == 1 else to_rgb(seen)

    return show


def _objective(task: _Task, photo: Tensor, masks: Tensor | None) -> Objective:
    """The perceptual loss at one scale; the style images shrink with the picture, so that strokes keep their places."""
    loss, network = task.config.loss, task.network
    layers = set(loss.layers)
    short = max(LEAST, loss.style_size * photo.shape[3] / task.sizes[-1][0])
    with torch.no_grad():
        content = network(photo, (loss.content_layer,))[loss.content_layer]
        found = [_grams(network, loss, painting, short, task.device) for painting in task.paintings]
    grams = {layer: torch.cat([one[layer] for one in found]) for layer in loss.style_layers}
    if masks is None:  # one style for the whole picture: what several have in common, by their shares
        shares = torch.tensor(task.shares, device=task.device).view(-1, 1, 1)
        grams = {layer: (gram * shares).sum(0, keepdim=True) for layer, gram in grams.items()}
    criterion = PerceptualLoss(grams, loss.content_layer, loss.style_weight, tv_weight=loss.tv_weight, masks=masks)
    precision = precision_of(task.config.precision, task.device)

    def objective(image: Tensor) -> LossTerms:
        with reduced(task.device, precision):
            features = network(image, layers)
        return criterion(image, features, content)

    return objective


def _channels(task: _Task, image: Tensor) -> Tensor:
    """The channels that are optimised: all three, or luminance alone."""
    if task.config.keep_colors != "luminance":
        return image
    return (image * image.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _grams(
    network: LossNetwork, loss: PerceptualConfig, painting: NDArray[np.uint8], short: float, device: torch.device
) -> dict[str, Tensor]:
    """Gram matrices of a style image, its short side scaled to `short` pixels; less for a very long one."""
    height, width = painting.shape[:2]
    scale = min(short / min(height, width), short * (LONGEST / (height * width)) ** 0.5)
    size = [max(LEAST, round(side * scale)) for side in (width, height)]
    style = without_grain(resize_rgb(painting, *size), loss.style_median)
    features = network(to_tensor(style, device), loss.style_layers)
    return {layer: gram_matrix(features[layer]) for layer in loss.style_layers}


def _start(
    init: str | Source | Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    photo: NDArray[np.uint8],
    paintings: list[NDArray[np.uint8]],
    seed: int,
) -> NDArray[np.uint8]:
    """The picture to start from, in the photo's size."""
    height, width = photo.shape[:2]
    if callable(init):
        return init(photo)
    if isinstance(init, str) and init == "content":
        return photo
    if isinstance(init, str) and init == "noise":
        return np.random.default_rng(seed).integers(0, 256, photo.shape, np.uint8)
    if isinstance(init, str) and init == "style":
        return np.array(ImageOps.fit(Image.fromarray(paintings[0]), (width, height), Image.Resampling.LANCZOS))
    return resize_rgb(read_picture(init).rgb, width, height)


def _shares(config: GatysConfig, paintings: int, masked: bool) -> list[float]:
    """How much each style image counts, adding up to 1."""
    weights = config.style_weights or (1.0,) * paintings
    if masked and config.style_weights:
        raise ConfigError("--style-weights and --mask exclude each other: with masks each region has its own style")
    if len(weights) != paintings:
        raise ConfigError(f"--style-weights has {len(weights)} values for {paintings} style images: give one each")
    return [weight / sum(weights) for weight in weights]


def _regions(
    masks: Sequence[Source], paintings: int, photo: NDArray[np.uint8], size: tuple[int, int], device: torch.device
) -> Tensor | None:
    """The masks as R x 1 x H x W in [0, 1], scaled down where they overlap, so that they add up to 1 at most."""
    if not masks:
        return None
    if len(masks) != paintings:
        raise ConfigError(f"there are {len(masks)} masks for {paintings} style images: give each style one")
    layers = []
    for number, source in enumerate(masks, 1):
        picture = read_picture(source)
        name = f"mask {number}" if isinstance(source, (np.ndarray, Image.Image)) else picture.name
        if picture.rgb.shape != photo.shape:
            shapes = (*picture.rgb.shape[1::-1], *photo.shape[1::-1])
            _log.info("%s is %d x %d and the photo %d x %d: the mask is scaled to fit", name, *shapes)
        fitted = with_pixels(picture, resize_rgb(picture.rgb, *size))
        mask = luminance(fitted.rgb)
        if fitted.alpha is not None:  # what is transparent is not painted
            mask *= np.multiply(fitted.alpha, 1 / 255, dtype=np.float32)
        if not mask.any():
            raise ImageError(f"{name} is black all over: paint white where its style shall apply")
        layers.append(torch.from_numpy(mask))
    stack = torch.stack(layers)[:, None].to(device)
    return stack / stack.sum(0, keepdim=True).clamp_min(1)
