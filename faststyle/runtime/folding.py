"""Folding: the statistics of one photo become constants of the graph, and the instance norms vanish.

An instance norm subtracts a mean and divides by a deviation that it takes from the very picture it runs on. Once those
numbers are known they are constants, the norm is a batch norm in inference, and onnxruntime folds it into the weights
of the convolution before it. What is left, convolutions and the photo's relief, stays in onnxruntime's fast layout,
treats every tile of a picture alike and does not flicker from frame to frame.

The ONNX file is edited here as bytes, without the `onnx` package. Two rules of the protobuf encoding make that short: a
message is a string of tagged fields in any order, and where a single-valued field is given twice, the last one holds.
So a node becomes another one by appending a field to it. Field numbers are those of onnx.proto3, which cannot change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["ORIGIN", "STRENGTH", "STYLE_WEIGHTS", "Statistics", "fold_model", "has_norms", "measure", "measuring_model"]

_GRAPH = 7
"""ModelProto.graph"""
_NODES, _INITIALIZERS, _INPUTS, _OUTPUTS = 1, 5, 11, 12
"""GraphProto.node, initializer, input, output"""
_NODE_INPUT, _NODE_OUTPUT, _NODE_KIND = 1, 2, 4
"""NodeProto.input, output, op_type"""
_DIMS, _TYPE, _NAME, _DATA = 1, 2, 8, 9
"""TensorProto.dims, data_type, name, raw_data"""
_FLOAT, _INT64 = 1, 7
"""TensorProto.DataType.FLOAT, INT64"""
_PREFIX = "fold."
"""How the names begin that are added to a model."""
_NORM = b"InstanceNormalization"
ORIGIN = "origin"
"""Constant of a model that becomes an optional input of the folded one: where the picture's upper left corner lies in
a larger picture, int64 row and column. Patterns that do not depend on the picture's pixels begin there."""
STRENGTH, STYLE_WEIGHTS = "strength", "style_weights"
"""Inputs of a model beside the picture, which folding makes constants: how much style, and how much of each style."""


@dataclass(frozen=True)
class Statistics:
    """Mean and variance of every channel that enters an instance norm, norm by norm in the order of the graph."""

    means: tuple[NDArray[np.float32], ...]
    variances: tuple[NDArray[np.float32], ...]


def has_norms(model: bytes) -> bool:
    """Whether there is an instance norm to fold."""
    return any(True for _ in _norm_inputs(_graph(model)[0]))


def measuring_model(model: bytes) -> bytes:
    """The model with further outputs: the mean and the mean square of what enters each instance norm, for `measure`."""
    graph, rest = _graph(model)
    added = b""
    for index, source in enumerate(_norm_inputs(graph)):
        mean, square, mean_square = (f"{_PREFIX}{kind}.{index}".encode() for kind in ("mean", "square", "mean_square"))
        added += _node("GlobalAveragePool", [source], mean)
        added += _node("Mul", [source, source], square) + _node("GlobalAveragePool", [square], mean_square)
        added += b"".join(
            _field(_OUTPUTS, _field(1, name) + _field(2, _shape(_FLOAT, 4 * [b""]))) for name in (mean, mean_square)
        )
    return rest + _field(_GRAPH, graph + added)


def measure(
    session: InferenceSession, photo: NDArray[np.uint8], options: Mapping[str, NDArray[np.float32]] | None = None
) -> Statistics:
    """The statistics of a photo, uint8 H x W x 3; the session runs a `measuring_model`.

    `options` are values of the inputs beside the picture.
    """
    names = [output.name for output in session.get_outputs() if output.name.startswith(_PREFIX)]
    results = session.run(names, {"image": np.ascontiguousarray(photo[None]), **(options or {})})
    channels = [value.reshape(-1).astype(np.float64) for value in results]
    means, squares = channels[::2], channels[1::2]
    variances = [np.maximum(square - mean**2, 0) for mean, square in zip(means, squares, strict=True)]
    return Statistics(
        tuple(mean.astype(np.float32) for mean in means), tuple(value.astype(np.float32) for value in variances)
    )


