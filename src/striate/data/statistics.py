"""What a data set is in a few numbers: mean and spread of its channels, and a fingerprint."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor

from striate.data.sample import Dataset
from striate.data.transforms import luma
from striate.errors import DataError

SMALLEST_STD = 1 / 255  # of pictures that are all one colour; dividing by it is harmless


def channel_statistics(
    images: Iterable[Tensor], channels: int, limit: int | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation over all pixels, exact: each channel's histogram is counted.

    Args:
        images: uint8 [C, H, W], or batches [B, C, H, W], C 1 or 3.
        channels: 1 turns colour to grey, 3 repeats grey.
        limit: look at no more than this many of `images`.

    Returns:
        mean, std: one number a channel, of pixels in 0..1; std is never under 1/255, so that one may divide by it.

    Raises:
        DataError: there is no picture.
    """
    histogram = torch.zeros(3, 256, dtype=torch.int64)
    seen = 0
    for image in islice(images, limit):
        if channels == 1 and image.shape[-3] == 3:
            image = luma(image)
        for channel, values in enumerate(image.movedim(-3, 0)):
            histogram[channel] += torch.bincount(values.reshape(-1), minlength=256)
        seen = image.shape[-3]
    if int(histogram.sum()) == 0:
        raise DataError("no picture to take the mean and spread of")
    counted = histogram[:seen].double()
    levels = torch.arange(256, dtype=torch.float64) / 255
    share = counted / counted.sum(1, keepdim=True)
    mean = share @ levels  # [C]
    std = (share * (levels - mean[:, None]) ** 2).sum(1).sqrt().clamp_min(SMALLEST_STD)
    repeat = channels if seen == 1 else 1
    return tuple(mean.tolist() * repeat), tuple(std.tolist() * repeat)


def fingerprint(dataset: Dataset) -> str:
    """Sixteen hex digits that change when classes, splits, names, labels, sizes of files or pixels in memory change.

    Files are not opened: a picture changed without a change of its size goes unseen. Where the set lies does not
    matter, as long as sample names are relative to it.
    """
    digest = hashlib.sha256(repr(dataset.classes).encode())
    for split, samples in sorted(dataset.splits.items()):
        digest.update(f"\n{split} {len(samples)}".encode())
        for sample in samples:
            digest.update(f"\n{sample.name}\t".encode())
            digest.update(b"None\t" if sample.target is None else sample.target.digest())
            if isinstance(sample.image, Tensor):
                digest.update(repr(tuple(sample.image.shape)).encode())
                digest.update(sample.image.contiguous().numpy().data)
            else:
                digest.update(str(_file_size(sample.image)).encode())
    return digest.hexdigest()[:16]


def _file_size(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1  # missing: checking and reading will say so
