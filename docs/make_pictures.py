"""Make the README's pictures again: photos that scikit-image ships, and what the shipped model makes of them.

python docs/make_pictures.py
"""

from __future__ import annotations

from pathlib import Path

import skimage.data

from faststyle.images import read_image, save_image
from faststyle.runtime.stylizer import Stylizer

PHOTOS = ("astronaut.png", "rocket.jpg", "coffee.png")
QUALITY = 88


def main() -> None:
    home = Path(__file__).parent
    starry = Stylizer(home.parent / "checkpoints" / "starry.onnx")
    for name in PHOTOS:
        photo = read_image(Path(skimage.data.__file__).parent / name)
        stem = Path(name).stem
        save_image(photo, home / "pictures" / f"{stem}.jpg", QUALITY)
        save_image(starry(photo), home / "pictures" / f"{stem}-starry.jpg", QUALITY)


if __name__ == "__main__":
    main()
