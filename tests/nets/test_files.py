"""Weights files: round trip, equal bytes, and one line for anything else."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file

from faststyle.config import NETS
from faststyle.errors import ModelError
from faststyle.modelcard import ModelCard, Style
from faststyle.nets.files import load_net, save_net
from faststyle.nets.transformer import TransformerNet


@pytest.fixture
def card() -> ModelCard:
    return ModelCard("tiny", net=asdict(NETS["nano"]))


def test_round_trip_and_equal_bytes(tmp_path, card):
    net = TransformerNet(NETS["nano"])
    save_net(tmp_path / "a.safetensors", net, card)
    save_net(tmp_path / "b.safetensors", net, card)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again, read = load_net(tmp_path / "a.safetensors")
    assert read.name == "tiny"
    assert again.config == net.config
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))


def damaged(path, card):
    net = TransformerNet(NETS["nano"])
    save_net(path / "truncated.safetensors", net, card)
    data = (path / "truncated.safetensors").read_bytes()
    (path / "truncated.safetensors").write_bytes(data[: len(data) // 2])
    (path / "text.safetensors").write_text("no weights")
    save_file({"x": torch.ones(1)}, path / "cardless.safetensors")
    save_net(path / "liar.safetensors", net, replace(card, net=asdict(NETS["fast"])))


@pytest.mark.parametrize("name", ["truncated", "text", "cardless", "liar", "missing"])
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path, card, name):
    damaged(tmp_path, card)
    with pytest.raises(ModelError) as caught:
        load_net(tmp_path / f"{name}.safetensors")
    assert f"{name}.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_net_of_a_newer_version_says_so(tmp_path):
    card = ModelCard("new", net={**NETS["nano"].to_dict(), "attention": True})
    save_net(tmp_path / "new.safetensors", TransformerNet(NETS["nano"]), card)
    with pytest.raises(ModelError, match="holds a net of a newer faststyle, with attention: update faststyle"):
        load_net(tmp_path / "new.safetensors")


@pytest.mark.parametrize("norm", ["instance", "frozen"])
def test_a_net_of_the_first_version_says_so(tmp_path, norm):
    net = TransformerNet(replace(NETS["nano"], norm=norm))
    net.blend = None  # the photo did not shine through yet
    card = ModelCard("old", net={"family": "lowres", "channels": [8, 16], "blocks": 3, "norm": norm})
    save_net(tmp_path / "old.safetensors", net, card)
    with pytest.raises(ModelError, match=r"old\.safetensors .*a net of faststyle 0\.1: its \.onnx works as before"):
        load_net(tmp_path / "old.safetensors")


def test_the_stock_network_of_the_first_version_still_loads(tmp_path):
    """Its norms held one style, without rows."""
    net = TransformerNet(NETS["johnson"])
    flat = {name: value[0].clone() if ".norm." in name else value for name, value in net.state_dict().items()}
    card = ModelCard("old", net={key: value for key, value in NETS["johnson"].to_dict().items() if key != "styles"})
    save_file(flat, tmp_path / "old.safetensors", metadata=card.to_metadata())
    again, _ = load_net(tmp_path / "old.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))


def test_a_net_from_before_seeds_and_banks_has_none(tmp_path, card):
    net = TransformerNet(NETS["nano"])
    torch.nn.init.zeros_(dict(net.named_parameters())["body.0.seeds.gain"])
    before = {name: tensor for name, tensor in net.state_dict().items() if "seeds" not in name and "banks" not in name}
    save_file(before, tmp_path / "old.safetensors", metadata=replace(card, net=net.config.to_dict()).to_metadata())
    again, _ = load_net(tmp_path / "old.safetensors")
    photo = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(photo), net(photo))


def test_a_net_with_seeds_of_noise_is_refused(tmp_path, card):
    net = TransformerNet(NETS["nano"])
    before = {**net.state_dict(), "body.0.seeds.gain": net.state_dict()["body.0.seeds.gain"][:, :3].clone()}
    save_file(before, tmp_path / "old.safetensors", metadata=replace(card, net=net.config.to_dict()).to_metadata())
    with pytest.raises(ModelError, match=r"old\.safetensors .* train it anew"):
        load_net(tmp_path / "old.safetensors")


def test_several_styles_come_back_as_they_went_in(tmp_path, card):
    net = TransformerNet(replace(NETS["nano"], styles=3))
    three = replace(card, styles=tuple(Style(name, name=name) for name in "abc"), net=net.config.to_dict())
    save_net(tmp_path / "three.safetensors", net, three)
    again, _ = load_net(tmp_path / "three.safetensors")
    assert again.config.styles == 3
    photo = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(photo, [0, 0.5, 0.5], 0.7), net(photo, [0, 0.5, 0.5], 0.7))
    for liar in (card, replace(three, styles=three.styles[:2])):
        save_net(tmp_path / "liar.safetensors", net, liar)
        with pytest.raises(ModelError, match=r"liar\.safetensors does not hold the network that its card describes"):
            load_net(tmp_path / "liar.safetensors")


def test_a_card_tells_a_frozen_net(tmp_path):
    frozen = replace(NETS["nano"], norm="frozen")
    assert frozen.to_dict() == asdict(frozen)
    save_net(tmp_path / "a.safetensors", TransformerNet(frozen), ModelCard("a", net=frozen.to_dict()))
    assert load_net(tmp_path / "a.safetensors")[0].config == frozen