def fold_model(model: bytes, statistics: Statistics, options: Mapping[str, NDArray[np.float32]] | None = None) -> bytes:
    """The model with every instance norm replaced by a batch norm of these statistics, which onnxruntime folds away.

    STRENGTH and STYLE_WEIGHTS are no inputs any more but constants: the values in `options`, or else their defaults. It
    takes ORIGIN, where the model has it, as a second input with a default.
    """
    graph, rest = _graph(model)
    fixed = {name.encode(): value for name, value in (options or {}).items()}
    folded, origin = bytearray(), b""
    index = 0
    for number, value, raw in _fields(graph):
        if number == _NODES and _kind(value) == _NORM:
            mean, variance = (f"{_PREFIX}{kind}.{index}".encode() for kind in ("mean", "variance"))
            # Scale, bias and epsilon are the same in both kinds of node; mean and variance follow as inputs 4 and 5.
            inputs = _field(_NODE_INPUT, mean) + _field(_NODE_INPUT, variance)
            folded += _field(_NODES, value + inputs + _field(_NODE_KIND, b"BatchNormalization"))
            folded += _tensor(mean, statistics.means[index]) + _tensor(variance, statistics.variances[index])
            index += 1
            continue
        if number == _INPUTS and _name(value, 1) in (STRENGTH.encode(), STYLE_WEIGHTS.encode()):
            continue
        if number == _INITIALIZERS and _name(value) in fixed:
            continue
        if number == _INITIALIZERS and _name(value) == ORIGIN.encode():
            # An initializer that is an input as well is the input's default.
            origin = _field(_INPUTS, _field(1, ORIGIN.encode()) + _field(2, _shape(_INT64, [_number(1, 2)])))
        folded += raw
    constants = b"".join(_tensor(name, value) for name, value in fixed.items())
    return rest + _field(_GRAPH, bytes(folded) + constants + origin)


def _graph(model: bytes) -> tuple[bytes, bytes]:
    """The graph's fields, and all the others of the model."""
    graph, rest = b"", bytearray()
    for number, value, raw in _fields(model):
        if number == _GRAPH:
            graph += value
        else:
            rest += raw
    return graph, bytes(rest)


def _norm_inputs(graph: bytes) -> Iterator[bytes]:
    """Names of what enters the instance norms."""
    for number, value, _ in _fields(graph):
        if number == _NODES and _kind(value) == _NORM:
            yield next(name for field, name, _ in _fields(value) if field == _NODE_INPUT)


def _kind(node: bytes) -> bytes:
    return [value for number, value, _ in _fields(node) if number == _NODE_KIND][-1]


def _name(message: bytes, field: int = _NAME) -> bytes:
    """The name of a tensor, or of whatever has it in another field."""
    return next((value for number, value, _ in _fields(message) if number == field), b"")


def _node(kind: str, inputs: list[bytes], output: bytes) -> bytes:
    sources = b"".join(_field(_NODE_INPUT, name) for name in inputs)
    return _field(_NODES, sources + _field(_NODE_OUTPUT, output) + _field(_NODE_KIND, kind.encode()))


def _shape(kind: int, lengths: list[bytes]) -> bytes:
    """TypeProto of a tensor; the length of a dimension is empty where it is left open."""
    return _field(1, _number(1, kind) + _field(2, b"".join(_field(1, length) for length in lengths)))


def _tensor(name: bytes, values: NDArray[np.float32]) -> bytes:
    header = _number(_DIMS, len(values)) + _number(_TYPE, _FLOAT)
    return _field(_INITIALIZERS, header + _field(_NAME, name) + _field(_DATA, values.astype("<f4").tobytes()))


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Field number, content and whole encoding of each field; the content of a number is left out."""
    place = 0
    while place < len(message):
        start = place
        tag, place = _read_number(message, place)
        content = b""
        if tag & 7 == 0:  # a number of variable length
            _, place = _read_number(message, place)
        elif tag & 7 == 2:  # bytes, text or a message
            length, place = _read_number(message, place)
            content = message[place : place + length]
            place += length
        else:  # eight or four bytes
            place += 8 if tag & 7 == 1 else 4
        yield tag >> 3, content, message[start:place]


def _read_number(message: bytes, place: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and the place after it."""
    number = shift = 0
    while True:
        byte = message[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place


def _encode(number: int) -> bytes:
    groups = bytearray()
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    return bytes([*groups, number])


def _field(number: int, content: bytes) -> bytes:
    return _encode(number << 3 | 2) + _encode(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _encode(number << 3) + _encode(value)
