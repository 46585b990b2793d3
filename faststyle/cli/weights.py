"""`faststyle weights`: where the loss network's weights are; fetched if they are missing."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import arg

from faststyle.errors import WeightsError

__all__ = ["Options", "run"]


@dataclass(frozen=True)
class Options:
    """Show where the loss network's weights are, check them, and fetch them if they are missing.

    Training fetches them by itself; this does it beforehand. The file's path goes to standard output.
    """

    network: Literal["vgg16", "vgg19"] = "vgg16"
    """The loss network."""
    file: Annotated[str | None, arg(metavar="FILE")] = None
    """Check this file instead of the cache."""


def run(options: Options) -> int:
    """Print the path, and on standard error size, source and digest."""
    try:
        from faststyle.nets.weights import find_weights
    except ModuleNotFoundError as error:
        reason = f"the loss network needs {error.name}, which is not installed"
        raise WeightsError(f"{reason}: pip install 'faststyle-onnx[train]'") from None
    bar = _Bar()
    try:
        info = find_weights(options.network, options.file, bar.show)
    finally:
        bar.clear()
    digest = "digest ok" if info.verified else "no digest to check, shapes ok"
    print(f"{info.network}: {info.size / 1e6:.1f} MB from {info.source}, {digest}", file=sys.stderr)
    print(info.path)
    return 0


class _Bar:
    """A download on standard error: a bar that is redrawn on a terminal, a line per quarter elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = ""

    def show(self, source: str, done: int, total: int) -> None:
        share = min(1.0, done / total) if total else 0.0
        size = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else f"{done / 1e6:.0f} MB"
        if self._terminal:
            line = f"[{'#' * int(20 * share):20}] {size} from {source}"[: shutil.get_terminal_size().columns - 1]
        else:
            line = f"fetching from {source}" + (f": {25 * int(4 * share)} %" if total else "")
        if line != self._last:
            print(f"\r\033[K{line}" if self._terminal else line, end="" if self._terminal else "\n", file=sys.stderr)
            sys.stderr.flush()
            self._last = line

    def clear(self) -> None:
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
