"""`faststyle stylize`: repaint photos."""

from __future__ import annotations

import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from faststyle.cli.console import StatusLine, report
from faststyle.cli.jobs import STREAM, Job, plan
from faststyle.cli.steps import make_folder
from faststyle.errors import FaststyleError, ImageError

if TYPE_CHECKING:
    from pathlib import Path

    from faststyle.images import Picture
    from faststyle.runtime.stylizer import Stylizer

__all__ = ["Options", "run"]


@dataclass(frozen=True)
class Options:
    """Repaint photos with a model; the path of each result goes to standard output.

    A result is exactly as large as its photo. Orientation is applied; alpha, colour profile, EXIF and XMP are kept.
    """

    photos: Annotated[Positional[tuple[str, ...]], arg(metavar="PHOTO...", help_behavior_hint="(required)")]
    """Photos, folders (searched with their subfolders), or - for standard input."""
    model: Annotated[str, arg(aliases=("-m",), metavar="NAME|PATH")] = "gallery"
    """A model by its name in checkpoints, or the path of an .onnx file."""
    style: Annotated[
        str | None, arg(aliases=("-s",), metavar="NAME[:W],...", help_behavior_hint="(default: the model's first)")
    ] = None
    """Which of the model's styles, or several to mix with their weights: starry:0.6,wave:0.4. `faststyle models` lists
    them."""
    strength: Annotated[float | None, arg(metavar="0-1", help_behavior_hint="(default: 1)")] = None
    """How much style: 0 is the photo itself."""
    keep_colors: Annotated[
        Literal["luminance", "histogram"] | None, arg(help_behavior_hint="(default: the painting's)")
    ] = None
    """Keep the photo's colours: take only the luminance from the result, or give the result the photo's mean colour and
    contrasts."""
    output: Annotated[
        str | None,
        arg(
            aliases=("-o",),
            metavar="FILE|DIR|-",
            help_behavior_hint="(default: NAME-MODEL or NAME-STYLE beside the photo)",
        ),
    ] = None
    """Where to write: a file, a folder (created if missing), or - for standard output. Several photos or a folder of
    photos go to a folder; subfolders are kept."""
    size: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: as it is)")] = None
    """Scale each photo down so that its longer side has at most N pixels; smaller ones stay as they are."""
    quality: Annotated[int, arg(metavar="1-100")] = 95
    """Quality of JPEG, WebP and AVIF."""
    provider: Annotated[
        Literal["cpu", "cuda", "tensorrt", "coreml", "directml"] | None,
        arg(help_behavior_hint="(default: the best that is installed)"),
    ] = None
    """Where to run; fails rather than run elsewhere."""
    threads: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: one a core)")] = None
    """Threads that the CPU uses."""

    def __post_init__(self) -> None:
        if not self.photos:
            raise ValueError("name at least one photo, a folder of photos, or - for standard input")
        if self.strength is not None and not 0 <= self.strength <= 1:
            raise ValueError(f"--strength must lie between 0 and 1, not {self.strength}")
        if self.size is not None and self.size < 1:
            raise ValueError(f"--size must be at least 1, not {self.size}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"--quality must lie between 1 and 100, not {self.quality}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"--threads must be at least 1, not {self.threads}")


def run(options: Options) -> int:
    """Repaint all photos; a broken one in a batch does not stop the others. Returns 1 where one failed."""
    from faststyle.checkpoints import find_model
    from faststyle.runtime.stylizer import Stylizer

    model = find_model(options.model)
    label = _label(model, options.style)
    jobs = plan(options.photos, options.output, label)
    stylizer = Stylizer(model, provider=options.provider, threads=options.threads)
    if options.style is not None or options.strength is not None:
        stylizer = stylizer.styled(options.style, options.strength)
    if len(jobs) == 1:
        (job,) = jobs
        _write(job, _repaint(_read(job, options), stylizer, options), options)
        if job.target is not None:
            print(job.target, flush=True)
        return 0
    failed = _repaint_all(jobs, stylizer, options)
    if failed:
        report(f"{len(failed)} of {len(jobs)} photos failed: {', '.join(failed)}")
    return 1 if failed else 0


def _repaint_all(jobs: list[Job], stylizer: Stylizer, options: Options) -> list[str]:
    """Repaint one photo while the next is read and the one before is written; returns the photos that failed."""
    line, lock, failed = StatusLine(), threading.Lock(), []

    def finish(job: Job, result: Picture) -> None:
        """Write a result and print its path, in a thread: also while the main one is being interrupted."""
        try:
            _write(job, result, options)
        except FaststyleError as error:
            fail(job, error)
        else:
            with lock:
                line.clear()
                print(job.target, flush=True)

    def fail(job: Job, error: FaststyleError) -> None:
        with lock:
            report(str(error))
        failed.append(job.source)

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        reading, writing = reader.submit(_read, jobs[0], options), None
        try:
            for done, job in enumerate(jobs):
                bar = "#" * (20 * done // len(jobs))
                with lock:
                    line.show(
                        f"[{bar:20}] {done}/{len(jobs)} {job.source}", plain=f"{done + 1}/{len(jobs)} {job.source}"
                    )
                photo = reading
                if done + 1 < len(jobs):
                    reading = reader.submit(_read, jobs[done + 1], options)
                try:
                    result = _repaint(photo.result(), stylizer, options)
                except FaststyleError as error:
                    fail(job, error)
                    continue
                if writing is not None:
                    writing.result()  # no more than one result waits; other errors than ours end the batch
                writing = writer.submit(finish, job, result)
            if writing is not None:
                writing.result()
        finally:
            reading.cancel()
            with lock:
                line.clear()
    return failed


def _label(model: Path, style: str | None) -> str:
    """What a result is called after: its styles, or the model."""
    from faststyle.runtime.mixing import parse_mixture

    name = model.stem if style is None else "-".join(parse_mixture(style))
    return re.sub(r"[^\w.+ -]", "_", name)


def _repaint(photo: Picture, stylizer: Stylizer, options: Options) -> Picture:
    """A photo repainted, and its colours kept if asked."""
    result = stylizer(photo)
    if options.keep_colors is None:
        return result
    from faststyle.colors import keep_chrominance, luminance, match_colors

    if options.keep_colors == "histogram":
        return replace(result, rgb=match_colors(result.rgb, photo.rgb))
    return replace(result, rgb=keep_chrominance(luminance(result.rgb), photo.rgb))


def _read(job: Job, options: Options) -> Picture:
    from faststyle.images import fit_within, read_image

    if job.problem:
        raise ImageError(job.problem)
    picture = read_image(sys.stdin.buffer if job.source == STREAM else job.source)
    return picture if options.size is None else fit_within(picture, options.size)


def _write(job: Job, result: Picture, options: Options) -> None:
    from faststyle.images import encode_image, save_image

    if job.target is None:
        sys.stdout.buffer.write(encode_image(result, result.format, options.quality))
        return
    make_folder(job.target)
    save_image(result, job.target, options.quality)
