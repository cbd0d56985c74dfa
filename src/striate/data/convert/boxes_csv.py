"""annotations.csv out: image,x1,y1,x2,y2,label, and classes.csv, which keeps the classes' order."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from striate.data.convert.decimals import shortest, text
from striate.data.convert.pictures import Placed
from striate.data.formats.boxes_csv import CLASSES, KINDS
from striate.data.targets import PLAIN

HEADER = ["image", "x1", "y1", "x2", "y2", "label"]


def write(root: Path, classes: tuple[str, ...], splits: dict[str, list[Placed]]) -> list[str]:
    """A column `kind` where not all objects are plain; a picture without objects has a row of its own."""
    everything = [row.objects for rows in splits.values() for row in rows]
    kinds = any(bool((objects.kinds != PLAIN).any()) for objects in everything)
    words = {kind: word for word, kind in KINDS.items() if word}

    records: list[list[str]] = []
    for split in splits:
        for row in splits[split]:
            objects = row.objects
            before = len(records)
            for box, label, kind in zip(
                objects.boxes.tolist(), objects.labels.tolist(), objects.kinds.tolist(), strict=True
            ):
                edges = [text(shortest(edge)) for edge in box]
                records.append([row.path, *edges, classes[label], split, *([words[kind]] if kinds else [])])
            if len(records) == before:
                records.append([row.path, "", "", "", "", "", split, *([""] if kinds else [])])
    (root / "annotations.csv").write_bytes(
        (_csv([[*HEADER, "split", *(["kind"] if kinds else [])], *records])).encode()
    )
    (root / CLASSES).write_bytes((_csv([[name, str(number)] for number, name in enumerate(classes)])).encode())
    masks = sum(mask is not None for objects in everything for mask in objects.masks or ())
    points = sum(len(objects) for objects in everything if objects.keypoints is not None)
    notes = [f"Masks, which the CSV has no column for, left out: {masks:,}."] if masks else []
    return notes + ([f"Objects whose keypoints the CSV has no columns for: {points:,}."] if points else [])


def _csv(rows: list[list[str]]) -> str:
    target = io.StringIO(newline="")
    csv.writer(target, lineterminator="\n").writerows(rows)
    return target.getvalue()
