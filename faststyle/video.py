"""Frames as a video file, .mp4 by PyAV or .gif by Pillow, written whole or not at all."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image

from faststyle.errors import ConfigError, FaststyleError, ImageError, WriteError
from faststyle.files import check_target, write_errors

if TYPE_CHECKING:
    from av import VideoFrame

__all__ = ["FrameWriter", "check_video_path"]

_LONGEST_SIDE = {".mp4": 16384, ".gif": 65535}
"""The suffixes that can be written, and how many pixels a side of their frames may have."""


def check_video_path(path: str | os.PathLike[str]) -> None:
    """Find out, before the work, whether a video can be written there; opens no file.

    Raises WriteError for a suffix other than .mp4 and .gif, for .mp4 without PyAV, and as `check_target` does.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _LONGEST_SIDE:
        what = f"the suffix {suffix}" if suffix else "no suffix"
        raise WriteError(f"{path} has {what}, which no video is written in: end it in {' or '.join(_LONGEST_SIDE)}")
    if suffix == ".mp4" and importlib.util.find_spec("av") is None:
        remedy = "pip install 'faststyle-onnx[video]', or end it in .gif"
        raise WriteError(f"{path} needs PyAV, which is not installed: {remedy}")
    check_target(path)


class FrameWriter:
    """Writes a video frame by frame: `with FrameWriter("out.mp4", width, height) as writer: writer.add(rgb)`.

    Leaving the block normally puts the file in its place; leaving it by an exception, KeyboardInterrupt included,
    or after an error of `add`, leaves what was there before. Without a frame nothing is written. A .mp4 is H.264, or
    MPEG-4 where PyAV lacks x264; its sides are even, an odd one's last row or column is repeated. A .gif loops for
    ever and has 256 colours a frame; it plays 50 frames a second at most, the most that browsers do.

    Raises, before the first frame, WriteError as `check_video_path` does, ConfigError for less than one frame a second,
    ImageError for frames larger than the format holds; at the end WriteError where the disk does not take the rest.
    """

    def __init__(self, path: str | os.PathLike[str], width: int, height: int, fps: int = 25) -> None:
        check_video_path(path)
        self._path = Path(path)
        suffix = self._path.suffix.lower()
        if fps < 1:
            raise ConfigError(f"a video cannot have {fps} frames a second: choose 1 or more")
        if max(width, height) > (most := _LONGEST_SIDE[suffix]):
            raise ImageError(f"{path} would be {width} x {height}, {suffix} holds at most {most} a side: scale it down")
        self._size, self._fps = (width, height), fps
        self._kind = _Mp4 if suffix == ".mp4" else _Gif
        self._encoder: _Mp4 | _Gif | None = None
        self._failure: FaststyleError | None = None
        # Absolute, because FFmpeg reads a colon in a relative path as the end of a protocol's name.
        self._temporary = self._path.absolute().with_name(f".faststyle-{secrets.token_hex(6)}.tmp")

    def __enter__(self) -> Self:
        return self

    def add(self, rgb: NDArray[np.uint8]) -> None:
        """Append a frame, uint8 height x width x 3.

        Raises ValueError for another shape or type, WriteError where the disk does not take it, ImageError where the
        encoder does not.
        """
        width, height = self._size
        if rgb.shape != (height, width, 3) or rgb.dtype != np.uint8:
            raise ValueError(f"a frame is uint8 of shape {(height, width, 3)}, not {rgb.dtype} of shape {rgb.shape}")
        if self._failure is not None:  # FFmpeg may crash where it is asked to go on after an error
            raise self._failure
        try:
            with write_errors(self._path):
                if self._encoder is None:
                    self._encoder = self._kind(self._temporary, width, height, self._fps)
                self._encoder.add(rgb)
        except FaststyleError as error:
            self._failure = error
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        encoder, self._encoder = self._encoder, None
        try:
            if encoder is None:
                return
            if kind is None and self._failure is None:
                with write_errors(self._path):
                    with contextlib.closing(encoder):
                        encoder.finish()
                    os.replace(self._temporary, self._path)
            else:
                with contextlib.suppress(Exception):  # the file is given up, and the first exception is the one to tell
                    encoder.close()
        finally:
            self._temporary.unlink(missing_ok=True)


class _Gif:
    """A GIF, frame by frame: Pillow's own writer would keep all frames until the last."""

    def __init__(self, path: Path, width: int, height: int, fps: int) -> None:
        self._file = path.open("wb")
        self._fps, self._count = fps, 0
        # Logical screen descriptor without a common palette, then Netscape's extension: repeat without end.
        self._file.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0x70, 0, 0))
        self._file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")

    def add(self, rgb: NDArray[np.uint8]) -> None:
        # The fast octree leaves bands in skies, and dither shimmers from frame to frame.
        frame = Image.fromarray(rgb).quantize(256, Image.Quantize.MEDIANCUT)
        # Hundredths of a second, rounded so that no error adds up; browsers play frames below two as ten.
        ticks = round(100 * (self._count + 1) / self._fps) - round(100 * self._count / self._fps)
        pieces = GifImagePlugin.getdata(frame, duration=10 * max(2, ticks), include_color_table=True)
        self._file.write(b"".join(pieces))
        self._count += 1

    def finish(self) -> None:
        self._file.write(b";")

    def close(self) -> None:
        self._file.close()


class _Mp4:
    """An MP4 in yuv420p, the one layout that every player shows."""

    def __init__(self, path: Path, width: int, height: int, fps: int) -> None:
        import av

        codec: Literal["libx264", "mpeg4"]
        # Rec. 709, and said so: players guess the matrix of an unmarked video by its size.
        options = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv"}
        if "libx264" in av.codecs_available:
            codec, options["crf"] = "libx264", "18"
        else:
            codec, options["qmin"], options["qmax"] = "mpeg4", "2", "2"
        # The index goes to the front, so that a browser can start before it has the whole file.
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream(codec, rate=fps, options=options)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        # The encoder holds dozens of frames back; what is wrong with the size or the disk should show at the first.
        with self._refusals():
            self._container.start_encoding()

    def add(self, rgb: NDArray[np.uint8]) -> None:
        from av import VideoFrame

        even = np.pad(rgb, ((0, rgb.shape[0] % 2), (0, rgb.shape[1] % 2), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        self._encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709"))

    def finish(self) -> None:
        self._encode(None)

    def close(self) -> None:
        self._container.close()

    def _encode(self, frame: VideoFrame | None) -> None:
        """Write what the encoder has ready after a frame; None asks for all that it still holds."""
        with self._refusals():
            self._container.mux(self._stream.encode(frame))

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn what the encoder itself answers into an ImageError; what the disk answers stays an OSError."""
        from av import FFmpegError

        try:
            yield
        except FFmpegError as error:
            if isinstance(error, OSError):
                raise
            size = f"{self._stream.width} x {self._stream.height}"
            raise ImageError(f"no .mp4 can be made of frames of {size} ({error.strerror}): scale them down") from None
