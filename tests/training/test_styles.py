"""Several paintings in one run: what the card knows of each, resuming, and adding a style to a finished model."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from faststyle.config import TrainConfig
from faststyle.errors import ConfigError, TrainingError
from faststyle.export import repaint
from faststyle.files import file_digest
from faststyle.modelcard import ModelCard
from faststyle.nets.files import load_net
from faststyle.nets.styles import style_rows
from faststyle.runtime.stylizer import Stylizer
from faststyle.training.run import fit
from tests.training.test_run import run_and_signal, same

Settings = Callable[..., TrainConfig]


def paintings(tmp_path: Path, *names: str) -> tuple[str, ...]:
    return tuple(str(tmp_path / f"{name}.png") for name in names)


def photo() -> np.ndarray:
    y, x = np.mgrid[:45, :66]
    waves: np.ndarray = np.stack([y * 5 % 256, x * 3 % 256, (x + y) * 2 % 256], axis=2).astype(np.uint8)
    return waves


def test_a_run_of_two_paintings(settings: Settings, tmp_path: Path) -> None:
    config = settings(
        max_steps=6,
        name="both",
        style=paintings(tmp_path, "stripes", "checks"),
        title=("Stripes", "Checks"),
        artist=("A", "B"),
        year=("1900", "1901"),
        licence=("CC0", "CC BY"),
    )
    result = fit(config)
    stylizer = Stylizer(result.model, provider="cpu")
    card = stylizer.card
    assert card is not None and card.styles == result.card.styles
    assert [style.name for style in card.styles] == ["stripes", "checks"]
    assert [(style.title, style.artist, style.year, style.licence) for style in card.styles] == [
        ("Stripes", "A", "1900", "CC0"),
        ("Checks", "B", "1901", "CC BY"),
    ]
    assert [style.sha256 for style in card.styles] == list(map(file_digest, config.style))
    assert (card.net["styles"], card.training["steps"]) == (2, 6)
    for name in ("content", "style", "style_relu2_2", "total"):
        each = [card.metrics[f"{name}/{style}"] for style in range(2)]
        assert card.metrics[name] == pytest.approx(sum(each) / 2, abs=2e-5)
    assert card.metrics["style/0"] != card.metrics["style/1"]
    assert card == ModelCard.from_dict(json.loads((tmp_path / "out" / "both.json").read_text()))
    net, _ = load_net(result.weights)
    assert stylizer.styles == ["stripes", "checks"]
    for name, weights in (("stripes", [1.0, 0.0]), ("checks", [0.0, 1.0])):
        theirs = repaint(net, photo()[None], weights, 0.5)[0].astype(int)
        assert np.abs(stylizer.styled(name, 0.5)(photo()) - theirs).max() <= 2
    for rows in style_rows(net):
        assert not torch.equal(rows[0], rows[1]), "each painting has learned rows of its own"
    log = EventAccumulator(str(tmp_path / "runs" / "both"), size_guidance={"images": 0}).Reload()
    assert {"style 0", "style 1", "photo | stylized"} <= set(log.Tags()["images"])


def test_titles_are_the_files_names_by_default(settings: Settings, tmp_path: Path) -> None:
    card = fit(settings(max_steps=1, name="both", style=paintings(tmp_path, "stripes", "checks"))).card
    assert [(style.title, style.artist) for style in card.styles] == [("stripes", ""), ("checks", "")]


def test_killed_and_resumed_is_the_whole_run_bit_for_bit(settings: Settings, tmp_path: Path) -> None:
    """Which style and which strength a step trains is no state that could be lost."""
    three = paintings(tmp_path, "stripes", "checks", "rings")
    whole = fit(settings(max_steps=10, name="whole", style=three))
    config = settings(max_steps=10, name="parts", style=three, checkpoint_every=4)
    assert run_and_signal(config, "SIGKILL", 6, tmp_path).returncode == -signal.SIGKILL
    steps: list[int] = []
    parts = fit(replace(config, resume=True), lambda item: steps.append(item.step))
    assert steps[0] == 5
    assert same(whole.weights, parts.weights)
    assert whole.card.metrics == parts.card.metrics
    assert whole.card.styles == parts.card.styles


def test_a_run_resumes_with_the_same_paintings_only(settings: Settings, tmp_path: Path) -> None:
    config = settings(max_steps=1000, name="cut", style=paintings(tmp_path, "stripes", "checks"), checkpoint_every=2)
    run_and_signal(config, "SIGKILL", 3, tmp_path)
    for other in (paintings(tmp_path, "checks", "stripes"), paintings(tmp_path, "stripes")):
        with pytest.raises(TrainingError, match="was started with the painting"):
            fit(replace(config, resume=True, style=other))


def test_a_style_is_added_and_the_others_stay_to_the_bit(settings: Settings, tmp_path: Path) -> None:
    first = fit(settings(max_steps=2, name="two", style=paintings(tmp_path, "stripes", "checks")))
    more = settings(max_steps=4, name="three", style=paintings(tmp_path, "rings"), init=str(first.weights), add=True)
    grown = fit(replace(more, title=("Rings",)))
    assert [style.name for style in grown.card.styles] == ["stripes", "checks", "rings"]
    assert grown.card.styles[:2] == first.card.styles and grown.card.styles[2].title == "Rings"
    before, after = load_file(first.weights), load_file(grown.weights)
    learned = 0
    for name, old in before.items():
        new = after[name]
        if old.shape == new.shape:
            assert torch.equal(old, new), name
            continue
        assert torch.equal(new[:2], old[:2]) and torch.equal(new[3:], old[2:]), "the photo's row stays the last"
        learned += not any(torch.equal(new[2], row) for row in old)
    assert learned > 10
    for name in ("stripes", "checks"):
        one, other = (Stylizer(result.model, provider="cpu").styled(name) for result in (first, grown))
        assert np.abs(one(photo()).astype(int) - other(photo())).max() <= 1
    for key in ("content", "style"):
        assert [grown.card.metrics[f"{key}/{style}"] for style in (0, 1)] == [
            first.card.metrics[f"{key}/{style}"] for style in (0, 1)
        ]
        each = [grown.card.metrics[f"{key}/{style}"] for style in range(3)]
        assert grown.card.metrics[key] == pytest.approx(sum(each) / 3, abs=2e-5)


def test_a_style_added_to_a_model_of_one(settings: Settings, tmp_path: Path) -> None:
    first = fit(settings(max_steps=2, name="bars"))
    changes: dict[str, Any] = {"max_steps": 2, "init": str(first.weights), "add": True}
    grown = fit(settings(name="two", style=paintings(tmp_path, "rings"), **changes))
    assert [style.name for style in grown.card.styles] == ["bars", "rings"], "it goes by its model's name"
    assert grown.card.metrics["content/0"] == first.card.metrics["content"]
    (tmp_path / "rings.png").rename(tmp_path / "bars.png")
    with pytest.raises(TrainingError, match="has a style bars already: give the painting's file another name"):
        fit(settings(name="again", style=paintings(tmp_path, "bars"), **changes))
    with pytest.raises(TrainingError, match="has a style rings already"):
        (tmp_path / "checks.png").rename(tmp_path / "rings.png")
        fit(settings(name="again", style=paintings(tmp_path, "rings"), **changes | {"init": str(grown.weights)}))


def test_styles_that_were_learned_by_other_losses_have_no_common_total(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = fit(settings(max_steps=1, name="bars"))
    for strength, told in ((0.5, False), (0.6, True)):
        changes: dict[str, Any] = {"init": str(first.weights), "add": True, "style": paintings(tmp_path, "rings")}
        config = settings(max_steps=1, name=f"with-{strength}", **changes)
        caplog.clear()
        card = fit(replace(config, loss=replace(config.loss, strength=strength))).card
        assert ("was trained with other loss settings" in caplog.text) is told
        assert ("total" in card.metrics) is not told and "total/1" in card.metrics


def test_two_paintings_of_one_name_are_refused(settings: Settings, tmp_path: Path) -> None:
    """A style is chosen by its name: the second of two alike could never be."""
    (tmp_path / "other").mkdir()
    (tmp_path / "checks.png").rename(tmp_path / "other" / "stripes.png")
    with pytest.raises((ConfigError, TrainingError), match="stripes"):
        fit(settings(max_steps=1, name="both", style=paintings(tmp_path, "stripes", "other/stripes")))


def test_an_added_style_resumes_where_it_was(settings: Settings, tmp_path: Path) -> None:
    first = fit(settings(max_steps=1, name="one"))
    changes: dict[str, Any] = {"init": str(first.weights), "add": True, "style": paintings(tmp_path, "rings")}
    whole = fit(settings(name="whole", max_steps=6, **changes))
    config = settings(name="cut", max_steps=6, **changes)
    assert run_and_signal(config, "SIGKILL", 4, tmp_path).returncode == -signal.SIGKILL
    assert same(whole.weights, fit(replace(config, resume=True)).weights)


def test_a_preview_shows_what_was_learned(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from faststyle.images import read_image
    from faststyle.training import callbacks

    caplog.set_level("INFO", "faststyle")
    monkeypatch.setattr(callbacks, "FIRST_PREVIEW", 1e-6)
    fit(settings(max_steps=2, name="seen"))
    path = tmp_path / "runs" / "seen" / "preview.jpg"
    assert read_image(path).rgb.shape == (256, 512, 3), "a photo beside its repainting"
    assert sum(str(path) in record.getMessage() for record in caplog.records) == 1
