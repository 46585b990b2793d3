"""By which loop: L-BFGS, Adam and normalised gradient ascent on the pixels of a picture.

Each loop changes `image`, 1 x C x H x W in [0, 1], in place and keeps it in that range. It is a generator that yields
losses: L-BFGS and Adam those of the picture as it stands, once before the first step and once after each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from faststyle.errors import OptimizeError
from faststyle.optimize.transforms import Gradient

__all__ = ["HISTORY", "adam", "ascent", "lbfgs"]

HISTORY = 20
"""Steps that L-BFGS remembers; 100 lead to the same losses here and take five times the memory."""
FIRST_STEP = 1e-3
"""Mean change of a pixel in L-BFGS's first step, when nothing is known of the curvature yet; twenty times as much gains
on the first 25 steps and loses from 50 on."""

Losses = dict[str, float]


def lbfgs(image: Tensor, gradient: Gradient, steps: int) -> Iterator[Losses]:
    """L-BFGS (Nocedal 1980) without line search, one evaluation of the loss network a step.

    Its first guess of the inverse Hessian is not a multiple of the identity but a filter that falls with the spatial
    frequency f as 1/f: coarse structure bends the loss less than fine grain and may move further. That saves a
    quarter of the steps here.
    """
    first_guess = _inverse_frequency(image)
    # Of each step: the change of the pixels, that of the slope, and one over their product.
    history: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=HISTORY)
    losses, slope = gradient(image)
    _check(losses)
    yield losses
    for _ in range(steps):
        step, factors = slope.clone(), []
        for change, bend, inverse in reversed(history):
            factors.append(inverse * _dot(change, step))
            step -= factors[-1] * bend
        step = first_guess(step)
        if history:
            change, bend, inverse = history[-1]
            step *= 1 / (inverse * _dot(bend, first_guess(bend)))
        else:
            step *= FIRST_STEP / float(step.abs().mean().clamp_min(1e-12))
        for (change, bend, inverse), factor in zip(history, reversed(factors), strict=True):
            step += (factor - inverse * _dot(bend, step)) * change
        before, slope_before = image.clone(), slope
        # Projected: what is judged is what can be saved (Johnson et al. 2016 clip their optimisation likewise).
        image.sub_(step).clamp_(0, 1)
        losses, slope = gradient(image)
        _check(losses)
        change, bend = image - before, slope - slope_before
        product = _dot(change, bend)
        if product > 1e-10:  # else the loss curves the other way, and the pair would turn a later step uphill
            history.append((change, bend, 1 / product))
        yield losses


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.flatten(), b.flatten()))


def _inverse_frequency(image: Tensor) -> Callable[[Tensor], Tensor]:
    """A filter that multiplies each spatial frequency f, in cycles a pixel, by 1/f; below one cycle a picture by a
    constant."""
    height, width = image.shape[2:]
    down = torch.fft.fftfreq(height, device=image.device).view(-1, 1)
    across = torch.fft.rfftfreq(width, device=image.device).view(1, -1)
    gain = 1 / (down.square() + across.square()).sqrt().clamp_min(1 / min(height, width))
    return lambda slope: torch.fft.irfft2(torch.fft.rfft2(slope) * gain, s=(height, width))


def adam(image: Tensor, gradient: Gradient, steps: int, learning_rate: float) -> Iterator[Losses]:
    """Adam with a fixed learning rate, in units of the pixel range."""
    optimizer = torch.optim.Adam([image], lr=learning_rate, betas=(0.9, 0.99))
    losses, image.grad = gradient(image)
    _check(losses)
    yield losses
    for _ in range(steps):
        optimizer.step()
        image.clamp_(0, 1)
        losses, image.grad = gradient(image)
        _check(losses)
        yield losses


def ascent(image: Tensor, gradient: Gradient, steps: int, step_size: float) -> Iterator[Losses]:
    """Steps against the gradient of a loss, divided by its mean size: `step_size` is a pixel's mean change.

    With a loss that is an objective's negative this climbs; Mordvintsev et al. 2015. Yields after each step the losses
    from before it: those after it would take an evaluation that no step uses.
    """
    for _ in range(steps):
        losses, slope = gradient(image)
        _check(losses)
        image.sub_(slope.mul_(step_size / slope.abs().mean().clamp_min(1e-12))).clamp_(0, 1)
        yield losses


def _check(losses: Losses) -> None:
    if losses["total"] != losses["total"]:
        raise OptimizeError("the loss is not a number any more: lower the strength or the step size")
