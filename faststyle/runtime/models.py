"""Where models lie: by path, or by name in a checkpoints folder. Needs neither onnxruntime nor numpy."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path

from faststyle.errors import ModelError
from faststyle.modelcard import ModelCard

__all__ = ["find_model", "list_models", "read_sidecar"]

_SOURCE_CHECKOUT = Path(__file__).resolve().parents[2]


def list_models() -> dict[str, Path]:
    """Names and paths of the models in `checkpoints`, here and beside the package; the ones here come first."""
    models: dict[str, Path] = {}
    for home in (Path(), _SOURCE_CHECKOUT):
        for path in sorted((home / "checkpoints").glob("*.onnx")):
            models.setdefault(path.stem, path)
    return dict(sorted(models.items()))


def find_model(model: str | os.PathLike[str]) -> Path:
    """The file that a path or a name means: `starry` and `starry.onnx` find `checkpoints/starry.onnx` too.

    Raises ModelError with the nearest name, or the names there are.
    """
    path = Path(model)
    if path.is_file():
        return path
    models = list_models()
    name = os.fspath(model).removesuffix(".onnx")
    if name in models:
        return models[name]
    near = difflib.get_close_matches(path.name.removesuffix(".onnx"), models, 1)
    if near:
        remedy = f"did you mean {near[0]}?"
    elif models:
        remedy = f"take one of {', '.join(models)}, or the path of an .onnx file"
    else:
        remedy = "name the path of an .onnx file"
    raise ModelError(f"there is no model {os.fspath(model)}: {remedy}")


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
