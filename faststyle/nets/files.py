"""Weights files: a TransformerNet's tensors and its card in one safetensors file, without pickle."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from faststyle.config import NetConfig
from faststyle.errors import FaststyleError, ModelError, first_line
from faststyle.files import write_file
from faststyle.modelcard import ModelCard
from faststyle.nets.transformer import TransformerNet

__all__ = ["load_net", "save_net"]


def save_net(path: str | Path, net: TransformerNet, card: ModelCard) -> None:
    """Write the net's weights with its card; equal weights and cards give equal bytes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(net.state_dict().items())}
    data = save(tensors, metadata=card.to_metadata())
    # The library writes the metadata in an order of chance: sort the JSON header and pad it to 8 bytes, as the format
    # asks.
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    write_file(path, len(header).to_bytes(8, "little") + header + data[8 + length :])


def load_net(path: str | Path) -> tuple[TransformerNet, ModelCard]:
    """Read a net and its card, on the CPU; raises ModelError for a file of another kind.

    The card's halo is the net's reach, also where the file was written before cards had one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            card = ModelCard.from_metadata(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist: name a .safetensors file that faststyle train wrote") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is no weights file of faststyle ({error}): name a .safetensors file") from None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    if card is None:
        raise ModelError(f"{path} carries no model card: name a .safetensors file that faststyle train wrote")
    if newer := sorted(set(card.net) - {item.name for item in fields(NetConfig)}):
        raise ModelError(f"{path} holds a net of a newer faststyle, with {', '.join(newer)}: update faststyle")
    if card.net.get("family") == "lowres" and "blend.share" not in tensors:
        raise ModelError(
            f"{path} holds a net of faststyle 0.1: its .onnx works as before, but to go on from it train it anew"
        )
    try:
        settings = dict(card.net, channels=tuple(card.net["channels"]))
        net = TransformerNet(NetConfig(**settings))
        if net.config.styles not in (1, len(card.styles)):
            raise ModelError(f"{net.config.styles} styles, {len(card.styles)} of them named")
        for name, parameter in net.named_parameters():
            if name.endswith("seeds.gain"):  # a net from before there were seeds has none
                gains = tensors.setdefault(name, torch.zeros_like(parameter))
                if gains.shape[-2] != parameter.shape[-2]:
                    raise ModelError("its seeds are fixed noise, which this version has not: train it anew")
            elif ".banks." in name:  # nor banks; fresh ones change nothing
                tensors.setdefault(name, parameter.detach())
        net.load_state_dict(_rows(tensors) if net.config.norm == "instance" else tensors)
    except (FaststyleError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"{path} does not hold the network that its card describes ({first_line(error)})") from None
    return net, replace(card, halo=net.config.reach)


def _rows(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a net of version 0.1, whose norms had one style, as rows."""
    return {name: value[None] if ".norm." in name and value.ndim == 1 else value for name, value in tensors.items()}
