"""Photos: what is used, what is passed over, and crops that depend on nothing but seed and step."""

from __future__ import annotations

import itertools
import logging
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from faststyle.config import OptimConfig
from faststyle.errors import TrainingError
from faststyle.training.clock import Clock
from faststyle.training.data import Crop, CropSampler, PhotoCrops, PhotoDataModule, usable_photos


def test_photos_are_found_recursively_and_the_rest_is_listed_once(photos, caplog):
    (photos / "text.jpg").write_text("not a photo")
    Image.new("RGB", (20, 90)).save(photos / "tiny.png")
    (photos / "notes.txt").write_text("notes")
    with caplog.at_level(logging.WARNING, "faststyle"):
        assert len(usable_photos(photos)) == 9
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "2 of 11" in message and "text.jpg is no picture" in message and "tiny.png has only 20 x 90" in message


def test_a_folder_without_usable_photos_is_refused(tmp_path):
    for folder in (tmp_path / "missing", tmp_path / "empty"):
        with pytest.raises(TrainingError, match="--data"):
            usable_photos(folder)
        folder.mkdir(exist_ok=True)
    (tmp_path / "empty" / "a.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(TrainingError, match="no usable photo"):
        usable_photos(tmp_path / "empty")


def test_crops_are_a_function_of_their_description(photos):
    crops = PhotoCrops(usable_photos(photos))
    first = crops[Crop(0, 64, (0, 1, 1))]
    assert first.shape == (3, 64, 64) and first.dtype == torch.uint8
    assert torch.equal(first, crops[Crop(0, 64, (0, 1, 1))])
    assert not torch.equal(first, crops[Crop(0, 64, (0, 2, 1))])
    assert crops[Crop(0, 160, (0, 1, 1))].shape == (3, 160, 160)


def test_crops_vary_in_scale_place_and_mirroring(tmp_path):
    # A horizontal ramp tells all three: its slope the scale, its mean the place, its sign the mirroring.
    ramp = np.tile(np.linspace(0, 255, 400).astype(np.uint8), (300, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    crops = PhotoCrops([tmp_path / "ramp.png"])
    rows = [crops[Crop(0, 100, (0, seed, 1))][0, 50].float() for seed in range(24)]
    slopes = torch.stack([(row[-5:].mean() - row[:5].mean()) / 95 for row in rows])
    assert (slopes > 0).any() and (slopes < 0).any()
    assert slopes.abs().max() / slopes.abs().min() > 1.8
    assert torch.stack([row.mean() for row in rows]).std() > 10


def test_a_broken_photo_is_reported_once_and_replaced(photos, caplog):
    paths = usable_photos(photos)
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: len(whole) // 2])
    crops = PhotoCrops(paths)
    with caplog.at_level(logging.WARNING, "faststyle"):
        broken = [crops[Crop(0, 32, (0, 1, 1))] for _ in range(2)]
    assert torch.equal(broken[0], crops[Crop(1, 32, (0, 1, 1))])
    assert len(caplog.records) == 1 and paths[0].name in caplog.records[0].getMessage()


def take(sampler, count):
    return list(itertools.islice(sampler, count))


def test_the_sampler_starts_anywhere_with_the_same_batches(settings):
    config = settings(max_steps=20)
    clock = Clock(config.optim)
    whole = take(CropSampler(9, config, clock), 20)
    assert take(CropSampler(9, config, clock, step=12), 8) == whole[12:]
    assert [len(batch) for batch in whole] == [2] * 10 + [1] * 10
    assert [batch[0].size for batch in whole] == [32] * 10 + [64] * 10


def test_every_epoch_sees_every_photo_in_an_order_of_its_own(settings):
    config = settings(max_steps=9, optim={"crops": ("32x2:1",)})
    batches = take(CropSampler(9, config, Clock(config.optim)), 9)
    photos = [crop.photo for batch in batches for crop in batch]
    assert sorted(photos[:9]) == sorted(photos[9:]) == list(range(9))
    assert photos[:9] != photos[9:]


def test_ranks_share_the_photos_out(settings):
    config = settings(max_steps=9, optim={"crops": ("32x1:1",)})
    first, second = (take(CropSampler(10, config, Clock(config.optim), rank=rank, ranks=2), 5) for rank in (0, 1))
    assert sorted(crop.photo for batch in first + second for crop in batch) == list(range(10))


def test_some_photos_are_held_out(settings, photos):
    module = PhotoDataModule(settings(), Clock(OptimConfig()))
    assert (len(module.photos), len(module.validation)) == (8, 1)
    assert module.validation[0].shape == (3, 256, 256)


def test_the_clock_counts_steps_or_time_whichever_is_further():
    assert Clock(OptimConfig(max_steps=10)).progress(5) == 0.5
    clock = Clock(OptimConfig(max_steps=10, max_time="00:01:40"))
    clock.restore(80, None)
    assert clock.progress(5) == pytest.approx(0.8)
    assert clock.progress(10) == 1


def test_a_run_that_winds_up_goes_through_the_rest_in_a_tenth_of_its_steps():
    clock = Clock(OptimConfig(max_steps=10_000))
    assert clock.wind_up(1000) == 100
    assert [clock.progress(step) for step in (1000, 1050, 1100)] == pytest.approx([0.1, 0.55, 1.0])
    resumed = Clock(OptimConfig(max_steps=10_000))
    resumed.restore(5, clock.end)
    assert resumed.progress(1050) == clock.progress(1050)


def test_a_worker_outlives_ctrl_c(settings):
    config = settings()
    crops = PhotoDataModule(replace(config, trainer=replace(config.trainer, workers=1)), Clock(config.optim))
    loader, before = crops.train_dataloader(), signal.getsignal(signal.SIGINT)
    assert loader.worker_init_fn is not None
    try:
        loader.worker_init_fn(0)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
