"""Videos: decoded again by PyAV and Pillow, and written whole or not at all."""

from __future__ import annotations

import os
import secrets
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from faststyle.errors import ConfigError, FaststyleError, ImageError, WriteError
from faststyle.video import FrameWriter, check_video_path

BOTH = pytest.mark.parametrize("name", ["film.mp4", "film.gif"])


def frames(count, width=48, height=32):
    """A gradient of colours that grows brighter from frame to frame."""
    rows, columns = np.mgrid[0:height, 0:width]
    first = np.stack((rows * 128 / height, columns * 128 / width, 100 + 0 * rows), axis=2)
    return [(first + 100 * index / count).astype(np.uint8) for index in range(count)]


def write(path, pictures, fps=25):
    height, width = pictures[0].shape[:2]
    with FrameWriter(path, width, height, fps) as writer:
        for picture in pictures:
            writer.add(picture)


def decode_mp4(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def decode_gif(path):
    """Frames, and how long each is shown in milliseconds."""
    pictures, durations = [], []
    with Image.open(path) as image:
        for frame in ImageSequence.Iterator(image):
            pictures.append(np.array(frame.convert("RGB")))
            durations.append(frame.info["duration"])
    return pictures, durations


def error_of(pictures, others):
    return np.abs(np.array(pictures, float) - np.array(others, float)).mean()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_mp4_holds_the_frames(tmp_path):
    written = frames(30)
    write(tmp_path / "film.mp4", written, fps=30)
    read = decode_mp4(tmp_path / "film.mp4")
    assert len(read) == 30 and read[0].shape == (32, 48, 3)
    assert error_of(read, written) < 4
    assert names(tmp_path) == ["film.mp4"]


def test_mp4_says_what_players_want_to_know(tmp_path):
    write(tmp_path / "film.mp4", frames(30), fps=30)
    with av.open(str(tmp_path / "film.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == Fraction(30) and stream.codec_context.pix_fmt == "yuv420p"
        assert stream.codec_context.name == ("h264" if "libx264" in av.codecs_available else "mpeg4")
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (1, 1)  # Rec. 709, 16 to 235
    data = (tmp_path / "film.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_mp4_without_x264(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    written = frames(30)
    write(tmp_path / "film.mp4", written)
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    read = decode_mp4(tmp_path / "film.mp4")
    assert len(read) == 30 and error_of(read, written) < 4


@pytest.mark.parametrize(("width", "height"), [(33, 20), (20, 33), (1, 1)])
def test_odd_sides_of_an_mp4_repeat_their_last_pixels(width, height, tmp_path):
    written = np.full((height, width, 3), 90, np.uint8)
    written[-1:], written[:, -1:] = 200, 200
    write(tmp_path / "film.mp4", [written])
    (read,) = decode_mp4(tmp_path / "film.mp4")
    assert read.shape == (height + height % 2, width + width % 2, 3)
    padding = [*read[height:].reshape(-1, 3), *read[:, width:].reshape(-1, 3)]
    assert np.mean(padding) == pytest.approx(200, abs=12)
    assert error_of(read[:height, :width], written) < 4


def test_gif_holds_the_frames_and_loops(tmp_path):
    written = frames(10, 41, 31)
    write(tmp_path / "film.gif", written)
    read, durations = decode_gif(tmp_path / "film.gif")
    assert len(read) == 10 and read[0].shape == (31, 41, 3) and set(durations) == {40}
    assert error_of(read, written) < 6
    assert np.allclose(np.mean(read, axis=(1, 2)), np.mean(written, axis=(1, 2)), atol=2)
    with Image.open(tmp_path / "film.gif") as image:
        assert image.info["loop"] == 0
    assert names(tmp_path) == ["film.gif"]


def test_every_frame_of_a_gif_has_its_own_colours(tmp_path):
    """One colour, few colours, and more colours than a palette holds."""
    flat = np.full((20, 30, 3), (250, 3, 77), np.uint8)
    halves = flat.copy()
    halves[:, 15:] = (3, 200, 30)
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    write(tmp_path / "film.gif", [flat, halves, noise, flat])
    read, _ = decode_gif(tmp_path / "film.gif")
    assert np.array_equal(read[0], flat) and np.array_equal(read[1], halves) and np.array_equal(read[3], flat)
    assert error_of(read[2], noise) < 15


@pytest.mark.parametrize(("fps", "total", "shortest"), [(30, 1000, 30), (12, 2500, 80), (50, 600, 20), (100, 600, 20)])
def test_a_gif_keeps_time(fps, total, shortest, tmp_path):
    write(tmp_path / "film.gif", frames(30), fps)
    _, durations = decode_gif(tmp_path / "film.gif")
    assert sum(durations) == total and min(durations) == shortest


@BOTH
def test_an_exception_leaves_what_was_there(name, tmp_path):
    (tmp_path / name).write_bytes(b"old")
    for stop in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(stop), FrameWriter(tmp_path / name, 48, 32) as writer:
            for frame in frames(3):
                writer.add(frame)
            assert len(names(tmp_path)) == 2
            raise stop
        assert names(tmp_path) == [name] and (tmp_path / name).read_bytes() == b"old"


@BOTH
def test_an_interrupt_caught_within_keeps_the_frames_so_far(name, tmp_path):
    with FrameWriter(tmp_path / name, 48, 32) as writer:
        try:
            writer.add(frames(1)[0])
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            writer.add(frames(1)[0])
    read = decode_mp4(tmp_path / name) if name.endswith(".mp4") else decode_gif(tmp_path / name)[0]
    assert len(read) == 2 and names(tmp_path) == [name]


@BOTH
def test_without_a_frame_nothing_is_written(name, tmp_path):
    with FrameWriter(tmp_path / name, 48, 32):
        pass
    assert names(tmp_path) == []
    (tmp_path / name).write_bytes(b"old")
    with FrameWriter(tmp_path / name, 48, 32):
        pass
    assert (tmp_path / name).read_bytes() == b"old"


@BOTH
def test_a_new_video_takes_the_place_of_the_old(name, tmp_path):
    (tmp_path / name).write_bytes(b"old")
    write(tmp_path / name, frames(2))
    assert names(tmp_path) == [name] and len((tmp_path / name).read_bytes()) > 100


@BOTH
def test_other_shapes_and_types_are_refused(name, tmp_path):
    frame = frames(1)[0]
    for other in (frame[1:], frame[..., :1], frame[..., 0], frame.transpose(1, 0, 2), frame.astype(np.float32)):
        with FrameWriter(tmp_path / name, 48, 32) as writer, pytest.raises(ValueError, match=r"uint8 .*\(32, 48, 3\)"):
            writer.add(other)
    assert names(tmp_path) == []


@BOTH
def test_frames_may_be_views(name, tmp_path):
    wide = frames(1, 96, 32)[0][:, ::-2]
    write(tmp_path / name, [wide])
    read = decode_mp4(tmp_path / name) if name.endswith(".mp4") else decode_gif(tmp_path / name)[0]
    assert error_of(read[0], wide) < 6


@pytest.mark.parametrize("name", ["film.avi", "film", "film.mp4.png", ".gif"])
def test_other_suffixes_are_refused_before_the_work(name, tmp_path):
    for begin in (check_video_path, lambda path: FrameWriter(path, 48, 32)):
        with pytest.raises(WriteError, match=r"end it in \.mp4 or \.gif$"):
            begin(tmp_path / name)


def test_suffixes_may_be_capitals(tmp_path):
    write(tmp_path / "FILM.GIF", frames(2))
    write(tmp_path / "FILM.MP4", frames(2))
    assert len(decode_gif(tmp_path / "FILM.GIF")[0]) == len(decode_mp4(tmp_path / "FILM.MP4")) == 2


@BOTH
def test_places_that_cannot_be_written_are_refused_before_the_work(name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    with pytest.raises(WriteError, match="is not a file: choose another name"):
        FrameWriter(tmp_path / name, 48, 32)
    (tmp_path / name).rmdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write everywhere
    with pytest.raises(WriteError, match=r"\(Permission denied\): choose another folder"):
        FrameWriter(tmp_path / name, 48, 32)
    assert names(tmp_path) == []


@BOTH
def test_a_missing_folder_is_named(name, tmp_path):
    with (
        pytest.raises(WriteError, match=f"there is no folder {tmp_path / 'no'}, create it first"),
        FrameWriter(tmp_path / "no" / name, 48, 32) as writer,
    ):
        writer.add(frames(1)[0])


@BOTH
def test_relative_paths_and_odd_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_video_path(name)
    assert names(tmp_path) == []
    Path("a:b").mkdir()  # FFmpeg would take a: for a protocol
    write(f"a:b/100 %d {name}", frames(2))
    assert names(tmp_path / "a:b") == [f"100 %d {name}"]


def test_mp4_without_pyav_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(FaststyleError, match=r"needs PyAV, .* pip install 'faststyle-onnx\[video\]', or .* \.gif"):
        check_video_path(tmp_path / "film.mp4")
    write(tmp_path / "film.gif", frames(2))
    assert names(tmp_path) == ["film.gif"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@BOTH
def test_a_full_disk_leaves_what_was_there(name, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(b"old")
    monkeypatch.setattr(secrets, "token_hex", lambda size: "full")
    (tmp_path / ".faststyle-full.tmp").symlink_to("/dev/full")
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    for count in (1, 100):  # found out when the file is finished, and on the way
        with pytest.raises(WriteError, match=r"\(No space left on device\): free some space"):
            write(tmp_path / name, [noise] * count)
        assert names(tmp_path) == [name] and (tmp_path / name).read_bytes() == b"old"
        (tmp_path / ".faststyle-full.tmp").symlink_to("/dev/full")
    with FrameWriter(tmp_path / name, 160, 120) as writer:
        with pytest.raises(WriteError, match="free some space"):
            for _ in range(100):
                writer.add(noise)
        with pytest.raises(WriteError, match="free some space"):
            writer.add(noise)
    assert names(tmp_path) == [name] and (tmp_path / name).read_bytes() == b"old"


def test_a_folder_that_vanishes_is_told(tmp_path):
    (tmp_path / "gone").mkdir()
    with pytest.raises(WriteError, match="there is no folder"), FrameWriter(tmp_path / "gone" / "a.gif", 48, 32) as w:
        (tmp_path / "gone").rmdir()
        w.add(frames(1)[0])


@pytest.mark.parametrize(("name", "most"), [("film.mp4", 16384), ("film.gif", 65535)])
def test_sizes_that_the_format_does_not_hold(name, most, tmp_path):
    with pytest.raises(ImageError, match=f"at most {most} a side: scale it down"):
        FrameWriter(tmp_path / name, 16, most + 1)


def test_sizes_that_the_encoder_does_not_take(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(ImageError, match=r"frames of 16384 x 2 .*: scale them down"):
        write(tmp_path / "film.mp4", [np.zeros((2, 16384, 3), np.uint8)])
    assert names(tmp_path) == []


def test_fewer_than_one_frame_a_second(tmp_path):
    with pytest.raises(ConfigError, match="choose 1 or more"):
        FrameWriter(tmp_path / "film.gif", 48, 32, 0)
