"""Which style loss needs no tuning? Optimise one photo's pixels toward several paintings under three losses.

    python benchmarks/losses.py PAINTING... [--photo PHOTO]

Each loss has one weight, set so that the first painting ends at about the same content loss under all three; the other
paintings get the same weight. A loss that needs no tuning then gives like content losses and like relu4_3 losses for
all of them. Prints a Markdown table and writes the pictures to out/losses/. Half a minute a picture on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import skimage.data
import torch
from PIL import Image
from torch import Tensor

from faststyle.images import read_image, scale_short_side
from faststyle.losses import content_loss, gram_matrix, style_loss
from faststyle.nets.lossnet import LossNetwork
from faststyle.nets.weights import load_weights

STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
STEPS, RATE = 80, 0.03


def squared(gram: Tensor, target: Tensor) -> Tensor:
    """The plain loss of Johnson et al. 2016, equation 4."""
    return (gram - target).square().sum()


def scaled(gram: Tensor, target: Tensor) -> Tensor:
    """The squared error over the detached sum of absolute errors: a gradient of L1 norm 2 at every layer."""
    difference = gram - target
    return difference.square().sum() / difference.detach().abs().sum().clamp_min(1e-8)


LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float]] = {
    "plain": (squared, 2.0),
    "scaled": (scaled, 100.0),
    "balanced": (style_loss, 10.0),
}


def load(path: str | Path, short: int) -> Tensor:
    """A picture as 1 x 3 x H x W in [0, 1], its short side scaled to `short`."""
    return torch.from_numpy(scale_short_side(read_image(path).rgb, short)).permute(2, 0, 1)[None].float() / 255


def optimise(
    photo: Tensor, painting: Tensor, network: LossNetwork, loss: Callable[[Tensor, Tensor], Tensor], weight: float
) -> tuple[Tensor, float, dict[str, float]]:
    """Adam on the pixels; returns the picture, its content loss and its balanced style loss by layer."""
    with torch.no_grad():
        targets = {layer: gram_matrix(features) for layer, features in network(painting).items()}
        content = network(photo, ("relu3_3",))["relu3_3"]
    image = photo.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        features = network(image)
        grams = {layer: gram_matrix(features[layer]) for layer in STYLE_LAYERS}
        style = torch.stack([loss(grams[layer], targets[layer]) for layer in STYLE_LAYERS]).mean()
        distance = content_loss(features["relu3_3"], content)
        (distance + weight * style).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            image.clamp_(0, 1)
    balanced = {layer: float(style_loss(grams[layer], targets[layer]).detach()) for layer in STYLE_LAYERS}
    return image.detach(), float(distance.detach()), balanced


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paintings", nargs="+", metavar="PAINTING")
    parser.add_argument("--photo", default=str(Path(skimage.data.__file__).parent / "rocket.jpg"))
    options = parser.parse_args()
    network = LossNetwork(STYLE_LAYERS, load_weights("vgg16"))
    out = Path("out/losses")
    out.mkdir(parents=True, exist_ok=True)
    photo = load(options.photo, 176)
    print("| loss | painting | content | style | relu4_3 |\n|---|---|---|---|---|", flush=True)
    for name, (loss, weight) in LOSSES.items():
        for path in options.paintings:
            image, content, layers = optimise(photo, load(path, 256), network, loss, weight)
            mean = sum(layers.values()) / len(layers)
            print(f"| {name} | {Path(path).stem} | {content:.3f} | {mean:.3f} | {layers['relu4_3']:.3f} |", flush=True)
            pixels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
            Image.fromarray(pixels).save(out / f"{name}-{Path(path).stem}.png")


if __name__ == "__main__":
    main()
