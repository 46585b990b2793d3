"""`faststyle export`: weights become a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from faststyle.cli.console import needs
from faststyle.errors import ModelError

__all__ = ["Options", "run"]


@dataclass(frozen=True)
class Options:
    """Write the ONNX model of a weights file, with its card beside it as JSON; the model's path goes to standard
    output.

    Training exports by itself; this does it again, for weights that came another way or a newer faststyle.
    """

    weights: Annotated[Positional[str], arg(metavar="WEIGHTS")]
    """A .safetensors file that training wrote, or its name in checkpoints."""
    output: Annotated[
        str | None, arg(aliases=("-o",), metavar="FILE.onnx", help_behavior_hint="(default: beside the weights)")
    ] = None
    """Where to write the model."""


def run(options: Options) -> int:
    """Export, check and compare with torch; print the model's path."""
    with needs("train"):
        from faststyle.export import export_onnx
    from faststyle.checkpoints import find_weights

    weights = find_weights(options.weights)
    model = Path(options.output) if options.output is not None else weights.with_suffix(".onnx")
    if model.suffix != ".onnx":
        raise ModelError(f"{model} does not end in .onnx: name the model to write with -o FILE.onnx")
    export_onnx(weights, model)
    print(model)
    return 0
