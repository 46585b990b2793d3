"""`faststyle gatys`: optimise one picture toward a painting."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from faststyle.cli.console import needs
from faststyle.cli.jobs import writable
from faststyle.cli.painting import for_painting
from faststyle.cli.steps import StepDisplay, claim, make_folder, spare
from faststyle.cli.weights import download_bar
from faststyle.config import GatysConfig
from faststyle.errors import FaststyleError

if TYPE_CHECKING:
    from faststyle.images import Picture
    from faststyle.optimize.pixels import Step
    from faststyle.runtime.stylizer import Stylizer
    from faststyle.video import FrameWriter

__all__ = ["Options", "run"]

_FRAMES = 250
"""Frames of a timelapse, ten seconds, or one for each step where there are fewer."""


@dataclass(frozen=True, kw_only=True)
class Options(GatysConfig):
    """Paint one photo in the style of one or several pictures by optimising its pixels (Gatys et al. 2016); minutes a
    picture, and no training. Prints the result's path.

    Ctrl-C stops and writes the picture as it then is.
    """

    content: Annotated[Positional[str], arg(metavar="CONTENT")]
    """The photo to repaint."""
    styles: Annotated[Positional[tuple[str, ...]], arg(metavar="STYLE...", help_behavior_hint="(required)")]
    """The painting, or several to mix."""
    output: Annotated[
        str | None, arg(aliases=("-o",), metavar="FILE", help_behavior_hint="(default: CONTENT-STYLE beside the photo)")
    ] = None
    """Where to write the picture."""
    init: Annotated[str, arg(metavar="content|noise|style|FILE|MODEL.onnx")] = "content"
    """What to start from; the result of a model trained on the painting saves the first steps."""
    mask: Annotated[tuple[str, ...], arg(metavar="FILE...")] = ()
    """Grey pictures, one for each style: white where it applies, black where not."""
    save_every: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: only the result)")] = None
    """Write the picture after every N steps as well, with the step in its name."""
    timelapse: Annotated[str | None, arg(metavar="FILE.mp4|FILE.gif", help_behavior_hint="(default: none)")] = None
    """Film the optimisation."""
    quality: Annotated[int, arg(metavar="1-100")] = 95
    """Quality of JPEG, WebP and AVIF."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.styles:
            raise ValueError("name at least one style image after the content image")
        if self.save_every is not None and self.save_every < 1:
            raise ValueError(f"--save-every must be at least 1, not {self.save_every}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"--quality must lie between 1 and 100, not {self.quality}")


def run(options: Options) -> int:
    """Optimise with a bar on a terminal and a line now and then elsewhere."""
    from faststyle.images import read_image
    from faststyle.video import check_video_path

    with needs("train"):
        from faststyle.optimize.gatys import gatys, scales_of
    config = GatysConfig(**{item.name: getattr(options, item.name) for item in fields(GatysConfig)})
    photo, paintings = read_image(options.content), [read_image(path) for path in options.styles]
    inputs = (options.content, *options.styles, *options.mask, options.init)
    output = claim(_output(options), inputs)
    if options.save_every is not None:
        saved = range(options.save_every, config.steps + 1, options.save_every)
        spare((_at_step(output, step) for step in saved), inputs)
    if options.timelapse is not None:
        check_video_path(options.timelapse)
        spare([Path(options.timelapse)], inputs)
    size = scales_of(photo.rgb.shape[1], photo.rgb.shape[0], config)[-1]
    with download_bar() as bar:
        steps = gatys(
            photo, paintings, config, init=_init(options.init, options.styles[0]), masks=options.mask, on_fetch=bar
        )
    make_folder(output)
    if options.timelapse is not None:
        make_folder(Path(options.timelapse))
    with _film(options.timelapse, size) as film:
        last = _follow(steps, options, photo, output, film)
        _save(options, photo, last, output)
    for path in filter(None, (options.timelapse, output)):
        print(path)
    return 0


def _follow(steps: Iterator[Step], options: Options, photo: Picture, output: Path, film: FrameWriter | None) -> Step:
    """Show and film the steps and return the last, at Ctrl-C the last so far; an error saves the picture first."""
    display, last = StepDisplay(), None
    try:
        for last in steps:
            display.show(last)
            every = math.ceil(last.steps / _FRAMES)
            if film is not None and (last.step % every == 0 or last.step == last.steps):
                film.add(last.image())
            if options.save_every is not None and last.step and last.step % options.save_every == 0:
                _save(options, photo, last, _at_step(output, last.step))
    except KeyboardInterrupt:
        if last is None:
            raise
        display.line.say(f"stopped after step {last.step} of {last.steps}: this is the picture so far")
    except FaststyleError:
        if last is not None:
            _save(options, photo, last, output)
            display.line.say(f"{output} holds the picture as it was at step {last.step} of {last.steps}")
        raise
    finally:
        display.line.clear()
    assert last is not None  # an optimisation yields its start at least
    display.line.say(" ".join(f"{name} {value:.4f}" for name, value in last.losses.items()))
    return last


def _output(options: Options) -> Path:
    """The result's path: the one asked for, or CONTENT-STYLE beside the photo."""
    if options.output is not None:
        return Path(options.output)
    content = Path(options.content)
    return writable(content.with_stem(f"{content.stem}-{Path(options.styles[0]).stem}"))


def _at_step(output: Path, step: int) -> Path:
    """Where the picture of a step goes."""
    return output.with_stem(f"{output.stem}-{step:05}")


def _init(init: str, painting: str) -> str | Stylizer:
    """What to start from: one of the words, the path of a picture, or a model that repaints the photo, in the style
    that learned the painting."""
    if not init.endswith(".onnx"):
        return init
    with needs("cpu"):
        from faststyle.runtime.stylizer import Stylizer
    return for_painting(Stylizer(init), painting)


def _film(path: str | None, size: tuple[int, int]) -> AbstractContextManager[FrameWriter | None]:
    if path is None:
        return nullcontext()
    from faststyle.video import FrameWriter

    return FrameWriter(path, *size)


def _save(options: Options, photo: Picture, step: Step, path: Path) -> None:
    from faststyle.images import save_image, with_pixels

    save_image(with_pixels(photo, step.image()), path, options.quality)
