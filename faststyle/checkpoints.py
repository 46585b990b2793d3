"""Where models and weights lie: by path, or by name in a checkpoints folder. Needs nothing but Python."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path

from faststyle.errors import ModelError
from faststyle.modelcard import ModelCard

__all__ = ["find_model", "find_weights", "list_models", "list_weights", "read_sidecar"]

_SOURCE_CHECKOUT = Path(__file__).resolve().parents[1]


def list_models() -> dict[str, Path]:
    """Names and paths of the models in `checkpoints`, here and beside the package; the ones here come first."""
    return _named(".onnx")


def list_weights() -> dict[str, Path]:
    """Names and paths of the weights in `checkpoints`, as `list_models` has them of models."""
    return _named(".safetensors")


def find_model(model: str | os.PathLike[str]) -> Path:
    """The file that a path or a name means: `starry` and `starry.onnx` find `checkpoints/starry.onnx` too.

    Raises ModelError with the nearest name, or the names there are.
    """
    return _find(model, ".onnx", "model")


def find_weights(weights: str | os.PathLike[str]) -> Path:
    """The weights file that a path or a name means: `starry` finds `checkpoints/starry.safetensors` too.

    Raises ModelError with the nearest name, or the names there are.
    """
    return _find(weights, ".safetensors", "weights file")


def _named(suffix: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for home in (Path(), _SOURCE_CHECKOUT):
        for path in sorted((home / "checkpoints").glob(f"*{suffix}")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def _find(what: str | os.PathLike[str], suffix: str, kind: str) -> Path:
    path = Path(what)
    if path.is_file():
        return path
    named = _named(suffix)
    name = os.fspath(what).removesuffix(suffix)
    if name in named:
        return named[name]
    near = difflib.get_close_matches(path.name.removesuffix(suffix), named, 1)
    if near:
        remedy = f"did you mean {near[0]}?"
    elif named:
        remedy = f"take one of {', '.join(named)}, or the path of a file {suffix}"
    else:
        remedy = f"name the path of a file {suffix}"
    raise ModelError(f"there is no {kind} {os.fspath(what)}: {remedy}")


def read_sidecar(model: Path) -> ModelCard | None:
    """The card in the JSON file beside a model; None where there is none. Raises ModelError for a damaged one."""
    sidecar = model.with_suffix(".json")
    try:
        values = json.loads(sidecar.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no JSON object")
        return ModelCard.from_dict(values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f"{sidecar} cannot be read ({error}): export the model again") from None
    except ModelError as error:
        raise ModelError(f"{sidecar}: {error}") from None
