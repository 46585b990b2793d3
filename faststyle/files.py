"""Writing files whole or not at all, and knowing them again."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from faststyle.errors import WriteError

__all__ = ["check_target", "file_digest", "write_errors", "write_file"]

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write to a temporary name in the same folder, then rename; a failure leaves what was there and nothing else.

    Raises WriteError where the folder is missing or the disk does not take it, or where something else than a file
    holds the name: as root, a rename would replace a device.
    """
    path = Path(path)
    temporary = path.with_name(f".faststyle-{secrets.token_hex(6)}.tmp")
    with write_errors(path):
        _refuse_other_kinds(path)
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, by which a card knows a painting again."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_target(path: str | os.PathLike[str]) -> None:
    """Find out before the work whether a file can be written there, in a folder that may be made first.

    Raises WriteError where something else than a file holds the name, or the folder cannot be written in or made.
    """
    path = Path(path)
    with write_errors(path):
        _refuse_other_kinds(path)
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn what the disk answers within this into WriteErrors that name the file and the remedy."""
    try:
        yield
    except FileNotFoundError:
        raise WriteError(f"{path} cannot be written: there is no folder {path.parent}, create it first") from None
    except OSError as error:
        remedy = "free some space or choose another disk" if error.errno in _DISK_FULL else "choose another folder"
        raise WriteError(f"{path} cannot be written ({error.strerror}): {remedy}") from None


def _refuse_other_kinds(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise WriteError(f"{path} exists and is not a file: choose another name")
