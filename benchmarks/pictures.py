"""Measure repainted photos: losses against painting and photo, and the faults that losses do not see.

    python benchmarks/pictures.py MODEL PAINTING PHOTO... [--style NAME] [--strength S...] [--against PICTURE]
                                                          [--fit WIDTHxHEIGHT] [--style-size 256] [--style-median 1]

For each photo, as the model repaints it: content, style and relu4_3 style loss (faststyle/losses, the painting's short
side at --style-size, its grain taken away by --style-median), the largest difference in levels between the means of the
8 x 8 pixel phases (a lattice), and between the outer 8 rows and the next 24 (border bands; in brackets the photo's
own), and how far the picture of the photo moved by a few pixels is from the picture moved (stamps). --against measures
somebody else's repainting of the first photo by the same rule; --fit scales the photos, to stand beside a published
picture. --style chooses or mixes the model's styles, as `faststyle stylize` does; several strengths give a row each.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faststyle.images import read_image, resize_rgb, scale_short_side, without_grain
from faststyle.losses import content_loss, gram_matrix, shift_loss, style_loss
from faststyle.nets.lossnet import LossNetwork
from faststyle.nets.weights import load_weights
from faststyle.runtime.stylizer import Stylizer

STYLE_LAYERS, CONTENT_LAYER = ("relu1_2", "relu2_2", "relu3_3", "relu4_3"), "relu3_3"

Pixels = NDArray[np.uint8]


def tensor(rgb: Pixels) -> Tensor:
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None].float() / 255


def phase_spread(rgb: Pixels, period: int = 8) -> float:
    """Largest difference between the means of the period x period pixel phases, over channels; 16 pixels of border left
    out. A network's weave shows at 8; what strokes and grain make of it by chance is as much at 7 and 9."""
    inner = rgb[16:-16, 16:-16].astype(np.float64)
    height, width = (length // period for length in inner.shape[:2])
    phases = inner[: height * period, : width * period].reshape(height, period, width, period, 3).mean((0, 2))
    return float((phases.max((0, 1)) - phases.min((0, 1))).max())


def border_step(rgb: Pixels) -> float:
    """Largest difference between the means of the outer 8 rows and of the next 24, over sides and channels."""
    sides: list[NDArray[Any]] = [np.rot90(rgb, turns).astype(np.float64) for turns in range(4)]
    return max(float(np.abs(side[:8].mean((0, 1)) - side[8:32].mean((0, 1))).max()) for side in sides)


def moved_apart(stylizer: Stylizer, photo: Pixels, picture: Pixels) -> float:
    """Root mean square difference in levels between the picture of the photo moved by 3 rows and 5 columns and its
    picture moved by as much; 48 pixels of border left out, since the one photo ends where the other goes on. Strokes
    that stand in cells of the network's grid stay behind."""
    still, moved = (tensor(each[48:-48, 48:-48]) for each in (picture, stylizer(photo[3:, 5:])))
    return 255 * float(shift_loss(still, moved, 3, 5).sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("painting")
    parser.add_argument("photos", nargs="+", metavar="PHOTO")
    parser.add_argument("--style", metavar="NAME[:W],...")
    parser.add_argument("--strength", type=float, nargs="+", default=[None], metavar="S")
    parser.add_argument("--against", metavar="PICTURE")
    parser.add_argument("--fit", metavar="WIDTHxHEIGHT")
    parser.add_argument("--style-size", type=int, default=256)
    parser.add_argument("--style-median", type=int, default=1)
    options = parser.parse_args()

    network = LossNetwork(STYLE_LAYERS, load_weights("vgg16"))
    painting = without_grain(
        scale_short_side(read_image(options.painting).rgb, options.style_size), options.style_median
    )
    with torch.no_grad():
        targets = {layer: gram_matrix(features) for layer, features in network(tensor(painting)).items()}

    def row(name: str, picture: Pixels, photo: Pixels, moved: float | None = None) -> list[float]:
        with torch.no_grad():
            features = network(tensor(picture))
            content = network(tensor(photo), (CONTENT_LAYER,))[CONTENT_LAYER]
            distance = float(content_loss(features[CONTENT_LAYER], content))
        layers = {layer: float(style_loss(gram_matrix(features[layer]), targets[layer])) for layer in STYLE_LAYERS}
        values = [
            distance,
            sum(layers.values()) / len(layers),
            layers["relu4_3"],
            phase_spread(picture),
            border_step(picture),
            *([] if moved is None else [moved]),
        ]
        report(name, values, f" ({border_step(photo):.0f})")
        return values

    def report(name: str, values: list[float], photo_border: str = "") -> None:
        content, style, deep, spread, border, *moved = values
        print(
            f"| {name} | {content:.3f} | {style:.3f} | {deep:.3f} | {spread:.2f} | {border:.0f}{photo_border}",
            f"{moved[0]:.1f} |" if moved else "- |",
            sep=" | ",
            flush=True,
        )

    print("| picture | content | style | relu4_3 | lattice | border | moved |\n|---|---|---|---|---|---|---|")
    photos = [(Path(path).stem, read_image(path).rgb) for path in options.photos]
    if options.fit:
        photos = [(name, resize_rgb(photo, *map(int, options.fit.split("x")))) for name, photo in photos]
    if options.against:
        other = read_image(options.against).rgb
        row(Path(options.against).stem, other, resize_rgb(photos[0][1], other.shape[1], other.shape[0]))
    for strength in options.strength:
        stylizer = Stylizer(options.model)
        if options.style is not None or strength is not None:
            stylizer = stylizer.styled(options.style, strength)
        at = "" if strength is None else f" at {strength:g}"
        pictures = [(name, photo, stylizer(photo)) for name, photo in photos]
        rows = [
            row(f"{name}{at}", picture, photo, moved_apart(stylizer, photo, picture))
            for name, photo, picture in pictures
        ]
        if len(rows) > 1:
            report(f"median{at}", [float(value) for value in np.median(rows, axis=0)])


if __name__ == "__main__":
    main()
