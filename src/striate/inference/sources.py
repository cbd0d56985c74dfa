"""What can be predicted on: files, folders, globs, URLs, bytes, PIL images, arrays, tensors, samples, sets, videos."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from striate.data.sample import Sample
from striate.data.targets import target_names
from striate.errors import DataError, ImageError, UsageError, did_you_mean
from striate.images import PICTURE_SUFFIXES, read_image
from striate.inference.video import VIDEO_SUFFIXES, Frame, frames, is_video


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One picture to be predicted on. It keeps how to read its pixels, not the pixels.

    Attributes:
        name: how results and messages call it; always printable as UTF-8.
        picture: a path, URL or bytes; or an array, tensor, PIL image or frame of a video that was in memory already;
            or the error that reading it will raise.
        target: the label it is known to have (a tuple where several may hold), or the score; None where unknown.
    """

    name: str
    picture: Any
    target: str | tuple[str, ...] | float | None = None

    def __str__(self) -> str:
        return self.name

    def load(self) -> Tensor:
        """Pixels, uint8 [3, H, W]; [1, H, W] from a grey array or tensor.

        Raises:
            DataError: the picture cannot be read.
        """
        picture = self.picture
        if isinstance(picture, DataError):
            raise picture
        if isinstance(picture, Frame):
            return picture.load()
        if isinstance(picture, Tensor):
            return _as_uint8(picture, self.name)
        if isinstance(picture, np.ndarray):
            # a copy: read-only, flipped and byte-swapped arrays are welcome
            kind = np.uint8 if picture.dtype == np.uint8 else np.float32
            pixels = torch.from_numpy(np.array(picture, dtype=kind, order="C"))
            return _as_uint8(pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels[None], self.name)
        if isinstance(picture, Image.Image):
            picture = _encoded(picture, self.name)
        elif isinstance(picture, str) and is_url(picture):
            from striate.remote import fetch

            picture = fetch(picture)
        try:
            return read_image(picture)
        except ImageError as error:
            if isinstance(picture, bytes):  # only we know what these bytes are called
                raise ImageError(f"{self.name}: {str(error).removeprefix('<bytes>: ')}") from None
            raise


def expand(sources: Any) -> tuple[Iterator[Source], bool]:
    """Every picture that `sources` names, lazily and in order, and whether it names exactly one.

    Takes a path, a folder (searched to its depths, natural order), a glob (`**` too), a URL, encoded bytes, a PIL
    image, a uint8 or 0..1 float array [H, W] or [H, W, 3], a tensor [C, H, W] or [B, C, H, W] with C 1 or 3, a
    Sample, a data set with a split (`digits:test`), a video file (each frame is a picture; in folders videos are passed
    over) or a Frame of one, or an iterable of these. Inside an iterable, what cannot be found becomes a Source whose
    `load` raises, so that one wrong path does not end ten thousand right ones; where a video breaks off stands one too.

    Raises:
        DataError: nothing is there, or no picture in it.
        UsageError: this cannot be a picture: an array of a wrong shape or type.
    """
    if isinstance(sources, Iterable) and not isinstance(sources, str | bytes | bytearray | np.ndarray | Tensor):
        if isinstance(sources, dict):
            raise UsageError("a dict is not a list of pictures: pass its values")
        return _expand_each(sources), False
    return _expand_one(sources, "picture")


def is_url(text: str) -> bool:
    return re.match(r"https?://", text, re.IGNORECASE) is not None


def natural_key(name: str) -> tuple[Any, ...]:
    """Sorts as people count: `img9` before `img10`."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return tuple(int(part) if part.isdecimal() else part for part in parts), name


def printable(path: str | Path) -> str:
    """A file name as UTF-8; bytes that are none (Linux allows them) as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _expand_each(sources: Iterable[Any]) -> Iterator[Source]:
    numbers = count()
    for source in sources:
        number = next(numbers)
        try:
            yield from _expand_one(source, f"picture {number}")[0]
        except DataError as error:
            name = printable(source) if isinstance(source, str | Path) else f"picture {number}"
            yield Source(name, error)


