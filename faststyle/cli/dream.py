"""`faststyle dream`: let a network's layers see things in a photo."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from faststyle.cli.console import StatusLine, needs
from faststyle.cli.jobs import writable
from faststyle.cli.steps import PLAIN_EVERY, StepDisplay, claim, duration, make_folder, spare
from faststyle.cli.weights import download_bar
from faststyle.config import DreamConfig
from faststyle.errors import FaststyleError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from faststyle.optimize.pixels import Step

__all__ = ["Options", "run"]

NOISE = "noise"


@dataclass(frozen=True)
class Options(DreamConfig):
    """DeepDream: change a photo until the layers of a network see more in it of what they see already. Prints the
    result's path.

    Ctrl-C stops and writes the picture as it then is, or the video so far.
    """

    image: Annotated[
        Positional[str | None], arg(metavar="IMAGE|noise", help_behavior_hint="(required, but for --list-layers)")
    ] = None
    """The photo to dream on, or noise."""
    output: Annotated[
        str | None, arg(aliases=("-o",), metavar="FILE", help_behavior_hint="(default: IMAGE-dream beside the photo)")
    ] = None
    """Where to write the picture, or with --zoom the .mp4 or .gif."""
    size: Annotated[
        int | None,
        arg(metavar="N", help_behavior_hint="(default: the photo's own, at most 1024; 512 for noise and --zoom)"),
    ] = None
    layers: Annotated[
        tuple[str, ...],
        arg(name="layer", metavar="NAME[:CHANNEL][=WEIGHT]...", help_behavior_hint="(default: relu4_3 of vgg16)"),
    ] = ()
    guide: Annotated[str | None, arg(metavar="FILE", help_behavior_hint="(default: none)")] = None
    """Let the layers look for what they find in this picture: eyes in a cat's."""
    class_name: Annotated[
        str | None, arg(name="class", metavar="NAME|NUMBER", help_behavior_hint="(default: none)")
    ] = None
    octaves: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: from about 100 pixels on)")] = None
    weights: Annotated[str | None, arg(metavar="FILE", help_behavior_hint="(default: found or fetched)")] = None
    zoom: Annotated[int | None, arg(metavar="FRAMES", help_behavior_hint="(default: a picture)")] = None
    """Film the endless zoom: so many frames, each the last one enlarged and dreamt on."""
    list_layers: bool = False
    """Print the network's layers, shallow to deep, and do nothing else."""
    quality: Annotated[int, arg(metavar="1-100")] = 95
    """Quality of JPEG, WebP and AVIF."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image is None and not self.list_layers:
            raise ValueError("name a photo to dream on, or noise")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"--quality must lie between 1 and 100, not {self.quality}")


def run(options: Options) -> int:
    """Dream with a bar on a terminal and a line now and then elsewhere."""
    with needs("train"):
        from faststyle.nets.backbones import layer_names
        from faststyle.optimize.deepdream import deepdream, zoom
    if options.image is None or options.list_layers:
        print("\n".join(layer_names(options.network)))
        return 0
    from faststyle.images import Picture, read_image, save_image, with_pixels

    config = DreamConfig(**{item.name: getattr(options, item.name) for item in fields(DreamConfig)})
    photo = None if options.image == NOISE else read_image(options.image)
    guide = None if options.guide is None else read_image(options.guide)
    output = _output(options)
    with download_bar() as bar:
        if options.zoom is not None:
            frames = zoom(photo or NOISE, config, options.zoom, guide=guide, on_fetch=bar)
        else:
            steps = deepdream(photo or NOISE, config, guide=guide, on_fetch=bar)
    make_folder(output)
    if options.zoom is not None:
        _film(frames, options.zoom, output)
    else:
        _dream(
            steps,
            lambda rgb: save_image(Picture(rgb) if photo is None else with_pixels(photo, rgb), output, options.quality),
        )
    print(output)
    return 0


def _output(options: Options) -> Path:
    """The result's path, refused now if it cannot be written: the one asked for, or IMAGE-dream beside the photo."""
    from faststyle.video import check_video_path

    inputs = (options.image, options.guide)
    source = Path(f"{NOISE}.png" if options.image == NOISE else str(options.image))
    path = source.with_stem(f"{source.stem}-dream") if options.output is None else Path(options.output)
    if options.zoom is None:
        return claim(writable(path) if options.output is None else path, inputs)
    path = path.with_suffix(".mp4") if options.output is None else path
    check_video_path(path)
    spare([path], inputs)
    return path


def _dream(steps: Iterator[Step], save: Callable[[NDArray[np.uint8]], None]) -> None:
    """Show the steps and save the picture: the last, at Ctrl-C or after an error as far as it had come."""
    display, last = StepDisplay(), None
    try:
        for last in steps:
            display.show(replace(last, losses={"objective": -last.losses["total"]}))
    except KeyboardInterrupt:
        if last is None:
            raise
        display.line.say(f"stopped early: the picture shows {last.step} of {last.steps} steps")
    except FaststyleError:
        if last is not None:
            save(last.image())
            display.line.say(f"failed: the picture shows {last.step} of {last.steps} steps")
        raise
    finally:
        display.line.clear()
    assert last is not None  # every dream has a step
    save(last.image())


def _film(frames: Iterator[NDArray[np.uint8]], count: int, output: Path) -> None:
    """Write the frames as they come; Ctrl-C ends the video."""
    from faststyle.video import FrameWriter

    line, told = StatusLine(), -math.inf
    line.show(f"frame 1/{count}", plain=f"frame 1/{count}: the dream that the zoom starts from")
    try:
        first = next(frames)
        with FrameWriter(output, first.shape[1], first.shape[0]) as writer:
            writer.add(first)
            begun, written = time.monotonic(), 1
            try:
                for number, frame in enumerate(frames, 2):
                    writer.add(frame)
                    written = number
                    now = time.monotonic()
                    text = f"frame {number}/{count}, {duration((now - begun) / (number - 1) * (count - number))} left"
                    due = now - told >= PLAIN_EVERY
                    line.show(f"[{'#' * (20 * number // count):20}] {text}", plain=text if due else None)
                    told = now if due else told
            except KeyboardInterrupt:
                line.say(f"stopped early: the video holds {written} of {count} frames")
    finally:
        line.clear()
