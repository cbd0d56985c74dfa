"""YOLO out: data.yaml, images/SPLIT and labels/SPLIT; -pose where there are keypoints, -seg where all have outlines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from striate.data.convert.decimals import text
from striate.data.convert.pictures import Placed
from striate.data.targets import PLAIN

DIGITS = 12  # behind the point: 1e-8 px of a picture 10,000 px wide


def write(root: Path, classes: tuple[str, ...], splits: dict[str, list[Placed]]) -> list[str]:
    """YOLO knows plain objects only: crowds and difficult ones are left out, or they would be learnt."""
    everything = [row.objects for rows in splits.values() for row in rows]
    points = next((o.keypoints.shape[1] for o in everything if o.keypoints is not None), None)
    masks = [mask for objects in everything for mask in _plain_masks(objects)]
    outlined = points is None and bool(masks) and all(isinstance(mask, list) for mask in masks)
    for split, rows in splits.items():
        (root / "labels" / split).mkdir(parents=True)
        for row in rows:
            lines = "".join(line + "\n" for line in _lines(row, outlined))
            (root / "labels" / split / f"{row.stem}.txt").write_bytes(lines.encode())
    listed = "".join(f"{split}: images/{split}\n" for split in splits)
    if "train" not in splits or "val" not in splits:  # others insist on both keys
        listed += "".join(f"{split}:\n" for split in ("train", "val") if split not in splits)
    names = "".join(f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(classes))
    shape = f"kpt_shape: [{points}, 3]\n" if points is not None else ""
    (root / "data.yaml").write_bytes((f"path: .\n{listed}{shape}names:\n{names}").encode())
    odd = sum(int((objects.kinds != PLAIN).sum()) for objects in everything)
    lost = 0 if outlined else sum(mask is not None for mask in masks)
    notes = [f"Crowds and difficult objects, which YOLO does not know, left out: {odd:,}."] if odd else []
    if lost:
        notes.append(f"Masks, as not every object has an outline or there are keypoints, left out: {lost:,}.")
    return notes + (["Outlines are written (-seg); the boxes are their bounds."] if outlined else [])


def _plain_masks(objects: Any) -> list[Any]:
    masks = objects.masks or [None] * len(objects)
    return [mask for mask, kind in zip(masks, objects.kinds.tolist(), strict=True) if kind == PLAIN]


def _lines(row: Placed, outlined: bool) -> list[str]:
    objects = row.objects
    lines = []
    for index, (box, label, kind) in enumerate(
        zip(objects.boxes.tolist(), objects.labels.tolist(), objects.kinds.tolist(), strict=True)
    ):
        if kind != PLAIN:
            continue
        if outlined:
            assert isinstance(objects.masks, tuple)
            values = _shares(one_outline(objects.masks[index]), row)
        else:
            centre = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
            values = _shares([*centre, box[2] - box[0], box[3] - box[1]], row)
        if objects.keypoints is not None:
            for x, y, seen in objects.keypoints[index].tolist():
                values += [*_shares([x, y], row), text(seen)]
        lines.append(" ".join([str(label), *values]))
    return lines


def _shares(values: list[float], row: Placed) -> list[str]:
    """x, y, x, y … as shares of width and height."""
    sides = (row.width, row.height)
    return [text(round(value / sides[at % 2], DIGITS)) for at, value in enumerate(values)]


def one_outline(polygons: list[list[float]]) -> list[float]:
    """Several polygons as one that goes from each to the next and the same way back, so that it covers the same."""
    if len(polygons) == 1:
        return list(polygons[0])
    there = [value for polygon in polygons for value in [*polygon, *polygon[:2]]]
    back = [value for polygon in polygons[-2:0:-1] for value in polygon[:2]]
    return there + back
