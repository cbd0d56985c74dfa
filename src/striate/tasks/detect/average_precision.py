"""Average precision: COCO's by hotcoco, PASCAL VOC's here; and the scores from which on to show detections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from striate.data.targets import CROWD, DIFFICULT
from striate.tasks.bootstrap import f1_of
from striate.tasks.calibration import last_of_equals
from striate.tasks.detect.boxes import box_convert, iou
from striate.tasks.detect.matching import AT_ONCE, Found, Matches, Truth, padded

if TYPE_CHECKING:
    import numpy as np
    from hotcoco import COCOeval

OUT_OF_RANGE = 1e12  # px²: above all of COCO's bands


def coco_evaluation(found: Found, truth: Truth, classes: int, pictures: int) -> COCOeval:
    """COCO's evaluation of boxes, run up to `accumulate`; picture and class numbers are ours plus 1.

    A difficult object gets an area out of range: COCO then counts it neither as found nor as missed, and takes it for a
    detection only when no object that counts overlaps it enough.
    """
    import numpy as np
    from hotcoco import COCO, COCOeval

    areas = truth.areas.double().masked_fill(truth.kinds == DIFFICULT, OUT_OF_RANGE)
    objects = COCO.from_arrays(
        [{"id": picture} for picture in range(1, pictures + 1)],
        [{"id": k, "name": str(k)} for k in range(1, classes + 1)],
        (truth.pictures + 1).numpy(),
        (truth.labels + 1).numpy(),
        box_convert(truth.boxes.double(), "xyxy", "xywh").numpy(),
        area=areas.numpy(),
        iscrowd=(truth.kinds == CROWD).long().numpy(),
    )
    rows = np.empty((len(found), 7))
    rows[:, 0] = (found.pictures + 1).numpy()
    rows[:, 1:5] = box_convert(found.boxes.double(), "xyxy", "xywh").numpy()
    rows[:, 5] = found.scores.numpy()
    rows[:, 6] = (found.labels + 1).numpy()
    evaluation = COCOeval(objects, objects.load_res(rows), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def coco_standard_errors(evaluation: COCOeval, resamples: int, seed: int) -> dict[str, float]:
    """The bootstrap's standard error over pictures of each of COCO's numbers, by hotcoco's names (`AP`, `ARl` …).

    hotcoco resamples differences of two evaluations; to one without detections, where all is 0, it is the number.
    """
    import numpy as np
    from hotcoco import COCOeval, compare

    nothing = COCOeval(evaluation.coco_gt, evaluation.coco_gt.load_res(np.empty((0, 7))), "bbox")
    nothing.evaluate()
    nothing.accumulate()
    spread = compare(nothing, evaluation, n_bootstrap=resamples, seed=seed)["ci"]
    return {name: row["std_err"] for name, row in spread.items()}


def mean_counted(values: np.ndarray) -> float | None:
    """The mean of what COCO counted; it marks with -1 classes and bands without objects. None where all is."""
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else None


def best_thresholds(found: Found, truth: Truth, matches: Matches, classes: int) -> list[float]:
    """Of each class the score from which on F1 is best, midway to the next lower one; 0.5 where it has no object."""
    objects = torch.bincount(truth.labels[truth.plain], minlength=classes)
    counted = ~matches.ignored
    thresholds = []
    for rows, there in zip(by_class(found.labels, classes), objects, strict=True):
        mine = rows[counted[rows]]
        if not there or not len(mine):
            thresholds.append(0.5)
            continue
        ordered, order = found.scores[mine].sort(descending=True, stable=True)
        hits = (matches.truths[mine] >= 0)[order].cumsum(0)
        last = last_of_equals(ordered)
        best = int(f1_of(hits[last].double(), last + 1, there).argmax())
        upper = ordered[last[best]]
        lower = ordered[last[best] + 1] if best + 1 < len(last) else torch.zeros(())
        middle = (upper + lower) / 2
        thresholds.append(float(middle if middle > lower else upper))  # neighbours in float32 have no middle
    return thresholds


def by_class(labels: Tensor, classes: int) -> Sequence[Tensor]:
    """Row numbers of each class, in order."""
    return labels.argsort(stable=True).split(torch.bincount(labels, minlength=classes).tolist())


def voc_ap(
    found: Found,
    truth: Truth,
    classes: int,
    pictures: int,
    threshold: float = 0.5,
    metric: Literal["voc07", "voc12"] = "voc12",
) -> Tensor:
    """Average precision of each class as PASCAL VOC counts it, float64 [classes]; NaN where a class has no object.

    Each detection goes to the object of its class that it overlaps most. If by `threshold` or more it is a hit the
    first time and false after that; on a difficult object (or a crowd) it does not count at all. voc07 is the mean of
    the best precision at recalls from 0, 0.1 … 1 on (Everingham et al. 2010, section 4.2), voc12 the area below that
    curve (the 2012 development kit, VOCevaldet.m).
    """
    nearest = torch.full((len(found),), -1)
    for first in range(0, pictures, AT_ONCE):
        count = min(AT_ONCE, pictures - first)
        said, there = padded(found.pictures, first, count), padded(truth.pictures, first, count)
        if not said.numel() or not there.numel():
            continue
        same = (found.labels[said][:, :, None] == truth.labels[there][:, None]) & (there >= 0)[:, None]
        shared = iou(found.boxes[said].double(), truth.boxes[there].double()).where(same, -1.0)
        most, which = shared.max(-1)
        real = said >= 0
        nearest[said[real]] = there.gather(1, which).where(most >= threshold, -1)[real]
    plain = truth.plain
    objects = torch.bincount(truth.labels[plain], minlength=classes).tolist()
    found_by_class = []
    for rows, there in zip(by_class(found.labels, classes), objects, strict=True):
        goal = nearest[rows[found.scores[rows].argsort(descending=True, stable=True)]]
        if len(truth):
            goal = goal[(goal < 0) | plain[goal]]  # what lies on a difficult object does not count
        found_by_class.append(voc_ap_of_class(goal, there, metric))
    return torch.tensor(found_by_class, dtype=torch.float64)


def voc_ap_of_class(goals: Tensor, objects: int, metric: str) -> float:
    """Of one class; `goals` int64 [D] are the objects that detections went to, best first, -1 none."""
    if not objects:
        return math.nan
    if not len(goals):
        return 0.0
    ordered, order = goals.sort(stable=True)  # of those with the same goal the best one comes first
    hit = torch.empty(len(goals), dtype=torch.bool)
    hit[order] = (ordered >= 0) & (ordered.diff(prepend=torch.tensor([-1])) != 0)
    hits = hit.cumsum(0).double()
    precision, recall = hits / torch.arange(1, len(hit) + 1), hits / objects
    if metric == "voc07":
        reached = recall >= (torch.arange(11, dtype=torch.float64) / 10)[:, None]  # [11, D]
        return float(precision.where(reached, 0.0).amax(1).mean())
    envelope = precision.flip(0).cummax(0).values.flip(0)
    return float((envelope * recall.diff(prepend=torch.zeros(1, dtype=torch.float64))).sum())
