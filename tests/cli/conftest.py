"""Models in checkpoints for the commands: one of several styles, and one that somebody else made."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from faststyle import checkpoints
from faststyle.config import NETS
from faststyle.export import build_onnx
from faststyle.files import write_file
from faststyle.modelcard import ModelCard, Style
from faststyle.nets.styles import style_rows
from faststyle.nets.transformer import TransformerNet


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small net of three styles as a model, with its card in the file and beside it."""
    torch.manual_seed(0)
    net = TransformerNet(replace(NETS["nano"], styles=3))
    for rows in style_rows(net):
        torch.nn.init.normal_(rows, rows.mean().item(), 0.3)
    styles = (
        Style("The Starry Night", "Vincent van Gogh", "1889", name="starry"),
        Style("The Great Wave", "Katsushika Hokusai", name="wave"),
        Style("Sheet 3/4", name="sheet"),
    )
    card = ModelCard("gallery", styles, net=net.config.to_dict(), halo=net.config.reach)
    path = tmp_path_factory.mktemp("gallery") / "gallery.onnx"
    write_file(path, build_onnx(net, card))
    write_file(path.with_suffix(".json"), card.to_json().encode())
    return path


@pytest.fixture
def hall(tmp_path: Path, gallery: Path, negative: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: photo.png of 60 x 45 pixels; `gallery` and `negative` are the models in checkpoints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoints, "_SOURCE_CHECKOUT", tmp_path)
    (tmp_path / "checkpoints").mkdir()
    for model in (gallery, negative):
        for suffix in (".onnx", ".json"):
            shutil.copy(model.with_suffix(suffix), tmp_path / "checkpoints" / f"{model.stem}{suffix}")
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize((60, 45), Image.Resampling.BICUBIC).save("photo.png")
    return tmp_path
