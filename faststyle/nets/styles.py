"""The styles of a net: its rows taken apart and put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from faststyle.nets.layers import Blend, Seeds, StyleBank, StyleNorm
from faststyle.nets.transformer import TransformerNet

__all__ = ["style_rows", "with_rows"]


def style_rows(net: TransformerNet) -> Iterator[nn.Parameter]:
    """The parameters that hold one row for each style; all others are shared. The photo's row is the last, if any."""
    for module in net.modules():
        if isinstance(module, StyleNorm):
            yield module.weight
            yield module.bias
        elif isinstance(module, StyleBank):
            yield module.weight
        elif isinstance(module, Seeds):
            yield module.gain
        elif isinstance(module, Blend):
            yield module.share


def with_rows(net: TransformerNet, styles: Sequence[int]) -> TransformerNet:
    """A copy of a net with these of its styles, in this order; one may be there several times. All else stays."""
    copy = TransformerNet(replace(net.config, styles=len(styles)))
    tensors = net.state_dict()
    before = net.config.styles

    def chosen(rows: Tensor) -> Tensor:
        return torch.cat([rows[list(styles)], rows[before:]])

    own = {id(rows) for rows in style_rows(net)}
    for name, parameter in net.named_parameters():
        if id(parameter) in own:
            tensors[name] = chosen(parameter.detach())
    copy.load_state_dict(tensors)
    return copy
