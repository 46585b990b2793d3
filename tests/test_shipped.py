"""The shipped styles, looked at as far as numbers can: no lattice, no screens, no bands along the borders, photo and
style both there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch

from benchmarks.pictures import border_step, moved_apart, phase_spread
from faststyle.checkpoints import list_models, read_sidecar
from faststyle.images import read_image
from faststyle.losses import chequer_loss, seam_loss
from faststyle.modelcard import ModelCard
from faststyle.runtime.stylizer import Stylizer

SHIPPED = Path(__file__).parents[1] / "checkpoints"
MODELS = sorted(path.stem for path in SHIPPED.glob("*.onnx"))
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def photo(name: str) -> np.ndarray:
    return read_image(Path(skimage.data.__file__).parent / name).rgb


def styles() -> list[tuple[str, str | None]]:
    """Every style of every model; None is the only one of a model."""
    cards = {name: read_sidecar(SHIPPED / f"{name}.onnx") for name in MODELS}
    return [(name, style.name or None) for name, card in cards.items() if card is not None for style in card.styles]


@pytest.fixture(scope="module", params=styles(), ids=lambda style: "-".join(filter(None, style)))
def pairs(request: pytest.FixtureRequest) -> list[tuple[np.ndarray, np.ndarray]]:
    model, style = request.param
    stylizer = Stylizer(SHIPPED / f"{model}.onnx", provider="cpu")
    if style is not None:
        stylizer = stylizer.styled(style)
    return [(photo(name), stylizer(photo(name))) for name in PHOTOS]


def test_phase_spread_sees_a_lattice():
    weave = np.full((64, 64, 3), 100, np.uint8)
    weave[::8, ::8, 1] = 105
    assert phase_spread(weave) == pytest.approx(5)


def test_border_step_sees_a_band():
    band = np.full((96, 96, 3), 100, np.uint8)
    band[:, -8:, 2] = 120
    assert border_step(band) == pytest.approx(20)


def test_there_is_a_shipped_style():
    assert "starry" in MODELS
    assert set(MODELS) <= set(list_models())


@pytest.mark.parametrize("name", MODELS)
def test_the_sidecar_is_the_embedded_card(name):
    card = read_sidecar(SHIPPED / f"{name}.onnx")
    assert isinstance(card, ModelCard)
    assert card == Stylizer(SHIPPED / f"{name}.onnx", provider="cpu").card
    assert card.name == name
    assert card.training["steps"] > 0 and card.training["photos"] > 0 and card.training["seconds"] > 0
    assert all(style.title and style.artist and style.year and style.licence for style in card.styles)
    assert card.metrics["style_relu4_3"] > 0


def test_no_lattice(pairs):
    for before, after in pairs:
        chance = max(phase_spread(before), phase_spread(after, 7), phase_spread(after, 9))
        assert phase_spread(after) <= chance + 1


@pytest.mark.parametrize(("model", "style"), styles(), ids=lambda name: name or "-")
def test_a_photo_moved_is_a_picture_moved(model, style):
    """The eight styles stood at 17 to 30 levels here before the shift loss; starry is of that time."""
    stylizer = Stylizer(SHIPPED / f"{model}.onnx", provider="cpu").styled(style)
    found = [moved_apart(stylizer, before, stylizer(before)) for before in map(photo, PHOTOS)]
    assert np.mean(found) < (60 if model == "starry" else 12)


def test_no_screens(pairs, request):
    """Strokes that were chains of dots stood at 1.4e-4 to 1e-2 here, chequerboards at 0.014 to 0.06."""
    # starry is of the time when they were.
    seams, chequers = (5e-3, 2e-2) if request.node.callspec.params["pairs"] == ("starry", None) else (5e-5, 3e-3)
    for _, after in pairs:
        image = torch.from_numpy(after).permute(2, 0, 1)[None].float() / 255
        assert seam_loss(image) < seams
        assert chequer_loss(image).sqrt() < chequers


def test_no_bands_along_the_borders(pairs):
    # What the photo has at its borders it may keep; a star there counts too, so the bound is wide.
    steps = [border_step(after) - border_step(before) for before, after in pairs]
    assert np.mean(steps) < 15
    assert max(steps) < 25


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("level", [0, 255])
def test_no_flat_patches(name, level):
    # Half of the picture is a photo, the other half a perfectly flat background: strokes grow there too.
    picture = np.full((256, 512, 3), level, np.uint8)
    picture[:, :256] = photo("astronaut.png")[:256, :256]
    background = Stylizer(SHIPPED / f"{name}.onnx", provider="cpu")(picture)[32:-32, 320:-32].astype(float)
    blocks = background.reshape(12, 16, 10, 16, 3)
    assert blocks.std((1, 3)).mean() > 4


def brightness(image: np.ndarray) -> np.ndarray:
    """Means of 8 x 8 pixels: at the scale of things, not of strokes."""
    height, width = (length // 8 for length in image.shape[:2])
    means: np.ndarray = image[: height * 8, : width * 8].reshape(height, 8, width, 8, 3).mean((1, 3, 4))
    return means


def test_the_photo_is_readable_and_repainted(pairs, request):
    for name, (before, after) in zip(PHOTOS, pairs, strict=True):
        assert after.shape == before.shape
        # Three quarters of the rocket's picture are a smooth sky, in which strokes have slopes too. starry fills it
        # with stars: brightness says where they are there, and only outlines what can be read.
        smooth = name == "rocket.jpg"
        stars = request.node.callspec.params["pairs"] == ("starry", None) and smooth
        assert stars or np.corrcoef(brightness(before).ravel(), brightness(after).ravel())[0, 1] > 0.5
        slopes, painted = np.array(np.gradient(brightness(before))), np.array(np.gradient(brightness(after)))
        steep = np.hypot(*slopes)
        outlines = steep >= np.quantile(steep, 0.75)
        assert np.corrcoef(slopes[:, outlines].ravel(), painted[:, outlines].ravel())[0, 1] > (0.6 if smooth else 0.8)
        assert np.abs(before.astype(int) - after).mean() > 10
        assert (after > 250).mean() < 0.05 and after.std() > 25


@pytest.mark.parametrize("name", MODELS)
def test_strength_leads_from_the_photo_to_the_painting(name: str) -> None:
    before = photo("chelsea.png")
    plain = Stylizer(SHIPPED / f"{name}.onnx", provider="cpu")
    row = [plain.styled(strength=strength)(before).astype(int) for strength in (0, 0.25, 0.5, 0.75, 1)]
    assert np.array_equal(row[0], before) and np.array_equal(row[-1], plain(before))
    from_photo = [float(np.abs(picture - before).mean()) for picture in row]
    assert from_photo == sorted(from_photo) and min(np.diff(from_photo)) > 2


@pytest.mark.parametrize("name", MODELS)
def test_a_mixture_is_neither_of_its_styles(name: str) -> None:
    plain = Stylizer(SHIPPED / f"{name}.onnx", provider="cpu")
    if len(plain.styles) < 2:
        pytest.skip("one style only")
    before = photo("chelsea.png")
    first, second = (plain.styled(style)(before).astype(int) for style in plain.styles[:2])
    mixed = plain.styled(dict.fromkeys(plain.styles[:2], 0.5))(before)
    apart = float(np.abs(first - second).mean())
    assert 0 < np.abs(mixed - first).mean() < apart and 0 < np.abs(mixed - second).mean() < apart
