"""The ONNX graph of a net, written node by node from its own modules.

Tracing would tie the file to what torch's exporter makes of a dynamic size; written, its opset is the lowest that
serves, every tensor keeps its name in the weights file, and equal weights give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from faststyle.nets.layers import (
    FAINTEST,
    Blend,
    Chain,
    ConvNorm,
    DeepBlock,
    Dither,
    FrozenNorm,
    Relief,
    ResidualBlock,
    Seeds,
    Smooth,
    StyleBank,
    Upsample,
)
from faststyle.nets.styles import style_rows
from faststyle.nets.transformer import TransformerNet
from faststyle.runtime.folding import ORIGIN, STRENGTH, STYLE_WEIGHTS

__all__ = ["Graph"]


def _factor(net: TransformerNet) -> int:
    """By how much the head's pixel shuffle enlarges; 1 without one."""
    return next((part.upscale_factor for part in net.head if isinstance(part, nn.PixelShuffle)), 1)


def _does_nothing(module: nn.Module) -> bool:
    """Whether these are seeds or a bank that have learned nothing: they need neither nodes nor rows."""
    if isinstance(module, Seeds):
        return not module.gain.any()
    if isinstance(module, StyleBank):
        filters = module.weight
        return filters.equal(torch.eye(filters.shape[1], device=filters.device).expand_as(filters))
    return False


