"""Pictures that look the same: a small perceptual hash, and groups of near ones."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from striate.data.transforms import luma

SMALLEST_SIDE = 48  # under this, different pictures look alike in 9×9 (all ones of MNIST are one)
SMALLEST_CONTRAST = 12  # grey levels of deviation over 9×9; a flatter picture has only noise to hash
NEAR_BITS = 3  # of 128; the four bands below find every pair this near


def look_hash(image: Tensor) -> int | None:
    """128 bits: is each cell of a 9×9 thumbnail brighter than its right, and than its lower, neighbour (dHash).

    Args:
        image: uint8 [1 or 3, H, W].

    Returns:
        None for pictures too small or too flat to be told apart this way.
    """
    if min(image.shape[-2:]) < SMALLEST_SIDE:
        return None
    small = F.resize(image, [9, 9], antialias=True)
    grey = (luma(small) if small.shape[0] == 3 else small)[0].numpy().astype(np.int16)  # [9, 9]
    if grey.std() < SMALLEST_CONTRAST:
        return None
    right, lower = grey[:8, :8] > grey[:8, 1:], grey[:8, :8] > grey[1:, :8]
    return int.from_bytes(np.packbits(np.concatenate([right, lower])).tobytes())


def near_groups(looks: list[tuple[int, str]]) -> list[list[str]]:
    """Names whose hashes differ in at most NEAR_BITS bits, joined into groups; only groups of two and more."""
    leader = list(range(len(looks)))

    def root(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for band in range(NEAR_BITS + 1):  # hashes with 3 differing bits agree in at least one of 4 bands
        buckets: dict[int, list[int]] = defaultdict(list)
        for index, (look, _) in enumerate(looks):
            buckets[look >> (32 * band) & 0xFFFFFFFF].append(index)
        for bucket in buckets.values():
            for position, first in enumerate(bucket):
                for second in bucket[position + 1 :]:
                    if (looks[first][0] ^ looks[second][0]).bit_count() <= NEAR_BITS:
                        leader[root(second)] = root(first)
    groups: dict[int, list[str]] = defaultdict(list)
    for index, (_, name) in enumerate(looks):
        groups[root(index)].append(name)
    return [names for names in groups.values() if len(names) > 1]
