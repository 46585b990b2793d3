"""Writing whole or not at all; what images do with it is tested there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from faststyle.errors import WriteError
from faststyle.files import check_target, write_file


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


@pytest.mark.parametrize("name", ["new.png", "old.png", "one/two/new.png"])
def test_a_target_that_can_be_written_is_accepted_and_not_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / "old.png").write_bytes(b"old")
    check_target(tmp_path / name)
    assert [item.name for item in tmp_path.iterdir()] == ["old.png"]
    assert (tmp_path / "old.png").read_bytes() == b"old"


def test_a_target_in_the_current_folder_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_target("new.png")
    check_target("one/new.png")


def refusal(path: Path) -> str:
    """What `check_target` says of a path, in one line that starts with it."""
    with pytest.raises(WriteError) as caught:
        check_target(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ") and "\n" not in message
    return message.removeprefix(f"{path} ")


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_target_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out.png"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    assert refusal(path) == "exists and is not a file: choose another name"


@pytest.mark.parametrize("name", ["file/out.png", "file/one/out.png"])
def test_a_target_below_a_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert refusal(tmp_path / name) == f"cannot be written ({os.strerror(errno.ENOTDIR)}): choose another folder"


@pytest.mark.parametrize("name", ["out.png", "one/two/out.png"])
def test_a_target_where_nothing_may_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked = []

    def denied(path: Path, mode: int) -> bool:  # root may write everywhere
        asked.append((path, mode))
        return False

    monkeypatch.setattr("os.access", denied)
    assert refusal(tmp_path / name) == f"cannot be written ({os.strerror(errno.EACCES)}): choose another folder"
    assert asked == [(tmp_path, os.W_OK | os.X_OK)]


def test_a_target_with_a_name_too_long_is_refused(tmp_path: Path) -> None:
    assert "choose another" in refusal(tmp_path / ("x" * 300 + ".png"))


def test_a_name_too_long_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="choose another"):
        write_file(tmp_path / ("x" * 300), b"data")