class Graph:
    """Writes the nodes of a TransformerNet, module by module, so that onnxruntime runs them fast (docs/design.md)."""

    def __init__(self, net: TransformerNet, required: bool = False) -> None:
        self._net, self._required = net, required
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self._rows: dict[int, str] = {}
        self._lengths: list[tuple[str, str]] = []  # the photo's, and with what it is mirrored by: down, across
        self._constants: dict[str, str] = {}
        self._names = {module: name for name, module in net.named_modules()}
        self._emitters: dict[type[nn.Module], Callable[[Any, str], str]] = {
            Chain: self._chain,
            nn.Conv2d: self._conv,
            ConvNorm: self._conv_norm,
            ResidualBlock: self._residual,
            StyleBank: self._bank,
            Upsample: self._upsample,
            nn.Upsample: self._nearest,
            Smooth: self._smooth,
        }
        self._write(net)

    def _write(self, net: TransformerNet) -> None:
        padding = net.config.padding
        strength = self._mix(net) if net.config.rows > 1 else self.floats(1.0, (1,))
        shape = self.op("Shape", ["image"])
        batch, height, width = (self.op("Slice", [shape, self.ints([i]), self.ints([i + 1])]) for i in range(3))
        x = "image"
        for axis, size in ((2, width), (1, height)):
            x, total = self._mirrored(x, axis, size, padding)
            self._lengths.insert(0, (size, total))
        padded = [total for _, total in self._lengths]
        photo = x = self.op("Cast", [self.op("Transpose", [x], perm=[0, 3, 1, 2])], to=TensorProto.FLOAT)
        # Pixels stay 0 to 255 on the way in: centring rides on the dither, scaling on the first convolution's weights.
        origin, size = self.tensor(ORIGIN, np.zeros(2, np.int64)), self.op("Concat", padded, axis=0)
        dither = self._pattern(net.dither, origin, size)
        x = centred = self.op("Add", [x, self.op("Add", [dither, self.floats(-127.5)])])
        x = self.emit(net.encoder, x)
        if isinstance(net.body, Chain):
            x = self.emit(net.body, x)
        else:
            deep, last = net.body
            assert isinstance(deep, DeepBlock)
            x = self.emit(last, self._deep(deep, x, net.relief, centred))
        x = self.emit(net.decoder, x)
        x = self.op("Sigmoid", [self.emit(net.head[0], x)])
        if net.blend is not None:
            x = self._blend(net.blend, x, photo, strength)
        x = self.op("QuantizeLinear", [x, self.floats(1 / 255), self._constant("zero", np.array(0, np.uint8))])
        # The head's channels are ordered row, column, colour of the pixels they become. Moving the last two inwards and
        # then whole rows is seventeen times faster than pixel shuffle's transposition of single bytes.
        factor = _factor(net)
        rows, columns = (self.op("Div", [total, self.ints([factor])]) for total in padded)
        split = self.op("Concat", [batch, self.ints([factor, 3 * factor]), rows, columns], axis=0)
        x = self.op("Transpose", [self.op("Reshape", [x, split])], perm=[0, 1, 3, 4, 2])
        lines = self.op("Concat", [batch, self.ints([factor]), rows, self.ints([-1])], axis=0)
        x = self.op("Transpose", [self.op("Reshape", [x, lines])], perm=[0, 2, 1, 3])
        x = self.op("Reshape", [x, self.op("Concat", [batch, *padded, self.ints([3])], axis=0)])
        start = self.ints([padding, padding])
        end = self.op("Add", [self.op("Concat", [height, width], axis=0), start])
        self.op("Slice", [x, start, end, self.ints([1, 2])], output="stylized")

    def op(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{len(self.nodes)}", **attributes))
        return output

    def emit(self, module: nn.Module, x: str) -> str:
        """Add the nodes of a module of the net."""
        return self._emitters[type(module)](module, x)

    def tensor(self, name: str, value: NDArray[Any]) -> str:
        """Add an initializer."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def ints(self, values: list[int]) -> str:
        """A constant vector of int64, each written once."""
        return self._constant("int_" + "_".join(map(str, values)), np.array(values, np.int64))

    def floats(self, value: float, shape: tuple[int, ...] = ()) -> str:
        """A constant float32 scalar, or tensor of equal numbers, each written once."""
        name = "_".join(["float", f"{value:g}", *map(str, shape)])
        return self._constant(name, np.full(shape, value, np.float32))

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        if name not in self._constants:
            self._constants[name] = self.tensor(name, value)
        return name

    def _parameter(self, module: nn.Module, name: str, scale: Tensor | None = None) -> str:
        """A parameter of the net; `scale` multiplies a convolution's kernels, one factor for each output."""
        parameter: Tensor = getattr(module, name)
        value = (parameter if scale is None else parameter * scale[:, None, None, None]).detach().cpu().numpy()
        if module is self._net.head[0]:
            # From pixel shuffle's order colour, row, column to row, column, colour.
            factor = _factor(self._net)
            value = value.reshape(3, factor, factor, -1).transpose(1, 2, 0, 3).reshape(value.shape)
        elif module is self._net.encoder[0].conv:
            value = value / np.float32(255)
        return self.tensor(f"{self._names[module]}.{name}", value)

    def _mirrored(self, x: str, axis: int, size: str, padding: int) -> tuple[str, str]:
        """`reflect_pad` along one axis, and the padded length: gathers the two margins, copies what lies between."""
        stride = self._net.config.stride
        up = self.op("Add", [size, self.ints([2 * padding + stride - 1])])
        total = self.op("Mul", [self.op("Div", [up, self.ints([stride])]), self.ints([stride])])
        last = self.op("Sub", [total, self.ints([padding])])
        before = self.op("Gather", [x, self._wave(self.ints([-padding]), self.ints([0]), size)], axis=axis)
        after = self.op("Gather", [x, self._wave(size, last, size)], axis=axis)
        return self.op("Concat", [before, x, after], axis=axis), total

    def _wave(self, start: str, end: str, size: str) -> str:
        """Positions from start to end as indices of `reflect_pad`: a triangular wave between 0 and size - 1."""
        peak = self.op("Sub", [size, self.ints([1])])
        position = self.op("Abs", [self.op("Range", [*map(self._scalar, (start, end, self.ints([1])))])])
        wave = self.op("Mod", [position, self.op("Mul", [peak, self.ints([2])])])
        return self.op("Sub", [peak, self.op("Abs", [self.op("Sub", [wave, peak])])])

    def _pattern(self, module: Dither, origin: str, size: str) -> str:
        """The dither of a size, in levels: two patterns, each as copies side by side, cut, and multiplied.

        `origin` is where the picture lies in a larger one whose tile it is; folding makes ORIGIN an input.
        """
        noise = self.tensor("dither.noise", module.noise.cpu().numpy() * np.float32(255))
        # As bytes in the file; onnxruntime casts them once, when it loads the model.
        signs = self.tensor("dither.signs", module.signs.cpu().numpy().astype(np.int8))
        cut = []
        for pattern, side in (
            (noise, len(module.noise)),
            (self.op("Cast", [signs], to=TensorProto.FLOAT), len(module.signs)),
        ):
            start = self.op("Mod", [origin, self.ints([side])])
            end = self.op("Add", [start, size])
            copies = self.op("Div", [self.op("Add", [end, self.ints([side - 1])]), self.ints([side])])
            cut.append(self.op("Slice", [self.op("Tile", [pattern, copies]), start, end]))
        return self.op("Mul", cut)

    def _mix(self, net: TransformerNet) -> str:
        """The mixture of all the styles' rows, which two inputs decide; returns the strength, [1].

        All rows lie side by side in one table, so that one small product mixes them.
        """
        config = net.config
        strength = self.floats(1.0, (1,))
        if config.rows > config.styles:
            strength = self.op("Clip", [self._choice(STRENGTH, np.ones(1)), self.floats(0.0), self.floats(1.0)])
        weights = strength
        if config.styles > 1:
            first = np.eye(1, config.styles, dtype=np.float32)[0]
            given = self._choice(STYLE_WEIGHTS, first)
            share = self.op("Div", [given, self.op("ReduceSum", [given], keepdims=1)])
            weights = self.op("Mul", [share, strength])
        if config.rows > config.styles:
            weights = self.op("Concat", [weights, self.op("Sub", [self.floats(1.0, (1,)), strength])], axis=0)
        idle = {id(rows) for module in net.modules() if _does_nothing(module) for rows in module.parameters()}
        parts = [rows for rows in style_rows(net) if id(rows) not in idle]
        columns = []
        for rows in parts:
            values = rows.detach().cpu().numpy().reshape(len(rows), -1)
            # A Blend has no row for the photo, whose share is then 1.
            columns.append(values if len(values) == config.rows else np.append(values, [[1]], 0).astype(np.float32))
        mixed = self.op("MatMul", [weights, self.tensor("style_rows", np.concatenate(columns, 1))])
        widths = self._constant("row_widths", np.array([values.shape[1] for values in columns], np.int64))
        outputs = [f"row_{index}" for index in range(len(parts))]
        self.nodes.append(helper.make_node("Split", [mixed, widths], outputs, name="Split_rows", axis=0))
        self._rows = {id(rows): output for rows, output in zip(parts, outputs, strict=True)}
        return strength

    def _choice(self, name: str, default: NDArray[Any]) -> str:
        """An input, float32, with a default unless it is required."""
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(default.shape)))
        return name if self._required else self.tensor(name, default.astype(np.float32))

    def _blend(self, module: Blend, painted: str, photo: str, strength: str) -> str:
        """The photo's pixels beside what was painted, both as the head has them: 16 pixels of a cell as 48 channels.

        A convolution takes the photo there, since it stays in onnxruntime's fast layout and is fused with the sum. What
        is more than white or less than black is clipped by the conversion to bytes.
        """
        factor = _factor(self._net)
        # From a pixel's row, column and colour within its cell to the channel of that order, 255 levels to 1.
        kernel = np.eye(3 * factor**2, dtype=np.float32).reshape(-1, factor, factor, 3).transpose(0, 3, 1, 2) / 255
        cells = self.tensor("blend.cells", kernel.astype(np.float32))
        shape, channels = [factor, factor], self.ints([1, 3 * factor**2, 1, 1])
        photo = self.op("Conv", [photo, cells], kernel_shape=shape, strides=shape)
        share = self._row(module.share)
        total = self.op("Add", [share, strength])
        rest = self.op("Mul", [self.op("Sub", [self.floats(1.0), total]), self.floats(0.5)])
        photo = self.op("Mul", [photo, self.op("Expand", [share, channels])])
        photo = self.op("Add", [photo, self.op("Expand", [rest, channels])])
        return self.op("Add", [photo, self.op("Mul", [painted, strength])])

    def _row(self, rows: Tensor) -> str:
        """What the mixture makes of the rows of a module; a net of a single row has it as a constant."""
        if id(rows) in self._rows:
            return self._rows[id(rows)]
        name = next(name for name, parameter in self._net.named_parameters() if parameter is rows)
        return self.tensor(name, rows.detach().cpu().numpy().reshape(-1))

    def _scalar(self, vector: str) -> str:
        return self.op("Squeeze", [vector])

    def _chain(self, module: Chain, x: str) -> str:
        for part in module:
            x = self.emit(part, x)
        return x

    def _conv(self, module: nn.Conv2d, x: str, norm: FrozenNorm | None = None) -> str:
        """A convolution; a frozen norm after it goes into its weights."""
        inputs = [x, self._parameter(module, "weight", None if norm is None else norm.affine()[0])]
        if norm is not None:
            inputs.append(self.tensor(f"{self._names[module]}.bias", norm.affine()[1].detach().cpu().numpy()))
        elif module.bias is not None:
            inputs.append(self._parameter(module, "bias"))
        # Our convolutions pad by half their odd kernel: the size stays, or halves with a stride of 2.
        pads = [length // 2 for length in module.kernel_size] * 2
        shape, strides = list(module.kernel_size), list(module.stride)
        return self.op("Conv", inputs, kernel_shape=shape, pads=pads, strides=strides, group=module.groups)

    def _conv_norm(self, module: ConvNorm, x: str) -> str:
        norm = module.norm
        if isinstance(norm, FrozenNorm):
            x = self._conv(module.conv, x, norm)
        else:
            inputs = [self._conv(module.conv, x), self._row(norm.weight), self._row(norm.bias)]
            x = self.op("InstanceNormalization", inputs, epsilon=norm.eps)
        return self.op("Relu", [x]) if module.relu else x

    def _residual(self, module: ResidualBlock, x: str) -> str:
        return self.op("Add", [x, self.emit(module.second, self.emit(module.first, x))])

    def _deep(self, module: DeepBlock, x: str, relief: Relief, photo: str) -> str:
        inner = self._seeds(module.seeds, self.emit(module.down, x), relief, photo)
        for part in module.steps():
            inner = self.emit(part, inner)
        inner = self.emit(module.back, inner)
        return self.op("Add", [x, self.emit(module.smooth, self.emit(module.nearest, inner))])

    def _seeds(self, module: Seeds, x: str, relief: Relief, photo: str) -> str:
        """A net that was trained without seeds has gains of 0 and needs no nodes.

        The sum is a convolution of both side by side: onnxruntime would leave its fast layout for a plain one, of which
        it cannot tell that both are of one size, and for every sum that follows.
        """
        if _does_nothing(module):
            return x
        _, fields, channels = module.gain.shape
        if id(module.gain) in self._rows:
            gains = self.op("Reshape", [self._row(module.gain), self.ints([fields, channels])])
            gains = self.op("Transpose", [gains], perm=[1, 0])
            gains = self.op("Reshape", [gains, self.ints([channels, fields, 1, 1])])
        else:  # a constant, which has an integer form
            gains = self.tensor("seeds.gains", module.gain.detach().cpu().numpy()[0].T[:, :, None, None])
        grown = self.op("Conv", [self._relief(relief, photo), gains], kernel_shape=[1, 1])
        both = self.tensor("seeds.sum", np.tile(np.eye(channels, dtype=np.float32), 2)[:, :, None, None])
        return self.op("Conv", [self.op("Concat", [x, grown], axis=1), both], kernel_shape=[1, 1])

    def _odd(self, light: str, square: int, margin: int) -> str:
        """`odd_pad` of the light's squares that lie within the photo, to `margin` more of them than there were."""
        first = self._net.config.padding // square
        counts = [self.op("Div", [size, self.ints([square])]) for size, _ in self._lengths]
        start, shape = self.ints([first, first]), self.op("Concat", counts, axis=0)
        inside = self.op("Slice", [light, start, self.op("Add", [start, shape]), self.ints([2, 3])])
        edges = mirrored = inside
        begin = self.ints([-first - margin])
        for axis, count, (_, total) in zip((2, 3), counts, self._lengths, strict=True):
            end = self.op("Add", [self.op("Div", [total, self.ints([square])]), self.ints([margin - first])])
            mirrored = self.op("Gather", [mirrored, self._wave(begin, end, count)], axis=axis)
            place = self.op("Range", [*map(self._scalar, (begin, end, self.ints([1])))])
            last = self.op("Sub", [count, self.ints([1])])
            place = self.op("Min", [self.op("Max", [place, self.ints([0])]), last])
            edges = self.op("Gather", [edges, place], axis=axis)
        return self.op("Sub", [self.op("Add", [edges, edges]), mirrored])

    def _relief(self, module: Relief, photo: str) -> str:
        """The relief of a photo in levels, centred. Of each scale's size a convolution makes one for each field."""
        light = module.light.cpu().numpy() / np.float32(255)
        square, slopes, around = list(light.shape[2:]), module.slopes.cpu().numpy(), module.around.cpu().numpy()
        x = self.op("Conv", [photo, self.tensor("relief.light", light)], kernel_shape=square, strides=square)
        x = self._odd(x, square[0], module.margin)
        x = self.op(
            "Conv", [x, self.tensor("relief.slopes", slopes)], kernel_shape=list(slopes.shape[2:]), strides=[2, 2]
        )
        window, each = list(around.shape[2:]), len(slopes) // len(around)
        size = self.op(
            "Conv",
            [self.op("Mul", [x, x]), self.tensor("relief.around", around)],
            kernel_shape=window,
            group=len(around),
        )
        size = self.op("Sqrt", [self.op("Add", [size, self.floats(FAINTEST)])])
        thrice = np.kron(np.eye(len(around)), np.ones((each, 1))).astype(np.float32)[:, :, None, None]
        size = self.op("Conv", [size, self.tensor("relief.thrice", thrice)], kernel_shape=[1, 1])
        edge = window[0] // 2
        x = self.op("Slice", [x, self.ints([edge, edge]), self.ints([-edge, -edge]), self.ints([2, 3])])
        return self.op("Div", [x, size])

    def _bank(self, module: StyleBank, x: str) -> str:
        """A net that was trained without banks has identities there and needs no nodes."""
        if _does_nothing(module):
            return x
        channels = module.weight.shape[1]
        if id(module.weight) in self._rows:
            shape = self.ints([channels, channels, 1, 1])
            kernel = self.op("Reshape", [self._row(module.weight), shape])
        else:
            values = module.weight.detach().cpu().numpy()
            kernel = self.tensor(f"{self._names[module]}.weight", values.reshape(channels, channels, 1, 1))
        return self.op("Conv", [x, kernel], kernel_shape=[1, 1])

    def _upsample(self, module: Upsample, x: str) -> str:
        return self.emit(module.conv, self.emit(module.nearest, x))

    def _nearest(self, module: nn.Upsample, x: str) -> str:
        """Every pixel as 2 x 2."""
        # asymmetric and floor: the form that stays in onnxruntime's fast layout, and what torch computes.
        scales = self._constant("upsample_scales", np.array([1, 1, 2, 2], np.float32))
        form = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.op("Resize", [x, "", scales], mode="nearest", **form)

    def _smooth(self, module: Smooth, x: str) -> str:
        channels = len(module.kernel)
        kernel = self._constant(f"smooth_{channels}", module.kernel.cpu().numpy())
        return self.op("Conv", [x, kernel], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=channels)
