"""COCO JSON out: `annotations/instances_SPLIT.json` and a folder of pictures a split. COCO takes all that is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from striate.data.convert.decimals import same_when_read, shortest
from striate.data.convert.pictures import Placed
from striate.data.targets import CROWD, DIFFICULT


def write(root: Path, classes: tuple[str, ...], splits: dict[str, list[Placed]]) -> list[str]:
    """Category ids are 1 and up in the classes' order. DIFFICULT is written as `ignore`, as converters from VOC do."""
    (root / "annotations").mkdir()
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    for split, rows in splits.items():
        images, annotations = [], []
        for number, row in enumerate(rows, start=1):
            name = row.path.removeprefix(f"{split}/")
            images.append({"id": number, "file_name": name, "height": row.height, "width": row.width})
            for entry in _annotations(row):
                annotations.append({"id": len(annotations) + 1, "image_id": number, **entry})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_bytes(
            (json.dumps(content, ensure_ascii=False)).encode()
        )
    return []


def _annotations(row: Placed) -> list[dict[str, Any]]:
    objects = row.objects
    entries = []
    for index, (box, label, kind, area) in enumerate(
        zip(
            objects.boxes.tolist(),
            objects.labels.tolist(),
            objects.kinds.tolist(),
            objects.areas.tolist(),
            strict=True,
        )
    ):
        entry = {
            "category_id": label + 1,
            "bbox": sides_of(box),
            "area": shortest(area),
            "iscrowd": int(kind == CROWD),
        }
        if kind == DIFFICULT:
            entry["ignore"] = 1
        mask = None if objects.masks is None else objects.masks[index]
        if mask is not None:
            entry["segmentation"] = mask
        if objects.keypoints is not None:
            points = [[shortest(x), shortest(y), int(seen)] for x, y, seen in objects.keypoints[index].tolist()]
            entry["keypoints"] = [value for point in points for value in point]
            entry["num_keypoints"] = sum(point[2] > 0 for point in points)
        entries.append(entry)
    return entries


def sides_of(box: list[float]) -> list[float]:
    """x, y, width, height of a box's edges, of which a reader makes the same float32 edges."""
    left, top = shortest(box[0]), shortest(box[1])
    width = same_when_read(shortest(box[2]) - left, box[2], lambda side: left + side)
    height = same_when_read(shortest(box[3]) - top, box[3], lambda side: top + side)
    return [left, top, width, height]
