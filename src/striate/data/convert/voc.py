"""PASCAL VOC out: Annotations/, JPEGImages/, ImageSets/Main/, and CVAT's labelmap.txt for the classes' order."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from striate.data.convert.decimals import same_when_read, shortest, text
from striate.data.convert.pictures import Placed
from striate.data.formats.voc import LABELS, SETS
from striate.data.targets import CROWD, PLAIN

_HEAD = """<annotation>
	<folder>JPEGImages</folder>
	<filename>{name}</filename>
	<size><width>{width}</width><height>{height}</height><depth>3</depth></size>
	<segmented>0</segmented>
"""
_OBJECT = """	<object>
		<name>{name}</name>
		<difficult>{difficult}</difficult>{crowd}
		<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>
	</object>
"""


def write(root: Path, classes: tuple[str, ...], splits: dict[str, list[Placed]]) -> list[str]:
    """Pixels count from 1 and a box holds its last: xmin is the left edge + 1. A crowd is difficult, with <crowd>."""
    masks = points = 0
    (root / "Annotations").mkdir()
    (root / SETS).mkdir(parents=True)
    for split, rows in splits.items():
        for row in rows:
            masks += sum(mask is not None for mask in row.objects.masks or ())
            points += 0 if row.objects.keypoints is None else len(row.objects)
            (root / "Annotations" / f"{row.stem}.xml").write_bytes(_annotation(row, classes).encode())
        (root / SETS / f"{split}.txt").write_bytes(("".join(f"{row.stem}\n" for row in rows)).encode())
    (root / LABELS).write_bytes(
        ("# label:color_rgb:parts:actions\n" + "".join(f"{name}:::\n" for name in classes)).encode()
    )
    notes = [f"Masks, which VOC's XML cannot hold, left out: {masks:,}."] if masks else []
    return notes + ([f"Objects whose keypoints VOC's XML cannot hold: {points:,}."] if points else [])


def _annotation(row: Placed, classes: tuple[str, ...]) -> str:
    parts = [_HEAD.format(name=escape(Path(row.path).name), width=row.width, height=row.height)]
    objects = row.objects
    for box, label, kind in zip(objects.boxes.tolist(), objects.labels.tolist(), objects.kinds.tolist(), strict=True):
        first = [same_when_read(shortest(edge) + 1, edge, lambda value: value - 1) for edge in box[:2]]
        corners = [text(value) for value in (*first, shortest(box[2]), shortest(box[3]))]
        parts.append(
            _OBJECT.format(
                name=escape(classes[label]),
                difficult=int(kind != PLAIN),
                crowd="\n\t\t<crowd>1</crowd>" if kind == CROWD else "",
                **dict(zip(("x1", "y1", "x2", "y2"), corners, strict=True)),
            )
        )
    return "".join(parts) + "</annotation>\n"
