"""How soon does an optimisation reach the losses of plain L-BFGS? And what does a step of a dream cost?

    python benchmarks/optimisation.py PHOTO PAINTING MODEL [PHOTO PAINTING MODEL ...] [--size 512] [--steps 500]

For each pair of photo and painting, scaled to SIZE x SIZE: plain single-scale L-BFGS from the photo, torch's own at its
defaults and in float32, is the reference. Then how many times sooner plain Adam, `gatys` coarse to fine, and `gatys`
from the picture that MODEL makes are as low as it was after 50, 100, 200 and 500 steps. Ratios are of CPU seconds,
those that the process computed (both cores count), so that what else runs on the machine hardly matters. `gatys` runs
at its defaults, with the loss network in bfloat16 where the CPU has it; its losses then differ by less than 0.1 % from
those in float32. And DeepDream on one photo: seconds per megapixel and octave step, ours against the same steps written
plainly with a hook on torchvision's whole VGG-16. Everything in one process; prints Markdown as it goes.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image

from faststyle.config import DreamConfig, GatysConfig
from faststyle.evaluate.curves import descend
from faststyle.evaluate.ruler import Ruler
from faststyle.images import read_image, resize_rgb
from faststyle.nets.lossnet import LossNetwork
from faststyle.nets.weights import load_weights
from faststyle.optimize.deepdream import deepdream
from faststyle.optimize.gatys import gatys
from faststyle.optimize.pixels import Source, to_rgb, to_tensor
from faststyle.optimize.transforms import gradient_of
from faststyle.runtime.stylizer import Stylizer

CONFIG = GatysConfig()
MARKS = (50, 100, 200, 500)
"""Steps of plain L-BFGS whose losses the others are timed against."""

Steps = Iterator[tuple[float, Callable[[], NDArray[np.uint8]]]]
"""The loss after each step, and a way to see the picture."""


@dataclass
class Run:
    """How one method got on: total loss before the first step and after each, and the time that had gone by."""

    losses: list[float]
    seconds: list[float]
    cpu: list[float]
    show: Callable[[], NDArray[np.uint8]] | None = None
    """Gives the picture as it last was."""

    def reach(self, target: float) -> int | None:
        """The first step at or below a loss."""
        return next((step for step, loss in enumerate(self.losses) if loss <= target), None)


def follow(steps: Steps, target: float = 0.0, spent: tuple[float, float] = (0.0, 0.0)) -> Run:
    """Run until the target is reached or the steps end.

    `spent` are seconds and CPU seconds that went before.
    """
    start, cpu = time.perf_counter() - spent[0], time.process_time() - spent[1]
    run = Run([], [], [])
    for loss, show in steps:
        run.show = show
        run.losses.append(loss)
        run.seconds.append(time.perf_counter() - start)
        run.cpu.append(time.process_time() - cpu)
        if loss <= target:
            break
    return run


def plain(
    photo: NDArray[np.uint8], painting: NDArray[np.uint8], network: LossNetwork, steps: int, optimizer: str
) -> Steps:
    """The optimisation as everyone writes it: one scale, torch's optimiser, clipped after each step."""
    cpu = torch.device("cpu")
    image = to_tensor(photo, cpu)
    gradient = gradient_of(Ruler(painting, CONFIG.loss, network).against(photo))
    method = {} if optimizer == "lbfgs" else {"optimizer": functools.partial(torch.optim.Adam, lr=CONFIG.learning_rate)}
    for loss in descend(image, gradient, steps, **method):
        yield loss, lambda: to_rgb(image)


def ours(
    photo: NDArray[np.uint8], painting: NDArray[np.uint8], network: LossNetwork, steps: int, init: Source
) -> Steps:
    """`gatys` at its defaults; losses at the coarser scales are those of another picture and count as infinite."""
    side = photo.shape[0]
    for step in gatys(photo, [painting], GatysConfig(size=side, steps=steps), init=init, network=network):
        yield step.losses["total"] if step.width == side else float("inf"), step.image


