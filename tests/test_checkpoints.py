"""Finding models by path and by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from faststyle import checkpoints
from faststyle.checkpoints import find_model, find_weights, list_models, list_weights, read_sidecar
from faststyle.errors import ModelError
from faststyle.modelcard import ModelCard


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A current folder with `starry`, and a source checkout with `starry` and `wave`."""
    here, checkout = tmp_path / "here", tmp_path / "checkout"
    for path in (here / "checkpoints/starry", checkout / "checkpoints/starry", checkout / "checkpoints/wave"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".onnx").touch()
    monkeypatch.chdir(here)
    monkeypatch.setattr(checkpoints, "_SOURCE_CHECKOUT", checkout)
    return here, checkout


def test_models_here_come_before_those_beside_the_package(folders: tuple[Path, Path]) -> None:
    assert list_models() == {
        "starry": Path("checkpoints/starry.onnx"),
        "wave": folders[1] / "checkpoints/wave.onnx",
    }


def test_a_model_is_found_by_path_and_by_name(folders: tuple[Path, Path]) -> None:
    here, checkout = folders
    assert find_model("starry") == find_model("starry.onnx") == Path("checkpoints/starry.onnx")
    assert find_model("wave") == checkout / "checkpoints/wave.onnx"
    assert find_model(here / "checkpoints/starry.onnx") == here / "checkpoints/starry.onnx"
    (here / "wave").mkdir()
    assert find_model("wave") == checkout / "checkpoints/wave.onnx", "a folder of that name is in nobody's way"
    (here / "wave.onnx").touch()
    assert find_model("wave.onnx") == Path("wave.onnx"), "a path comes first"


@pytest.mark.parametrize("name", ["stary", "stary.onnx", "models/stary.onnx"])
def test_a_near_miss_is_answered_with_a_suggestion(folders: tuple[Path, Path], name: str) -> None:
    with pytest.raises(ModelError) as error:
        find_model(name)
    assert str(error.value) == f"there is no model {name}: did you mean starry?"


def test_weights_are_found_likewise(folders: tuple[Path, Path]) -> None:
    (folders[0] / "checkpoints/starry.safetensors").touch()
    (folders[1] / "checkpoints/wave.safetensors").touch()
    assert find_weights("starry") == Path("checkpoints/starry.safetensors")
    assert list_weights() == {
        "starry": Path("checkpoints/starry.safetensors"),
        "wave": folders[1] / "checkpoints/wave.safetensors",
    }
    with pytest.raises(ModelError, match="there is no weights file stary: did you mean starry"):
        find_weights("stary")


def test_a_name_that_is_far_off_is_answered_with_the_list(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ModelError) as error:
        find_model("kandinsky")
    assert "take one of starry, wave, or the path of a file .onnx" in str(error.value)


def test_without_any_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoints, "_SOURCE_CHECKOUT", tmp_path)
    with pytest.raises(ModelError, match=r"there is no model starry: name the path of a file \.onnx"):
        find_model("starry")


def test_the_sidecar_is_read(negative: Path, card: ModelCard) -> None:
    sidecar = read_sidecar(negative)
    assert sidecar is not None and sidecar.to_dict() == card.to_dict()
    assert read_sidecar(negative.with_name("other.onnx")) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"styles": []}', '{"name": "x", "schema": 99}'])
def test_a_damaged_sidecar(tmp_path: Path, text: str) -> None:
    (tmp_path / "starry.json").write_text(text)
    with pytest.raises(ModelError) as error:
        read_sidecar(tmp_path / "starry.onnx")
    assert str(tmp_path / "starry.json") in str(error.value)
    assert "\n" not in str(error.value)
