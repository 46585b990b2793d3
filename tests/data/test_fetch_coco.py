"""Fetching COCO: resumed, checked and unpacked, against a small server on this machine."""

from __future__ import annotations

import importlib.util
import io
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "data" / "fetch_coco.py"
PHOTOS = {f"{index:012}.jpg": bytes([index]) * (50_000 + index) for index in range(8)}


class Server(ThreadingHTTPServer):
    """Serves one file with Range, as the dataset's host does, and can be told to misbehave."""

    def __init__(self, data: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = data
        self.break_off_after: list[int] = []  # bytes to send, for each coming answer
        self.ranges = True
        self.statuses: list[int] = []  # to answer with, 200 being as usual
        self.asked: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/zips/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.headers["Range"])
        if self.path != "/zips/val2017.zip":
            self.send_error(404)
            return
        if self.server.statuses and (status := self.server.statuses.pop(0)) != 200:
            self.send_error(status)
            return
        data, start = self.server.data, 0
        if self.headers["Range"] and self.server.ranges:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if start < len(data) else 416)
            span = f"{start}-{len(data) - 1}" if start < len(data) else "*"
            self.send_header("Content-Range", f"bytes {span}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(max(0, len(data) - start)))
        self.end_headers()
        end = start + self.server.break_off_after.pop(0) if self.server.break_off_after else len(data)
        self.wfile.write(data[start:end])

    def log_message(self, format: str, *args: object) -> None:
        pass


def archive(photos: dict[str, bytes], folder: str = "val2017") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        content.writestr(f"{folder}/", "")
        for name, data in photos.items():
            content.writestr(f"{folder}/{name}", data)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def coco() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_coco", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.PAUSE = 0.0  # type: ignore[attr-defined]
    module.CHUNK = 1 << 14  # type: ignore[attr-defined]
    return module


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(archive(PHOTOS)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(coco: ModuleType, server: Server, out: Path, *more: str) -> int:
    code: int = coco.main(["--split", "val2017", "--out", str(out), "--host", server.address, *more])
    return code


def assert_unpacked(folder: Path, names: list[str]) -> None:
    assert sorted(path.name for path in folder.glob("*.jpg")) == names
    assert all((folder / name).read_bytes() == PHOTOS[name] for name in names)


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line on standard error, which must be the only error; standard output must be empty."""
    out, err = capsys.readouterr()
    assert out == "" and err.count("error:") == 1 and "Traceback" not in err
    return err.splitlines()[-1]


def test_fetch_unpacks_everything_and_removes_the_archive(
    coco: ModuleType, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(coco, server, tmp_path) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'val2017'}\n" and "downloading 100%" in err and "unpacking 100%" in err
    assert_unpacked(tmp_path / "val2017", sorted(PHOTOS))
    assert [path.name for path in tmp_path.iterdir()] == ["val2017"]
    assert run(coco, server, tmp_path) == 0
    assert server.asked == [None]


def test_limit_unpacks_some_and_later_more(coco: ModuleType, server: Server, tmp_path: Path) -> None:
    assert run(coco, server, tmp_path, "--limit", "3") == 0
    assert_unpacked(tmp_path / "val2017", sorted(PHOTOS)[:3])
    kept = (tmp_path / "val2017" / sorted(PHOTOS)[0]).stat().st_mtime_ns
    assert run(coco, server, tmp_path, "--limit", "5") == 0
    assert_unpacked(tmp_path / "val2017", sorted(PHOTOS)[:5])
    assert (tmp_path / "val2017" / sorted(PHOTOS)[0]).stat().st_mtime_ns == kept
    assert server.asked == [None] and (tmp_path / "val2017.zip").exists()
    with pytest.raises(SystemExit):
        run(coco, server, tmp_path, "--limit", "0")


def test_broken_connection_goes_on_where_it_stopped(
    coco: ModuleType, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.break_off_after = [100_000, 0, 60_000]
    assert run(coco, server, tmp_path) == 0
    assert server.asked == [None, "bytes=100000-", "bytes=100000-", "bytes=160000-"]
    assert "broke off at 100000 of" in capsys.readouterr().err
    assert_unpacked(tmp_path / "val2017", sorted(PHOTOS))


def test_second_run_resumes_the_part(
    coco: ModuleType, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.break_off_after = [100_000, *[0] * coco.TRIES]
    assert run(coco, server, tmp_path) == 1
    assert "start again to go on from here" in error_line(capsys)
    assert (tmp_path / "val2017.zip.part").stat().st_size == 100_000 and not (tmp_path / "val2017.zip").exists()
    server.asked.clear()
    assert run(coco, server, tmp_path) == 0
    assert server.asked == ["bytes=100000-"]
    assert_unpacked(tmp_path / "val2017", sorted(PHOTOS))


def test_ctrl_c_keeps_the_part(
    coco: ModuleType,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(bar: object, done: int) -> None:
        if done > 50_000:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(coco.Bar, "show", interrupt)
        assert run(coco, server, tmp_path) == 130
    assert "start it again" in capsys.readouterr().err
    assert 50_000 < (tmp_path / "val2017.zip.part").stat().st_size < len(server.data)
    assert run(coco, server, tmp_path) == 0
    assert_unpacked(tmp_path / "val2017", sorted(PHOTOS))


def test_complete_part_and_server_without_ranges(coco: ModuleType, server: Server, tmp_path: Path) -> None:
    (tmp_path / "val2017.zip.part").write_bytes(server.data)
    assert run(coco, server, tmp_path) == 0
    assert server.asked == [f"bytes={len(server.data)}-"]
    server.ranges = False
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "val2017.zip.part").write_bytes(b"something else")
    assert run(coco, server, tmp_path / "other") == 0
    assert_unpacked(tmp_path / "other" / "val2017", sorted(PHOTOS))


def test_part_larger_than_the_file(
    coco: ModuleType, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "val2017.zip.part").write_bytes(server.data + b"more")
    assert run(coco, server, tmp_path) == 1
    assert "val2017.zip.part is larger than" in error_line(capsys)


def test_overloaded_server_is_asked_again(
    coco: ModuleType, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.statuses = [503]
    assert run(coco, server, tmp_path) == 1
    assert "503" in error_line(capsys)
    server.break_off_after, server.statuses = [10_000], [200, 503, 500, 200]
    assert run(coco, server, tmp_path) == 0
    assert server.asked[1:] == [None, *["bytes=10000-"] * 3]
    assert "503 Service Unavailable: trying again" in capsys.readouterr().err


def test_missing_file_is_not_asked_for_again(
    coco: ModuleType, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert coco.main(["--out", str(tmp_path), "--host", server.address]) == 1
    assert "train2017.zip: 404" in error_line(capsys)
    assert server.asked == [None]


def test_unreachable_host_fails_at_once(coco: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert coco.main(["--out", str(tmp_path), "--host", "http://127.0.0.1:9/zips"]) == 1
    assert error_line(capsys).startswith("fetch_coco: error: http://127.0.0.1:9/zips/train2017.zip: ")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (archive(PHOTOS)[:200_000], "is damaged or no zip archive"),
        (b"<html>sign in first</html>", "is damaged or no zip archive"),
        (archive(PHOTOS, "elsewhere"), "holds no photos val2017/*.jpg"),
        (archive({"../../escape.jpg": b"x"}), "holds no photos val2017/*.jpg"),
        (archive(PHOTOS).replace(PHOTOS["000000000003.jpg"], bytes(50_003)), "Bad CRC-32"),
    ],
    ids=["truncated", "html", "other folder", "escape", "changed photo"],
)
def test_wrong_archive_is_one_line(
    data: bytes, words: str, coco: ModuleType, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.data = data
    assert run(coco, server, tmp_path) == 1
    line = error_line(capsys)
    assert words in line and line.endswith("delete it and start again")
    assert not list(tmp_path.rglob(".*")) and not list(tmp_path.rglob("escape.jpg"))
    assert not (tmp_path / "val2017" / "000000000003.jpg").exists()


def test_full_disk_and_no_folder(
    coco: ModuleType,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(coco.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    assert run(coco, server, tmp_path) == 1
    assert "GB free: name a folder on a larger disk" in error_line(capsys)
    (tmp_path / "file").write_text("")
    assert run(coco, server, tmp_path / "file") == 1
    assert str(tmp_path / "file") in error_line(capsys)


def test_terminal_gets_one_line_redrawn(
    coco: ModuleType,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run(coco, server, tmp_path) == 0
    err = capsys.readouterr().err
    assert "\n" not in err and err.endswith("\r\033[K")
