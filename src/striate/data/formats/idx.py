"""IDX files, MNIST's own format (LeCun, Cortes & Burges): big-endian header, then the bytes."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from pathlib import Path

import numpy as np
import torch

from striate.data.sample import Dataset, Sample
from striate.data.split import hold_out
from striate.errors import DataError

HELD_OUT_AT_MOST = 5_000
_IMAGES = re.compile(r"^(?P<stem>.*?)[-_.]?images[-_.]idx(?P<dims>[34])[-_.]ubyte(?P<gz>\.gz)?$", re.IGNORECASE)
_UNSIGNED_BYTE = 8  # the type code in the magic number


def recognises(source: str) -> bool:
    try:
        return any(_IMAGES.match(name) for name in os.listdir(source))
    except OSError:
        return False


def read(source: str, val_fraction: float, seed: int, download: bool) -> Dataset:
    """Samples are uint8 [C, H, W]; a name starting with `train` is the train split, any other is test.

    Raises:
        DataError: a bad magic number, a truncated file, counts that disagree, labels missing.
    """
    root = Path(source)
    notes: list[str] = []
    raw: dict[str, list[tuple[str, np.ndarray, np.ndarray]]] = {}
    stems: set[str] = set()
    for name in sorted(os.listdir(root)):
        match = _IMAGES.match(name)
        if match is None or match["stem"] in stems:  # the same file twice, packed and unpacked
            continue
        stems.add(match["stem"])
        images_path = root / name
        labels_path = _labels_of(images_path)
        images = read_idx(images_path)
        labels = read_idx(labels_path)
        if images.ndim not in (3, 4) or labels.ndim != 1:
            wrong = images_path if images.ndim not in (3, 4) else labels_path
            raise DataError(f"{wrong}: {read_idx(wrong).ndim} dimensions; images need 3 or 4, labels 1")
        if len(images) != len(labels):
            raise DataError(
                f"{images_path}: {len(images):,} pictures, but {labels_path.name} has {len(labels):,} labels; "
                "get both from the same place"
            )
        if images.size == 0:
            raise DataError(f"{images_path}: holds no pictures; get the file again")
        split = "train" if "train" in match["stem"].lower() else "test"
        raw.setdefault(split, []).append((match["stem"] or split, images, labels))
    values = sorted({int(value) for parts in raw.values() for _, _, labels in parts for value in np.unique(labels)})
    number = {value: index for index, value in enumerate(values)}
    splits: dict[str, list[Sample]] = {}
    for split, parts in sorted(raw.items(), reverse=True):  # train first
        splits[split] = [
            Sample(image, number[label], f"{stem}/{index}")
            for stem, images, labels in parts
            for index, (image, label) in enumerate(zip(_as_tensor(images), labels.tolist(), strict=True))
        ]
        if len(parts) > 1:
            notes.append(f"{split} is made of {', '.join(stem for stem, _, _ in parts)}.")
    splits, note = hold_out(splits, val_fraction, seed, HELD_OUT_AT_MOST if "test" in splits else None)
    notes = [f"Read as IDX files ({', '.join(sorted(stems))}); task: classify, {len(values)} classes.", *notes]
    classes = tuple(str(value) for value in values)
    return Dataset(source, "idx", "classify", classes, splits, notes + ([note] if note else []))


def read_idx(path: Path) -> np.ndarray:
    """One IDX file of unsigned bytes, gzip or plain, as an array of the shape that its header says.

    Raises:
        DataError: not IDX, not whole, or of another type.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"{path}: the gzip file is truncated or damaged; get it again") from None
    except OSError as error:
        raise DataError(f"{path}: could not be read ({error.strerror}); check the path") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[3] == 0:
        raise DataError(f"{path}: not an IDX file (it begins with {data[:4].hex(' ') or 'nothing'}); get it again")
    if data[2] != _UNSIGNED_BYTE:
        raise DataError(f"{path}: holds values of type 0x{data[2]:02x}; only unsigned bytes (0x08) are read")
    dims = data[3]
    start = 4 + 4 * dims
    if len(data) < start:
        raise DataError(f"{path}: ends within its header; get it again")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", dims, offset=4))
    expected = int(np.prod([int(size) for size in shape], dtype=object))
    if len(data) - start != expected:
        raise DataError(
            f"{path}: its header says {' x '.join(map(str, shape))} = {expected:,} bytes, but {len(data) - start:,} "
            "follow; get it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _labels_of(images_path: Path) -> Path:
    """The labels file beside an images file; gzip or plain, whichever is there."""
    name = re.sub(r"images([-_.])idx[34]", r"labels\1idx1", images_path.name, flags=re.IGNORECASE)
    plain = name.removesuffix(".gz")
    for candidate in (name, plain, f"{plain}.gz"):
        if (images_path.parent / candidate).exists():
            return images_path.parent / candidate
    raise DataError(f"{images_path}: its labels are missing; place {name} beside it")


def _as_tensor(images: np.ndarray) -> torch.Tensor:
    """[N, H, W] or [N, H, W, C] → uint8 [N, C, H, W], a copy: the file's bytes are read-only."""
    pixels = torch.from_numpy(images.copy())
    return pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
