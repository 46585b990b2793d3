"""Frozen norms: the statistics of all the photos, and a net that agrees with itself on one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from faststyle.config import NETS
from faststyle.nets.freezing import freeze
from faststyle.nets.layers import ConvNorm, FrozenNorm, StyleNorm
from faststyle.nets.styles import style_rows
from faststyle.nets.transformer import TransformerNet


@pytest.fixture
def net() -> Any:
    torch.manual_seed(0)
    net = TransformerNet(NETS["nano"])
    for module in net.modules():
        if isinstance(module, ConvNorm):
            nn.init.normal_(module.norm.weight)
            nn.init.normal_(module.norm.bias)
    for rows in style_rows(net):
        if rows.ndim == 3:  # a bank
            nn.init.normal_(rows, std=0.2)
    nn.init.constant_(net.blend.share, 0.2)  # type: ignore[union-attr]
    return net


def test_a_frozen_norm_is_an_affine_map() -> None:
    norm = FrozenNorm(2, eps=0.25)
    with torch.no_grad():
        norm.mean.copy_(torch.tensor([1.0, 2.0]))
        norm.variance.copy_(torch.tensor([0.75, 3.75]))
        norm.weight.copy_(torch.tensor([3.0, 4.0]))
        norm.bias.copy_(torch.tensor([5.0, 6.0]))
    x = torch.rand(3, 2, 4, 5)
    expected = torch.stack([(x[:, 0] - 1) / 1 * 3 + 5, (x[:, 1] - 2) / 2 * 4 + 6], 1)
    assert torch.allclose(norm(x, torch.ones(1, 1)), expected, atol=1e-6)
    scale, shift = norm.affine()
    assert torch.allclose(scale, torch.tensor([3.0, 2.0])) and torch.allclose(shift, torch.tensor([2.0, 2.0]))


def test_frozen_on_one_photo_it_agrees_with_instance_norm_there(net: Any) -> None:
    photo, other = torch.rand(2, 1, 3, 70, 90)
    frozen: Any = freeze(net, [photo])
    with torch.no_grad():
        assert torch.allclose(frozen(photo), net(photo), atol=1e-4)
        assert not torch.allclose(frozen(other * 0.3), net(other * 0.3), atol=1e-2)


def test_statistics_are_those_of_all_photos_together(net: Any) -> None:
    photos = [torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64) ** 3, torch.rand(1, 3, 64, 64) * 0.2]
    entering: list[torch.Tensor] = []
    second = net.encoder[1].norm
    hook = second.register_forward_pre_hook(lambda module, inputs: entering.append(inputs[0]))
    frozen: Any = freeze(net, photos)
    hook.remove()
    together = torch.cat(entering).transpose(0, 1).flatten(1)
    norm = frozen.encoder[1].norm
    assert torch.allclose(norm.mean, together.mean(1), atol=1e-5)
    assert torch.allclose(norm.variance, together.var(1, correction=0), rtol=1e-3)
    assert not any(isinstance(module, StyleNorm) for module in frozen.modules())
    assert frozen.config == replace(NETS["nano"], norm="frozen")


def test_weights_are_learned_on_and_statistics_are_not(net: Any) -> None:
    frozen: Any = freeze(net, [torch.rand(1, 3, 64, 64)])
    learned = {name for name, _ in frozen.named_parameters()}
    assert learned == {name for name, _ in net.named_parameters()}
    before = frozen.body[1].first.norm.mean.clone()
    frozen.train()
    frozen(torch.rand(1, 3, 64, 64)).sum().backward()
    assert torch.equal(frozen.body[1].first.norm.mean, before)
    assert all(parameter.grad is not None for parameter in frozen.parameters())
