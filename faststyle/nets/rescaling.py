"""Rescaling: filters nearly as short as those of a fresh net, and the same pictures."""

from __future__ import annotations

import torch

from faststyle.nets.layers import ConvNorm
from faststyle.nets.transformer import TransformerNet

__all__ = ["rescale"]

FRESH = 3**-0.5
"""Length of a filter of a fresh convolution, whose numbers torch draws from +-1 / root of their count."""
LENGTH = 2 * FRESH
"""Length that filters are given: as short as fresh ones, or four times as long, a run ends at a higher loss
(docs/styles.md, "A new style")."""


def rescale(net: TransformerNet) -> None:
    """Bring, in place, each filter of the convolutions that a norm follows to one length; the pictures stay as they
    are, but for rounding.

    An instance norm divides by the deviation of what a filter finds, and so by the filter's own length. All that this
    length does is to say how far a training step turns the filter (van Laarhoven 2017; Hoffer et al. 2018),
    and it grows with every step: after a long training filters are ten times as long as fresh ones, and hardly turn.
    """
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, ConvNorm):
                weight = module.conv.weight
                lengths = weight.flatten(1).norm(dim=1).clamp_min(1e-12)
                weight.mul_((LENGTH / lengths)[:, None, None, None])
