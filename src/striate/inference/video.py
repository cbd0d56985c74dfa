"""Video files: frames in a stream, and drawn frames back into a file.

PyAV (FFmpeg's libraries) reads and writes; it comes with the extra `video`. Only containers of moving pictures are
opened and only files are read: a playlist that calls itself clip.mp4 could make FFmpeg open other files or addresses.
"""

from __future__ import annotations

import os
import stat
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from striate.errors import DataError, MissingExtra, StriateError, UsageError
from striate.files import refuse_overwrite, sync_folder
from striate.images import MAX_PIXELS

if TYPE_CHECKING:
    from types import TracebackType

# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2ts", ".mts", ".ts", ".wmv", ".flv", ".3gp",
    ".ogv",
))
# fmt: on
WRITTEN = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".avi": "avi"}  # ending → FFmpeg's format

HELD = 2**30  # bytes of decoded frames kept of one video, however many results somebody collects
TOLERANCE = Fraction(1, 2)  # seconds by which the end may differ from what the header says
_READING = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,live_flv,ogg",
    "protocol_whitelist": "file",
}


def is_video(path: str | Path) -> bool:
    """Whether this name ends as those of video files do."""
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


@dataclass(slots=True, eq=False, weakref_slot=True)
class Frame:
    """One picture of a video.

    Attributes:
        name: `clip.mp4#t=1.200s`, or `clip.mp4#frame=30` where the file has no clock.
        number: counted from 0 in the order in which they are shown.
    """

    name: str
    number: int
    _again: _Again
    _pixels: Tensor | None

    def load(self) -> Tensor:
        """Pixels, uint8 [3, H, W]. Those of frames long past are decoded again, from the beginning of the file.

        Raises:
            DataError: the file is gone or another one.
        """
        pixels = self._pixels
        return self._again.read(self.number) if pixels is None else pixels


