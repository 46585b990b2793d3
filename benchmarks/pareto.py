"""Which network gives the lowest loss for its milliseconds? The search that settled the presets.

    python benchmarks/pareto.py PAINTING... --photos DIR --val DIR [--candidates NAME...] [--steps 600] [--seeds 1]

Every candidate learns every painting from the same crops with the same loss, schedule and number of steps (one crop of
256 x 256 pixels each), and is judged on the validation photos; then all are timed in turn in onnxruntime, 512 x 512,
plain and folded. Results go to OUT/pareto.json as soon as they are there, so that an interrupted search goes on; the
table is printed, OUT/pareto.svg drawn, and OUT holds a sheet of validation photos for each candidate. Time nothing
beside other work: `--time-only` times what was trained.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from faststyle import ModelCard, Stylizer
from faststyle.config import NETS, NetConfig, OptimConfig, TrainConfig
from faststyle.export import build_onnx
from faststyle.images import resize_rgb
from faststyle.nets.layers import Chain, ConvNorm, DeepBlock, FrozenNorm, ResidualBlock, Upsample
from faststyle.nets.lossnet import LossNetwork
from faststyle.nets.transformer import TransformerNet
from faststyle.nets.weights import load_weights
from faststyle.training.clock import Clock
from faststyle.training.data import PhotoDataModule
from faststyle.training.soap import Soap
from faststyle.training.start import style_image
from faststyle.training.system import StyleTransferSystem

Build = Callable[[], TransformerNet]


def lowres(half: int, quarter: int, deep: int, blocks: int) -> Build:
    """The family of the presets."""
    return lambda: TransformerNet(NetConfig(channels=(half, quarter, deep), blocks=blocks))


def placed(half: int, quarter: int, deep: int, before: int, blocks: int, after: int) -> Build:
    """The same with other numbers of blocks at a quarter of the size, before and after the deep ones."""

    def build() -> TransformerNet:
        net = lowres(half, quarter, deep, blocks)()
        at_quarter = [ResidualBlock(quarter, rows=net.config.rows) for _ in range(before + after)]
        net.body = Chain(*at_quarter[:before], net.body[0], *at_quarter[before:])
        return net

    return build


def thin_back(half: int, quarter: int, deep: int, blocks: int) -> Build:
    """The same with a 1x1 convolution on the way back from an eighth of the size."""

    def build() -> TransformerNet:
        net = lowres(half, quarter, deep, blocks)()
        (block,) = (module for module in net.modules() if isinstance(module, DeepBlock))
        block.back = ConvNorm(deep, quarter, 1, relu=False, rows=net.config.rows)
        return net

    return build


def late(build: Build) -> Build:
    """The same with the 3x3 convolution on the way back from an eighth after the upsampling."""

    def built() -> TransformerNet:
        net = build()
        (block,) = (module for module in net.body if isinstance(module, DeepBlock))
        inner, channels = block.back.conv.in_channels, block.back.conv.out_channels
        around = ResidualBlock(channels, rows=net.config.rows)  # it adds what its two parts make, as a DeepBlock does
        around.first = Chain(block.down, block.blocks)  # type: ignore[assignment]
        around.second = Upsample(inner, channels, relu=False, rows=net.config.rows)  # type: ignore[assignment]
        net.body = Chain(*(around if module is block else module for module in net.body))
        return net

    return built


def at_a_quarter(half: int, quarter: int, blocks: int, make: Callable[..., nn.Module] = ResidualBlock) -> Build:
    """All blocks at a quarter of the size; `make(channels, rows=...)` makes one."""

    def build() -> TransformerNet:
        net = lowres(half, quarter, quarter, blocks)()
        net.body = Chain(*(make(quarter, rows=net.config.rows) for _ in range(blocks)))
        return net

    return build


def decoded(half: int, quarter: int, blocks: int) -> Build:
    """The family of version 0.1: blocks at a quarter of the size, a decoder and a head at half of it."""

    def build() -> TransformerNet:
        net = at_a_quarter(half, quarter, blocks)()
        net.decoder = Chain(Upsample(quarter, half, rows=net.config.rows))
        net.head = nn.Sequential(nn.Conv2d(half, 12, 3, padding=1), nn.PixelShuffle(2))
        return net

    return build


def norms_in_the_stem(half: int, quarter: int, blocks: int) -> Build:
    """Instance norms in the stem alone; scale and shift of each channel elsewhere."""

    def build() -> TransformerNet:
        net = decoded(half, quarter, blocks)()
        for name, module in net.named_modules():
            if isinstance(module, ConvNorm) and not name.startswith("encoder"):
                module.norm = FrozenNorm(module.conv.out_channels)
                if name.endswith("second"):  # residual branches that start small stand in for what norms keep in bounds
                    nn.init.constant_(module.norm.weight, 0.2)
        return net

    return build


def expanded(channels: int, *, rows: int) -> ResidualBlock:
    """1x1 to twice the channels, 3x3 on each channel alone, 1x1 back (Sandler et al. 2018)."""
    block = ResidualBlock(channels, rows=rows)
    alone = ConvNorm(2 * channels, 2 * channels, 3, rows=rows)
    alone.conv = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels, bias=False)
    block.first = Chain(ConvNorm(channels, 2 * channels, 1, rows=rows), alone)  # type: ignore[assignment]
    block.second = ConvNorm(2 * channels, channels, 1, relu=False, rows=rows)
    return block


def grouped(channels: int, *, rows: int) -> ResidualBlock:
    """The first 3x3 in two groups."""
    block = ResidualBlock(channels, rows=rows)
    block.first.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=2, bias=False)
    return block


CANDIDATES: dict[str, Build] = {
    "16-16-32, 2 deep": lowres(16, 16, 32, 2),
    "16-32-48, 3 deep": lowres(16, 32, 48, 3),
    "16-32-64, 3 deep": lowres(16, 32, 64, 3),
    "16-48-96, 4 deep": lowres(16, 48, 96, 4),
    "16-32-32, 3 deep, late": late(lowres(16, 32, 32, 3)),
    "16-32-48, 4 deep": lowres(16, 32, 48, 4),
    "16-32-48, 3 deep, late": late(lowres(16, 32, 48, 3)),
    "16-32-64, 3 deep, late": late(lowres(16, 32, 64, 3)),
    "16-32-64, 3 deep, 1x1 back": thin_back(16, 32, 64, 3),
    "16-32-64, 2 deep, 2 after, late": late(placed(16, 32, 64, 0, 2, 2)),
    "16-32-64, 2 deep, 1 before, 1 after, late": late(placed(16, 32, 64, 1, 2, 1)),
    "16-16, 3 blocks": at_a_quarter(16, 16, 3),
    "16-32, 3 blocks": at_a_quarter(16, 32, 3),
    "16-32, 5 blocks": at_a_quarter(16, 32, 5),
    "16-48, 4 blocks": at_a_quarter(16, 48, 4),
    "16-64, 3 blocks": at_a_quarter(16, 64, 3),
    "24-64, 5 blocks": at_a_quarter(24, 64, 5),
    "16-32, 3 expanded blocks": at_a_quarter(16, 32, 3, expanded),
    "16-48, 5 expanded blocks": at_a_quarter(16, 48, 5, expanded),
    "16-32, 3 grouped blocks": at_a_quarter(16, 32, 3, grouped),
    "8-16, 3 blocks, decoder": decoded(8, 16, 3),
    "16-16, 3 blocks, decoder": decoded(16, 16, 3),
    "16-32, 3 blocks, decoder": decoded(16, 32, 3),
    "16-32, 5 blocks, decoder": decoded(16, 32, 5),
    "16-48, 4 blocks, decoder": decoded(16, 48, 4),
    "24-64, 5 blocks, decoder": decoded(24, 64, 5),
    "16-32, 3 blocks, decoder, norms in the stem": norms_in_the_stem(16, 32, 3),
    "johnson 32-64-128": lambda: TransformerNet(NETS["johnson"]),
    "johnson 16-32-64": lambda: TransformerNet(replace(NETS["johnson"], channels=(16, 32, 64))),
}
"""What is compared: its name, and how a fresh one is made."""
TERMS = ("total", "content", "style", "style_relu4_3")
SHOWN = 4
"""Validation photos on a candidate's sheet."""


