"""Which photo goes where: settled beforehand, so that no result hits a photo or another result."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from faststyle.errors import ImageError

__all__ = ["STREAM", "Job", "identity", "overwrites", "plan", "writable"]

STREAM = "-"
"""Standard input as a photo, standard output as its target."""


@dataclass(frozen=True)
class Job:
    """One photo: its path or `-`, and the file to write; None is standard output."""

    source: str
    target: Path | None
    problem: str = ""
    """Why it cannot be done, where that shows already."""


def plan(photos: Sequence[str], output: str | None, model: str) -> list[Job]:
    """What to repaint and where to write it; creates no file and no folder.

    Of two photos that would get the same result the later one's becomes NAME-2. Raises ImageError where the output does
    not suit the photos, or would overwrite one of them.
    """
    if STREAM in photos or output == STREAM:
        return [_stream(photos, output)]
    folders = [photo for photo in photos if os.path.isdir(photo)]
    if folders and output is None:
        raise ImageError(f"the results from the folder {folders[0]} need a folder: name one with -o")
    found, empty = _expand(photos, output)
    if output is None:
        targets = [path.with_stem(f"{path.stem}-{model}") for path in map(writable, found)]
    elif _is_folder(output):
        targets = [Path(output) / writable(below) for below in found.values()]
    elif folders or len(found) > 1:
        raise ImageError(f"several photos, or a folder of them, cannot go to one file {output}: name a folder with -o")
    else:
        targets = [Path(output)]
    targets = _distinct(targets)
    if target := overwrites(targets, found):
        raise ImageError(f"{target} is one of the photos and would be overwritten: name another place with -o")
    jobs = [Job(str(source), target) for source, target in zip(found, targets, strict=True)]
    return [*jobs, *(Job(folder, None, f"{folder} holds no photos: name a folder with pictures") for folder in empty)]


def _stream(photos: Sequence[str], output: str | None) -> Job:
    photo = photos[0]
    if len(photos) > 1 or os.path.isdir(photo):
        raise ImageError("- serves one photo only: name a folder with -o for several")
    if output is None or output == STREAM:
        if sys.stdout.isatty():
            raise ImageError("the result would go to the terminal: name a file with -o, or redirect standard output")
        return Job(photo, None)
    if _is_folder(output):
        raise ImageError(f"a photo from standard input has no name to go by in {output}: name a file with -o")
    return Job(photo, Path(output))


def _expand(photos: Sequence[str], output: str | None) -> tuple[dict[Path, Path], list[str]]:
    """Every photo once, with its path below an output folder; and the folders that hold none.

    An output folder within a folder of photos is passed over: its pictures are earlier results.
    """
    from faststyle.images import list_images

    found: dict[str, tuple[Path, Path]] = {}
    empty = []
    results = None if output is None else os.path.join(identity(output), "")
    for photo in photos:
        if not os.path.isdir(photo):
            found.setdefault(identity(photo), (Path(photo), Path(Path(photo).name)))
            continue
        paths = list_images(photo)
        folder = os.path.join(identity(photo), "")
        if results is not None and results.startswith(folder) and results != folder:
            paths = [path for path in paths if not identity(path).startswith(results)]
        if not paths:
            empty.append(photo)
        for path in paths:
            found.setdefault(identity(path), (path, path.relative_to(photo)))
    return dict(found.values()), empty


def _distinct(targets: Sequence[Path]) -> list[Path]:
    """The targets with -2, -3 ... added to the names of those that are taken."""
    taken: set[str] = set()
    result = []
    for target in targets:
        path, number = target, 1
        while str(path).casefold() in taken:  # some file systems take no notice of case
            number += 1
            path = target.with_stem(f"{target.stem}-{number}")
        taken.add(str(path).casefold())
        result.append(path)
    return result


def writable(path: Path) -> Path:
    """The path with a suffix that can be written: its own, or .png."""
    from faststyle.images import format_of

    try:
        format_of(path)
        return path
    except ImageError:
        return path.with_suffix(".png")


def _is_folder(output: str) -> bool:
    return os.path.isdir(output) or output.endswith(("/", os.sep)) or not os.path.splitext(output)[1]


def overwrites(targets: Iterable[Path], inputs: Iterable[str | Path]) -> Path | None:
    """The first of the targets that is one of the inputs, by whatever name: some disks take no notice of case."""
    known = {mark for path in inputs for mark in _marks(path)}
    return next((target for target in targets if not known.isdisjoint(_marks(target))), None)


def _marks(path: str | Path) -> set[object]:
    """What two paths share that mean the same file: the path behind all links, and the place on disk."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return {identity(path)}
    return {identity(path), (found.st_dev, found.st_ino)}


def identity(path: str | Path) -> str:
    """What two paths share that mean the same file."""
    return os.path.normcase(os.path.realpath(path))
