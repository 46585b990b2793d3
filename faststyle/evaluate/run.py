"""The measurement: a model's pictures of many photos judged, and set against optimisation."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from faststyle.config import EvaluateConfig, PerceptualConfig
from faststyle.errors import ImageError
from faststyle.evaluate.curves import STARTS, claim_curve, curve, curve_path, keep_curve, read_curve, steps_to
from faststyle.evaluate.distance import Distance, open_lpips
from faststyle.evaluate.photos import find_photos, spread
from faststyle.evaluate.ruler import Ruler, loss_settings
from faststyle.images import middle_square
from faststyle.nets import weights
from faststyle.nets.devices import choose_device
from faststyle.nets.lossnet import LossNetwork
from faststyle.optimize.memory import check_memory
from faststyle.optimize.pixels import Source, read_picture, to_tensor

if TYPE_CHECKING:
    from faststyle.runtime.stylizer import Stylizer

__all__ = ["CURVE_SIZE", "Evaluation", "Progress", "evaluate"]

CURVE_SIZE = 256
"""Side in pixels at which a model is compared with optimisation."""
BYTES_PER_PIXEL, LPIPS_BYTES_PER_PIXEL = 1150, 2700
"""Memory of each pixel of the largest square, without LPIPS and with it, as measured with VGG-16."""


@dataclass(frozen=True)
class Progress:
    """How far a measurement is: which photo at which size, or which step of an optimisation on it."""

    photo: int
    """Counted from 1."""
    photos: int
    size: int
    start: str = ""
    """What the optimisation starts from; empty while the model's own pictures are judged."""
    step: int = 0
    fraction: float = 0.0
    """Share of the optimisation steps that is done, of those that were not in the cache."""


@dataclass(frozen=True)
class Evaluation:
    """What a model was measured to be.

    `sizes` holds for each size the means over the photos: content, style, style_relu1_2 and so on, total, and lpips
    where that is installed. `worth` holds for each start of the optimisation, "photo" and "noise", and each photo the
    step at which the optimisation first was as low as the model, at `CURVE_SIZE`; infinite beyond `steps`.
    """

    loss: PerceptualConfig
    count: int
    """Photos that were used."""
    steps: int
    sizes: dict[int, dict[str, float]]
    worth: dict[str, tuple[float, ...]]

    def quartiles(self, start: str) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile of the steps that the model is worth, from "photo" or "noise"."""
        steps = sorted(self.worth[start])

        def at(share: float) -> float:
            place = share * (len(steps) - 1)
            low, high = steps[math.floor(place)], steps[math.ceil(place)]
            return low if low == high else low + (high - low) * (place % 1)  # two infinities have no difference

        return at(0.25), at(0.5), at(0.75)

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as plain JSON values, with 5 digits; null stands for more steps than were made."""
        loss = self.loss
        worth = {}
        for start, each in self.worth.items():
            lower, median, upper = self.quartiles(start)
            worth[start] = {
                "median": _digits(median),
                "lower_quartile": _digits(lower),
                "upper_quartile": _digits(upper),
                "each": [_digits(steps) for steps in each],
            }
        return {
            "count": self.count,
            "loss": {
                "loss_network": loss.loss_network,
                "content_layer": loss.content_layer,
                "style_layers": list(loss.style_layers),
                "style_weight": loss.style_weight,
                "style_size": loss.style_size,
                "style_median": loss.style_median,
            },
            "sizes": [
                {"size": size, **{name: _digits(value) for name, value in losses.items()}}
                for size, losses in self.sizes.items()
            ],
            "steps": self.steps,
            "equals_lbfgs_steps": worth,
        }