def learn(build: Build, painting: str, options: argparse.Namespace, seed: int, sheet: Path) -> dict[str, float]:
    """Train one candidate; returns its losses on the validation photos, and draws the first of them."""
    optim = OptimConfig(max_steps=options.steps, crops=("256x1:1",), seed=seed, learning_rate=options.learning_rate)
    config = TrainConfig(style=(painting,), data=options.photos, val_data=options.val, optim=optim)
    torch.manual_seed(seed)
    net = build()
    judge = LossNetwork(config.loss.layers, load_weights("vgg16"))
    system = StyleTransferSystem(config, net, judge, [style_image(painting, config.loss)], Clock(optim))
    photos = PhotoDataModule(config, system.clock)
    optimizer = Soap(net.parameters(), optim.learning_rate)
    start = time.perf_counter()
    for step, batch in enumerate(photos.train_dataloader()):
        if step == options.steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = optim.learning_rate * optim.rate_at(step, step / options.steps)
        net.lay_noise(*system.noise_origin(step))
        terms, _ = system.judge(batch.float() / 255)
        net.lay_noise()
        optimizer.zero_grad()
        terms.total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), optim.gradient_clip)
        optimizer.step()
        if step % 100 == 99:
            print(
                f"  step {step + 1}: {float(terms.total.detach()):.3f}, {time.perf_counter() - start:.0f} s", flush=True
            )
    found: list[dict[str, float]] = []
    shown: list[NDArray[np.uint8]] = []
    with torch.no_grad():
        for batch in photos.val_dataloader():
            for photo in batch:
                terms, stylized = system.judge(photo[None].float() / 255)
                found.append(terms.scalars())
                shown.append((stylized[0].permute(1, 2, 0) * 255 + 0.5).to(torch.uint8).numpy())
    Image.fromarray(np.concatenate(shown[:SHOWN], 1)).save(sheet)
    losses = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
    return {
        "total": losses["content"] + config.loss.style_weight * losses["style"],
        **{k: v for k, v in losses.items() if k != "total"},
    }


