"""What detectors take from the data before they are built: anchors and grids that fit its objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from striate.config import Preprocess
from striate.data.anchor_clusters import cluster, sizes_of
from striate.data.sample import Sample

ANCHORS_OF = 416  # pixels a side that YOLO's anchors are measured at
MOSTLY = 0.95  # share of the objects that FCOS's levels are chosen for
SMALLEST = 0.05  # share of the objects that may be smaller than the first anchor of a ladder


def levels_of(samples: Sequence[Sample], preprocess: Preprocess) -> dict[str, Any]:
    """FCOS's maps: 8 and 16 times smaller than the picture, and 32 where many objects are larger than 8 cells of 16."""
    sizes = sizes_of(samples, preprocess)
    large = bool(len(sizes)) and float(sizes.amax(1).quantile(MOSTLY)) > 8 * 16
    return {"reductions": [8, 16, 32] if large else [8, 16], "channels": 96 if large else 64}


def clusters(count: int, samples: Sequence[Sample], preprocess: Preprocess) -> dict[str, Any]:
    """YOLO's dimension clusters, in pixels of a picture of the network's own size (YOLOv3, section 2.1)."""
    sizes = sizes_of(samples, preprocess)
    if len(sizes) < count:
        return {}
    height, width = preprocess.size
    side = (height * width) ** 0.5
    found = cluster(sizes, count, seed=0) * (ANCHORS_OF / side)
    return {"anchors": [[round(value, 1) for value in pair] for pair in found.tolist()], "anchor_size": ANCHORS_OF}


def ladder_of_anchors(samples: Sequence[Sample], preprocess: Preprocess) -> dict[str, Any]:
    """A Faster R-CNN's anchors: the smallest level's fit the small objects, each further level's are twice as large."""
    sizes = sizes_of(samples, preprocess)
    if not len(sizes):
        return {}
    first = max(8, round(float(sizes.prod(1).sqrt().quantile(SMALLEST))))
    return {"smallest_anchor": first}


def grid_of(samples: Sequence[Sample], preprocess: Preprocess) -> dict[str, Any]:
    """YOLOv1's grid: the paper's 7, and finer where the picture holds more cells of 16 pixels than of 64."""
    return {"grid": max(7, min(max(preprocess.size) // 16, 14)), "reduction": 16}
