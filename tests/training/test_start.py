"""What a run begins with: settings filled in, and the rows of a net that know most of the paintings at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from faststyle.config import NETS, LossConfig, OptimConfig, TrainConfig
from faststyle.errors import ModelError, TrainingError
from faststyle.files import file_digest
from faststyle.modelcard import ModelCard, Style
from faststyle.nets.files import save_net
from faststyle.nets.lossnet import LossNetwork
from faststyle.nets.rescaling import rescale
from faststyle.nets.styles import style_rows, with_rows
from faststyle.nets.transformer import TransformerNet
from faststyle.nets.weights import load_weights
from faststyle.training import start
from faststyle.training.clock import Clock
from faststyle.training.data import PhotoDataModule
from faststyle.training.start import complete, first_net, style_image
from faststyle.training.system import StyleTransferSystem

Settings = Callable[..., TrainConfig]


def test_a_new_style_starts_from_the_base_of_its_net(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(start, "BASES", {"nano": "gallery"})
    monkeypatch.setattr(start, "list_weights", lambda: {"gallery": Path("gallery.safetensors")})
    bare = replace(settings(), from_scratch=False)
    assert complete(bare).init == "gallery"
    assert complete(replace(bare, init="other")).init == "other"
    assert complete(replace(bare, from_scratch=True)).init is None
    assert complete(replace(bare, resume=True)).init == "gallery", "it resumes what it started"
    assert not caplog.records
    assert complete(replace(bare, net="fast")).init is None
    monkeypatch.setattr(start, "list_weights", dict)
    assert complete(bare).init is None
    assert [record.getMessage() for record in caplog.records] == [
        f"there is no base for --net {net}: training starts from random weights" for net in ("fast", "nano")
    ]


def test_steps_and_name_are_filled_in(settings: Settings) -> None:
    open_ended = replace(settings(), optim=OptimConfig())
    assert complete(open_ended).optim.max_steps == start.STEPS_FROM_SCRATCH
    warm = complete(replace(open_ended, from_scratch=False, init="starry"))
    assert warm.optim.max_steps == start.STEPS < start.STEPS_FROM_SCRATCH
    assert warm.optim.max_seconds == 270, "five minutes with all that goes before and after"
    assert complete(open_ended).optim.max_time is None
    assert complete(replace(open_ended, optim=OptimConfig(max_steps=7))).optim.max_steps == 7
    assert complete(open_ended).name == "stripes"
    assert complete(replace(open_ended, name="mine")).name == "mine"


def test_the_net_is_that_of_the_weights_to_start_from(settings: Settings, tmp_path: Path) -> None:
    bare = replace(settings(), net=None)
    assert complete(bare).net == "fast"
    for name in ("nano", "quality"):
        net = TransformerNet(replace(NETS[name], styles=2))
        card = ModelCard(name, (Style("One"), Style("Two")), net=net.config.to_dict())
        save_net(tmp_path / f"{name}.safetensors", net, card)
        started = replace(bare, from_scratch=False, init=str(tmp_path / f"{name}.safetensors"))
        assert complete(started).net == name
        assert complete(replace(started, net="johnson")).net == "johnson", "what is asked for is refused later"
    with pytest.raises(ModelError, match="there is no weights file missing"):
        complete(replace(bare, from_scratch=False, init="missing"))


@pytest.fixture
def judge(settings: Settings) -> LossNetwork:
    config = settings()
    weights = load_weights("vgg16", config.loss_weights)
    return LossNetwork(config.loss.layers, weights)


@pytest.fixture
def three(tmp_path: Path) -> tuple[TransformerNet, ModelCard]:
    """A net of three styles, all rows different, of which the last has learned rings.png."""
    torch.manual_seed(0)
    net = TransformerNet(replace(NETS["nano"], styles=3))
    for rows in style_rows(net):
        torch.nn.init.normal_(rows, rows.mean().item(), 0.5)
    styles = (Style("One", name="one"), Style("Two", name="two", sha256="0" * 64), Style("Rings", name="rings"))
    return net, ModelCard("three", styles, net=net.config.to_dict())


def begin(
    config: TrainConfig, judge: LossNetwork, saved: dict[str, Any] | None = None
) -> tuple[TransformerNet, ModelCard | None]:
    photos = PhotoDataModule(config, Clock(config.optim))
    images = [style_image(path, config.loss) for path in config.style]
    return first_net(config, photos, judge, images, saved)


def same(one: TransformerNet, other: TransformerNet) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def ready(net: TransformerNet, styles: Sequence[int]) -> TransformerNet:
    """The net with these of its styles, as a run that trains all of it begins."""
    copy = with_rows(net, styles)
    rescale(copy)
    return copy


def test_from_scratch_it_is_a_function_of_the_seed(settings: Settings, judge: LossNetwork, tmp_path: Path) -> None:
    both = (str(tmp_path / "stripes.png"), str(tmp_path / "checks.png"))
    config = settings(style=both, name="both")
    first, card = begin(config, judge)
    assert card is None and first.config == replace(NETS["nano"], styles=2)
    assert same(first, begin(config, judge)[0])
    assert not same(first, begin(replace(config, optim=replace(config.optim, seed=1)), judge)[0])


def test_a_painting_that_the_net_knows_gets_its_own_row(
    settings: Settings, judge: LossNetwork, three: tuple[TransformerNet, ModelCard], tmp_path: Path
) -> None:
    """By its digest, whatever its file is called, and however well other rows do."""
    net, card = three
    config = settings(style=(str(tmp_path / "rings.png"),), init=str(tmp_path / "three.safetensors"))
    for place in range(3):
        digest = file_digest(config.style[0])
        styles = [replace(style, sha256=digest if index == place else "") for index, style in enumerate(card.styles)]
        save_net(config.init or "", net, replace(card, styles=tuple(styles)))
        found, parent = begin(config, judge)
        assert parent is not None and parent.name == "three"
        assert same(found, ready(net, [place]))


def test_a_painting_is_learned_without_its_grain(tmp_path: Path) -> None:
    painting = np.full((80, 96, 3), 90, np.uint8)
    painting[:, 40:] = (200, 40, 120)
    grain = painting.copy()
    grain[1::5, 1::5] = 255
    Image.fromarray(grain).save(tmp_path / "grain.png")
    found, grainy = (
        style_image(str(tmp_path / "grain.png"), LossConfig(style_size=80, style_median=side)) for side in (3, 1)
    )
    assert torch.equal(found[0].mul(255).round().permute(1, 2, 0), torch.from_numpy(painting).float())
    assert torch.equal(grainy[0].mul(255).round().permute(1, 2, 0), torch.from_numpy(grain).float())
    assert LossConfig().style_median == 3, "by default"


def test_another_painting_gets_the_row_with_the_least_loss(
    settings: Settings, judge: LossNetwork, three: tuple[TransformerNet, ModelCard], tmp_path: Path
) -> None:
    net, card = three
    paths = tuple(str(tmp_path / f"{name}.png") for name in ("stripes", "rings"))
    save_net(tmp_path / "three.safetensors", net, card)
    config = settings(style=paths, name="both", init=str(tmp_path / "three.safetensors"))
    photos = PhotoDataModule(config, Clock(config.optim)).validation
    batch = torch.stack([photos[index] for index in range(min(3, len(photos)))]).float() / 255
    expected = []
    for path in paths:
        image = style_image(path, config.loss)
        totals = []
        for row in range(3):
            system = StyleTransferSystem(config, with_rows(net, [row]), judge, [image], Clock(config.optim))
            totals.append(float(system.judge(batch)[0].total.detach()))
        expected.append(totals.index(min(totals)))
    assert same(begin(config, judge)[0], ready(net, expected))
    added, _ = begin(replace(config, style=paths[:1], add=True), judge)
    assert same(added, with_rows(net, [0, 1, 2, expected[0]])), "with --add the others stay before it"


def test_a_net_of_one_style_serves_every_painting(settings: Settings, judge: LossNetwork, tmp_path: Path) -> None:
    net = TransformerNet(NETS["nano"])
    save_net(tmp_path / "one.safetensors", net, ModelCard("one", (Style("One"),), net=net.config.to_dict()))
    paths = tuple(str(tmp_path / f"{name}.png") for name in ("stripes", "rings"))
    config = settings(style=paths, name="both", init=str(tmp_path / "one.safetensors"))
    assert same(begin(config, judge)[0], ready(net, [0, 0]))
    shape = replace(NETS["nano"], styles=2)
    assert begin(config, judge, shape.to_dict())[0].config == shape, "the checkpoint will fill it"
    with pytest.raises(TrainingError, match="is not what the run both was started from any more"):
        begin(config, judge, replace(shape, styles=3).to_dict())
    with pytest.raises(ModelError, match="holds a net of another shape than --net fast"):
        begin(replace(config, net="fast"), judge)
