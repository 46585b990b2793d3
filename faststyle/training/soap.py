"""SOAP: Adam in the directions in which a layer's gradients vary, which takes half the steps that Adam alone takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Soap"]

DECAY = 0.95
"""Share of all running means that is kept in a step: of gradients, of their squares and of their products."""
EPS = 1e-8


class Soap(torch.optim.Optimizer):
    """Shampoo with Adam in the preconditioner's eigenbasis (Vyas et al. 2024, arXiv 2409.11321, algorithm 3).

    A convolution's weights are one matrix, outputs x (inputs x kernel), a tensor of three dimensions a matrix for each
    index of the first. Running means of G G^T and G^T G of their gradients G give each side of a matrix its axes, the
    eigenvectors; Adam runs on gradients turned into these axes, and its step is turned back. All other parameters are
    Adam's own. `every` is the number of steps between two looks at the axes.

    A matrix's first gradient only gives the axes, as in the authors' code. One that never had a gradient stays as it
    is, to the bit.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float, *, every: int = 20) -> None:
        super().__init__(parameters, {"lr": learning_rate, "every": every})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step along the parameters' gradients; those without one stay. Returns what `closure` does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    step = _step(_matrices(parameter.grad), self.state[parameter], group["every"])
                    parameter.sub_(step.view_as(parameter), alpha=group["lr"])
        return loss


def _matrices(gradient: Tensor) -> Tensor:
    """A convolution's gradient as 1 x outputs x (inputs x kernel); others as they are."""
    return gradient.flatten(1)[None] if gradient.ndim == 4 else gradient


def _step(gradient: Tensor, state: dict[str, Any], every: int) -> Tensor:
    """The step at a learning rate of 1, in the gradient's shape; `state` is brought up to date."""
    turned = gradient.ndim >= 3
    products = {"left": gradient @ gradient.mT, "right": gradient.mT @ gradient} if turned else {}
    if not state:
        state["steps"] = 0
        state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        for side, product in products.items():
            state[side] = product * (1 - DECAY)
            state[f"{side}_axes"] = torch.linalg.eigh(product.cpu())[1].flip(-1).to(product)
        if turned:
            # In its own axes a gradient is diagonal: of all else of a step the sign would be that of rounding errors.
            return torch.zeros_like(gradient)
    state["steps"] += 1
    mean: Tensor = state["mean"]
    square: Tensor = state["square"]
    mean.lerp_(gradient, 1 - DECAY)
    slope, direction = (_turn(each, state) for each in (gradient, mean)) if turned else (gradient, mean)
    square.lerp_(slope.square(), 1 - DECAY)
    unbiased = 1 - DECAY ** state["steps"]
    step: Tensor = direction / unbiased / ((square / unbiased).sqrt() + EPS)
    if not turned:
        return step
    step = state["left_axes"] @ step @ state["right_axes"].mT
    for side, product in products.items():
        state[side].lerp_(product, 1 - DECAY)
    if state["steps"] % every == 0:
        _look(state)
    return step


def _turn(gradient: Tensor, state: dict[str, Any]) -> Tensor:
    """From a layer's own axes into those of its gradients."""
    turned: Tensor = state["left_axes"].mT @ gradient @ state["right_axes"]
    return turned


def _look(state: dict[str, Any]) -> None:
    """Follow the eigenvectors by one step of orthogonal iteration, in falling order (the paper's algorithm 4).

    The factors come from the CPU, here and at the start: GPUs are slow at matrices as small as these, Apple's have no
    such operations.
    """
    for side, dim in (("left", -2), ("right", -1)):
        axes = state[f"{side}_axes"]
        order = (axes * (state[side] @ axes)).sum(-2).argsort(-1, descending=True)
        axes = torch.take_along_dim(axes, order[..., None, :], -1)
        state["square"] = torch.take_along_dim(state["square"], order.unsqueeze(-2 if dim == -1 else -1), dim)
        state[f"{side}_axes"] = torch.linalg.qr((state[side] @ axes).cpu())[0].to(axes)
