"""Average precision against pycocotools and a literal VOC loop on 700 random pictures.

They have crowds, difficult objects, ties of scores and overlaps, and empty pictures.
"""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from striate.data.targets import CROWD, DIFFICULT, PLAIN
from striate.errors import DataError, StriateError, UsageError
from striate.tasks.detect.average_precision import voc_ap
from striate.tasks.detect.metrics import DetectionMetrics

CLASSES = ("cat", "dog", "bird")
NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", None, None, "ar100")  # pycocotools' stats


def scenes(seed: int, pictures: int = 35, detections: int = 14) -> tuple[torch.Tensor, torch.Tensor]:
    """Detections near objects, elsewhere, doubled, of wrong classes, with few score values; some pictures are empty."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    objects = 6
    corner, size = draw(pictures, objects, 2) * 300, (draw(pictures, objects, 2) * 3.5 + 2).exp()
    if seed % 2:  # whole pixels: overlaps tie
        corner, size = (corner / 20).round() * 20, (size / 20).ceil() * 20
    targets = torch.zeros(pictures, objects, 7)
    targets[..., :4] = torch.cat([corner, corner + size], -1)
    targets[..., 4] = torch.randint(0, 2 + seed % 2, (pictures, objects), generator=generator)
    if seed % 3:
        targets[..., 5] = (draw(pictures, objects) < 0.25) * torch.randint(
            1, 3, (pictures, objects), generator=generator
        )
    targets[..., 6] = size.prod(-1) * (0.6 if seed % 4 else 1.0)  # as of a mask
    targets[draw(pictures, objects) < 0.3] = torch.tensor([0.0, 0, 0, 0, -1, 0, 0])
    targets[draw(pictures) < 0.1] = torch.tensor([0.0, 0, 0, 0, -1, 0, 0])

    said = torch.zeros(pictures, detections, 6)
    near = torch.randint(0, objects, (pictures, detections), generator=generator)
    base = targets.gather(1, near[..., None].expand(-1, -1, 7))
    far = draw(pictures, detections) < 0.3
    stray = draw(pictures, detections, 2) * 300
    step = 20 if seed % 2 else 1
    shift = (torch.randn(pictures, detections, 4, generator=generator) * 8 / step).round() * step
    said[..., :4] = torch.where(far[..., None], torch.cat([stray, stray + 40], -1), base[..., :4] + shift)
    said[..., 2:4] = torch.maximum(said[..., 2:4], said[..., :2] + 1)
    wrong = (draw(pictures, detections) < 0.15) | (base[..., 4] < 0)
    said[..., 5] = torch.where(wrong, torch.randint(0, 3, (pictures, detections), generator=generator), base[..., 4])
    said[..., 4] = (draw(pictures, detections) * 12).ceil() / 12
    said[draw(pictures, detections) < 0.2] = torch.tensor([0.0, 0, 0, 0, 0, -1])
    said[draw(pictures) < 0.1] = torch.tensor([0.0, 0, 0, 0, 0, -1])
    order = said[..., 4].argsort(dim=1, descending=True, stable=True)
    return said.gather(1, order[..., None].expand_as(said)), targets


def judged(detections: torch.Tensor, targets: torch.Tensor, **options) -> DetectionMetrics:
    metrics = DetectionMetrics(CLASSES, **options)
    metrics.update(detections, targets)
    return metrics


class Referee(COCOeval):
    """pycocotools, which forgets a file's `ignore`; difficult objects are given it back."""

    def _prepare(self):
        super()._prepare()
        for objects in self._gts.values():
            for one in objects:
                one["ignore"] = one["iscrowd"] or one["difficult"]


def by_pycocotools(detections: torch.Tensor, targets: torch.Tensor) -> COCOeval:
    annotations, said = [], []
    for number, (found, there) in enumerate(zip(detections.double().tolist(), targets.double().tolist(), strict=True)):
        for x1, y1, x2, y2, label, kind, area in there:
            if label >= 0:
                one = {"id": len(annotations) + 1, "image_id": number + 1, "category_id": int(label) + 1}
                one |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": area}
                annotations.append(one | {"iscrowd": int(kind == CROWD), "difficult": kind == DIFFICULT})
        for x1, y1, x2, y2, score, label in found:
            if label >= 0:
                said.append([number + 1, x1, y1, x2 - x1, y2 - y1, score, int(label) + 1])
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": i + 1} for i in range(len(targets))],
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
            "annotations": annotations,
        }
        truth.createIndex()
        referee = Referee(truth, truth.loadRes(np.array(said).reshape(-1, 7)), "bbox")
        referee.evaluate()
        referee.accumulate()
        referee.summarize()
    return referee


@pytest.mark.parametrize("seed", range(16))
def test_numbers_are_pycocotools(seed):
    detections, targets = scenes(seed)
    metrics, referee = judged(detections, targets), by_pycocotools(detections, targets)
    values = metrics.compute()
    expected = {name: value for name, value in zip(NAMES, referee.stats, strict=False) if name and value > -1}
    assert values == pytest.approx(expected, abs=1e-9)
    assert np.abs(metrics.judged.precision - referee.eval["precision"]).max() < 1e-9
    assert np.abs(metrics.judged.recall - referee.eval["recall"]).max() < 1e-9


