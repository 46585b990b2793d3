"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from faststyle.errors import WriteError

__all__ = ["write_file"]

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write to a temporary name in the same folder, then rename; a failure leaves what was there and nothing else.

    Raises WriteError where the folder is missing or the disk does not take it, or where something else than a file
    holds the name: as root, a rename would replace a device.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise WriteError(f"{path} exists and is not a file: choose another name")
    temporary = path.with_name(f".faststyle-{secrets.token_hex(6)}.tmp")
    try:
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except FileNotFoundError:
        raise WriteError(f"{path} cannot be written: there is no folder {path.parent}, create it first") from None
    except OSError as error:
        remedy = "free some space or choose another disk" if error.errno in _DISK_FULL else "choose another folder"
        raise WriteError(f"{path} cannot be written ({error.strerror}): {remedy}") from None
