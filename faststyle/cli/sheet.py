"""`faststyle sheet`: one photo in every style there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from faststyle.cli.console import StatusLine
from faststyle.cli.jobs import writable
from faststyle.cli.steps import claim, make_folder
from faststyle.errors import ModelError

if TYPE_CHECKING:
    from faststyle.runtime.stylizer import Stylizer

__all__ = ["Options", "run"]


@dataclass(frozen=True)
class Options:
    """Repaint a photo in every style of the models in checkpoints, side by side with their names; prints the sheet's
    path."""

    photo: Annotated[Positional[str], arg(metavar="PHOTO")]
    """The photo."""
    model: Annotated[
        tuple[str, ...],
        arg(aliases=("-m",), metavar="NAME|PATH...", help_behavior_hint="(default: all there are)"),
    ] = ()
    """Models by their names in checkpoints, or the paths of .onnx files."""
    output: Annotated[
        str | None, arg(aliases=("-o",), metavar="FILE", help_behavior_hint="(default: PHOTO-sheet beside the photo)")
    ] = None
    """Where to write the sheet."""
    size: Annotated[int, arg(metavar="N")] = 400
    """Longer side of each picture in pixels."""
    columns: Annotated[int, arg(metavar="N")] = 3
    """Pictures in a row."""

    def __post_init__(self) -> None:
        if self.size < 64:
            raise ValueError(f"--size must be at least 64, not {self.size}")
        if self.columns < 1:
            raise ValueError(f"--columns must be at least 1, not {self.columns}")


def run(options: Options) -> int:
    """Repaint, lay out and write; a model that cannot be used ends it."""
    from faststyle.checkpoints import find_model, list_models
    from faststyle.images import Picture, fit_within, read_image, save_image
    from faststyle.sheet import contact_sheet

    paths = [find_model(model) for model in options.model] or list(list_models().values())
    if not paths:
        raise ModelError("there are no models in checkpoints: train one with faststyle train, or name one with --model")
    photo = fit_within(read_image(options.photo), options.size)
    source = Path(options.photo)
    output = Path(options.output) if options.output else writable(source.with_stem(f"{source.stem}-sheet"))
    claim(output, [options.photo])
    line = StatusLine()
    cells = [("the photo", photo.rgb)]
    try:
        for label, stylizer in _every_style(paths):
            line.show(label, plain=label)
            cells.append((label, stylizer(photo).rgb))
    finally:
        line.clear()
    make_folder(output)
    sheet = contact_sheet(cells, options.columns)
    save_image(Picture(rgb=sheet, icc_profile=photo.icc_profile, name="the sheet"), output)
    print(output)
    return 0


def _every_style(paths: list[Path]) -> Iterator[tuple[str, Stylizer]]:
    """Every style of every model with its label: the names to choose it by, title and artist."""
    from faststyle.runtime.stylizer import Stylizer

    for path in paths:
        stylizer = Stylizer(path)
        styles = stylizer.card.styles if stylizer.card else ()
        for index, style in enumerate(styles):
            chosen = [float(place == index) for place in range(len(styles))]
            names = [path.stem] * (len(paths) > 1 or not style.name) + [style.name] * bool(style.name)
            about = ", ".join(filter(None, (style.title, style.artist)))
            yield f"{' '.join(names)}: {about}", stylizer.styled(chosen)
        if not styles:
            yield path.stem, stylizer