def test_which_detection_found_what_is_pycocotools():
    detections, targets = scenes(0, pictures=40)  # no ties of overlaps, and no ignored objects
    metrics, referee = judged(detections, targets), by_pycocotools(detections, targets)
    of_all_sizes = [one for one in referee.evalImgs if one and one["aRng"] == [0, 1e10]]
    hits = sum(int((one["dtMatches"][0] > 0).sum()) for one in of_all_sizes)
    assert int((metrics.judged.matches.truths >= 0).sum()) == hits > 20


def voc_by_loop(detections, targets, label: int, metric: str) -> float:
    """The development kit's VOCevaldet, line by line, with edges instead of pixel indices."""
    rows = [
        (row[4], number, row[:4])
        for number, found in enumerate(detections.double().tolist())
        for row in found
        if row[5] == label
    ]
    objects = [[row for row in there if row[4] == label] for there in targets.double().tolist()]
    positives = sum(row[5] == PLAIN for there in objects for row in there)
    if not positives:
        return float("nan")
    seen, tp, fp = set(), [], []
    for _, number, box in sorted(rows, key=lambda row: -row[0]):
        best, which = -1.0, None
        for i, row in enumerate(objects[number]):
            shared = max(0, min(box[2], row[2]) - max(box[0], row[0])) * max(
                0, min(box[3], row[3]) - max(box[1], row[1])
            )
            area = (box[2] - box[0]) * (box[3] - box[1]) + (row[2] - row[0]) * (row[3] - row[1])
            if shared / (area - shared) > best:
                best, which = shared / (area - shared), i
        if best >= 0.5:
            if objects[number][which][5] != PLAIN:
                continue
            fresh = (number, which) not in seen
            seen.add((number, which))
            tp.append(fresh)
            fp.append(not fresh)
        else:
            tp.append(False)
            fp.append(True)
    tp, fp = np.cumsum(tp), np.cumsum(fp)
    recall, precision = tp / positives, tp / (tp + fp)
    if metric == "voc07":
        return sum(max(precision[recall >= t / 10], default=0.0) for t in range(11)) / 11
    recall, precision = np.concatenate([[0], recall, [1]]), np.concatenate([[0], precision, [0]])
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i + 1] - recall[i]) * precision[i + 1] for i in range(len(recall) - 1))


@pytest.mark.parametrize("metric", ["voc07", "voc12"])
def test_voc_is_the_development_kits_loop(metric):
    for seed in range(4, 8):
        detections, targets = scenes(seed)
        rows = judged(detections, targets).judged
        found = voc_ap(rows.found, rows.truth, 3, len(targets), metric=metric)
        expected = [voc_by_loop(detections, targets, label, metric) for label in range(3)]
        assert found.tolist() == pytest.approx(expected, abs=1e-9, nan_ok=True)


def rows_of(*rows: list[float]) -> torch.Tensor:
    return torch.tensor([list(rows)], dtype=torch.float32)


NOTHING, NO_OBJECT = rows_of([0, 0, 0, 0, 0, -1]), rows_of([0, 0, 0, 0, -1, 0, 0])


def test_nothing_said_and_nothing_there():
    cat = rows_of([0, 0, 50, 50, 0, PLAIN, 2500])
    assert judged(NOTHING, cat).compute() == {"ap": 0, "ap50": 0, "ap75": 0, "ap_medium": 0, "ar100": 0}
    none = {"ap": 0, "ap50": 0, "ap75": 0, "ar100": 0}
    for detections in (NOTHING, rows_of([0, 0, 5, 5, 0.9, 1])):
        for targets in (NO_OBJECT, rows_of([0, 0, 9, 9, 0, DIFFICULT, 81]), rows_of([0, 0, 9, 9, 0, CROWD, 81])):
            metrics = judged(detections, targets)
            assert metrics.compute() == none
            full = metrics.full()
            assert json.loads(json.dumps(full, allow_nan=False))["voc07"] is None
            assert metrics.tuned_thresholds() == [0.5] * 3
    perfect = judged(rows_of([0, 0, 50, 50, 0.5, 0]), cat).compute()
    assert perfect == pytest.approx(dict.fromkeys(perfect, 1.0))


def test_batches_and_padding_do_not_matter():
    detections, targets = scenes(5)
    whole, parts = judged(detections, targets), DetectionMetrics(CLASSES)
    for found, there in zip(detections.split(6), targets.split(6), strict=True):
        parts.update(found, torch.cat([there, NO_OBJECT.expand(len(there), 2, 7)], 1))
    assert parts.compute() == whole.compute()
    assert torch.equal(parts.confusion(), whole.confusion())
    assert parts.full()["per_class"] == whole.full()["per_class"]