def _expand_one(source: Any, name: str) -> tuple[Iterator[Source], bool]:
    if isinstance(source, Source):
        return iter([source]), True
    if isinstance(source, Sample):
        return iter([Source(source.name, source.image)]), True
    if isinstance(source, Frame):
        return iter([Source(source.name, source)]), True
    if isinstance(source, bytes | bytearray):
        return iter([Source(name, bytes(source))]), True
    if isinstance(source, Image.Image):
        return iter([Source(printable(getattr(source, "filename", "") or name), source)]), True
    if isinstance(source, np.ndarray):
        _check_array(source, name)
        return iter([Source(name, source)]), True
    if isinstance(source, Tensor):
        _check_tensor(source, name)
        if source.ndim == 3:
            return iter([Source(name, source)]), True
        return (Source(f"{name}[{index}]", picture) for index, picture in enumerate(source)), False
    if isinstance(source, str | Path):
        return _expand_path(source)
    raise UsageError(
        f"{name}: {type(source).__name__} is not a picture; pass a path, URL, bytes, PIL image, array or tensor"
    )


def _expand_path(source: str | Path) -> tuple[Iterator[Source], bool]:
    text = str(source)
    if isinstance(source, str) and is_url(source):
        return iter([Source(source, source)]), True
    if not text or "\0" in text:
        raise DataError(f"{text!r}: not a path of a picture")
    path = Path(source).expanduser()
    if path.is_dir():
        return _at_least_one(_walk(path, set()), f"{printable(path)}: no picture in this folder"), False
    if os.path.lexists(path) and is_video(path):
        return _frames_of(path), False
    if os.path.lexists(path):
        return iter([Source(printable(path), path)]), True
    if glob.has_magic(text):
        names = sorted(glob.iglob(str(path), recursive=True), key=natural_key)
        wanted = PICTURE_SUFFIXES | (VIDEO_SUFFIXES & {path.suffix.lower()})  # `*.mp4` names videos, `*` does not
        files = (Path(name) for name in names if Path(name).suffix.lower() in wanted)
        found = (source for file in files if file.is_file() for source in _named(file))
        return _at_least_one(found, f"{printable(path)}: no picture matches this pattern"), False
    if isinstance(source, str) and ":" in source:
        return _expand_split(source), False
    raise DataError(f"{printable(path)}: no such file{_neighbour(path)}")


def _named(file: Path) -> Iterator[Source]:
    if not is_video(file):
        return iter([Source(printable(file), file)])
    return _expand_each([file])


def _frames_of(path: Path) -> Iterator[Source]:
    """Where a video breaks off stands a source that says so; one without a single frame raises at once."""
    found = frames(path)
    first = next(found)

    def rest() -> Iterator[Source]:
        try:
            for frame in found:
                yield Source(frame.name, frame)
        except DataError as error:
            yield Source(printable(path), error)

    return chain([Source(first.name, first)], rest())


def _expand_split(source: str) -> Iterator[Source]:
    """The samples of one split, with the labels they are known to have."""
    from striate.data import open_dataset, split_source

    name, split = split_source(source)
    if split is None:
        raise DataError(f"{printable(source)}: no such file{_neighbour(Path(source))}")
    dataset = open_dataset(name)
    if split not in dataset.splits:
        raise DataError(
            f'{name} has no split "{split}"; it has {", ".join(dataset.splits)}.{did_you_mean(split, dataset.splits)}'
        )
    samples = dataset.splits[split]
    return (Source(sample.name, sample.image, target_names(sample.target, dataset.classes)) for sample in samples)


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Source]:
    """Pictures under a folder; hidden ones are left out, and a folder reached again by a link is not walked again."""
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: natural_key(entry.name))
    except OSError as error:
        yield Source(printable(folder), DataError(f"{printable(folder)}: folder not readable ({error.strerror})"))
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if os.path.isdir(entry.path):  # entry.is_dir() raises on links that point to themselves
            yield from _walk(Path(entry.path), seen)
        elif os.path.splitext(entry.name)[1].lower() in PICTURE_SUFFIXES and _is_file_or_link(entry):
            yield Source(printable(entry.path), Path(entry.path))


