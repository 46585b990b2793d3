"""Make what the demo trains with: photos that scikit-image ships, and a style picture painted right here.

    python data/make_demo.py [--out data/demo]

writes photos/ (to train on), photo.jpg (to repaint) and style.png. The painting, an evening over a lake, is made of
some eight thousand brush strokes that follow a flow field, laid on from broad to fine, each of many bristles; a relief
of the paint is lit from the upper left. Nothing is downloaded, and the same seed gives the same picture.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

# Those in the public domain or under CC0; README.md names the photographers.
PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "rocket.jpg",
)
HELD_OUT = "coffee.png"

WIDTH, HEIGHT = 640, 512
SCALE = 2  # painted at twice the size, then scaled down
MARGIN = 40  # strokes may begin so many pixels beyond the edge, so that they cover the canvas to its border
STEPS = 14  # straight pieces of a stroke

Array = NDArray[np.float64]


class DemoError(Exception):
    """What is missing and what to do, in one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when all is written, 1 after an error."""
    parser = argparse.ArgumentParser(description="Make the demo's photos and style picture.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "demo", help="folder to write")
    parser.add_argument("--seed", type=int, default=7, help="another seed paints another evening")
    options = parser.parse_args(argv)
    try:
        copy_photos(options.out)
        save(paint(options.seed), options.out / "style.png")
    except DemoError as error:
        print(f"make_demo: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"make_demo: error: {error.filename or options.out}: {error.strerror or error}", file=sys.stderr)
        return 1
    print(options.out)
    return 0


def copy_photos(out: Path) -> None:
    """Copy the photos to train on to OUT/photos, and the one to repaint to OUT/photo.jpg."""
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise DemoError("scikit-image, whose photos the demo uses, is not installed: pip install scikit-image")
    source = Path(package.origin).parent / "data"
    missing = [name for name in (*PHOTOS, HELD_OUT) if not (source / name).is_file()]
    if missing:
        raise DemoError(f"{source} lacks {', '.join(missing)}: pip install --force-reinstall scikit-image")
    (out / "photos").mkdir(parents=True, exist_ok=True)
    for name in PHOTOS:
        shutil.copyfile(source / name, out / "photos" / name)
    with Image.open(source / HELD_OUT) as photo:
        save(photo.convert("RGB"), out / "photo.jpg")


def save(image: Image.Image, path: Path) -> None:
    """Write the picture whole or not at all."""
    part = path.with_name(f".part-{path.name}")
    try:
        image.save(part, quality=95)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


# The painting


@dataclass(frozen=True)
class Layer:
    """Strokes of one brush."""

    strokes: int
    width: float
    """Pixels across."""
    length: float
    """Pixels along."""
    tolerance: float
    """A stroke ends where the motif's colour differs by more than this from where it began."""
    detail: float
    """Strokes begin rather where the motif has detail: 0 not at all, 1 only there."""


LAYERS = (
    Layer(700, 38, 170, 110, 0.0),
    Layer(1500, 20, 120, 64, 0.1),
    Layer(2300, 11, 72, 46, 0.6),
    Layer(3600, 6, 36, 36, 0.95),
)


def paint(seed: int = 7) -> Image.Image:
    """The style picture, WIDTH x HEIGHT; equal seeds give equal pixels."""
    random = np.random.default_rng(seed)
    motif, angle = compose(random)
    size = (WIDTH * SCALE, HEIGHT * SCALE)
    colour = Image.fromarray(np.clip(motif * 0.85, 0, 255).astype(np.uint8)).resize(size)
    relief = Image.new("L", size, 90)
    for layer in LAYERS:
        lay_on(layer, motif, angle, ImageDraw.Draw(colour), ImageDraw.Draw(relief), random)
    return light(colour, relief)