def test_confusion_by_hand():
    targets = rows_of(
        [0, 0, 10, 10, 0, PLAIN, 100],  # cat, found twice
        [20, 0, 30, 10, 0, PLAIN, 100],  # cat, taken for a dog
        [40, 0, 50, 10, 1, PLAIN, 100],  # dog, missed
        [60, 0, 90, 30, 0, CROWD, 900],
        [0, 50, 10, 60, 2, DIFFICULT, 100],
    )
    detections = rows_of(
        [0, 0, 10, 10, 0.9, 0],
        [0, 0, 10, 9, 0.8, 0],
        [20, 0, 30, 10, 0.7, 1],
        [62, 2, 68, 8, 0.6, 0],
        [70, 2, 78, 8, 0.6, 0],  # two in the crowd
        [0, 50, 10, 60, 0.6, 2],  # the difficult one
        [80, 80, 90, 90, 0.5, 2],  # nothing there
        [40, 0, 50, 10, 0.2, 1],  # the dog, under the threshold
    )
    metrics = judged(detections, targets, thresholds=[0.4] * 3)
    assert metrics.confusion().tolist() == [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 1, 0]]
    assert metrics.confusion(0.1)[1, 1] == 1
    misses, alarms = metrics.misses(), metrics.false_alarms()
    assert [(m["class"], m["said"], round(m["score"], 4)) for m in misses] == [("cat", "dog", 0), ("dog", None, 0.2)]
    assert [(a["class"], a["true"], round(a["score"], 4)) for a in alarms] == [
        ("cat", None, 0.8),
        ("dog", "cat", 0.7),
        ("bird", None, 0.5),
    ]
    assert alarms[0]["overlap"] == pytest.approx(0.9)
    assert misses[1]["box"] == [40, 0, 50, 10]


def test_confusion_counts_every_object_and_every_detection_once():
    for seed in range(4):
        detections, targets = scenes(seed)
        metrics = judged(detections, targets)
        confusion, truth = metrics.confusion(0.3), metrics.judged.truth
        assert confusion[:-1].sum(1).tolist() == torch.bincount(truth.labels[truth.plain], minlength=3).tolist()
        assert len(metrics.misses(0.3)) == int(confusion[:-1].sum() - confusion.diagonal().sum())
        assert len(metrics.false_alarms(0.3)) == int(confusion[:, :-1].sum() - confusion.diagonal().sum())


def test_tuned_thresholds_make_f1_best():
    detections, targets = scenes(1)
    metrics = judged(detections, targets)
    tuned = metrics.tuned_thresholds()
    for label, threshold in enumerate(tuned):

        def f1(least: float, label: int = label) -> float:
            return judged(detections, targets, thresholds=[least] * 3).per_class()[label]["f1"]

        assert f1(threshold) == pytest.approx(max(f1(i / 24) for i in range(25)))


def test_intervals_are_those_of_resampled_pictures():
    detections, targets = scenes(2, pictures=40)
    ap = judged(detections, targets).full()["scalars"]["ap"]
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(40, (40,), generator=generator) for _ in range(150)]
    spread = torch.tensor([judged(detections[rows], targets[rows]).compute()["ap"] for rows in drawn]).std()
    assert (ap["high"] - ap["low"]) / 2 == pytest.approx(1.96 * float(spread), rel=0.25)
    assert ap["low"] < ap["value"] < ap["high"]


def test_full_account_is_json_and_agrees():
    detections, targets = scenes(3)
    metrics = judged(detections, targets)
    full = json.loads(json.dumps(metrics.full(), allow_nan=False))
    assert full["scalars"]["ap"]["value"] == metrics.compute()["ap"]
    present = [row for row in full["per_class"] if row["count"]]
    assert np.mean([row["ap"] for row in present]) == pytest.approx(full["scalars"]["ap"]["value"])
    assert sum(row["count"] for row in present) == full["objects"]
    for row, curve in zip(full["per_class"], full["curves"], strict=True):
        assert (curve is None) == (row["ap50"] is None)
        assert curve is None or np.mean(curve) == pytest.approx(row["ap50"], abs=1e-5)
    assert [row["count"] for row in full["per_size"]] == [
        sum(1 for area in metrics.judged.truth.areas[metrics.judged.truth.plain].tolist() if low <= area <= high)
        for low, high in ((0, 1024), (1024, 9216), (9216, 1e10))
    ]


def test_what_is_refused():
    with pytest.raises(DataError, match="empty"):
        DetectionMetrics(CLASSES).compute()
    with pytest.raises(StriateError, match="NaN"):
        judged(rows_of([0, 0, float("nan"), 5, 0.5, 0]), NO_OBJECT).compute()
    with pytest.raises(StriateError, match="NaN"):
        judged(rows_of([0, 0, 5, 5, 0.5, float("nan")]), NO_OBJECT).compute()
    with pytest.raises(DataError, match="class 3"):
        judged(NOTHING, rows_of([0, 0, 5, 5, 3, 0, 25])).compute()
    with pytest.raises(UsageError, match="expected"):
        judged(NOTHING, torch.zeros(1, 2, 6))
    with pytest.raises(UsageError, match="thresholds"):
        DetectionMetrics(CLASSES, [0.5])
