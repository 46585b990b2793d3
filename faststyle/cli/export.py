"""`faststyle export`: weights become a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from faststyle.cli.console import needs, report
from faststyle.cli.steps import make_folder
from faststyle.errors import ModelError

__all__ = ["Options", "run"]

CALIBRATION = 32
"""Most photos on which the ranges of an int8 model are measured."""


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
    """Where to write the model; NAME-int8.onnx by default with --int8, NAME-required.onnx with --required-inputs."""
    int8: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="(default: float32)")] = None
    """Compute in 8-bit integers, with ranges measured on up to 32 photos of this folder: smaller, and faster where the
    processor has byte products (AVX-512 VNNI, ARM). Takes weights that were trained with --frozen."""
    required_inputs: bool = False
    """Give strength and style_weights no defaults: every call must then name them, for programs that see no optional
    inputs, such as onnxruntime-web and onnxruntime-node."""


def run(options: Options) -> int:
    """Export, check and compare with torch; print the model's path."""
    with needs("train"):
        from faststyle.export import export_onnx
    from faststyle.checkpoints import find_weights
    from faststyle.files import check_target

    weights = find_weights(options.weights)
    kind = "-int8" if options.int8 is not None else "-required" if options.required_inputs else ""
    beside = weights.with_name(f"{weights.stem}{kind}.onnx")
    model = Path(options.output) if options.output is not None else beside
    if model.suffix != ".onnx":
        raise ModelError(f"{model} does not end in .onnx: name the model to write with -o FILE.onnx")
    if options.int8 is not None and options.required_inputs:
        raise ModelError("int8 models have neither strength nor styles to choose: export without --required-inputs")
    check_target(model)
    make_folder(model)
    if options.int8 is None:
        export_onnx(weights, model, options.required_inputs)
    else:
        _export_int8(weights, model, options.int8)
    print(model)
    return 0


def _export_int8(weights: Path, model: Path, folder: str) -> None:
    from faststyle.evaluate.photos import find_photos, spread
    from faststyle.quantize import quantize_onnx

    likeness = quantize_onnx(weights, model, spread(find_photos(folder, "--int8"), CALIBRATION))
    report(f"on the photos int8 is within {likeness:.1f} dB (PSNR) of float32", "note")
