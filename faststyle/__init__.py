"""faststyle turns a painting into a small network that repaints any photo in its style.

The public names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from faststyle.errors import FaststyleError
    from faststyle.modelcard import ModelCard
    from faststyle.optimize.deepdream import deepdream, zoom
    from faststyle.optimize.gatys import gatys
    from faststyle.runtime.stylizer import Stylizer

__all__ = ["FaststyleError", "ModelCard", "Stylizer", "__version__", "deepdream", "gatys", "zoom"]

__version__ = "0.2.0.dev0"

_HOMES = {
    "FaststyleError": "faststyle.errors",
    "ModelCard": "faststyle.modelcard",
    "Stylizer": "faststyle.runtime.stylizer",
    "deepdream": "faststyle.optimize.deepdream",
    "gatys": "faststyle.optimize.gatys",
    "zoom": "faststyle.optimize.deepdream",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
