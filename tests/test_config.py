"""Settings: values are checked on construction and the message names the flag."""

from __future__ import annotations

import math

import pytest

from faststyle.config import (
    NETS,
    CropStage,
    LossConfig,
    NetConfig,
    OptimConfig,
    TrainConfig,
    TrainerConfig,
    parse_duration,
)
from faststyle.errors import ConfigError


@pytest.mark.parametrize(
    ("build", "flag"),
    [
        (lambda: LossConfig(strength=1.5), "--strength"),
        (lambda: LossConfig(style_size=8), "--style-size"),
        (lambda: LossConfig(style_median=0), "--style-median"),
        (lambda: LossConfig(style_median=4), "--style-median"),
        (lambda: LossConfig(lattice_weight=-1), "--lattice-weight"),
        (lambda: LossConfig(shift_weight=-1), "--shift-weight"),
        (lambda: LossConfig(tv_weight=-1), "--tv-weight"),
        (lambda: LossConfig(style_layers=()), "--style-layers"),
        (lambda: LossConfig(evenness_weight=-1), "--evenness-weight"),
        (lambda: LossConfig(light_weight=-1), "--light-weight"),
        (lambda: LossConfig(layer_weights=(1.0, 1.0)), "--layer-weights"),
        (lambda: LossConfig(layer_weights=(0.0, 0.0, 0.0, 0.0)), "--layer-weights"),
        (lambda: LossConfig(layer_weights=(1.0, -1.0, 1.0, 1.0)), "--layer-weights"),
        (lambda: OptimConfig(seed=-1), "--seed"),
        (lambda: TrainerConfig(workers=-1), "--workers"),
        (lambda: TrainerConfig(num_nodes=0), "--num-nodes"),
        (lambda: TrainConfig(("s",), "d", name="a/b"), "--name"),
        (lambda: OptimConfig(max_steps=0), "--max-steps"),
        (lambda: OptimConfig(max_time="5 minutes"), "--max-time"),
        (lambda: OptimConfig(max_time="00:00:00"), "--max-time"),
        (lambda: OptimConfig(learning_rate=0), "--learning-rate"),
        (lambda: OptimConfig(warmup_steps=-1), "--warmup-steps"),
        (lambda: OptimConfig(final_rate=2), "--final-rate"),
        (lambda: OptimConfig(gradient_clip=0), "--gradient-clip"),
        (lambda: OptimConfig(crops=("128x4",)), "--crops"),
        (lambda: OptimConfig(crops=("128x4:0.5",)), "--crops"),
        (lambda: OptimConfig(crops=("8x4:1",)), "--crops"),
        (lambda: OptimConfig(crops=("128x0:1",)), "--crops"),
        (lambda: OptimConfig(crops=("128x4:1.5",)), "--crops"),
        (lambda: OptimConfig(crops=()), "--crops"),
        (lambda: TrainConfig(("s",), "d", checkpoint_every=0), "--checkpoint-every"),
        (lambda: TrainConfig(("s",), "d", val_every=0), "--val-every"),
        (lambda: TrainConfig((), "d"), "painting"),
        (lambda: TrainConfig(("s", "t"), "d"), "--name"),
        (lambda: TrainConfig(("s", "t"), "d", name="both", title=("S",)), "--title"),
        (lambda: TrainConfig(("s",), "d", artist=("A", "B")), "--artist"),
        (lambda: TrainConfig(("s",), "d", year=("1", "2")), "--year"),
        (lambda: TrainConfig(("s",), "d", licence=("1", "2")), "--licence"),
        (lambda: TrainConfig(("s",), "d", init="starry", from_scratch=True), "--from-scratch"),
        (lambda: TrainConfig(("s", "t"), "d", name="both", init="starry", frozen=True), "--frozen"),
        (lambda: TrainConfig(("s",), "d", frozen=True), "--init"),
        (lambda: NetConfig(styles=0), "style"),
        (lambda: NetConfig(styles=2, norm="frozen"), "frozen"),
        (lambda: NetConfig(channels=(16,)), "channel"),
        (lambda: NetConfig(blocks=-1), "blocks"),
        (lambda: NetConfig(padding=30), "padding"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_the_flag(build, flag):
    with pytest.raises(ConfigError) as caught:
        build()
    assert flag in str(caught.value)
    assert "\n" not in str(caught.value)


def test_strength_spans_two_decades_of_style_weight():
    assert [LossConfig(strength=s).style_weight for s in (0.0, 0.5, 1.0)] == pytest.approx([1, 10, 100])


def test_durations():
    assert parse_duration("01:02:03") == 3723
    assert OptimConfig().max_seconds == math.inf


def test_the_stage_follows_the_progress():
    optim = OptimConfig(crops=("64x4:0.25", "128x2:1"))
    assert optim.stage_at(0.0) == CropStage(64, 4, 0.25)
    assert optim.stage_at(0.25) == optim.stage_at(1.0) == CropStage(128, 2, 1.0)


def test_the_learning_rate_warms_up_and_falls_along_a_cosine():
    optim = OptimConfig(max_steps=1000, warmup_steps=10, final_rate=0.02)
    assert optim.rate_at(0, 0.0) == pytest.approx(0.1)
    assert optim.rate_at(9, 0.0) == pytest.approx(1.0)
    assert optim.rate_at(500, 0.5) == pytest.approx(0.51)
    assert optim.rate_at(1000, 1.0) == pytest.approx(0.02)


def test_the_named_nets_grow():
    lowres = [net for net in NETS.values() if net.family == "lowres"]
    sizes = [(net.channels, net.blocks) for net in lowres]
    assert sizes == sorted(sizes)


def test_the_layers_weigh_as_is_asked_or_alike():
    assert LossConfig().weights == dict.fromkeys(("relu1_2", "relu2_2", "relu3_3", "relu4_3"), 1.0)
    assert LossConfig(layer_weights=(1.0, 2.0, 3.0, 4.0)).weights["relu3_3"] == 3.0
    assert LossConfig(style_layers=("relu1_2", "relu5_1")).weights == {"relu1_2": 1.0, "relu5_1": 1.0}