def _is_file_or_link(entry: os.DirEntry[str]) -> bool:
    """Broken links count, so that they are told; pipes and sockets do not."""
    return os.path.isfile(entry.path) or (entry.is_symlink() and not os.path.exists(entry.path))


def _at_least_one(found: Iterator[Source], otherwise: str) -> Iterator[Source]:
    first = next(found, None)
    if first is None:
        raise DataError(f"{otherwise}; pictures end in {', '.join(sorted(PICTURE_SUFFIXES))}")
    return chain([first], found)


def _neighbour(path: Path) -> str:
    """What else stands in that folder under nearly this name."""
    if not path.parent.is_dir():
        return f": there is no folder {printable(path.parent)}"
    try:
        return "." + did_you_mean(printable(path.name), (printable(name) for name in os.listdir(path.parent)))
    except OSError:
        return ""


def _check_array(array: np.ndarray, name: str) -> None:
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or 0 in array.shape:
        hint = ""
        if array.ndim == 4:
            hint = "; for several pictures pass a list of arrays"
        elif array.ndim == 3 and array.shape[0] in (1, 3):
            hint = "; channels come last in an array: array.transpose(1, 2, 0)"
        elif array.ndim == 3 and array.shape[2] in (1, 4):
            hint = "; array[..., 0] is a grey picture" if array.shape[2] == 1 else "; array[..., :3] drops alpha"
        raise UsageError(f"{name}: array of shape {list(array.shape)}; expected RGB [H, W, 3] or grey [H, W]{hint}")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise UsageError(f"{name}: array of {array.dtype}; expected uint8 in 0..255 or float in 0..1")


def _check_tensor(tensor: Tensor, name: str) -> None:
    if tensor.ndim not in (3, 4) or tensor.shape[-3] not in (1, 3) or 0 in tensor.shape[-3:]:
        hint = "; channels come first in a tensor: tensor.permute(2, 0, 1)" if tensor.shape[-1:] == (3,) else ""
        raise UsageError(f"{name}: tensor of shape {list(tensor.shape)}; expected [3, H, W] or [B, 3, H, W]{hint}")
    if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
        raise UsageError(f"{name}: tensor of {tensor.dtype}; expected uint8 in 0..255 or float in 0..1")


def _as_uint8(pixels: Tensor, name: str) -> Tensor:
    """uint8 [1 or 3, H, W], or float in 0..1, → uint8 of the same shape on the CPU."""
    pixels = pixels.detach().cpu()
    if pixels.is_floating_point():
        low, high = pixels.aminmax()
        if not (low >= 0 and high <= 1):  # also where one is NaN
            raise ImageError(f"{name}: float pixels from {low:.4g} to {high:.4g}; expected 0..1 (divide by 255?)")
        pixels = (pixels.float() * 255).round().to(torch.uint8)
    return pixels


def _encoded(image: Image.Image, name: str) -> bytes:
    """A PIL image, turned as its EXIF says, as lossless bytes: palette, alpha and CMYK are then read as in files."""
    buffer = BytesIO()
    try:
        image = ImageOps.exif_transpose(image)
        kind = "PNG" if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "TIFF"
        image.save(buffer, format=kind, **({"compress_level": 1} if kind == "PNG" else {}))
    except Exception as error:  # a lazily read file that is damaged: Pillow raises nearly anything
        raise ImageError(f"{name}: this PIL image could not be read ({error})") from None
    return buffer.getvalue()