def frames(path: str | Path, every: int = 1) -> Iterator[Frame]:
    """The frames of a video in order, turned as the file says, decoded as they are asked for.

    Frames that nobody holds any more are freed; of those that somebody holds, the newest `HELD` bytes keep pixels.

    Args:
        every: 1 for all, 2 for every other one …

    Raises:
        DataError: when its turn comes: no video, damaged, or shorter than it says; the message names the last good
            frame, and all frames before have been given. Of a transport stream (.ts) nobody knows how long it was.
        MissingExtra: PyAV is not installed.
    """
    if every < 1:
        raise UsageError(f"every must be at least 1, not {every}")
    again = _Again(path)
    held: deque[weakref.ref[Frame]] = deque()
    for number, seconds, decoded in _decode(path):
        if number % every:
            continue
        pixels = _upright(decoded)
        where = f"frame={number}" if seconds is None else f"t={seconds:.3f}s"
        frame = Frame(f"{_shown(path)}#{where}", number, again, pixels)
        held.append(weakref.ref(frame))
        while len(held) > max(1, HELD // pixels.numel()):
            old = held.popleft()()
            if old is not None:
                old._pixels = None
        yield frame
        del frame, pixels, decoded  # while the caller works, only the caller holds them


class Clip(NamedTuple):
    """What a video's header says: frames a second, and whether there is sound."""

    rate: Fraction
    has_sound: bool


def read_clip(path: str | Path) -> Clip:
    """Only the header is read.

    Raises:
        DataError: not a video.
        MissingExtra: PyAV is not installed.
    """
    with _open(path) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate or 25
        # 1/1001 is the finest that anybody films with; MPEG-4 takes no more than 16 bits
        rate = min(max(Fraction(rate), Fraction(1)), Fraction(240)).limit_denominator(1001)
        return Clip(rate, bool(container.streams.audio))


class VideoWriter:
    """Pictures into a video file without sound, written beside and put in place when the block ends well.

    The first picture gives the size (one more pixel where a side is odd: H.264 and MPEG-4 know only even ones);
    others are fitted into it. H.264 where PyAV has an encoder, else MPEG-4.

    Args:
        rate: pictures a second.

    Raises:
        UsageError: a file stands there, or its ending is of no format that is written.
        MissingExtra: PyAV is not installed.
        StriateError: while writing: the disk is full, the folder cannot be written.
    """

    def __init__(self, path: str | Path, rate: Fraction | int, overwrite: bool = False) -> None:
        self.path, self.rate, self.count = refuse_overwrite(path, overwrite), Fraction(rate), 0
        if self.path.suffix.lower() not in WRITTEN:
            raise UsageError(f'{self.path}: videos are written as {", ".join(WRITTEN)}, not "{self.path.suffix}"')
        self.av = _pyav()
        self.beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        self.container: Any = None

    def __enter__(self) -> VideoWriter:
        return self

    def add(self, picture: Image.Image) -> None:
        try:
            if self.container is None:
                self.container = self._begin(picture.size)
            size = (self.stream.width, self.stream.height)
            if picture.size != self.size:
                picture = ImageOps.pad(picture, self.size)
            if picture.size != size:
                picture = ImageOps.expand(picture, (0, 0, size[0] - picture.width, size[1] - picture.height))
            frame = self.av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGB")), format="rgb24")
            self.container.mux(self.stream.encode(frame))
        except (OSError, self.av.error.FFmpegError) as error:
            raise self._failed(error) from None
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        try:
            if self.container is not None:
                try:
                    if kind is None:
                        self.container.mux(self.stream.encode())
                finally:
                    self.container.close()
                if kind is None:
                    os.replace(self.beside, self.path)
                    sync_folder(self.path.parent)
        except (OSError, self.av.error.FFmpegError) as problem:
            if kind is None:  # else the first error is the one to be told
                raise self._failed(problem) from None
        finally:
            with suppress(OSError):  # put in place already, or never made
                self.beside.unlink()

    def _begin(self, size: tuple[int, int]) -> Any:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        format = WRITTEN[self.path.suffix.lower()]
        quick = {"movflags": "+faststart"} if format in ("mp4", "mov") else {}  # plays while it is still loading
        container = self.av.open(os.fspath(self.beside), "w", format=format, options=quick)
        codec = next((name for name in ("libx264", "libopenh264") if name in self.av.codecs_available), "mpeg4")
        self.stream = container.add_stream(codec, rate=self.rate)
        self.size = size
        self.stream.width, self.stream.height = (side + side % 2 for side in size)
        self.stream.pix_fmt = "yuv420p"  # what every player takes
        if codec == "libx264":
            self.stream.options = {"crf": "20", "preset": "veryfast"}  # no visible loss, twice as fast as the default
        else:
            self.stream.bit_rate = int(max(500_000, 0.2 * size[0] * size[1] * float(self.rate)))  # bits a pixel
        return container

    def _failed(self, error: Exception) -> StriateError:
        return StriateError(f"{self.path}: could not be written ({getattr(error, 'strerror', None) or error})")


class _Again:
    """Decodes a video once more for frames whose pixels were let go; cheap when they are asked for in order."""

    def __init__(self, path: str | Path) -> None:
        self.path, self.lock, self.next = path, threading.Lock(), 0
        self.decoding: Iterator[tuple[int, float | None, Any]] | None = None

    def read(self, number: int) -> Tensor:
        with self.lock:
            if self.decoding is None or number < self.next:
                self.decoding, self.next = _decode(self.path), 0
            for found, _, decoded in self.decoding:
                self.next = found + 1
                if found == number:
                    return _upright(decoded)
            self.decoding = None
        raise DataError(f"{_shown(self.path)}: frame {number} is no longer there; the file has changed")


def _decode(path: str | Path) -> Iterator[tuple[int, float | None, Any]]:
    """Number, seconds since the first frame, and PyAV's frame, in the order of showing.

    Frames are not decoded in parallel threads: FFmpeg would lose good ones around a bad one without a word.
    """
    av = _pyav()
    number, seconds, end, problem = -1, None, Fraction(0), ""
    with _open(path) as container:
        stream = container.streams.video[0]
        start = stream.start_time or 0
        packets = container.demux(stream)
        is_over = False
        while not is_over:
            decoded: list[Any] = []
            try:
                packet = next(packets, None)
                is_over = packet is None
                if packet is not None and packet.is_corrupt:  # half of it is there; more follows where a stream tore
                    problem = "its last picture is incomplete"
                elif packet is not None:
                    decoded = packet.decode()
                    begin = packet.dts if packet.pts is None else packet.pts  # AVI knows only the one
                    if begin is not None:
                        end = max(end, (begin - start + (packet.duration or 0)) * stream.time_base)
                    if packet.size:
                        problem = ""
            except av.error.FFmpegError as error:
                problem = error.strerror or str(error)
                if number >= 0:  # before the first: a recording may begin in the middle of what hangs together
                    is_over = True
                    with suppress(av.error.FFmpegError):
                        decoded = stream.codec_context.decode(None)  # those before, which waited for their turn
            for frame in decoded:
                number += 1
                seconds = None if frame.pts is None else float((frame.pts - start) * stream.time_base)
                yield number, seconds, frame
        promised = _length(container, stream)
    reached = f"frame {number}" + ("" if seconds is None else f" (t={seconds:.3f}s)")
    if number < 0:
        raise DataError(f"{_shown(path)}: no frame could be decoded ({problem or 'it is empty'}); copy it again")
    if problem:
        raise DataError(f"{_shown(path)}: is damaged after {reached}: {problem}. The frames up to there are good")
    if 0 < end < promised - TOLERANCE:
        raise DataError(
            f"{_shown(path)}: ends at {reached}, but says that it is {float(promised):.1f} s long; it is cut off. "
            "The frames up to there are good"
        )


def _open(path: str | Path) -> Any:
    av = _pyav()
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{_shown(path)}: {getattr(error, 'strerror', None) or error}; check the path") from None
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{_shown(path)}: is not a regular file; save the video to one")
    if status.st_size == 0:
        raise DataError(f"{_shown(path)}: is empty; copy it again from where it came")
    try:
        container = av.open(f"file:{os.fspath(path)}", options=_READING, metadata_errors="replace")
    except (av.error.FFmpegError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{_shown(path)}: is no video, or damaged or cut off ({reason}); copy it again") from None
    if not container.streams.video:
        container.close()
        raise DataError(f"{_shown(path)}: holds no pictures, only sound")
    codec = container.streams.video[0].codec_context
    if codec is None or codec.width * codec.height > MAX_PIXELS:
        container.close()
        what = "an unknown codec" if codec is None else f"{codec.width} x {codec.height} pixels; make it smaller"
        raise DataError(f"{_shown(path)}: has {what}")
    return container


def _length(container: Any, stream: Any) -> Fraction:
    """Seconds that the header promises, 0 where it says nothing sure. What an edit list cuts away is not counted."""
    whole = Fraction(container.duration or 0, 1_000_000)
    own = stream.duration * stream.time_base if stream.duration is not None else Fraction(0)
    if len(container.streams) == 1:
        return min(own, whole) if own and whole else own or whole
    return min(own, whole)  # Matroska's length is that of the longest stream, which may be the sound


def _upright(frame: Any) -> Tensor:
    """uint8 [3, H, W], turned as the file says; FFmpeg counts degrees against the clock, as rot90 does."""
    pixels = frame.to_ndarray(format="rgb24")
    return torch.from_numpy(np.rot90(pixels, round(frame.rotation / 90)).copy()).permute(2, 0, 1)


def _shown(path: str | Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _pyav() -> Any:
    try:
        import av
    except ImportError:
        raise MissingExtra("av", "video", "reading and writing video files") from None
    return av
