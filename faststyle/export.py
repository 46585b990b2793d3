"""Export: a weights file becomes one self-describing ONNX file that takes and gives RGB bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

import faststyle
from faststyle.errors import ModelError
from faststyle.files import write_file
from faststyle.graph import Graph
from faststyle.modelcard import ModelCard
from faststyle.nets.files import load_net
from faststyle.nets.transformer import TransformerNet
from faststyle.runtime.stylizer import Stylizer

__all__ = ["OPSET", "build_onnx", "check_parity", "export_onnx", "repaint"]

OPSET = 17
"""Lowest opset that runs everywhere we looked; nothing in the graph needs a newer one."""
PARITY_SIZES = ((1, 96, 128), (3, 77, 101), (1, 131, 50))
"""Batch, height and width of the pictures on which every export is compared with torch."""


def export_onnx(weights: str | Path, model: str | Path, required: bool = False) -> ModelCard:
    """Read a weights file, write `model` and its card beside it as JSON; nothing is written unless the model checks
    out. `required` is that of `build_onnx`.

    The graph passes onnx.checker and is run against torch at three sizes. Raises ModelError for a damaged weights file,
    and for a net without inputs that could be required.
    """
    net, card = load_net(weights)
    if required and net.config.rows == 1:
        raise ModelError(f"{weights} has neither strength nor styles to choose: export it without --required-inputs")
    data = build_onnx(net, card, required)
    worst = check_parity(net, data)
    if worst > 2:
        raise ModelError(f"{weights}: the exported model strays {worst} levels from torch: please report this file")
    model = Path(model)
    write_file(model, data)
    write_file(model.with_suffix(".json"), card.to_json().encode())
    return card


def build_onnx(net: TransformerNet, card: ModelCard, required: bool = False) -> bytes:
    """The ONNX file of a net: input `image` and output `stylized`, both uint8 N x H x W x 3, all of N, H, W free.

    Two more inputs have defaults, so that nobody needs to give them: `strength`, float32 [1], which is 1, in a net that
    has a row for the photo; and, in one of S > 1 styles, `style_weights`, float32 [S], the first style alone. Weights,
    0 or more and not all 0, are scaled to a sum of 1, strength is clipped to [0, 1]. With `required` they have no
    defaults and must be given, for programs that see no inputs but those.
    """
    graph = Graph(net, required)
    dims: list[str | int] = ["N", "H", "W", 3]
    proto = helper.make_graph(
        graph.nodes,
        "faststyle",
        [
            helper.make_tensor_value_info(
                "image", TensorProto.UINT8, dims, "RGB bytes, sRGB; any height and width from 16 up"
            ),
            *graph.inputs,
        ],
        [helper.make_tensor_value_info("stylized", TensorProto.UINT8, dims, "RGB bytes, the size of the image")],
        graph.initializers,
    )
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
        producer_name="faststyle",
        producer_version=faststyle.__version__,
        doc_string=f"{card.name}: image, uint8 [N, H, W, 3] RGB, to stylized, the same",
    )
    helper.set_model_props(model, card.to_metadata())
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def repaint(
    net: TransformerNet, images: NDArray[np.uint8], style_weights: Sequence[float] | None = None, strength: float = 1.0
) -> NDArray[np.uint8]:
    """What the exported model computes, in torch: uint8 N x H x W x 3 to the same."""
    device = next(net.parameters()).device
    with torch.no_grad():
        photos = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255
        stylized = net(photos, style_weights, strength)
    result: NDArray[np.uint8] = (stylized * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return result


def check_parity(net: TransformerNet, model: bytes) -> int:
    """Largest difference in levels between the model in onnxruntime and the net in torch, over the three
    PARITY_SIZES; plain, and with all styles mixed at less than full strength where the net can do that."""
    plain = Stylizer(model, provider="cpu")
    random = np.random.default_rng(0)
    worst = 0
    mixed = [1.0 + index for index in range(net.config.styles)]
    for n, height, width in PARITY_SIZES:
        # Waves with some noise: smooth enough to be picture-like, different in every image of the batch.
        y, x = np.mgrid[:height, :width]
        waves = np.sin(
            x[..., None] / random.uniform(3, 30, (n, 1, 1, 3)) + y[..., None] / random.uniform(3, 30, (n, 1, 1, 3))
        )
        images = np.clip(128 + 100 * waves + random.normal(0, 8, waves.shape), 0, 255).astype(np.uint8)
        pairs = [(plain(images), repaint(net, images))]
        if net.config.rows > 1:
            strength = 0.5 if net.config.rows > net.config.styles else None
            theirs = repaint(net, images, mixed, 1.0 if strength is None else strength)
            pairs.append((plain.styled(mixed, strength)(images), theirs))
        for ours, theirs in pairs:
            worst = max(worst, int(np.abs(ours.astype(int) - theirs).max()))
    return worst
