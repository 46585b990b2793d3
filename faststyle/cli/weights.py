"""`faststyle weights`: where the loss network's weights are; fetched if they are missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from faststyle.cli.console import StatusLine, needs

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
    print(fetch(options.network, options.file))
    return 0


def fetch(network: str, file: str | None) -> Path:
    """The path of the loss network's weights, fetched with a bar if they are missing."""
    with needs("train"):
        from faststyle.nets.weights import find_weights
    line, last = StatusLine(), ""

    def show(source: str, done: int, total: int) -> None:
        """A bar on a terminal, a line per quarter elsewhere."""
        nonlocal last
        share = min(1.0, done / total) if total else 0.0
        size = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else f"{done / 1e6:.0f} MB"
        plain = f"fetching from {source}" + (f": {25 * int(4 * share)} %" if total else "")
        line.show(f"[{'#' * int(20 * share):20}] {size} from {source}", plain=None if plain == last else plain)
        last = plain

    try:
        info = find_weights(network, file, show)
    finally:
        line.clear()
    digest = "digest ok" if info.verified else "no digest to check, shapes ok"
    line.say(f"{info.network}: {info.size / 1e6:.1f} MB from {info.source}, {digest}")
    return info.path
