"""The whole measurement, tiny: means over photos and sizes, curves made once, and what it says of itself."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faststyle.config import EvaluateConfig, PerceptualConfig
from faststyle.errors import ConfigError, ImageError, ModelError, OptimizeError
from faststyle.evaluate import run
from faststyle.evaluate.curves import curve, steps_to
from faststyle.evaluate.run import Evaluation, Progress, evaluate
from faststyle.images import middle_square
from faststyle.optimize.pixels import to_tensor

Measure = Callable[..., Evaluation]


@pytest.fixture
def measure(stylizer, photos, painting, random_vgg, tiny_curves, monkeypatch) -> Measure:
    """Measures the negative model at 32 and 48 pixels, with curves of three steps, unless changes say otherwise."""
    monkeypatch.setattr(run, "open_lpips", lambda weights, device: None)

    def start(on_progress=None, style=painting, **changes):
        settings = {"sizes": (48, 32), "steps": 3, "loss_weights": random_vgg, **changes}
        return evaluate(stylizer, photos, style, EvaluateConfig(**settings), on_progress=on_progress)

    return start


@pytest.fixture
def no_optimisation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "curve", lambda *arguments: pytest.fail("an optimisation was started"))


def read(photos: Path) -> list[np.ndarray]:
    return [np.array(Image.open(photos / name)) for name in ("a.png", "b.png", "sub/c.png")]


def test_losses_are_means_over_the_photos(measure, photos, ruler):
    result = measure()
    assert result.count == 3 and list(result.sizes) == [32, 48]
    for size, losses in result.sizes.items():
        assert list(losses) == ["content", "style", "style_relu1_1", "style_relu1_2", "total"]
        each = []
        for photo in read(photos):
            square = middle_square(photo, size)
            each.append(ruler.against(square)(to_tensor(255 - square, ruler.device)).scalars())
        for name, value in losses.items():
            assert value == pytest.approx(np.mean([one[name] for one in each]), rel=1e-6)


def test_the_steps_are_those_of_the_curves(measure, photos, ruler):
    result = measure(steps=6)
    for start in ("photo", "noise"):
        expected = []
        for photo in read(photos):
            square = middle_square(photo, 32)
            total = float(ruler.against(square)(to_tensor(255 - square, ruler.device)).total)
            expected.append(steps_to(list(curve(ruler, square, start, 6)), total))
        assert result.worth[start] == pytest.approx(expected, rel=1e-4)
    # Photos turned into negatives are far worse than the photos, and that from noise takes some steps.
    assert result.worth["photo"] == (0.0, 0.0, 0.0)
    assert any(steps > 0 for steps in result.worth["noise"])


def test_the_second_time_nothing_is_optimised(measure, tiny_curves, no_optimisation, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(run, "curve", curve)
        first = measure()
    assert len(list(tiny_curves.iterdir())) == 6
    assert measure() == first
    assert measure(steps=2).worth["photo"] == first.worth["photo"]  # a long curve serves for a short one
    assert measure(count=2).worth["noise"] == (first.worth["noise"][0], first.worth["noise"][1])


def test_a_broken_curve_is_computed_again(measure, tiny_curves, caplog):
    first = measure()
    broken = sorted(tiny_curves.iterdir())[2]
    kept = broken.read_bytes()
    broken.write_bytes(kept[:-9])
    with caplog.at_level(logging.WARNING, "faststyle"):
        assert measure() == first
    assert [record.getMessage() for record in caplog.records] == [f"{broken} is damaged: its curve is computed again"]
    assert broken.read_bytes() == kept


def test_an_interrupted_measurement_goes_on(measure, tiny_curves):
    def interrupt(progress: Progress) -> None:
        if progress.photo == 2 and progress.start == "noise" and progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(interrupt)
    assert len(list(tiny_curves.iterdir())) == 3
    told: list[Progress] = []
    measure(told.append)
    assert {(progress.photo, progress.start) for progress in told if progress.start} == {
        (2, "noise"),
        (3, "photo"),
        (3, "noise"),
    }


def test_progress_tells_of_photos_then_of_steps(measure):
    told: list[Progress] = []
    measure(told.append)
    assert told[:4] == [Progress(1, 3, 32), Progress(1, 3, 48), Progress(2, 3, 32), Progress(2, 3, 48)]
    steps = told[6:]
    assert steps[0] == Progress(1, 3, 32, "photo") and steps[-1] == Progress(3, 3, 32, "noise", 3, 1.0)
    assert len(steps) == 3 * 2 * 4
    assert [step.fraction for step in steps] == sorted(step.fraction for step in steps)


def test_the_comparison_is_at_its_own_size_whatever_the_sizes(measure, no_optimisation, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(run, "curve", curve)
        both = measure()
    larger = measure(sizes=(48,))
    assert list(larger.sizes) == [48] and larger.worth == both.worth


def test_another_painting_has_other_curves(measure, painting, tiny_curves):
    measure()
    measure(style=painting[::-1].copy())
    assert len(list(tiny_curves.iterdir())) == 12


def evaluation(*steps: float) -> Evaluation:
    return Evaluation(PerceptualConfig(), len(steps), 100, {256: {"total": 1.2345678}}, {"photo": steps})


@pytest.mark.parametrize(
    ("steps", "quartiles"),
    [
        ((7.0,), (7.0, 7.0, 7.0)),
        ((40.0, 10.0, 30.0, 20.0), (17.5, 25.0, 32.5)),
        ((50.0, math.inf, 10.0), (30.0, 50.0, math.inf)),
        ((50.0, math.inf, 10.0, 20.0, math.inf), (20.0, 50.0, math.inf)),
        ((math.inf, math.inf), (math.inf, math.inf, math.inf)),
    ],
)
def test_quartiles_stand_infinite_steps(steps, quartiles):
    assert evaluation(*steps).quartiles("photo") == quartiles


def test_json_holds_no_infinity():
    written = json.loads(json.dumps(evaluation(50.123456, math.inf, 10.0).to_dict(), allow_nan=False))
    assert written["sizes"] == [{"size": 256, "total": 1.23457}]
    assert written["equals_lbfgs_steps"] == {
        "photo": {
            "median": 50.12346,
            "lower_quartile": 30.06173,
            "upper_quartile": None,
            "each": [50.12346, None, 10.0],
        }
    }
    assert written["steps"] == 100 and written["count"] == 3
    assert written["loss"]["style_weight"] == 10.0 and written["loss"]["style_layers"][-1] == "relu4_3"


def test_what_a_user_gets_wrong(measure, photos, tmp_path, stylizer):
    with pytest.raises(ImageError, match=r"painting\.jpg does not exist"):
        measure(style=tmp_path / "painting.jpg")
    for path in photos.rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="holds no usable photo: name another folder with --photos"):
        measure()
    with pytest.raises(OptimizeError, match="choose smaller --sizes"):
        measure(sizes=(100_000,))
    stylizer.card.loss["strength"] = 9
    with pytest.raises(ModelError, match="card has damaged loss settings"):
        measure()


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"sizes": (256, 31)}, "--sizes"),
        ({"sizes": ()}, "--sizes"),
        ({"count": 0}, "--count"),
        ({"steps": 0}, "--steps"),
    ],
)
def test_settings_are_checked(settings, flag):
    with pytest.raises(ConfigError, match=flag):
        EvaluateConfig(**settings)
