"""The demo's photos and the style picture that is painted for it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageStat

SCRIPT = Path(__file__).parents[2] / "data" / "make_demo.py"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_demo", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_demo"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def out(demo: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "demo"
    assert demo.main(["--out", str(folder)]) == 0
    return folder


def test_all_files_are_there_and_no_others(demo: ModuleType, out: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == ["photo.jpg", "photos", "style.png"]
    assert sorted(path.name for path in (out / "photos").iterdir()) == sorted(demo.PHOTOS)
    for path in (out / "photos").iterdir():
        with Image.open(path) as photo:
            photo.load()
            assert min(photo.size) >= 256
    with Image.open(out / "photo.jpg") as photo:
        assert (photo.size, photo.mode, photo.format) == ((600, 400), "RGB", "JPEG")
    assert demo.HELD_OUT not in demo.PHOTOS


def test_style_is_rich_in_colour_and_texture(demo: ModuleType, out: Path) -> None:
    with Image.open(out / "style.png") as style:
        assert (style.size, style.mode, style.format) == ((640, 512), "RGB", "PNG")
        pixels = np.asarray(style).astype(int)
    assert len(np.unique(pixels.reshape(-1, 3) // 16, axis=0)) > 1000
    # Warm above on the right, cool at the left, and brush strokes in every part.
    red, blue = pixels[..., 0], pixels[..., 2]
    assert (red - blue)[20:280, 320:640].mean() > 60 and (blue - red)[20:280, :60].mean() > 30
    blocks = pixels.mean(axis=2).reshape(8, 64, 8, 80).transpose(0, 2, 1, 3).reshape(64, -1)
    assert blocks.std(axis=1).min() > 8


def test_second_run_writes_the_same_bytes(demo: ModuleType, out: Path) -> None:
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    assert demo.main(["--out", str(out)]) == 0
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before


def test_another_seed_paints_another_picture(demo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "LAYERS", demo.LAYERS[:1])
    one, same, other = (demo.paint(seed) for seed in (1, 1, 2))
    assert one.tobytes() == same.tobytes()
    assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).mean() > 10
    assert ImageStat.Stat(other).mean == pytest.approx(ImageStat.Stat(one).mean, abs=25)


def test_missing_scikit_image_is_one_line(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert demo.main(["--out", str(tmp_path / "demo")]) == 1
    err = capsys.readouterr().err
    assert "pip install scikit-image" in err and err.count("\n") == 1
    assert not (tmp_path / "demo").exists()


def test_incomplete_scikit_image_and_unusable_folder_are_one_line(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert demo.main(["--out", str(tmp_path / "file")]) == 1
    assert f"make_demo: error: {tmp_path / 'file'}" in capsys.readouterr().err
    monkeypatch.setattr(demo, "HELD_OUT", "none.png")
    assert demo.main(["--out", str(tmp_path / "demo")]) == 1
    assert "lacks none.png" in capsys.readouterr().err