def compose(random: np.random.Generator) -> tuple[Array, Array]:
    """The motif: colours, H x W x 3 in [0, 255], and the direction of the strokes in radians, H x W."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / HEIGHT
    soft, fine = noise(5, random), noise(14, random)

    # Sky: rings around the sun, and two whirls.
    sun_x, sun_y = 0.83, 0.36
    away = np.hypot(x - sun_x, y - sun_y)
    flow_x, flow_y = np.full_like(x, 0.55), 0.25 * soft
    pull = 2.2 * np.exp(-((away / 0.3) ** 2)) * np.minimum(1, away / 0.06)
    flow_x, flow_y = flow_x - pull * (y - sun_y) / (away + 1e-3), flow_y + pull * (x - sun_x) / (away + 1e-3)
    tone = away + 0.05 * soft + 0.02 * fine
    for at_x, at_y, radius, turn in ((0.30, 0.20, 0.19, 1.0), (1.16, 0.10, 0.12, -1.0)):
        dx, dy = x - at_x, y - at_y
        r = np.hypot(dx, dy) + 1e-3
        near = np.exp(-((r / radius) ** 2))
        flow_x, flow_y = flow_x - 3 * turn * near * dy / r, flow_y + 3 * turn * near * dx / r
        tone += 0.20 * near * np.sin(2 * np.arctan2(dy, dx) - turn * 42 * r) - 0.12 * near
    tone += 0.035 * np.sin(away * 46 + 3 * soft) * (away > 0.1)
    sky = ramp(
        tone,
        (0.00, "fff6d8"), (0.08, "ffe9a0"), (0.11, "fbc64a"), (0.19, "f29a35"), (0.28, "e2683c"), (0.36, "c6505c"),
        (0.43, "8d5a86"), (0.50, "5b82ad"), (0.58, "9cc3bd"), (0.66, "3f93a8"), (0.78, "22669a"), (0.95, "1d3c78"),
        (1.2, "141f50"),
    )  # fmt: skip
    motif, angle = sky, np.arctan2(flow_y, flow_x)

    def cover(mask: NDArray[np.bool_], colours: Array, direction: Array) -> None:
        nonlocal motif, angle
        motif = np.where(mask[..., None], colours, motif)
        angle = np.where(mask, direction, angle)

    # Two ranges of hills, lit from the sun's side.
    left, right = np.exp(-(((x - 0.30) / 0.20) ** 2)), np.exp(-(((x - 1.12) / 0.16) ** 2))
    far = 0.565 - 0.10 * left - 0.05 * right + 0.02 * noise(9, random)
    cover(
        y > far,
        ramp((y - far) * 6 + 0.3 * fine + 0.3 * (x > sun_x), (0.0, "c79bb8"), (0.25, "7d78b4"), (0.7, "3b4a94")),
        0.9 * np.sign(x - 0.30) + 0.4 * fine,
    )
    near = 0.60 - 0.05 * np.sin(x * 4.2 + 0.6) + 0.012 * fine
    cover(
        y > near,
        ramp((y - near) * 9 + 0.35 * soft, (0.0, "2e7f7a"), (0.3, "1d5a66"), (0.8, "173a52")),
        0.5 * np.cos(x * 4.2 + 0.6) + 0.3 * fine,
    )

    # The lake, with the sun's path on it.
    shore = 0.655
    ripple = np.sin(y * 170 + 5 * soft + 9 * fine)
    path = np.exp(-(((x - sun_x) / (0.05 + 0.45 * np.clip(y - shore, 0, 1))) ** 2)) * (0.75 + 0.45 * ripple)
    water = ramp((y - shore) * 3.2 + 0.10 * ripple, (0.0, "7f8fd0"), (0.2, "3b86c2"), (0.5, "1c67a6"), (1.0, "143a7c"))
    glow = ramp(1 - path, (0.0, "fff3b0"), (0.35, "ffc24a"), (0.7, "f0764a"), (1.0, "b8567f"))
    mix = np.clip(path, 0, 1)[..., None] ** 0.8
    cover(y > shore, water * (1 - mix) + glow * mix, 0.12 * soft + 0.10 * ripple)

    # The meadow in front, with flowers.
    bank = 0.83 + 0.07 * np.sin(x * 3.1 + 2.4) + 0.015 * fine
    meadow = ramp(
        (y - bank) * 4 + 0.30 * soft + 0.22 * fine,
        (0.0, "f2cf4e"), (0.15, "c8b43a"), (0.3, "7da23c"), (0.5, "2f7d46"), (0.8, "12504b"),
    )  # fmt: skip
    cover(y > bank, meadow, -1.15 + 0.5 * soft + 0.5 * np.sin(x * 9))
    flowers = (noise(60, random) > 1.35) & (y > bank + 0.02)
    kind = noise(20, random)[..., None]
    cover(flowers, np.where(kind > 0.3, rgb("e5383b"), np.where(kind > -0.4, rgb("ff8c42"), rgb("fff1d0"))), fine * 2)

    # Two poplars on the left.
    for trunk, foot, top, girth in ((0.12, 0.95, 0.20, 0.055), (0.215, 0.93, 0.36, 0.04)):
        share = np.clip((y - top) / (foot - top), 0, 1)
        half = girth * np.sin(np.pi * share**0.8) ** 0.7 * (1 + 0.25 * np.sin(y * 60 + 4 * fine))
        side = (x - trunk - 0.012 * np.sin(y * 14)) / (half + 1e-3)
        tone = 0.5 - 0.5 * side + 0.25 * fine
        leaves = ramp(tone, (0.0, "e0a23c"), (0.2, "5f8f3e"), (0.5, "1c5c4a"), (1.0, "0f2c3f"))
        cover((np.abs(side) < 1) & (y > top) & (y < foot), leaves, -np.pi / 2 + 0.5 * side + 0.5 * np.sin(y * 30))
    return motif, angle


def lay_on(
    layer: Layer,
    motif: Array,
    angle: Array,
    colour: ImageDraw.ImageDraw,
    relief: ImageDraw.ImageDraw,
    random: np.random.Generator,
) -> None:
    """Paint one layer: each stroke follows the directions from where it begins, one line for each bristle."""
    starts = begin(layer, motif, random)
    path, ends = trace(layer, starts, motif, angle)
    along = np.gradient(path, axis=1)
    across = np.stack([-along[..., 1], along[..., 0]], axis=2)
    across /= np.linalg.norm(across, axis=2, keepdims=True) + 1e-9
    taper = np.sin(np.pi * np.linspace(0.12, 0.95, STEPS + 1)) ** 0.5
    # Broken colour: no two strokes are of quite the same lightness and hue.
    paints = at(motif, starts) * random.normal(1.0, 0.07, (len(path), 1)) + random.normal(0, 11, (len(path), 3))
    bristles = max(4, int(layer.width * 1.1))
    offsets = np.linspace(-0.5, 0.5, bristles) * layer.width
    for stroke in range(len(path)):
        end = ends[stroke] + 1
        shades = random.normal(0, 13, bristles) + 7 * np.sin(np.linspace(0, 9, bristles) + random.uniform(0, 6))
        heights = np.clip(128 + 5 * shades + random.normal(0, 20, bristles), 0, 255)
        fills = np.clip(paints[stroke] + shades[:, None], 0, 255).astype(int)
        # Each bristle touches down and lifts off in its own place.
        lands = random.integers(0, 2, bristles)
        lifts = end - random.integers(0, 1 + end // 4, bristles)
        lines = path[stroke, :end] + across[stroke, :end] * (taper[:end] * offsets[:, None])[..., None]
        for bristle in random.permutation(bristles):
            line = (lines[bristle, lands[bristle] : lifts[bristle]] * SCALE).ravel().tolist()
            colour.line(line, fill=tuple(fills[bristle].tolist()), width=4, joint="curve")
            relief.line(line, fill=int(heights[bristle]), width=3)


def trace(layer: Layer, starts: Array, motif: Array, angle: Array) -> tuple[Array, NDArray[np.int64]]:
    """The way of each stroke, as N x (STEPS + 1) x 2 of x and y, and the last step that it should take."""
    # Brushes do not follow every turn: broad ones see the directions blurred.
    cosine, sine = blur(np.cos(angle), layer.width / 3), blur(np.sin(angle), layer.width / 3)
    first = at(motif, starts)
    points, alive = [starts], np.ones(len(starts), dtype=bool)
    ends = np.full(len(starts), 3)
    for step in range(1, STEPS + 1):
        heading = np.stack([at(cosine, points[-1]), at(sine, points[-1])], axis=1)
        heading /= np.linalg.norm(heading, axis=1, keepdims=True) + 1e-9
        points.append(points[-1] + layer.length / STEPS * heading)
        alive &= np.linalg.norm(at(motif, points[-1]) - first, axis=1) < layer.tolerance
        ends[alive] = max(step, 3)
    return np.stack(points, axis=1), ends


def begin(layer: Layer, motif: Array, random: np.random.Generator) -> Array:
    """Where the strokes of a layer begin, as N x 2 of x and y."""
    grey = motif.mean(axis=2)
    down, right = np.gradient(grey)
    detail = np.maximum(blur(np.hypot(down, right), 3), 0)
    weight = (1 - layer.detail) + layer.detail * detail / detail.mean()
    weight = np.pad(weight, MARGIN, mode="edge")
    chosen = random.choice(weight.size, layer.strokes, p=(weight / weight.sum()).ravel())
    corner = np.stack([chosen % weight.shape[1], chosen // weight.shape[1]], axis=1)
    return corner - MARGIN + random.uniform(-0.5, 0.5, (layer.strokes, 2))


def light(colour: Image.Image, relief: Image.Image) -> Image.Image:
    """Light the relief from the upper left, and scale down."""
    height = np.asarray(relief.filter(ImageFilter.GaussianBlur(1.2)), dtype=np.float64)
    slope: Array = np.asarray(np.gradient(height)).sum(axis=0)
    shade = np.clip(slope * 0.9, -38, 46)[..., None]
    lit = np.clip(np.asarray(colour, dtype=np.float64) + shade, 0, 255)
    return Image.fromarray(lit.astype(np.uint8)).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def noise(cells: int, random: np.random.Generator) -> Array:
    """Smooth noise over the picture, about standard normal, `cells` bumps across."""
    grid = Image.fromarray(random.standard_normal((cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.float64)


def blur(values: Array, radius: float) -> Array:
    """The same at about the resolution of squares of `radius` pixels."""
    image = Image.fromarray(values.astype(np.float32))
    small = (max(1, int(WIDTH / radius)), max(1, int(HEIGHT / radius)))
    smooth = image.resize(small, Image.Resampling.BOX).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float64)


def at(values: Array, points: Array) -> Array:
    """Values of the picture's pixels under points (x, y), which may lie a little outside."""
    x = np.clip(points[:, 0].astype(int), 0, WIDTH - 1)
    y = np.clip(points[:, 1].astype(int), 0, HEIGHT - 1)
    found: Array = values[y, x]
    return found


def rgb(code: str) -> Array:
    """The three numbers of RRGGBB."""
    return np.array([int(code[index : index + 2], 16) for index in (0, 2, 4)], dtype=np.float64)


def ramp(values: Array, *stops: tuple[float, str]) -> Array:
    """Colours along a scale of (value, RRGGBB), one for each value."""
    places = [place for place, _ in stops]
    colours = np.array([rgb(code) for _, code in stops])
    return np.stack([np.interp(values, places, channel) for channel in colours.T], axis=-1)


if __name__ == "__main__":
    sys.exit(main())
