"""Rescaling: all filters before a norm get one length, and the pictures stay."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from faststyle.config import NETS
from faststyle.nets.layers import ConvNorm
from faststyle.nets.rescaling import LENGTH, rescale
from faststyle.nets.transformer import TransformerNet


@pytest.mark.parametrize("name", ["nano", "johnson"])
def test_filters_of_any_length_become_as_long_as_twice_fresh_ones(name: str) -> None:
    torch.manual_seed(0)
    config = replace(NETS[name], styles=2, channels=(4, 6, 8), blocks=1)
    net = TransformerNet(config)
    convolutions = [module.conv for module in net.modules() if isinstance(module, ConvNorm)]
    fresh = torch.cat([conv.weight.flatten(1).norm(dim=1) for conv in convolutions]).mean()
    assert fresh.item() == pytest.approx(LENGTH / 2, rel=0.05)
    with torch.no_grad():
        for conv in convolutions:
            conv.weight.mul_(torch.linspace(3, 30, conv.out_channels)[:, None, None, None])
    photo = torch.rand(2, 3, 48, 64)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.no_grad():
        picture = net(photo, [0.3, 0.7])
        rescale(net)
        assert torch.allclose(net(photo, [0.3, 0.7]), picture, atol=1e-3)
    for conv in convolutions:
        assert torch.allclose(conv.weight.flatten(1).norm(dim=1), torch.tensor(LENGTH))
    rescaled = {f"{key}.conv.weight" for key, module in net.named_modules() if isinstance(module, ConvNorm)}
    after = net.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items() if key not in rescaled)


def test_a_filter_of_zeros_stays_one() -> None:
    net = TransformerNet(replace(NETS["nano"], channels=(4, 6, 8), blocks=1))
    conv = next(module.conv for module in net.modules() if isinstance(module, ConvNorm))
    with torch.no_grad():
        conv.weight[1] = 0
        rescale(net)
    assert torch.equal(conv.weight[1], torch.zeros_like(conv.weight[1]))
    assert torch.isfinite(conv.weight).all()
