"""Which of a model's styles learned a painting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from faststyle.errors import ImageError, ModelError

if TYPE_CHECKING:
    from faststyle.runtime.stylizer import Stylizer

__all__ = ["for_painting"]


def for_painting(stylizer: Stylizer, painting: str) -> Stylizer:
    """The style that learned this file or is named like it; a model of one style is taken at its user's word.

    Raises ModelError where there is none.
    """
    from faststyle.files import file_digest

    styles = stylizer.card.styles if stylizer.card else ()
    if len(styles) < 2:
        return stylizer
    try:
        digest = file_digest(painting)
    except OSError as error:
        raise ImageError(f"{painting} cannot be read ({error.strerror}): check the path of the painting") from None
    known = [style.sha256 == digest for style in styles]
    if not any(known):
        known = [style.name == Path(painting).stem for style in styles]
    if not any(known):
        names = ", ".join(stylizer.styles)
        raise ModelError(f"none of the model's styles has learned {painting}: name the painting of {names}")
    return stylizer.styled([float(each) for each in known])
