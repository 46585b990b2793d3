"""`faststyle evaluate`: how good a model is."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from faststyle.cli.console import StatusLine, needs
from faststyle.cli.jobs import identity
from faststyle.cli.painting import for_painting
from faststyle.cli.steps import PLAIN_EVERY, duration, make_folder
from faststyle.cli.weights import download_bar
from faststyle.config import EvaluateConfig
from faststyle.errors import ConfigError

if TYPE_CHECKING:
    from faststyle.evaluate.run import Evaluation, Progress

__all__ = ["Options", "run"]

_FROM = {"photo": "the photo", "noise": "noise"}


@dataclass(frozen=True, kw_only=True)
class Options(EvaluateConfig):
    """Measure a model on photos that it has not seen: content and style loss, LPIPS where the lpips package is
    installed, and how many steps of L-BFGS (Gatys et al. 2016) on the pixels of a photo reach the same loss.

    The first model of a painting takes the better part of an hour, others minutes: the optimisation's losses are kept.
    Ctrl-C keeps those that are done.
    """

    model: Annotated[Positional[str], arg(metavar="NAME|PATH")]
    """A model by its name in checkpoints, or the path of an .onnx file."""
    photos: Annotated[str, arg(metavar="DIR")]
    """Folder of photos, searched recursively."""
    style: Annotated[str, arg(metavar="IMAGE")]
    """The painting that the model learned; of several styles the one that learned this file, or is named like it."""
    json: bool = False
    """Print JSON instead of a table."""
    output: Annotated[str | None, arg(aliases=("-o",), metavar="FILE.json", help_behavior_hint="(default: none)")] = (
        None
    )
    """Write the JSON to a file besides."""


def run(options: Options) -> int:
    """Print the table or the JSON; a line on standard error tells how far it is."""
    from faststyle.checkpoints import find_model
    from faststyle.files import write_file

    with needs("cpu"):
        from faststyle.runtime.stylizer import Stylizer
    with needs("train"):
        from faststyle.evaluate.run import evaluate
    config = EvaluateConfig(**{item.name: getattr(options, item.name) for item in fields(EvaluateConfig)})
    model = find_model(options.model)
    output = None if options.output is None else _claim(Path(options.output), model)
    stylizer = for_painting(Stylizer(model), options.style)
    display = _Display()
    try:
        with download_bar() as bar:
            result = evaluate(stylizer, options.photos, options.style, config, on_progress=display.show, on_fetch=bar)
    finally:
        display.line.clear()
    inputs = {"model": str(model), "photos": options.photos, "style": options.style}
    text = json.dumps({**inputs, **result.to_dict()}, indent=2, ensure_ascii=False)
    if output is not None:
        make_folder(output)
        write_file(output, f"{text}\n".encode(errors="surrogateescape"))
    print(text if options.json else _table(result))
    return 0


def _claim(output: Path, model: Path) -> Path:
    """Refuse a file that could not be written now, not after the work, or that would replace an input."""
    from faststyle.files import check_target

    if output.suffix.lower() != ".json":
        raise ConfigError(f"--output {output} does not end in .json, which is what it is written as: add that")
    if identity(output) == identity(model.with_suffix(".json")):
        raise ConfigError(f"--output {output} is the model's card and would be overwritten: choose another name")
    check_target(output)
    return output


class _Display:
    """Shows how far a measurement is: a line that is redrawn on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self.line = StatusLine()
        self._start = 0.0
        self._last = -math.inf

    def show(self, progress: Progress) -> None:
        """Tell of one picture or one step."""
        now = time.monotonic()
        photo = f"{progress.photo}/{progress.photos}"
        text = f"losses {photo} at {progress.size} x {progress.size}"
        if progress.start:
            text = f"curves {photo} from {_FROM[progress.start]}, step {progress.step}"
            if progress.fraction == 0:
                self._start = now
            else:
                text += f", {duration((now - self._start) * (1 / progress.fraction - 1))} left"
        due = now - self._last >= PLAIN_EVERY
        self.line.show(text, plain=text if due else None)
        if due:
            self._last = now


def _table(result: Evaluation) -> str:
    """Sizes as rows, losses as columns, and the two lines that compare with optimisation."""
    heads = ["size", *(name.removeprefix("style_") for name in next(iter(result.sizes.values())))]
    rows = [[str(size), *(f"{loss:.4f}" for loss in losses.values())] for size, losses in result.sizes.items()]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows)]
    for start, words in _FROM.items():
        lower, median, upper = (_steps(value, result.steps) for value in result.quartiles(start))
        lines.append(f"equals {median} L-BFGS steps from {words} (quartiles {lower} to {upper}, {result.count} photos)")
    return "\n".join(lines)


def _steps(value: float, limit: int) -> str:
    return f"{value:.0f}" if math.isfinite(value) else f">{limit}"
