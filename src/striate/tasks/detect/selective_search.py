"""Where objects may be, before anything is known of them: selective search (Uijlings et al. 2013, IJCV 104:154-171).

A graph segmentation (Felzenszwalb and Huttenlocher 2004, scikit-image's) cuts a picture into small regions; then the
two neighbours that are most alike become one, again and again until one region is left. The boxes of all regions that
ever were are the proposals: small and large, of things alike in colour or in texture. Several colour spaces,
similarities and sizes of the first regions make up for each other's mistakes (section 4).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from itertools import product
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from striate.errors import UsageError
from striate.tasks.detect.first_regions import SPACES, Array, Regions, first_regions

# (colour space, k): one segmentation each. The paper's fast mode has Hsv and Lab, each at k 50 and 100 (table 5);
# segmentation is most of the time, so ours has each colour space once. Its quality mode has five spaces, four k
FAST = (("hsv", 50), ("lab", 100))
QUALITY = tuple(product(("hsv", "lab", "rgi", "hue", "intensity"), (50, 100, 150, 300)))
# mode -> segmentations, and for each the similarities: of Colour, Texture, Size and Fill
MODES = {"fast": (FAST, ("CTSF", "TSF")), "quality": (QUALITY, ("CTSF", "TSF", "F", "S"))}
# the longer side at which a picture is searched: VOC pictures, for which the k were chosen, have 500. At 384 the fast
# mode finds as many cells of bccd and 1 in 60 fewer objects of coco128, in 2/3 of the time
LONGEST = {"fast": 384, "quality": 500}
LEAST_SIDE = 8  # pixels of a proposal, at the size searched
REMEMBERED = 4096  # pictures whose proposals are kept: 128 MiB where each has 2,000


@dataclass(frozen=True, slots=True, eq=False)
class Hierarchy:
    """What merging made of the R first regions, `segments` int [H, W].

    Region R + m is the two that `merges[m]`, of int [R - 1, 2], names; boxes [2R - 1, 4] has all regions, the whole
    picture last.
    """

    segments: Array
    merges: Array
    boxes: Array

    def level(self, count: int) -> Array:
        """int [H, W]: the regions when `count` of them were left."""
        first = len(self.merges) + 1
        root = np.arange(first + len(self.merges))
        done = first - min(max(count, 1), first)
        for new in reversed(range(done)):  # the last merges first, so that a part finds its whole's whole
            root[self.merges[new]] = root[first + new]
        return root[:first][self.segments]


def selective_search(
    image: Tensor, mode: str = "fast", limit: int = 2000, seed: int = 0, longest: int | None = None
) -> Tensor:
    """Proposals, best first: float32 [N, 4], x1 y1 x2 y2 in pixels of the picture (outer edges), N at most `limit`.

    Args:
        image: uint8 [C, H, W], C 1 or 3; 3 is RGB.
        mode: `fast`, 4 strategies, or `quality`, 80.
        seed: of the random numbers by which regions of different strategies are put in one order: a region's place in
            its hierarchy from the top, times a number from 0 to 1 (section 4.4).
        longest: larger pictures are searched at this longer side; by mode when not given.

    None at all for a picture of one colour. Boxes whose shorter side is below 8 pixels, at the size searched, are left
    out.

    Raises:
        UsageError: an unknown mode, or not such a picture.
    """
    if mode not in MODES:
        raise UsageError(f"selective search has modes {' and '.join(MODES)}, not {mode!r}")
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        raise UsageError(f"selective search wants uint8 [1 or 3, H, W], not {image.dtype} {list(image.shape)}")
    height, width = image.shape[-2:]
    small = shrunk(image, LONGEST[mode] if longest is None else longest)
    random = np.random.default_rng(seed)
    found: list[Array] = []
    ranks: list[Array] = []
    for hierarchy in hierarchies(small, mode):
        boxes = hierarchy.boxes[::-1]  # the whole first
        if len(boxes) > 1:
            found.append(boxes)
            ranks.append(random.random(len(boxes)) * np.arange(1, len(boxes) + 1))
    if not found:
        return torch.zeros(0, 4)
    boxes = np.concatenate(found)[np.argsort(np.concatenate(ranks), kind="stable")]
    sides = boxes[:, 2:] - boxes[:, :2]
    boxes = boxes[sides.min(1) >= min(LEAST_SIDE, *small.shape[:2])]
    first = np.unique(boxes, axis=0, return_index=True)[1]
    boxes = boxes[np.sort(first)[:limit]].astype(np.float32)
    scale = np.array([width / small.shape[1], height / small.shape[0]] * 2, dtype=np.float32)
    return torch.from_numpy(boxes * scale)


def propose(images: Tensor, mode: str = "fast", limit: int = 2000) -> list[Tensor]:
    """Proposals float32 [N, 4] for each of normalised pictures, float [B, C, H, W] with C 1 or 3, on their device.

    Bands of one colour at the edges, as letterboxing leaves them, are cut off before the search; a picture of one
    colour gives none. What is left is stretched to 0..255 by its own least and largest value: normalisation by channel
    leaves a slight tint, which moves regions, but finds the same objects. The last `REMEMBERED` pictures are not
    searched again, whatever network asks.

    Raises:
        UsageError: an unknown mode, or pictures of other channels.
    """
    found: list[Tensor] = []
    for image in images.detach().float().cpu():
        left, top, right, bottom = inside(image)
        picture = image[:, top:bottom, left:right]
        if picture.numel() == 0:
            found.append(torch.zeros(0, 4, device=images.device))
            continue
        least, largest = picture.aminmax()
        stretched = ((picture - least) * (255 / (largest - least))).round().to(torch.uint8).contiguous()
        boxes = _remembered(stretched, mode, limit) + torch.tensor([left, top, left, top], dtype=torch.float32)
        found.append(boxes.to(images.device))
    return found


def inside(image: Tensor) -> tuple[int, int, int, int]:
    """left, top, right, bottom of a picture [C, H, W] without bands of one colour at its edges; all 0: one colour."""
    _, height, width = image.shape
    left, top, right, bottom = 0, 0, width, height
    for corner in (image[:, :1, :1], image[:, -1:, -1:]):
        differs = (image != corner).any(0)
        rows, columns = differs.any(1).nonzero(), differs.any(0).nonzero()
        if len(rows) == 0:
            return 0, 0, 0, 0
        top, bottom = max(top, int(rows[0])), min(bottom, int(rows[-1]) + 1)
        left, right = max(left, int(columns[0])), min(right, int(columns[-1]) + 1)
    return left, top, max(left, right), max(top, bottom)


def _remembered(image: Tensor, mode: str, limit: int) -> Tensor:
    """`selective_search`, at once for a picture searched before: by its content, shape, mode and limit."""
    content = hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()
    key = (content, tuple(image.shape), mode, limit)
    with _LOCK:
        known = _FOUND.get(key)
        if known is not None:
            _FOUND.move_to_end(key)
            return known
    boxes = selective_search(image, mode, limit)
    with _LOCK:
        _FOUND[key] = boxes
        while len(_FOUND) > REMEMBERED:
            _FOUND.popitem(last=False)
    return boxes


def forget() -> None:
    """Search every picture anew."""
    with _LOCK:
        _FOUND.clear()


_FOUND: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()  # of all networks: an average of weights asks the same
_LOCK = Lock()


def hierarchies(image: Array, mode: str = "fast") -> list[Hierarchy]:
    """One a strategy, of a picture uint8 [H, W, C]."""
    segmentations, similarities = MODES[mode]
    found: list[Hierarchy] = []
    seen: dict[str, Array] = {}
    for space, k in segmentations:
        if image.shape[2] == 1:
            space = "intensity"  # grey has no other
        if space not in seen:
            seen[space] = SPACES[space](image)
        regions = first_regions(seen[space], k)
        found += [merged(regions, similarity) for similarity in similarities]
    return found


def merged(regions: Regions, similarity: str) -> Hierarchy:
    """Merge the two most similar neighbours until one region is left (algorithm 1).

    Args:
        similarity: any of C (colour), T (texture), S (small ones first) and F (fill: no holes); their sum counts
            (equations 1 to 6).

    `likeness` holds every pair; each region knows its best partner, so that a merge costs as much as the new region has
    neighbours.
    """
    count = len(regions.sizes)
    parts = [rows for letter, rows in (("C", regions.colours), ("T", regions.textures)) if letter in similarity]
    rows = np.concatenate([np.zeros((count, 0), np.float32), *parts], axis=1)
    sizes = regions.sizes.copy()
    edges = np.empty((2 * count - 1, 4), dtype=np.int64)
    edges[:count] = regions.boxes
    low, high = regions.boxes[:, :2].astype(np.float32), regions.boxes[:, 2:].astype(np.float32)
    near = regions.neighbours.copy()
    area = np.float32(regions.segments.size)
    with_size, with_fill = "S" in similarity, "F" in similarity

    def group_by_shape(one: Any, other: Array) -> Array:
        """Similarity of region `one`, or of as many, to regions `other` [n]."""
        values = np.minimum(rows[one], rows[other]).sum(1)
        if with_size or with_fill:
            both = sizes[one] + sizes[other]
            if with_size:
                values += 1 - both / area
            if with_fill:
                sides = np.maximum(high[one], high[other]) - np.minimum(low[one], low[other])
                values += 1 - (sides[:, 0] * sides[:, 1] - both) / area
        return values

    likeness = np.full((count, count), -np.inf, dtype=np.float32)
    first, second = np.nonzero(near)
    for start in range(0, len(first), 1 << 14):  # a crowded picture has 100,000 pairs
        chunk = slice(start, start + (1 << 14))
        likeness[first[chunk], second[chunk]] = group_by_shape(first[chunk], second[chunk])
    partner = likeness.argmax(1)
    best = likeness[np.arange(count), partner]
    names = np.arange(count)  # the region that a row now stands for
    merges = np.empty((count - 1, 2), dtype=np.int64)
    for step in range(count - 1):
        one = int(best.argmax())
        other = int(partner[one])
        merges[step] = names[one], names[other]
        share = sizes[one] / (sizes[one] + sizes[other])
        rows[one] = share * rows[one] + (1 - share) * rows[other]
        sizes[one] += sizes[other]
        np.minimum(low[one], low[other], out=low[one])
        np.maximum(high[one], high[other], out=high[one])
        edges[count + step, :2], edges[count + step, 2:] = low[one], high[one]
        names[one] = count + step
        near[one] |= near[other]
        near[one, one] = near[one, other] = False
        near[other] = near[:, other] = False
        around = near[one].nonzero()[0]
        near[around, one] = True
        likeness[other] = likeness[:, other] = -np.inf
        best[other] = -np.inf
        if len(around):
            values = group_by_shape(one, around)
            likeness[one, around] = likeness[around, one] = values
            changed = np.append(around, one)  # no other row had the two as neighbours
            partner[changed] = likeness[changed].argmax(1)
            best[changed] = likeness[changed, partner[changed]]
    return Hierarchy(regions.segments, merges, edges)


def shrunk(image: Tensor, longest: int) -> Array:
    """uint8 [H, W, C], its longer side at most `longest`."""
    height, width = image.shape[-2:]
    if max(height, width) > longest:
        from torchvision.transforms.v2.functional import resize

        factor = longest / max(height, width)
        size = [max(1, round(height * factor)), max(1, round(width * factor))]
        image = resize(image, size, antialias=True)
    return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
