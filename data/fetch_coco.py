"""Fetch the photos of COCO: downloaded from the dataset's own host, resumed where it broke off, checked, unpacked.

    python data/fetch_coco.py                    train2017: 118,287 photos, an 18 GB download, as much again unpacked
    python data/fetch_coco.py --split val2017    5,000 photos, 1 GB
    python data/fetch_coco.py --limit 2000       unpack only the first 2,000

Start it again after an interruption: the download goes on where it stopped, photos already unpacked are left alone.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HOST = "http://images.cocodataset.org/zips"
TIMEOUT = 60.0  # seconds without a byte
TRIES = 6  # that bring nothing, one after the other
PAUSE = 1.0  # seconds before the second try, doubled before each further one
CHUNK = 1 << 20


class FetchError(Exception):
    """What went wrong and what to do, in one line."""


class BrokenOffError(Exception):
    """The connection failed; another try may go on from there."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when the photos are there, 1 after an error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description="Fetch the photos of COCO, to train on.")
    parser.add_argument("--split", choices=("train2017", "val2017"), default="train2017", help="18 GB, or 1 GB")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "coco", help="folder for the photos")
    parser.add_argument("--limit", type=int, help="unpack only so many photos, and keep the archive")
    parser.add_argument("--host", default=HOST, help="where SPLIT.zip lies, for instance a mirror")
    options = parser.parse_args(argv)
    if options.limit is not None and options.limit < 1:
        parser.error("--limit must be at least 1")
    bar = Bar()
    try:
        folder = fetch(options.split, options.out, bar, options.limit, options.host)
    except FetchError as error:
        bar.say(f"error: {error}")
        return 1
    except OSError as error:
        bar.say(f"error: {error.filename or options.out}: {error.strerror or error}")
        return 1
    except KeyboardInterrupt:
        bar.say("stopped: start it again to go on from here")
        return 130
    bar.clear()
    print(folder)
    return 0


def fetch(split: str, out: Path, bar: Bar, limit: int | None = None, host: str = HOST) -> Path:
    """Download and unpack one split into OUT/SPLIT, and return that folder."""
    folder, archive = out / split, out / f"{split}.zip"
    complete = folder / ".complete"  # every photo is unpacked: the archive is gone and not wanted again
    if not complete.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if not archive.exists():
            download(f"{host.rstrip('/')}/{archive.name}", archive, bar)
        if unpack(archive, folder, bar, limit):
            complete.touch()
            archive.unlink()
    return folder


def download(url: str, target: Path, bar: Bar) -> None:
    """Download to TARGET.part, going on where an earlier attempt stopped, and rename it once it is whole."""
    part = target.with_name(f"{target.name}.part")
    failures, contact = 0, False
    while True:
        before = _size(part)
        try:
            _download_rest(url, part, bar)
            break
        except BrokenOffError as error:
            gained = _size(part) > before
            contact, failures = contact or gained, 0 if gained else failures + 1
            if not contact or failures == TRIES:
                raise FetchError(f"{url}: {error}: check the network and start again to go on from here") from None
            bar.say(f"{error}: trying again")
            time.sleep(PAUSE * 2**failures)
    os.replace(part, target)


def _download_rest(url: str, part: Path, bar: Bar) -> None:
    have = _size(part)
    with _connect(url, have) as response:
        # A server may pass over the range and send the whole file again, or say that nothing lies beyond what we have.
        resumed = re.fullmatch(rf"bytes (?:\*|{have}-\d+)/(\d+)", response.headers.get("Content-Range", ""))
        total = int(resumed[1] if resumed else response.headers.get("Content-Length") or 0)
        if not total:
            raise FetchError(f"{url}: the host does not say how large the file is: try another with --host")
        if response.status != 416:
            _need_room(part, total - (have if resumed else 0))
            with part.open("ab" if resumed else "wb") as file:
                bar.start("downloading", have if resumed else 0, total)
                while chunk := _read(response):
                    file.write(chunk)
                    bar.show(file.tell())
    if _size(part) > total:
        raise FetchError(f"{part} is larger than {url} ({total} bytes): delete it and start again")
    if _size(part) < total:
        raise BrokenOffError(f"the connection broke off at {_size(part)} of {total} bytes")