def evaluate(
    stylizer: Stylizer,
    photos: str | os.PathLike[str],
    style: Source,
    config: EvaluateConfig | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    on_fetch: weights.Progress | None = None,
) -> Evaluation:
    """Repaint the photos of a folder, judge the pictures, and find how many steps of optimisation they are worth.

    Of each photo the middle square is taken and scaled to each size, enlarged where the photo is smaller. The judge
    is content and style loss with the style weight of the model's card; what else training counts is left out.
    `style` is the painting that the model learned. The optimisation's losses are kept in the cache: the first model
    of a painting takes the better part of an hour, the next one minutes, and an interrupted run goes on. Raises
    FaststyleError's children for bad input.

        evaluation = evaluate(Stylizer("starry.onnx"), "photos", "starry_night.jpg")
        print(evaluation.sizes[512]["style"], evaluation.quartiles("photo"))
    """
    config = config or EvaluateConfig()
    tell = on_progress or (lambda progress: None)
    painting, loss, paths = read_picture(style).rgb, loss_settings(stylizer.card), find_photos(photos)
    device = choose_device("auto")
    sizes = sorted({*config.sizes, CURVE_SIZE})
    tensors = weights.load_weights(loss.loss_network, config.loss_weights, on_fetch)
    network = LossNetwork(loss.layers, tensors, name=loss.loss_network).to(device)
    ruler = Ruler(painting, loss, network)
    distance = open_lpips(
        lambda: tensors if loss.loss_network == "vgg16" else weights.load_weights("vgg16", on_progress=on_fetch), device
    )
    each = BYTES_PER_PIXEL if distance is None else LPIPS_BYTES_PER_PIXEL
    check_memory(each * sizes[-1] ** 2, device, "choose smaller --sizes")
    count = min(config.count, len(paths))
    pictures = [{size: middle_square(photo, size) for size in sizes} for photo in spread(paths, count)]
    if not pictures:
        raise ImageError(f"{os.fspath(photos)} holds no usable photo: name another folder with --photos")
    curves = _Curves(ruler, [squares[CURVE_SIZE] for squares in pictures], config.steps)
    found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for number, squares in enumerate(pictures, 1):
        for size, square in squares.items():
            tell(Progress(number, len(pictures), size))
            found[size].append(_judge(ruler, distance, square, stylizer(square)))
    worth = curves.worth([losses["total"] for losses in found[CURVE_SIZE]], tell)
    means = {
        size: {name: sum(losses[name] for losses in found[size]) / len(pictures) for name in found[size][0]}
        for size in sorted({*config.sizes})
    }
    return Evaluation(loss, len(pictures), config.steps, means, worth)


def _judge(
    ruler: Ruler, distance: Distance | None, photo: NDArray[np.uint8], painted: NDArray[np.uint8]
) -> dict[str, float]:
    """Losses of one picture by name, those that count in the total first."""
    with torch.no_grad():
        terms = ruler.against(photo)(to_tensor(painted, ruler.device)).scalars()
    names = ["content", "style", *(name for name in terms if name.startswith("style_")), "total"]
    losses = {name: terms[name] for name in names}
    return losses if distance is None else {**losses, "lpips": distance(photo, painted)}


class _Curves:
    """The curves of all photos from all starts: those in the cache, and the place of those that are missing.

    Raises WriteError at once where the cache does not take any more.
    """

    def __init__(self, ruler: Ruler, squares: Sequence[NDArray[np.uint8]], steps: int) -> None:
        self._ruler, self._squares, self._steps = ruler, squares, steps
        self._losses: dict[tuple[int, str], list[float]] = {}
        self._missing: list[tuple[int, str, Path]] = []
        folder = weights.locate("vgg16").parent / "curves"
        for index, square in enumerate(squares):
            for start in STARTS:
                path = curve_path(folder, ruler, square, start)
                if (kept := read_curve(path, steps)) is None:
                    self._missing.append((index, start, path))
                else:
                    self._losses[index, start] = kept
        if self._missing:
            claim_curve(self._missing[0][2])

    def worth(self, totals: Sequence[float], tell: Callable[[Progress], None]) -> dict[str, tuple[float, ...]]:
        """For each start and photo, the steps after which the optimisation is as low as the model's total loss."""
        for done, (index, start, path) in enumerate(self._missing):
            losses = []
            for step, loss in enumerate(curve(self._ruler, self._squares[index], start, self._steps)):
                losses.append(loss)
                fraction = (done + step / self._steps) / len(self._missing)
                tell(Progress(index + 1, len(self._squares), CURVE_SIZE, start, step, fraction))
            keep_curve(path, losses)
            self._losses[index, start] = losses
        return {
            start: tuple(steps_to(self._losses[index, start], total) for index, total in enumerate(totals))
            for start in STARTS
        }


def _digits(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None
