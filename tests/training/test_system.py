"""The system that Lightning trains: number formats of what it computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from faststyle.config import NETS, TrainerConfig
from faststyle.nets.lossnet import LossNetwork
from faststyle.nets.transformer import TransformerNet
from faststyle.training import system
from faststyle.training.clock import Clock
from faststyle.training.system import StyleTransferSystem


@pytest.mark.parametrize("fast", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("precision", ["auto", "32-true"])
def test_the_loss_network_alone_is_reduced_and_only_where_it_pays(
    settings: Any, monkeypatch: pytest.MonkeyPatch, fast: torch.dtype, precision: Any
) -> None:
    monkeypatch.setattr(system, "precision_of", lambda name, device: fast)
    config = settings(trainer=TrainerConfig(accelerator="cpu", devices="1", precision=precision))
    judge = LossNetwork((*config.loss.style_layers, config.loss.content_layer))
    trained = StyleTransferSystem(
        config, TransformerNet(NETS["nano"]), judge, torch.rand(1, 3, 64, 64), Clock(config.optim)
    )
    seen: list[torch.dtype] = []
    forward = judge.forward

    def watched(*given: Any) -> dict[str, Tensor]:
        found = forward(*given)
        seen.extend(value.dtype for value in found.values())
        return found

    monkeypatch.setattr(judge, "forward", watched)
    terms, stylized = trained.judge(torch.rand(2, 3, 64, 64))
    expected = fast if precision == "auto" else torch.float32
    assert seen == [expected] * 3, "the photos' content layer, then both layers of the repainted ones"
    assert stylized.dtype == terms.total.dtype == torch.float32
    terms.total.backward()
    assert all(parameter.grad is not None for parameter in trained.net.parameters())
