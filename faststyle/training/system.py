"""The Lightning system: a TransformerNet learning paintings against the frozen loss network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any, NoReturn

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from faststyle.config import TrainConfig
from faststyle.errors import TrainingError
from faststyle.losses import (
    LossTerms,
    PerceptualLoss,
    channel_means,
    color_moments,
    colors_between,
    gram_matrix,
    shift_loss,
    stride_of,
    texture_energies,
    texture_target,
    textures_between,
)
from faststyle.nets.devices import precision_of, reduced
from faststyle.nets.layers import NOISE_PERIOD
from faststyle.nets.lossnet import LossNetwork
from faststyle.nets.styles import style_rows
from faststyle.nets.transformer import TransformerNet
from faststyle.training.clock import Clock
from faststyle.training.soap import Soap

__all__ = ["StyleTransferSystem"]

WEAKER = 0.1
"""Share of the steps that train a strength below 1. With 0.25 weak styles are no better, and full ones learn slower."""
WEAKEST = 0.1
"""Strengths below this weigh alike: what little style they have would be multiplied, rounding included."""
FLAT = 0.02
"""An output whose standard deviation is below this, or whose pixels are all but black and white, has collapsed."""
MOVED = (3, 5)
"""Rows and columns by which a photo is moved where no step says so."""
PATIENCE = 25
"""Steps of a style in a row all of whose outputs may look collapsed; young networks pass through grey."""


class StyleTransferSystem(pl.LightningModule):
    """Trains `net` to repaint photos in the styles of `style_images`, each 1 x 3 x H x W in [0, 1].

    Batches are uint8 N x 3 x H x W. Each picture of a step takes one style, and now and then all take a strength below
    1, at which they aim between photo and painting. The styles are the last of the net's: those before them stay as
    they are, and what they share too. The loss network never enters a checkpoint.
    """

    def __init__(
        self,
        config: TrainConfig,
        net: TransformerNet,
        loss_network: LossNetwork,
        style_images: Sequence[Tensor],
        clock: Clock,
    ) -> None:
        super().__init__()
        self.strict_loading = False  # the loss network's weights are absent from checkpoints
        self.config, self.clock = config, clock
        self.net, self.loss_network = net, loss_network
        self.crops = 0
        self.origin: dict[str, Any] = {"init": None, "init_steps": 0, "init_seconds": 0}
        self.terms: LossTerms | None = None
        self.validated_at = -1
        self._suspect = [0] * len(style_images)
        self._learned = len(style_images)
        self._before = net.config.styles - self._learned
        if self._before:  # before the net is wrapped for several devices, which counts what is learned
            net.requires_grad_(False)
            for rows in style_rows(net):
                rows.requires_grad_(True)
        self.register_buffer("colors", torch.cat([color_moments(image) for image in style_images]), persistent=False)
        targets: dict[str, list[Tensor]] = {}
        for image in style_images:  # one at a time: the features of a painting take a hundred times its own memory
            with torch.no_grad():
                features = loss_network(image, config.loss.style_layers)
            for layer, values in features.items():
                targets.setdefault(f"gram_{layer}", []).append(gram_matrix(values))
                targets.setdefault(f"mean_{layer}", []).append(channel_means(values))
            for layer in config.loss.texture_layers:
                texture = texture_target(features[layer], stride_of(features[layer], image))
                targets.setdefault(f"texture_{layer}", []).append(texture)
        for name, each in targets.items():
            self.register_buffer(name, torch.cat(each), persistent=False)

    def forward(self, image: Tensor, style: int = 0) -> Tensor:
        """Repaint N x 3 x H x W in [0, 1] in one of the styles."""
        return self.net(image, self._chosen([style]))  # type: ignore[no-any-return]

    def _chosen(self, styles: Sequence[int]) -> Tensor:
        """Style weights of pictures of one style each: len(styles) x the net's styles."""
        return F.one_hot(torch.tensor(styles) + self._before, self.net.config.styles).to(self.device, torch.float32)

    def judge(
        self,
        photos: Tensor,
        styles: int | Sequence[int] = 0,
        strength: float = 1.0,
        moved: tuple[int, int] = MOVED,
    ) -> tuple[LossTerms, Tensor]:
        """The losses of the photos repainted in one style, or in one for each, and those pictures; photos are float in
        [0, 1].

        Below full strength the style is what lies between the photo and the painting: Gram matrices, means, textures
        and colours of the one and the other, mixed as `strength` says. Their distances from the photo's shrink with its
        square, by which the style's weight is divided, or the photo itself would be the best answer to any weak style.

        `moved` are the rows and columns by which the photos are moved for the shift loss.
        """
        loss = self.config.loss
        with self._reduced(), torch.no_grad():
            photo = self.loss_network(photos, (loss.content_layer,) if strength == 1.0 else None)
        chosen = [styles] if isinstance(styles, int) else list(styles)
        grams, means = (
            {layer: self.get_buffer(f"{kind}_{layer}")[chosen] for layer in loss.style_layers}
            for kind in ("gram", "mean")
        )
        textures = {layer: self.get_buffer(f"texture_{layer}")[chosen] for layer in loss.texture_layers}
        colors = self.get_buffer("colors")[chosen]
        if strength < 1.0:
            grams = {layer: gram_matrix(photo[layer]).lerp(end, strength) for layer, end in grams.items()}
            means = {layer: channel_means(photo[layer]).lerp(end, strength) for layer, end in means.items()}
            for layer, end in textures.items():
                energies = texture_energies(photo[layer], stride_of(photo[layer], photos))
                textures[layer] = textures_between(energies, end, strength)
            colors = colors_between(color_moments(photos), colors, strength)
        weaker = max(strength, WEAKEST)
        criterion = PerceptualLoss(
            style_grams=grams,
            content_layer=loss.content_layer,
            style_weight=loss.style_weight / weaker**2,
            layer_weights=loss.weights,
            style_means=means,
            mean_weight=loss.mean_weight,
            style_textures=textures,
            evenness_weight=loss.evenness_weight * weaker,  # no square: it shrinks with the strength itself
            style_colors=colors,
            color_weight=loss.color_weight,
            light_weight=loss.light_weight,
            lattice_weight=loss.lattice_weight,
            tv_weight=loss.tv_weight,
        )
        stylized = self.net(photos, self._chosen(chosen), strength)
        with self._reduced():
            features = self.loss_network(stylized)
        terms = criterion(stylized.float(), features, photo[loss.content_layer], photos)
        if loss.shift_weight:
            rows, columns = moved
            with self.net.noise_moved(rows, columns):
                again = self.net(photos[:, :, rows:, columns:], self._chosen(chosen), strength)
            terms = terms.with_shift(shift_loss(stylized.float(), again.float(), rows, columns), loss.shift_weight)
        return terms, stylized

    def draw(self, step: int, rank: int = 0, count: int = 1) -> tuple[list[int], float]:
        """Which style each of `count` pictures takes, and which strength all do: a function of seed, step and rank.

        The styles follow upon each other from a random one on, so that a batch holds them as evenly as it can.
        """
        random = np.random.default_rng((self.config.optim.seed, step, rank, 2))  # a stream apart from the crops'
        first, weaker, strength = int(random.integers(self._learned)), random.random(), random.random()
        styles = [(first + place) % self._learned for place in range(count)]
        return styles, strength if weaker < WEAKER and self.net.config.rows > self.net.config.styles else 1.0

    def noise_origin(self, step: int, rank: int = 0) -> tuple[int, int]:
        """Cell at which the net's noise begins in a step (`lay_noise`): a pure function of seed, step and rank."""
        random = np.random.default_rng((self.config.optim.seed, step, rank, 3))  # a stream apart from the others
        row, column = random.integers(NOISE_PERIOD, size=2)
        return int(row), int(column)

    def move(self, step: int, rank: int = 0) -> tuple[int, int]:
        """Rows and columns by which the photos of a step are moved for the shift loss, within the net's stride."""
        random = np.random.default_rng((self.config.optim.seed, step, rank, 4))  # a stream apart from the others
        row, column = random.integers(self.net.config.stride, size=2)
        return int(row), int(column)

    def _reduced(self) -> AbstractContextManager[object]:
        """The loss network's number format where --precision leaves it to us; else Lightning has set it already."""
        if self.config.trainer.precision != "auto":
            return nullcontext()
        return reduced(self.device, precision_of("auto", self.device))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        step, rank = self.trainer.global_step, self.trainer.global_rank
        styles, strength = self.draw(step, rank, len(batch))
        self.net.lay_noise(*self.noise_origin(step, rank))
        try:
            terms, stylized = self.judge(batch.float() / 255, styles, strength, self.move(step, rank))
        finally:
            self.net.lay_noise()
        self._guard(terms, stylized.detach(), styles, strength)
        if strength == 1.0 or self.terms is None:  # what is reported: weaker steps have other weights
            self.terms = terms
        self.crops += len(batch) * self.trainer.world_size
        return terms.total

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Every photo in every style at full strength; the terms are means over both, `content/2` and so on those of
        one style by its place in the net."""
        found = [self.judge(batch.float() / 255, style)[0].scalars() for style in range(self._learned)]
        values = {f"val/{name}": sum(each[name] for each in found) / self._learned for name in found[0]}
        if self.net.config.styles > 1:
            for style, each in enumerate(found, self._before):
                values |= {f"val/{name}/{style}": value for name, value in each.items()}
        self.log_dict(values, on_epoch=True, batch_size=len(batch), sync_dist=True)

    def on_validation_end(self) -> None:
        self.validated_at = self.trainer.global_step

    def configure_optimizers(self) -> Any:
        optim = self.config.optim
        if self._before:
            self._keep_the_others()
        learned = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        optimizer = Soap(learned, optim.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: optim.rate_at(step, self.clock.progress(step))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _keep_the_others(self) -> None:
        """Let the rows of the styles before the new ones be: without a slope the optimiser leaves a number as it is."""
        first, end = self._before, self.net.config.styles
        for rows in style_rows(self.net):
            new = torch.zeros_like(rows)
            new[first:end] = 1
            rows.register_hook(lambda slope, new=new: slope * new)  # type: ignore[no-untyped-call]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["faststyle"] = {
            "config": asdict(self.config),
            "net": asdict(self.net.config),
            "seconds": self.clock.now(),
            "end": self.clock.end,
            "origin": self.origin,
            "crops": self.crops,
            "suspect": self._suspect,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where the checkpoint stopped, but with the learning rate that is asked for now."""
        self.origin = checkpoint["faststyle"]["origin"]
        self.clock.restore(checkpoint["faststyle"]["seconds"], checkpoint["faststyle"]["end"])
        self.crops = checkpoint["faststyle"]["crops"]
        self._suspect = checkpoint["faststyle"]["suspect"]
        (schedule,), (optimizer,) = checkpoint["lr_schedulers"], checkpoint["optimizer_states"]
        before, rate = schedule["base_lrs"][0], self.config.optim.learning_rate
        if rate != before:
            schedule["base_lrs"] = [rate]
            schedule["_last_lr"] = [schedule["_last_lr"][0] / before * rate]
            for group in optimizer["param_groups"]:
                group["lr"], group["initial_lr"] = schedule["_last_lr"][0], rate

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # In float16 a gradient may overflow now and then: the scaler then skips the step by itself.
        if self.config.trainer.precision != "16-mixed":
            gradients = [parameter.grad for parameter in self.net.parameters() if parameter.grad is not None]
            if not math.isfinite(float(torch.nn.utils.get_total_norm(gradients))):
                self._stop("the gradient is not a number")

    def _guard(self, terms: LossTerms, stylized: Tensor, styles: Sequence[int], strength: float) -> None:
        """Stop before the optimiser takes in a broken gradient, and soon after an output has collapsed."""
        if not math.isfinite(float(terms.total.detach())):
            self._stop("the loss is not a number")
        if strength < 1.0:  # the photo shines through
            return
        extreme = ((stylized < 0.01) | (stylized > 0.99)).float().mean((1, 2, 3))
        collapsed = ((stylized.std((1, 2, 3)) < FLAT) | (extreme > 0.95)).tolist()
        for style in set(styles):
            all_of_it = all(each for other, each in zip(styles, collapsed, strict=True) if other == style)
            self._suspect[style] = self._suspect[style] + 1 if all_of_it else 0
        if max(self._suspect) >= PATIENCE:
            self._stop("the output has gone flat or saturated")

    def _stop(self, reason: str) -> NoReturn:
        raise TrainingError(
            f"training of {self.config.name} stopped at step {self.global_step}: {reason}; go on from the last"
            " checkpoint with --resume and a lower --learning-rate, or start again with a lower --strength"
        )
