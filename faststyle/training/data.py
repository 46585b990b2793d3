"""Photos for training: any folder, recursively; random crops that are a pure function of seed and step."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from faststyle.config import TrainConfig
from faststyle.errors import ImageError, TrainingError
from faststyle.images import list_images, middle_square, read_image, read_size
from faststyle.training.clock import Clock

__all__ = ["Crop", "CropSampler", "PhotoCrops", "PhotoDataModule", "ValidationPhotos", "usable_photos"]

MIN_SIDE = 64
"""Photos with a shorter side than this are passed over: enlarged, they would teach blur."""
LARGEST_SIDE = 512
"""Upper end of the scale range: a crop's photo is scaled to a short side between the crop's size and this."""
FLAT_SHARE = 0.125
"""Share of crops that get a perfectly flat rectangle: flat backgrounds are rare among photos, common in use."""
HELD_OUT = 16
"""Most photos held out for validation where no folder is named."""
VALIDATION = 32
"""Most photos of a named folder that are used: each validation judges them all."""
CALIBRATION = 64
"""Most photos that the statistics of frozen norms are measured on."""
VAL_SIZE = 256

_log = logging.getLogger("faststyle")


def usable_photos(folder: str | Path, flag: str = "--data") -> list[Path]:
    """Photos below a folder whose header reads and whose sides suffice; the others are listed in one warning.

    Raises TrainingError where the folder is missing or holds no usable photo.
    """
    if not Path(folder).is_dir():
        raise TrainingError(f"{folder} is not a folder: name a folder of photos with {flag}")
    paths = list_images(folder)

    def fault(path: Path) -> str | None:
        try:
            width, height = read_size(path)
        except ImageError as error:
            return str(error)
        return None if min(width, height) >= MIN_SIDE else f"{path} has only {width} x {height} pixels"

    with ThreadPoolExecutor() as pool:
        faults = list(pool.map(fault, paths))
    good = [path for path, problem in zip(paths, faults, strict=True) if problem is None]
    bad = [problem for problem in faults if problem is not None]
    if not good:
        raise TrainingError(
            f"{folder} holds no usable photo of at least {MIN_SIDE} pixels a side: name another with {flag}"
        )
    if bad:
        _log.warning("%d of %d files are passed over: %s", len(bad), len(paths), "; ".join(bad))
    return good


class Crop(NamedTuple):
    """What to cut: a photo's place in the list, the crop's side in pixels, and the seed of scale, place and
    mirroring."""

    photo: int
    size: int
    seed: tuple[int, int, int]


class PhotoCrops(Dataset[Tensor]):
    """Crops by description: `crops[Crop(...)]` is uint8 3 x size x size.

    A photo that turns out to be broken is reported once and the next one takes its place.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self._broken: set[int] = set()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, crop: Crop) -> Tensor:
        random = np.random.default_rng(crop.seed)
        return _tensor(self._cut(self._photo(crop.photo), crop.size, random))

    def _photo(self, index: int) -> Image.Image:
        for step in range(len(self.paths)):
            place = (index + step) % len(self.paths)
            if place in self._broken:
                continue
            try:
                return Image.fromarray(read_image(self.paths[place]).rgb)
            except ImageError as error:
                self._broken.add(place)
                _log.warning("passed over: %s", error)
        raise TrainingError(
            "no photo of the folder can be read any more: check the disk, or name another folder with --data"
        )

    @staticmethod
    def _cut(photo: Image.Image, size: int, random: np.random.Generator) -> Image.Image:
        short = min(photo.size)
        side = random.uniform(size, max(size, min(short, LARGEST_SIDE)))
        width, height = (max(size, round(length * side / short)) for length in photo.size)
        left, top = random.integers(width - size + 1), random.integers(height - size + 1)
        scale_x, scale_y = photo.width / width, photo.height / height
        box = (left * scale_x, top * scale_y, (left + size) * scale_x, (top + size) * scale_y)
        crop = photo.resize((size, size), Image.Resampling.BICUBIC, box, reducing_gap=3.0)
        if random.random() < FLAT_SHARE:
            left, top, right, bottom = (*random.integers(0, size // 2, 2), *random.integers(size // 2, size, 2))
            colour = tuple(int(level) for level in random.choice([0, 255, int(random.integers(256))], 3))
            crop.paste(colour, (int(left), int(top), int(right), int(bottom)))
        return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else crop


class ValidationPhotos(Dataset[Tensor]):
    """The middle 256 x 256 pixels of photos scaled to a short side of 256: uint8 3 x 256 x 256, the same every time."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._images: list[Tensor] = []
        for path in paths:
            try:
                square = middle_square(read_image(path).rgb, VAL_SIZE)
            except ImageError as error:
                _log.warning("passed over: %s", error)
                continue
            self._images.append(torch.from_numpy(square).permute(2, 0, 1))

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        return self._images[index]


class CropSampler:
    """Batches of Crops without end, from a given step on; batch and crop size follow the schedule.

    Which photos and which crops a step sees depends only on the seed, the step and the rank, so that a resumed run
    meets the very crops that it would have met. Every epoch has an order of its own.
    """

    def __init__(
        self, photos: int, config: TrainConfig, clock: Clock, *, step: int = 0, rank: int = 0, ranks: int = 1
    ) -> None:
        self._photos, self._optim, self._clock = photos, config.optim, clock
        self._step, self._rank, self._ranks = step, rank, ranks
        self._stride = max(stage.batch for stage in config.optim.stages)

    def __iter__(self) -> Iterator[list[Crop]]:
        step, epoch, order = self._step, -1, np.empty(0, dtype=np.int64)
        while True:
            stage = self._optim.stage_at(self._clock.progress(step))
            batch = []
            for slot in range(stage.batch):
                place = (step * self._ranks + self._rank) * self._stride + slot
                if place // self._photos != epoch:
                    epoch = place // self._photos
                    order = np.random.default_rng((self._optim.seed, epoch)).permutation(self._photos)
                batch.append(Crop(int(order[place % self._photos]), stage.size, (self._optim.seed, place, 1)))
            yield batch
            step += 1


class PhotoDataModule(pl.LightningDataModule):
    """The photos of a training run. Batches are uint8 N x 3 x H x W."""

    def __init__(self, config: TrainConfig, clock: Clock) -> None:
        super().__init__()
        self._config, self._clock = config, clock
        self.photos = usable_photos(config.data)
        if config.val_data is not None:
            held_out = _spread(usable_photos(config.val_data, "--val-data"), VALIDATION)
        else:
            held_out = _spread(self.photos, min(HELD_OUT, len(self.photos) // 8))
            left_out = set(held_out)
            self.photos = [path for path in self.photos if path not in left_out]
            held_out = held_out or self.photos[:1]  # a tiny folder keeps all its photos to learn from
        self.validation = ValidationPhotos(held_out)
        if not len(self.validation):
            raise TrainingError("none of the validation photos can be read: name others with --val-data")

    def calibration(self) -> list[Tensor]:
        """Photos from all over the training set, cut like validation photos: what frozen norms are measured on."""
        photos = ValidationPhotos(_spread(self.photos, CALIBRATION))
        if not len(photos):
            raise TrainingError("none of the photos can be read: check the disk, or name others with --data")
        return [photos[index] for index in range(len(photos))]

    def train_dataloader(self) -> DataLoader[Tensor]:
        trainer = self.trainer
        step, rank, ranks = (trainer.global_step, trainer.global_rank, trainer.world_size) if trainer else (0, 0, 1)
        sampler = CropSampler(len(self.photos), self._config, self._clock, step=step, rank=rank, ranks=ranks)
        workers = self._config.trainer.workers
        return DataLoader(
            PhotoCrops(self.photos),
            batch_sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_ignore_interrupts,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(self.validation, batch_size=4)


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C at a terminal reaches every process: a worker must outlive it, for the step that the main one ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _spread(paths: list[Path], count: int) -> list[Path]:
    """At most `count` of the paths, evenly spread, since folders are often sorted by subject."""
    count = min(count, len(paths))
    return [paths[place * len(paths) // count] for place in range(count)]


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
