"""COCO's numbers of a split's detections, from tensors to numbers: ours against pycocotools, side by side.

5,000 pictures, 80 classes, about 7 objects and 100 detections a picture, drawn so that they look like COCO's: few
classes a picture, most objects found more or less well, the other detections unsure. Both sides get the same tensors:

striate:     `DetectionMetrics.update`, in batches of 16 as validation does, then `compute` (hotcoco).
pycocotools: an array of detections through `loadRes`, then evaluate, accumulate, summarize. Its index of the objects is
             built beforehand and costs it nothing here.

Fails when a number differs by more than 1e-9, or ours is not 20 times faster.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.harness import Comparison, interleave

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

PAIRS = 3
TARGET = 20.0
CLASSES, DETECTIONS, OBJECTS = 80, 100, 20
STATS = {"ap": 0, "ap50": 1, "ap75": 2, "ap_small": 3, "ap_medium": 4, "ap_large": 5, "ar100": 8}  # pycocotools' places


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pictures", type=int, default=5000)


def measure(options: argparse.Namespace) -> list[Comparison]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from striate.tasks.detect.metrics import DetectionMetrics

    detections, targets = scenes(options.pictures)
    numbers: dict[str, dict[str, float]] = {}

    def ours() -> float:
        start = time.perf_counter()
        metrics = DetectionMetrics([str(k) for k in range(CLASSES)])
        for found, there in zip(detections.split(16), targets.split(16), strict=True):
            metrics.update(found, there)
        numbers["striate"] = metrics.compute()
        return time.perf_counter() - start

    with contextlib.redirect_stdout(io.StringIO()):
        truth: Any = COCO()  # whose hints know neither assigned data nor arrays
        truth.dataset = as_coco(targets)
        truth.createIndex()

    def theirs() -> float:
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(truth, truth.loadRes(results(detections)), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        numbers["pycocotools"] = {name: float(evaluation.stats[place]) for name, place in STATS.items()}
        return time.perf_counter() - start

    ours()  # imports
    figures = interleave({"striate": ours, "pycocotools": theirs}, options.pairs)
    apart = max(abs(numbers["striate"][name] - numbers["pycocotools"][name]) for name in STATS)
    found = Comparison("s", figures, higher_is_better=False)
    facts = {
        "pictures": options.pictures,
        "objects": int((targets[..., 4] >= 0).sum()),
        "detections": int((detections[..., 5] >= 0).sum()),
        "largest difference of a number": apart,
        **{name: round(value, 4) for name, value in numbers["striate"].items()},
    }
    good = apart <= 1e-9 and median(found.ratios()["pycocotools"]) >= TARGET
    return [Comparison("s", figures, higher_is_better=False, facts=facts, ok=good)]


def scenes(pictures: int) -> tuple[Tensor, Tensor]:
    """Detections [B, 100, 6] and targets [B, 20, 7] of that many pictures."""
    import torch

    draw = torch.Generator().manual_seed(0)
    palette = torch.randint(0, CLASSES, (pictures, 3), generator=draw)  # COCO's pictures have about three classes each
    count = torch.poisson(torch.full((pictures,), 7.3), generator=draw).clamp(max=OBJECTS)
    size = (torch.randn(pictures, OBJECTS, 2, generator=draw) * 0.9 + 4.0).exp().clamp(4, 500)
    corner = torch.rand(pictures, OBJECTS, 2, generator=draw) * (640 - size).clamp(min=0)
    targets = torch.zeros(pictures, OBJECTS, 7)
    targets[..., :4] = torch.cat([corner, corner + size], -1)
    targets[..., 4] = palette.gather(1, torch.randint(0, 3, (pictures, OBJECTS), generator=draw)).float()
    targets[..., 5] = (torch.rand(pictures, OBJECTS, generator=draw) < 0.01).float()  # crowds
    targets[..., 6] = size.prod(-1) * 0.6
    targets[torch.arange(OBJECTS) >= count[:, None]] = torch.tensor([0.0, 0, 0, 0, -1, 0, 0])

    near = torch.randint(0, OBJECTS, (pictures, DETECTIONS), generator=draw)
    base = targets.gather(1, near[..., None].expand(-1, -1, 7))
    wide = (base[..., 2:4] - base[..., :2]).repeat(1, 1, 2)
    loose = torch.rand(pictures, DETECTIONS, 1, generator=draw) * 0.25
    boxes = base[..., :4] + torch.randn(pictures, DETECTIONS, 4, generator=draw) * wide * loose
    stray = torch.rand(pictures, DETECTIONS, 2, generator=draw) * 500
    real = base[..., 4] >= 0
    detections = torch.zeros(pictures, DETECTIONS, 6)
    detections[..., :4] = boxes.where(real[..., None], torch.cat([stray, stray + 80], -1))
    detections[..., 2:4] = torch.maximum(detections[..., 2:4], detections[..., :2] + 1)
    other = torch.randint(0, CLASSES, (pictures, DETECTIONS), generator=draw).float()
    detections[..., 5] = base[..., 4].where(real & (torch.rand(pictures, DETECTIONS, generator=draw) < 0.7), other)
    luck = torch.rand(pictures, DETECTIONS, generator=draw)
    detections[..., 4] = luck * (1 - 3 * loose[..., 0]).where(real, 0.3)
    order = detections[..., 4].argsort(dim=1, descending=True)
    return detections.gather(1, order[..., None].expand_as(detections)), targets


def as_coco(targets: Tensor) -> dict[str, Any]:
    """The targets as COCO's JSON has them."""
    rows = []
    for number, picture in enumerate(targets.double().tolist(), 1):
        for x1, y1, x2, y2, label, kind, area in picture:
            if label >= 0:
                one = {"id": len(rows) + 1, "image_id": number, "category_id": int(label) + 1, "iscrowd": int(kind)}
                rows.append(one | {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": area})
    return {
        "images": [{"id": number} for number in range(1, len(targets) + 1)],
        "categories": [{"id": k, "name": str(k)} for k in range(1, CLASSES + 1)],
        "annotations": rows,
    }


def results(detections: Tensor) -> np.ndarray:
    """Detections as `loadRes` takes them fastest: float64 [N, 7]: picture, x, y, w, h, score, class."""
    import torch

    rows = detections.double()
    pictures = torch.arange(1.0, len(rows) + 1).double()[:, None, None].expand(-1, rows.shape[1], 1)
    corner, size = rows[..., :2], rows[..., 2:4] - rows[..., :2]
    return torch.cat([pictures, corner, size, rows[..., 4:5], rows[..., 5:] + 1], -1)[rows[..., 5] >= 0].numpy()