def _connect(url: str, have: int) -> Any:
    """The response from byte `have` on; with status 416 where the file ends there."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        error.close()
        if error.code >= 500:
            raise BrokenOffError(f"{error.code} {error.reason}") from None
        raise FetchError(f"{url}: {error.code} {error.reason}: try another host with --host") from None
    except (OSError, http.client.HTTPException) as error:
        raise BrokenOffError(str(getattr(error, "reason", None) or error or type(error).__name__)) from None


def _read(response: Any) -> bytes:
    """The next chunk. An OSError in here is the network's; elsewhere it is the disk's."""
    try:
        return bytes(response.read(CHUNK))
    except (OSError, http.client.HTTPException) as error:
        raise BrokenOffError(str(error) or type(error).__name__) from None


def unpack(archive: Path, folder: Path, bar: Bar, limit: int | None = None) -> bool:
    """Unpack SPLIT/*.jpg of the archive, whole photos only, each against its checksum; True if none is left out."""
    try:
        with zipfile.ZipFile(archive) as content:
            wanted = re.compile(rf"{folder.name}/[\w-]+\.jpg")
            photos = [item for item in content.infolist() if wanted.fullmatch(item.filename)]
            photos.sort(key=lambda photo: photo.filename)
            if not photos:
                raise FetchError(f"{archive} holds no photos {folder.name}/*.jpg: delete it and start again")
            missing = [photo for photo in photos[:limit] if _size(_place(photo, folder)) != photo.file_size]
            total = sum(photo.file_size for photo in missing)
            _need_room(archive, total)
            bar.start("unpacking", 0, total)
            done = 0
            for photo in missing:
                _unpack_photo(content, photo, folder)
                bar.show(done := done + photo.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise FetchError(f"{archive} is damaged or no zip archive ({error}): delete it and start again") from None
    return len(photos[:limit]) == len(photos)


def _unpack_photo(content: zipfile.ZipFile, photo: zipfile.ZipInfo, folder: Path) -> None:
    target = _place(photo, folder)
    part = target.with_name(f".{target.name}.part")
    try:
        with content.open(photo) as source, part.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK)  # compares the checksum on reaching the end
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _place(photo: zipfile.ZipInfo, folder: Path) -> Path:
    return folder / Path(photo.filename).name


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _need_room(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if size > free:
        room = f"{size / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB free"
        raise FetchError(f"{path.parent}: {room}: name a folder on a larger disk with --out")


class Bar:
    """Progress on standard error: a line that is redrawn on a terminal, a line per twentieth elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()

    def start(self, what: str, done: int, total: int) -> None:
        """Begin something that has come as far as `done` of `total` bytes."""
        self._what, self._from, self._total = what, done, total
        self._began, self._next = time.monotonic(), 0.0
        if total:
            self.show(done)

    def show(self, done: int) -> None:
        """Draw, but neither on a terminal nor elsewhere more often than anyone can read."""
        seconds, share = time.monotonic() - self._began, done / self._total
        if (seconds if self._terminal else share) < self._next:
            return
        self._next = seconds + 0.2 if self._terminal else (int(share * 20) + 1) / 20
        rate = (done - self._from) / max(seconds, 1e-9)
        line = f"{self._what} {share:4.0%}  {done / 1e6:,.0f} of {self._total / 1e6:,.0f} MB"
        if rate and seconds > 1:
            left = int((self._total - done) / rate)
            line += f"  {rate / 1e6:.1f} MB/s  {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"
        print(f"\r\033[K{line}" if self._terminal else line, end="" if self._terminal else "\n", file=sys.stderr)
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def say(self, message: str) -> None:
        """Print a message in a line of its own."""
        self.clear()
        print(f"fetch_coco: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