def time_all(names: list[str], size: int, rounds: int) -> dict[str, dict[str, float]]:
    """Best milliseconds of every candidate, plain and folded, in turn in one process; and its parameters."""
    photo = np.random.default_rng(0).integers(0, 256, (size // 8, size // 8, 3), np.uint8)
    photo = resize_rgb(photo, size, size)
    runs: dict[tuple[str, str], Stylizer] = {}
    facts: dict[str, dict[str, float]] = {}
    for name in names:
        torch.manual_seed(0)
        net = CANDIDATES[name]()
        facts[name] = {"parameters": sum(parameter.numel() for parameter in net.parameters())}
        stylizer = Stylizer(
            build_onnx(net, ModelCard("candidate", net=asdict(net.config), halo=net.config.reach)), provider="cpu"
        )
        runs[name, "plain"], runs[name, "folded"] = stylizer, stylizer.folded(photo)
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            time.sleep(0.1)  # the threads of the network before go on spinning for a while, at this one's cost
            run(photo)
            start = time.perf_counter()
            run(photo)
            seconds[key].append(time.perf_counter() - start)
    for (name, how), each in seconds.items():
        facts[name][how] = 1000 * min(each)
    return facts


def judged(trained: dict[str, dict[str, Any]], budget: str) -> dict[str, dict[str, float]]:
    """Mean losses of each candidate with this budget, over the paintings and seeds that all of them have learned."""
    runs: dict[str, dict[str, dict[str, float]]] = {}
    for key, losses in trained.items():
        name, task, spent = key.split(" | ")
        if spent == budget:
            runs.setdefault(name, {})[task] = losses
    common = set.intersection(*(set(tasks) for tasks in runs.values())) if runs else set()
    return {
        name: {
            **{term: statistics.mean(tasks[task][term] for task in common) for term in TERMS},
            "runs": len(common),
        }
        for name, tasks in runs.items()
        if common
    }


def table(means: dict[str, dict[str, float]], times: dict[str, dict[str, float]]) -> str:
    """Markdown, fastest first; a candidate that another one beats in both is marked as dominated."""
    lines = [
        "| network | parameters | ms folded | ms plain | total | content | style | relu4_3 | runs | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    best = float("inf")
    for name in sorted(means.keys() & times.keys(), key=lambda name: times[name]["folded"]):
        fact, losses = times[name], means[name]
        mark = "dominated" if losses["total"] >= best else ""
        best = min(best, losses["total"])
        cells = [name, f"{fact['parameters'] / 1000:.0f} k", f"{fact['folded']:.1f}", f"{fact['plain']:.1f}"]
        cells += [*(f"{losses[term]:.3f}" for term in TERMS), f"{losses['runs']:.0f}", mark]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(means: dict[str, dict[str, float]], times: dict[str, dict[str, float]]) -> str:
    """SVG: milliseconds, folded, on a logarithmic axis against the mean total loss."""
    points = [(name, times[name]["folded"], means[name]["total"]) for name in means.keys() & times.keys()]
    width, height, edge = 900, 520, 60
    low, high = np.log10(min(x for _, x, _ in points) / 1.2), np.log10(max(x for _, x, _ in points) * 2.5)
    least, most = min(y for *_, y in points) * 0.98, max(y for *_, y in points) * 1.02

    def place(x: float, y: float) -> tuple[float, float]:
        across = edge + (np.log10(x) - low) / (high - low) * (width - 2 * edge)
        return float(across), float(height - edge - (y - least) / (most - least) * (height - 2 * edge))

    def text(x: float, y: float, words: str, anchor: str = "start") -> str:
        return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{words}</text>'

    def line(path: str) -> str:
        return f'<path d="{path}" stroke="#ddd"/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        text(
            edge, 24, "Content + style weight x style on validation photos, against milliseconds at 512 x 512, folded"
        ),
    ]
    for tick in (10, 20, 50, 100, 200, 500, 1000):
        if low <= np.log10(tick) <= high:
            x, _ = place(tick, least)
            parts += [line(f"M{x:.0f} {edge}V{height - edge}"), text(x, height - edge + 18, f"{tick} ms", "middle")]
    for value in np.linspace(least, most, 6):
        _, y = place(10, float(value))
        parts += [line(f"M{edge} {y:.0f}H{width - edge}"), text(edge - 6, y + 4, f"{value:.2f}", "end")]
    below = 0.0
    for name, milliseconds, total in sorted(points, key=lambda point: -point[2]):
        x, y = place(milliseconds, total)
        below = max(y + 4, below + 13)  # names under one another where points are close
        parts += [f'<circle cx="{x:.0f}" cy="{y:.0f}" r="4" fill="#246"/>', text(x + 8, below, name)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paintings", nargs="*", metavar="PAINTING")
    parser.add_argument("--photos", help="folder of photos to learn from")
    parser.add_argument("--val", help="folder of photos to judge by")
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES), choices=CANDIDATES, metavar="NAME")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of timing")
    parser.add_argument("--time-only", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=Path("out/pareto"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "pareto.json"
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {"trained": {}, "times": {}}
    trained: dict[str, dict[str, Any]] = results["trained"]
    budget = f"{options.steps} steps, rate {options.learning_rate:g}"
    for seed in range(options.seeds):
        for painting in [] if options.time_only else options.paintings:
            for name in options.candidates:
                key = f"{name} | {Path(painting).stem}, seed {seed} | {budget}"
                if key not in trained:
                    print(key, flush=True)
                    sheet = options.out / f"{key.replace(' | ', '-').replace(' ', '_')}.png"
                    trained[key] = learn(CANDIDATES[name], painting, options, seed, sheet)
                    kept.write_text(json.dumps(results, indent=2) + "\n")
                    print(f"  {trained[key]['total']:.4f}", flush=True)
    results["times"].update(time_all(options.candidates, 512, options.rounds))
    kept.write_text(json.dumps(results, indent=2) + "\n")
    means = judged(trained, budget)
    print(table(means, results["times"]))
    if means:
        (options.out / "pareto.svg").write_text(plot(means, results["times"]))


if __name__ == "__main__":
    main()
