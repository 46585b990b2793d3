"""Eight-bit models: a frozen net's convolutions in integers, for processors that multiply bytes fast.

The ranges of all values are measured on photos; onnxruntime's own quantizer does the rest. Instance norms have no
integer form, so the net must be one whose norms are constants.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from faststyle.errors import ImageError, ModelError
from faststyle.export import build_onnx, repaint
from faststyle.files import write_file
from faststyle.images import fit_pixels
from faststyle.modelcard import ModelCard
from faststyle.nets.files import load_net
from faststyle.runtime.stylizer import Stylizer

__all__ = ["CALIBRATION_PIXELS", "quantize_model", "quantize_onnx"]

CALIBRATION_PIXELS = 512 * 512
"""Photos are scaled down to this many pixels before ranges are measured on them."""

RELIEF = ("relief.light", "seeds.gains")
"""Tensors that the first node of a relief takes, and the first after it."""

LEAST_LIKENESS = 25.0
"""Decibels (PSNR) below which an int8 model is not what was trained."""

Pixels = NDArray[np.uint8]


def quantize_onnx(weights: str | Path, model: str | Path, photos: Iterable[Pixels]) -> float:
    """Write the int8 model of a weights file, and its card; returns how near it comes to float32, in dB (PSNR).

    `photos` are uint8 H x W x 3 with at least 16 pixels a side. The likeness is that of this processor. Nothing is
    written where it is below `LEAST_LIKENESS`: that, a net with instance norms and a damaged file raise ModelError; no
    photos at all raise ImageError.
    """
    net, card = load_net(weights)
    if net.config.norm != "frozen":
        raise ModelError(f"{weights} holds instance norms, which have no int8 form: train it on with --frozen first")
    fitted = [fit_pixels(photo, CALIBRATION_PIXELS) for photo in photos]
    if not fitted:
        raise ImageError(f"there are no photos to measure the ranges of {weights} on: name others with --int8")
    card = replace(card, precision="int8")
    data = build_onnx(net, card)
    quantized = quantize_model(data, fitted)
    rounded = Stylizer(quantized, provider="cpu")
    errors = [np.mean((rounded(photo).astype(np.float32) - repaint(net, photo[None])[0]) ** 2) for photo in fitted]
    likeness = float(10 * np.log10(255**2 / max(float(np.mean(errors)), 1e-6)))
    if likeness < LEAST_LIKENESS:
        raise ModelError(f"{weights} suffers in int8 ({likeness:.1f} dB): name photos more like those it is meant for")
    card = replace(card, metrics={**card.metrics, "int8_psnr": round(likeness, 2)})
    model = Path(model)
    write_file(model, _with_card(quantized, card))
    write_file(model.with_suffix(".json"), card.to_json().encode())
    return likeness


def quantize_model(model: bytes, photos: Sequence[Pixels]) -> bytes:
    """The model with integer convolutions, sums and upsampling, in QDQ form; what goes in and comes out stays.

    Weights have a scale for every channel, activations one for each tensor, from the smallest to the largest value that
    the photos give. The head stays in float32, and the photo beside it: their rounding would be seen.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Photos(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._photos: Iterator[Pixels] = iter(photos)

        def get_next(self) -> dict[str, Pixels] | None:
            photo = next(self._photos, None)
            return None if photo is None else {"image": photo[None]}

    graph = onnx.load_from_string(model).graph
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
    names = [node.name for node in graph.node]
    # Sums before the first convolution are those of the dither and of sizes.
    early = [node.name for node in graph.node[: names.index(convolutions[0])]]
    head = next(node.name for node in graph.node if "head.0.weight" in node.input)
    late = [node.name for node in graph.node[names.index(head) :]]
    # A relief enlarges what is less than a step of eight bits; what it gives is as large as other features.
    places = [next((i for i, node in enumerate(graph.node) if name in node.input), 0) for name in RELIEF]
    relief = names[slice(*places)]
    logging.getLogger().addFilter(_quiet)
    try:
        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
            before.write_bytes(model)
            quantize_static(
                before,
                after,
                Photos(),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                # Seven bits: products of whole bytes overflow on x86 processors without VNNI.
                reduce_range=True,
                op_types_to_quantize=["Conv", "Relu", "Add", "Resize"],
                nodes_to_exclude=[*early, *relief, *late],
            )
            return after.read_bytes()
    finally:
        logging.getLogger().removeFilter(_quiet)


def _quiet(record: logging.LogRecord) -> bool:
    """Without the quantizer's advice to run its pre-processing: there is nothing to fuse in our graphs."""
    return "pre-processing before quantization" not in record.getMessage()


def _with_card(model: bytes, card: ModelCard) -> bytes:
    proto = onnx.load_from_string(model)
    helper.set_model_props(proto, card.to_metadata())
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data
