"""Writing whole or not at all; what images do with it is tested there."""

from __future__ import annotations

from pathlib import Path

import pytest

from faststyle.errors import WriteError
from faststyle.files import write_file


def test_a_failed_rename_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    write_file(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(WriteError, match="free some space"):
        write_file(path, b"new")
    assert [item.name for item in tmp_path.iterdir()] == ["weights"]
    assert path.read_bytes() == b"old"
