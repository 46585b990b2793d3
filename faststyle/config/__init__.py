"""Settings as frozen dataclasses: the only source of defaults, command-line flags, help texts and card entries.

Each field's docstring is its help text. Values are checked on construction; the message names the flag.
"""

from __future__ import annotations

from faststyle.config.evaluate import EvaluateConfig
from faststyle.config.loss import LossConfig, PerceptualConfig
from faststyle.config.net import NETS, NetConfig
from faststyle.config.optimize import DreamConfig, GatysConfig
from faststyle.config.training import CropStage, OptimConfig, TrainConfig, TrainerConfig, parse_duration

__all__ = [
    "NETS",
    "CropStage",
    "DreamConfig",
    "EvaluateConfig",
    "GatysConfig",
    "LossConfig",
    "NetConfig",
    "OptimConfig",
    "PerceptualConfig",
    "TrainConfig",
    "TrainerConfig",
    "parse_duration",
]
