"""Contact sheets: many pictures with their names on one."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["GAP", "contact_sheet"]

GAP = 8
"""Pixels between pictures."""


def contact_sheet(cells: Sequence[tuple[str, NDArray[np.uint8]]], columns: int) -> NDArray[np.uint8]:
    """Pictures of equal size, uint8 H x W x 3, in rows on white, each with its label below; the same as one picture.

    A label that is too long for its picture ends in dots, accents are left out.
    """
    height, width = cells[0][1].shape[:2]
    text = max(11, width // 26)
    font = ImageFont.load_default(text)
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    across, down = width + GAP, height + 2 * text + GAP
    sheet = Image.new("RGB", (columns * across + GAP, rows * down + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (label, rgb) in enumerate(cells):
        # Pillow's own font has no accents.
        label = "".join(letter for letter in unicodedata.normalize("NFKD", label) if not unicodedata.combining(letter))
        left, top = GAP + place % columns * across, GAP + place // columns * down
        sheet.paste(Image.fromarray(rgb), (left, top))
        while draw.textlength(label, font) > width and len(label) > 4:
            label = label[:-4].rstrip(" .,:") + "..."
        draw.text((left, top + height + text // 3), label, fill="black", font=font)
    return np.array(sheet)
