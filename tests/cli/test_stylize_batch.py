"""Batches: reading, repainting and writing overlap, and nothing is lost or misattributed when one of them fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faststyle import Stylizer, images
from faststyle.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four photos, each of one grey; the working directory is above them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for index in range(4):
        Image.new("RGB", (20, 20), (50 * index,) * 3).save(tmp_path / "photos" / f"{index}.png")
    return tmp_path / "photos"


def targets(*numbers: int) -> list[str]:
    return [os.path.join("out", f"{number}.png") for number in numbers]


def test_results_come_in_order_and_belong_to_their_photos(folder, negative, capsys):
    assert main(["stylize", "photos", "--model", str(negative), "-o", "out"]) == 0
    assert capsys.readouterr().out.splitlines() == targets(0, 1, 2, 3)
    for index in range(4):
        assert np.asarray(Image.open(f"out/{index}.png"))[0, 0, 0] == 255 - 50 * index


def test_a_result_that_cannot_be_written_does_not_stop_the_others(folder, negative, capsys, monkeypatch):
    Path("out").mkdir()
    Path("out/1.png").mkdir()
    (folder / "2.png").write_bytes(b"no picture")
    assert main(["stylize", "photos", "--model", str(negative), "-o", "out"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == targets(0, 3)
    assert "out/1.png" in err and "photos/2.png" in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("faststyle: error: 2 of 4 photos failed: ")
    assert "1.png" in last and "2.png" in last


def test_a_path_is_printed_as_soon_as_its_file_is_there(folder, negative, capsys, monkeypatch):
    """Not when the next photo is done: who reads the pipe would wait for nothing."""
    printed = threading.Event()
    write, call = images.save_image, Stylizer._picture

    def watched(self, picture):
        if picture.rgb[0, 0, 0] == 100:  # the third: the first must have come out by now, without a further photo
            assert printed.wait(20)
        return call(self, picture)

    def saved(*given):
        write(*given)
        if str(given[1]) == targets(0)[0]:
            threading.Timer(0.1, printed.set).start()

    monkeypatch.setattr(Stylizer, "_picture", watched)
    monkeypatch.setattr(images, "save_image", saved)
    assert main(["stylize", "photos", "--model", str(negative), "-o", "out"]) == 0
    assert capsys.readouterr().out.splitlines() == targets(0, 1, 2, 3)


def test_what_was_written_is_printed_when_a_batch_is_broken_off(folder, negative, capsys, monkeypatch):
    call = Stylizer._picture

    def broken(self, picture):
        if picture.rgb[0, 0, 0] == 100:
            raise KeyboardInterrupt
        return call(self, picture)

    monkeypatch.setattr(Stylizer, "_picture", broken)
    assert main(["stylize", "photos", "--model", str(negative), "-o", "out"]) == 130
    assert capsys.readouterr().out.splitlines() == targets(0, 1)
    assert sorted(os.listdir("out")) == ["0.png", "1.png"]


def test_a_reader_that_goes_away_ends_the_batch(folder, negative):
    command = f"{sys.executable} -m faststyle stylize photos --model {negative} -o out | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.splitlines() == targets(0)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1, 128 + signal.SIGPIPE)


def test_an_error_that_is_not_ours_is_not_swallowed(folder, negative, monkeypatch):
    def broken(*given):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(images, "save_image", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["stylize", "photos", "--model", str(negative), "-o", "out"])


def test_a_folder_goes_to_one_that_holds_it(hall, capsys):
    for name in ("in/a.png", "in/sub/b.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("photo.png", name)
    for output in (".", str(hall)):
        assert main(["stylize", "in", "-m", "negative", "-o", output]) == 0
        assert capsys.readouterr().out == f"{Path(output) / 'a.png'}\n{Path(output) / 'sub/b.png'}\n"


def test_a_photo_is_known_by_any_name(hall, capsys):
    """As where a disk takes no notice of case; a second name of one file stands in for it."""
    os.link("photo.png", "PHOTO.png")
    before = Path("photo.png").read_bytes()
    assert main(["stylize", "photo.png", "-m", "negative", "-o", "PHOTO.png"]) == 1
    assert "PHOTO.png is one of the photos and would be overwritten" in capsys.readouterr().err
    assert Path("photo.png").read_bytes() == before
