"""`faststyle weights`: where the loss network's weights are; fetched if they are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from faststyle.cli.console import StatusLine, needs

__all__ = ["Options", "download_bar", "fetch", "run"]


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
    with download_bar() as show:
        info = find_weights(network, file, show)
    digest = "digest ok" if info.verified else "no digest to check, shapes ok"
    StatusLine().say(f"{info.network}: {info.size / 1e6:.1f} MB from {info.source}, {digest}")
    return info.path


@contextmanager
def download_bar() -> Iterator[Callable[[str, int, int], None]]:
    """What a download tells of itself, source, bytes done and bytes in all, as a bar; a line per quarter elsewhere."""
    line, last = StatusLine(), ""

    def show(source: str, done: int, total: int) -> None:
        nonlocal last
        share = min(1.0, done / total) if total else 0.0
        size = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else f"{done / 1e6:.0f} MB"
        plain = f"fetching from {source}" + (f": {25 * int(4 * share)} %" if total else "")
        line.show(f"[{'#' * int(20 * share):20}] {size} from {source}", plain=None if plain == last else plain)
        last = plain

    try:
        yield show
    finally:
        line.clear()
