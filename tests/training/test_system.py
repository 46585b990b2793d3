"""The system that Lightning trains: number formats of what it computes, and which style at which strength."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from faststyle.config import NETS, NetConfig, TrainerConfig
from faststyle.errors import TrainingError
from faststyle.losses import color_loss, color_moments, light_loss, shift_loss, texture_energies
from faststyle.nets.lossnet import LossNetwork
from faststyle.nets.styles import style_rows
from faststyle.nets.transformer import TransformerNet
from faststyle.training import system
from faststyle.training.clock import Clock
from faststyle.training.system import StyleTransferSystem


@pytest.mark.parametrize("fast", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("precision", ["auto", "32-true"])
def test_the_loss_network_alone_is_reduced_and_only_where_it_pays(
    settings: Any, monkeypatch: pytest.MonkeyPatch, fast: torch.dtype, precision: Any
) -> None:
    monkeypatch.setattr(system, "precision_of", lambda name, device: fast)
    config = settings(trainer=TrainerConfig(accelerator="cpu", devices="1", precision=precision))
    judge = LossNetwork(config.loss.layers)
    trained = StyleTransferSystem(
        config, TransformerNet(NETS["nano"]), judge, [torch.rand(1, 3, 64, 64)], Clock(config.optim)
    )
    seen: list[torch.dtype] = []
    forward = judge.forward

    def watched(*given: Any) -> dict[str, Tensor]:
        found = forward(*given)
        seen.extend(value.dtype for value in found.values())
        return found

    monkeypatch.setattr(judge, "forward", watched)
    terms, stylized = trained.judge(torch.rand(2, 3, 64, 64))
    expected = fast if precision == "auto" else torch.float32
    assert seen == [expected] * 3, "the photos' content layer, then both layers of the repainted ones"
    assert stylized.dtype == terms.total.dtype == torch.float32
    terms.total.backward()
    assert all(parameter.grad is not None for parameter in trained.net.parameters())


@pytest.fixture
def make(settings: Any) -> Any:
    """Builds a system for paintings of noise: `make(2)`, with a loss network of random weights."""
    config = settings()
    layers = {"style_layers": ("relu1_2", "relu3_3"), "content_layer": "relu3_3"}
    config = replace(config, loss=replace(config.loss, **layers))
    judge = LossNetwork(config.loss.layers)

    def build(styles: int, seed: int = 0, **net: Any) -> StyleTransferSystem:
        torch.manual_seed(0)
        paintings = [torch.rand(1, 3, 64, 64) ** (1 + 2 * index) for index in range(styles)]
        shape = NETS["nano"] if not net else NetConfig(**net)
        chosen = replace(config, optim=replace(config.optim, seed=seed))
        return StyleTransferSystem(
            chosen, TransformerNet(replace(shape, styles=styles)), judge, paintings, Clock(config.optim)
        )

    return build


def test_what_a_step_trains_is_a_pure_function_of_seed_step_and_rank(make: Any) -> None:
    one, same, other = make(3), make(3), make(3, seed=1)
    drawn = [one.draw(step, rank) for step in range(100) for rank in range(2)]
    torch.rand(3)
    np.random.default_rng().random()
    again = [same.draw(step, rank) for step in reversed(range(100)) for rank in (1, 0)]
    assert drawn == again[::-1]
    assert drawn[::2] != drawn[1::2], "ranks draw for themselves"
    assert drawn[::2] != [other.draw(step) for step in range(100)]


def test_the_noise_begins_elsewhere_at_every_step(make: Any) -> None:
    trained, other = make(2), make(2, seed=1)
    origins = [trained.noise_origin(step) for step in range(200)]
    assert origins == [trained.noise_origin(step) for step in range(200)], "a pure function of seed, step and rank"
    assert len(set(origins)) == 200
    assert np.min(origins) < 100 and np.max(origins) > 3800
    assert origins != [other.noise_origin(step) for step in range(200)]
    assert origins != [trained.noise_origin(step, 1) for step in range(200)]


def test_a_training_step_moves_the_noise_and_puts_it_back(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = make(1)
    seen: list[tuple[int, int]] = []
    trained.trainer = SimpleNamespace(global_step=7, global_rank=0, world_size=1)
    dither = trained.net.dither
    judge = trained.judge

    def watched(*arguments: Any) -> Any:
        seen.append(dither.origin)
        return judge(*arguments)

    monkeypatch.setattr(trained, "judge", watched)
    trained.training_step(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8), 0)
    row, column = trained.noise_origin(7)
    assert seen == [(8 * row, 8 * column)]
    assert dither.origin == (0, 0)


def test_photos_move_by_less_than_a_cell_at_every_step(make: Any) -> None:
    trained, other = make(2), make(2, seed=1)
    moves = [trained.move(step) for step in range(300)]
    assert moves == [trained.move(step) for step in range(300)], "a pure function of seed, step and rank"
    assert {row for row, _ in moves} == {column for _, column in moves} == set(range(8))
    assert moves != [other.move(step) for step in range(300)]
    assert moves != [trained.move(step, 1) for step in range(300)]


def test_the_shift_loss_is_that_of_a_photo_moved(make: Any) -> None:
    trained, photos = make(2), torch.rand(2, 3, 72, 80)
    with torch.no_grad():
        terms, stylized = trained.judge(photos, [0, 1], 1.0, (3, 6))
        trained.net.dither.origin = (3, 6)
        again = trained.net(photos[:, :, 3:, 6:], torch.eye(2))
        trained.net.dither.origin = (0, 0)
        assert terms.scalars()["shift"] == pytest.approx(float(shift_loss(stylized, again, 3, 6)))
        same = terms.total - trained.config.loss.shift_weight * terms.shift
        trained.config = replace(trained.config, loss=replace(trained.config.loss, shift_weight=0.0))
        plain = trained.judge(photos, [0, 1], 1.0, (3, 6))[0]
        assert plain.total.item() == pytest.approx(same.item(), rel=1e-5)
        assert "shift" not in plain.scalars(), "a net without it is not asked twice"


def test_every_style_has_its_share_and_a_tenth_of_the_steps_are_weaker(make: Any) -> None:
    trained = make(3)
    drawn = [trained.draw(step) for step in range(4000)]
    shares = np.bincount([style for (style,), _ in drawn], minlength=3) / 4000
    assert np.abs(shares - 1 / 3).max() < 0.04
    weaker = np.array([strength for _, strength in drawn if strength != 1.0])
    assert len(weaker) / 4000 == pytest.approx(0.1, abs=0.02)
    assert weaker.min() >= 0 and weaker.max() < 1
    assert np.histogram(weaker, 4, (0, 1))[0].min() > 80, "from 0 to 1 all strengths alike"
    by_style = [np.mean([strength < 1 for (style,), strength in drawn if style == each]) for each in range(3)]
    assert np.ptp(by_style) < 0.1, "whichever the style"


def test_a_batch_holds_the_styles_as_evenly_as_it_can(make: Any) -> None:
    trained = make(3)
    for step in range(50):
        (one,), strength = trained.draw(step)
        styles, same = trained.draw(step, count=7)
        assert styles[0] == one and same == strength
        assert np.ptp(np.bincount(styles, minlength=3)) == 1


def test_each_picture_of_a_batch_is_judged_by_its_own_painting(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "precision_of", lambda name, device: torch.float32)
    trained, photos = make(2), torch.rand(3, 3, 64, 64)
    for rows in style_rows(trained.net):
        rows.data[0] += 0.3
    styles = [1, 0, 1]
    for strength in (1.0, 0.4):
        with torch.no_grad():
            together, stylized = trained.judge(photos, styles, strength)
            apart = [trained.judge(photos[k, None], style, strength) for k, style in enumerate(styles)]
        assert torch.allclose(stylized, torch.cat([picture for _, picture in apart]), atol=1e-5)
        each = [terms.scalars() for terms, _ in apart]
        for name, value in together.scalars().items():
            assert value == pytest.approx(np.mean([found[name] for found in each]), rel=1e-3, abs=1e-7), name


def test_two_paintings_added_are_judged_as_the_last_styles(make: Any) -> None:
    trained, photos = make(2), torch.rand(2, 3, 64, 64)
    net = TransformerNet(replace(NETS["nano"], styles=3))
    for rows in style_rows(net):
        rows.data += 0.3 * torch.randn_like(rows)
    paintings = [torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64) ** 3]
    added = StyleTransferSystem(trained.config, net, trained.loss_network, paintings, Clock(trained.config.optim))
    with torch.no_grad():
        terms, stylized = added.judge(photos, [1, 0])
        alone = [added.judge(photos[k, None], style)[0].scalars() for k, style in enumerate((1, 0))]
        assert torch.allclose(stylized, net(photos, torch.tensor([[0.0, 0, 1], [0, 1, 0]])), atol=1e-6)
    assert terms.scalars()["style"] == pytest.approx(np.mean([each["style"] for each in alone]), rel=0.01)


def test_a_style_has_collapsed_after_as_many_steps_whatever_the_batch(make: Any) -> None:
    trained = make(2)
    trained.trainer = SimpleNamespace(global_step=0, global_rank=0, world_size=1)
    good, flat = torch.rand(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.5)
    with torch.no_grad():
        terms, _ = trained.judge(torch.rand(1, 3, 64, 64))
    pictures, styles = torch.cat([flat] * 3 + [good, flat, good]), [0, 0, 0, 1, 1, 1]
    for _ in range(system.PATIENCE - 1):
        trained._guard(terms, pictures, styles, 1.0)
    trained._guard(terms, pictures, styles, 0.5)  # a weaker step says nothing
    trained._guard(terms, torch.cat([flat] * 2 + [good]), [1, 1, 1], 1.0)
    with pytest.raises(TrainingError, match="flat or saturated"):
        trained._guard(terms, pictures, styles, 1.0)
    again = make(2)
    again.trainer = trained.trainer
    for step in range(2 * system.PATIENCE):  # one picture that is not flat starts the count anew
        again._guard(terms, good if step % system.PATIENCE == 20 else flat, [0], 1.0)


def test_a_net_without_a_strength_always_trains_the_full_one(make: Any) -> None:
    johnson = make(2, family="johnson", channels=(4, 4, 4), blocks=1, padding=40)
    frozen = make(1, channels=(4, 4, 4), norm="frozen")
    for system_ in (johnson, frozen):
        assert {system_.draw(step)[1] for step in range(100)} == {1.0}


def test_each_style_is_judged_by_its_own_painting(make: Any) -> None:
    trained, photos = make(2), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        first, second = (trained.judge(photos, style)[0].scalars() for style in range(2))
        assert first["style"] != second["style"]
        assert first["content"] == second["content"], "both rows are fresh still"
        for rows in style_rows(trained.net):
            rows.data[0] += 0.3
        assert trained.judge(photos, 1)[0].scalars() == second
        changed, stylized = trained.judge(photos, 0)
        assert changed.scalars()["content"] != first["content"]
        assert torch.equal(stylized, trained.net(photos, [1.0, 0.0]))


@pytest.mark.parametrize("strength", [1.0, 0.5, 0.03, 0.0])
def test_a_weaker_style_lies_between_the_photo_and_the_painting(
    make: Any, monkeypatch: pytest.MonkeyPatch, strength: float
) -> None:
    monkeypatch.setattr(system, "precision_of", lambda name, device: torch.float32)
    trained, photos = make(2), torch.rand(2, 3, 64, 64)
    loss = trained.config.loss
    with torch.no_grad():
        terms, stylized = trained.judge(photos, 1, strength)
        assert torch.equal(stylized, trained.net(photos, [0.0, 1.0], strength))
        found, photo = (trained.loss_network(image) for image in (stylized, photos))

    def apart(ours: Tensor, theirs: Tensor, painting: Tensor) -> Tensor:
        between = strength * painting + (1 - strength) * theirs
        size = ours.square().flatten(1).sum(1) + between.square().flatten(1).sum(1)
        return ((ours - between).square().flatten(1).sum(1) / size).mean()

    style = torch.zeros(())
    for layer in loss.style_layers:
        gram, mean = trained.get_buffer(f"gram_{layer}")[1], trained.get_buffer(f"mean_{layer}")[1]
        flat, other = found[layer].flatten(2), photo[layer].flatten(2)
        ours, theirs = (each @ each.mT / each[0].numel() for each in (flat, other))
        weighed = apart(ours, theirs, gram) + loss.mean_weight * apart(flat.mean(2), other.mean(2), mean)
        share = loss.weights[layer] / sum(loss.weights.values())
        style = style + share * weighed
    uneven = torch.zeros(())
    for layer in loss.texture_layers:
        ours, theirs = (texture_energies(each[layer], 4) for each in (found, photo))
        painting = trained.get_buffer(f"texture_{layer}")[1, None]
        painting = torch.nn.functional.interpolate(painting[None], ours.shape[1], mode="linear", align_corners=True)[0]
        uneven = uneven + (ours - (1 - strength) * theirs - strength * painting).abs().mean()
    assert loss.texture_layers == ("relu3_3",)
    own = color_moments(photos)
    moments = own.lerp(trained.colors[1, None, : own.shape[1]], strength)
    style = style + loss.color_weight * color_loss(color_moments(stylized), moments)
    values = terms.scalars()
    assert values["light"] == pytest.approx(float(light_loss(stylized, photos)))
    weight = loss.style_weight / max(strength, 0.1) ** 2
    style = style + loss.evenness_weight * max(strength, 0.1) * uneven
    assert values["total"] == pytest.approx(
        values["content"]
        + weight * float(style)
        + loss.light_weight * values["light"]
        + loss.lattice_weight * values["lattice"]
        + loss.shift_weight * values["shift"],
        rel=1e-4,
        abs=1e-5,
    )
    if strength == 0:
        assert float(style) < 1e-10 and values["shift"] < 1e-10, "it is the photo, and asks for nothing more"
        assert values["content"] < 1e-6, "it is the photo"
