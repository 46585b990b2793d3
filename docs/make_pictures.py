"""Make the README's pictures again: photos that scikit-image ships, and what faststyle makes of them.

    python docs/make_pictures.py PAINTING

PAINTING is a picture of The Starry Night, for the optimised one. Some minutes on two cores.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import skimage.data

from faststyle.cli import main as main_of_faststyle
from faststyle.images import read_image, save_image
from faststyle.optimize.deepdream import deepdream
from faststyle.optimize.gatys import gatys
from faststyle.runtime.stylizer import Stylizer

PHOTOS = ("astronaut.png", "rocket.jpg", "coffee.png")
QUALITY = 88
SLOW = "rocket.jpg"
GUIDES = {"cat": "chelsea.png", "cup": "coffee.png"}


def main() -> None:
    (painting,) = sys.argv[1:]
    home, photos = Path(__file__).parent, Path(skimage.data.__file__).parent
    starry = Stylizer(home.parent / "checkpoints" / "starry.onnx")
    for name in PHOTOS:
        photo = read_image(photos / name)
        stem = Path(name).stem
        save_image(photo, home / "pictures" / f"{stem}.jpg", QUALITY)
        save_image(starry(photo), home / "pictures" / f"{stem}-starry.jpg", QUALITY)
    with TemporaryDirectory() as folder:
        sheet = Path(folder) / "sheet.png"
        main_of_faststyle(["sheet", str(photos / PHOTOS[0]), "--model", "gallery", "--size", "480", "-o", str(sheet)])
        save_image(read_image(sheet), home / "pictures" / "gallery.jpg", QUALITY)
    photo = read_image(photos / SLOW)
    slow = {
        "gatys": gatys(photo, [painting]),
        "dream": deepdream(photo),
        **{word: deepdream(photo, guide=photos / guide) for word, guide in GUIDES.items()},
    }
    for word, steps in slow.items():
        *_, last = steps
        save_image(replace(photo, rgb=last.image()), home / "pictures" / f"{Path(SLOW).stem}-{word}.jpg", QUALITY)


if __name__ == "__main__":
    main()
