"""LPIPS: the package's network gets our weights, each where it belongs; without the package there is a note."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from faststyle.evaluate.distance import open_lpips
from faststyle.nets.lossnet import LossNetwork
from faststyle.nets.weights import load_weights

CPU = torch.device("cpu")


class Slices(nn.Module):
    """The trunk of lpips 0.1.4: torchvision's VGG-16 in five slices whose layers keep their numbers."""

    def __init__(self) -> None:
        super().__init__()
        stages = LossNetwork(("relu5_3",)).features
        for slice, (start, end) in enumerate(((0, 4), (4, 9), (9, 16), (16, 23), (23, 30)), 1):
            part = nn.Sequential()
            for index in range(start, end):
                part.add_module(str(index), stages[index])
            self.add_module(f"slice{slice}", part)


class StandIn(nn.Module):
    """Takes what lpips.LPIPS takes; the distance is the mean difference."""

    latest: StandIn

    def __init__(self, net: str, pnet_rand: bool, verbose: bool) -> None:
        super().__init__()
        assert (net, pnet_rand, verbose) == ("vgg", True, False)
        self.net = Slices()
        StandIn.latest = self

    def forward(self, one: torch.Tensor, other: torch.Tensor, normalize: bool) -> torch.Tensor:
        assert normalize and not torch.is_grad_enabled()
        return (one - other).abs().mean().view(1, 1, 1, 1)


def test_our_weights_go_where_they_belong(monkeypatch, random_vgg, photo):
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=StandIn))
    weights = load_weights("vgg16", random_vgg)
    distance = open_lpips(lambda: weights, CPU)
    assert distance is not None
    inside: Any = StandIn.latest.net
    assert torch.equal(inside.slice1[0].weight, weights["features.0.weight"])
    assert torch.equal(inside.slice3[5].bias, weights["features.14.bias"])
    assert torch.equal(inside.slice5[5].weight, weights["features.28.weight"])
    assert distance(photo, photo) == 0
    assert distance(photo, 255 - photo) == pytest.approx(np.abs(255 - 2.0 * photo).mean() / 255, rel=1e-5)


def test_without_the_package_there_is_one_note(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with caplog.at_level(logging.INFO, "faststyle"):
        assert open_lpips(lambda: pytest.fail("no weights are needed"), CPU) is None
    assert [record.getMessage() for record in caplog.records] == [
        "LPIPS is left out, since lpips is not installed: pip install lpips"
    ]


def test_the_package_itself(random_vgg, photo, capfd):
    lpips = pytest.importorskip("lpips")
    weights = load_weights("vgg16", random_vgg)
    distance = open_lpips(lambda: weights, CPU)
    assert distance is not None
    layers = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
    network = LossNetwork(layers, weights)
    one, other = (network(torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255) for rgb in (photo, 255 - photo))
    file = Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth"
    learned = torch.load(file, map_location="cpu", weights_only=True)
    expected = 0.0
    for index, layer in enumerate(layers):
        difference = nn.functional.normalize(one[layer]) - nn.functional.normalize(other[layer])
        expected += float((learned[f"lin{index}.model.1.weight"] * difference**2).sum(1).mean())
    assert distance(photo, 255 - photo) == pytest.approx(expected, rel=1e-4)
    assert capfd.readouterr().out == ""