def transfer(pairs: list[tuple[str, str, str]], size: int, steps: int, others: int, out: Path) -> None:
    """The table of times until each method reaches the target; pictures go to `out`."""
    network = LossNetwork(CONFIG.loss.layers, load_weights("vgg16"))
    marks = [step for step in MARKS if step <= steps]
    heads = " | ".join(f"as low as plain L-BFGS after {step}" for step in marks)
    print(f"\n| pair at {size} x {size} | method | {heads} | lowest loss | steps | seconds | CPU seconds |")
    print("|---|---|" + "---|" * (len(marks) + 4), flush=True)
    sooner: dict[str, list[list[float]]] = {}
    for photo_path, painting_path, model in pairs:
        photo, painting = resize_rgb(read_image(photo_path).rgb, size, size), read_image(painting_path).rgb
        pair = f"{Path(photo_path).stem}, {Path(painting_path).stem}"
        start, cpu = time.perf_counter(), time.process_time()
        painted = Stylizer(model)(photo)
        head_start = (time.perf_counter() - start, time.process_time() - cpu)
        reference = follow(plain(photo, painting, network, steps, "lbfgs"))
        targets = [min(reference.losses[: step + 1]) for step in marks]
        runs = {
            "plain L-BFGS": reference,
            "plain Adam": follow(plain(photo, painting, network, others, "adam"), targets[-1]),
            "coarse to fine": follow(ours(photo, painting, network, others, "content"), targets[-1]),
            "from the model": follow(ours(photo, painting, network, others, painted), targets[-1], head_start),
        }
        for name, run in runs.items():
            ratios = [ratio(reference, run, target) for target in targets]
            cells = " | ".join(f"{value:.1f} x" if value else "not reached" for value in ratios)
            numbers = f"{min(run.losses):.4f} | {len(run.losses) - 1} | {run.seconds[-1]:.0f} | {run.cpu[-1]:.0f}"
            print(f"| {pair} | {name} | {cells} | {numbers} |", flush=True)
            sooner.setdefault(name, []).append(ratios)
            assert run.show is not None
            Image.fromarray(run.show()).save(out / f"{pair} {name}.png".replace(", ", "-").replace(" ", "-"))
        curve = ", ".join(f"{step}: {target:.4f}" for step, target in zip(marks, targets, strict=True))
        print(f"<!-- plain L-BFGS by step: {curve} -->", flush=True)
    for name, rows in sooner.items():
        medians = [statistics.median_low(column) for column in zip(*rows, strict=True)]
        cells = " | ".join(f"{value:.1f} x" if value else "not reached" for value in medians)
        print(f"| median | {name} | {cells} | | | | |", flush=True)


def ratio(reference: Run, run: Run, target: float) -> float:
    """How many times sooner than the reference a run reached a loss, by CPU seconds; 0 where it did not."""
    theirs, step = reference.reach(target), run.reach(target)
    return 0.0 if theirs is None or step is None else reference.cpu[theirs] / run.cpu[step]


def plain_dream(photo: NDArray[np.uint8], steps: int) -> float:
    """Seconds a megapixel and step for gradient ascent with a hook on torchvision's whole VGG-16."""
    vgg = torchvision.models.vgg16(weights=None)
    vgg.load_state_dict(load_weights("vgg16"), strict=False)  # the classifier's weights change no time
    vgg.eval().requires_grad_(False)
    kept: list[torch.Tensor] = []
    vgg.features[22].register_forward_hook(lambda module, inputs, output: kept.append(output))  # relu4_3
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1),
    )
    image = to_tensor(photo, torch.device("cpu"))

    def step() -> None:
        nonlocal image
        image = image.detach().roll((3, 5), (2, 3)).requires_grad_()
        kept.clear()
        vgg((image - mean) / std)
        kept[0].square().mean().backward()  # type: ignore[no-untyped-call]
        assert image.grad is not None
        slope = image.grad / image.grad.abs().mean()
        image = (image.detach() + 0.01 * slope).clamp(0, 1).roll((-3, -5), (2, 3))

    step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return _per_megapixel(time.perf_counter() - start, steps, photo)


def our_dream(photo: NDArray[np.uint8], steps: int) -> float:
    """The same for one octave of `deepdream` at its defaults."""
    dream = deepdream(photo, DreamConfig(octaves=1, steps=steps + 1))
    next(dream)
    start = time.perf_counter()
    for _ in dream:
        pass
    return _per_megapixel(time.perf_counter() - start, steps, photo)


def _per_megapixel(seconds: float, steps: int, photo: NDArray[np.uint8]) -> float:
    height, width = (int(side) for side in photo.shape[:2])
    return seconds / steps / (height * width / 1e6)


def dreams(photo_path: str, rounds: int, steps: int) -> None:
    """Both in turn, several rounds; medians."""
    photo = resize_rgb(read_image(photo_path).rgb, 512, 512)
    plain_times, our_times = [], []
    for _ in range(rounds):
        plain_times.append(plain_dream(photo, steps))
        our_times.append(our_dream(photo, steps))
    theirs, ours_ = statistics.median(plain_times), statistics.median(our_times)
    print("| DeepDream, 512 x 512, relu4_3 | seconds per megapixel and step |\n|---|---|")
    print(f"| plainly in torch, whole VGG-16 | {theirs:.2f} |\n| faststyle | {ours_:.2f} |")
    print(f"| ratio | {theirs / ours_:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="PHOTO PAINTING MODEL")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=500, help="steps of plain L-BFGS that set the target")
    parser.add_argument("--others", type=int, default=500, help="steps after which the other methods are given up")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the DeepDream comparison")
    options = parser.parse_args()
    if len(options.pairs) % 3:
        parser.error("name a photo, a painting and a model for each pair")
    out = Path("out/optimisation")
    out.mkdir(parents=True, exist_ok=True)
    pairs = list(zip(*[iter(options.pairs)] * 3, strict=True))
    dreams(pairs[0][0], options.rounds, 5)
    transfer(pairs, options.size, options.steps, options.others, out)


if __name__ == "__main__":
    main()
