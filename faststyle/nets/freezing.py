"""Freezing: instance norms become constants, and the network a plain chain of convolutions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from faststyle.nets.layers import ConvNorm, FrozenNorm
from faststyle.nets.styles import style_rows
from faststyle.nets.transformer import TransformerNet

__all__ = ["freeze"]


def freeze(net: TransformerNet, photos: Iterable[Tensor]) -> TransformerNet:
    """A copy of a net of one style, whose norms have the statistics of all the photos together, at full strength.

    Photos are 1 x 3 x H x W in [0, 1], each of the same weight whatever its size. On a single photo both nets agree; on
    several the copy no longer evens out their contrasts, so it wants some training.
    """
    norms = {name: module.norm for name, module in net.named_modules() if isinstance(module, ConvNorm)}
    means: dict[str, list[Tensor]] = {name: [] for name in norms}
    squares: dict[str, list[Tensor]] = {name: [] for name in norms}

    def watch(name: str) -> Any:
        def note(module: nn.Module, inputs: tuple[Tensor]) -> None:
            means[name].append(inputs[0].mean((0, 2, 3)))
            squares[name].append(inputs[0].square().mean((0, 2, 3)))

        return norms[name].register_forward_pre_hook(note)

    hooks = [watch(name) for name in norms]
    with torch.no_grad():
        for photo in photos:
            net(photo)
    for hook in hooks:
        hook.remove()
    frozen = TransformerNet(replace(net.config, norm="frozen"))
    rows = {id(parameter) for parameter in style_rows(net)}
    tensors = net.state_dict()
    for name, parameter in net.named_parameters():
        if id(parameter) in rows:  # without the photo's; a frozen norm has no dimension for styles
            tensors[name] = parameter[0] if ".norm." in name else parameter[:1]
    frozen.load_state_dict(tensors, strict=False)  # all but the new statistics
    for name, module in frozen.named_modules():
        if isinstance(module, ConvNorm) and isinstance(module.norm, FrozenNorm):
            mean = torch.stack(means[name]).mean(0)
            module.norm.mean.copy_(mean)
            module.norm.variance.copy_((torch.stack(squares[name]).mean(0) - mean.square()).clamp_min(0))
    return frozen
