"""A tiny training run: fabricated photos and paintings, a small net."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faststyle.config import LossConfig, OptimConfig, TrainConfig, TrainerConfig


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nine photos of smooth noise, one of them in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(9):
        small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        name = f"sub/{index}.png" if index == 8 else f"{index}.jpg"
        Image.fromarray(small).resize((96, 72), Image.Resampling.BICUBIC).save(folder / name)
    return folder


@pytest.fixture
def settings(tmp_path: Path, photos: Path, random_vgg: str) -> Callable[..., TrainConfig]:
    """Builds the settings of a run of `max_steps` tiny steps, from scratch unless `init` says otherwise."""
    y, x = np.indices((64, 64))
    for name, pattern in (("stripes", x + y), ("checks", x // 8 * 40 + y // 8 * 60), ("rings", np.hypot(x, y) * 7)):
        painting = pattern[..., None] * np.array([9, 5, 3]) % 256
        Image.fromarray(painting.astype(np.uint8)).save(tmp_path / f"{name}.png")

    def build(max_steps: int = 4, **changes: Any) -> TrainConfig:
        optim = {"crops": ("32x2:0.5", "64x1:1"), "warmup_steps": 2, "max_steps": max_steps} | changes.pop("optim", {})
        values: dict[str, Any] = {
            "style": (str(tmp_path / "stripes.png"),),
            "data": str(photos),
            "net": "nano",
            "from_scratch": "init" not in changes,
            "out": str(tmp_path / "out"),
            "runs": str(tmp_path / "runs"),
            "loss_weights": random_vgg,
            "checkpoint_every": 2,
            "val_every": 100,
            "loss": LossConfig(style_size=64, style_layers=("relu1_2", "relu2_2"), content_layer="relu2_2"),
            "optim": OptimConfig(**optim),
            "trainer": TrainerConfig(accelerator="cpu", devices="1"),
        }
        return TrainConfig(**(values | changes))

    return build
