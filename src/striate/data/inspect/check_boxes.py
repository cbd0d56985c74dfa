"""What can be wrong with boxes: twice there, too small to be seen, of no class in use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from striate.data.targets import PLAIN, Objects

SAME = 0.95  # IoU from which two boxes of a class are one object twice
LONGER_SIDE = 320  # pixels of what the network sees on a processor, unless told otherwise
TINY_SIDE, TINY_SHARE = 8.0, 0.001  # of that view in pixels; of the picture's area


@dataclass
class BoxFindings:
    """Of all readable pictures.

    Attributes:
        count: objects. ignored: of them crowds and difficult ones, neither learnt nor judged.
        without: pictures without an object.
        per_picture: {"min", "median", "max"} objects a picture.
        sides: {"5 %", "50 %", "95 %"}: quantiles of the longer side of boxes, as a share of the picture's.
        tiny: boxes whose longer side is under 8 px where the picture's is 320, or with under a thousandth of its area.
        twice: names of pictures with two boxes of one class at one place.
        unused: classes without an object.
    """

    count: int = 0
    ignored: int = 0
    without: int = 0
    per_picture: dict[str, float] = field(default_factory=dict)
    sides: dict[str, float] = field(default_factory=dict)
    tiny: int = 0
    twice: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def check_boxes(targets: Sequence[tuple[str, Objects, tuple[int, int]]], classes: Sequence[str]) -> BoxFindings | None:
    """Findings from (name, objects, (height, width)) of each picture; None where no picture has objects to look at."""
    if not targets:
        return None
    found = BoxFindings()
    counts = torch.tensor([float(len(objects)) for _, objects, _ in targets])
    found.count = int(counts.sum())
    found.without = int((counts == 0).sum())
    found.per_picture = {"min": float(counts.min()), "median": float(counts.median()), "max": float(counts.max())}
    found.ignored = sum(int((objects.kinds != PLAIN).sum()) for _, objects, _ in targets)
    sides: list[Tensor] = []
    for name, objects, (height, width) in targets:
        extent = objects.boxes[:, 2:] - objects.boxes[:, :2]
        longer = extent.amax(1) / max(height, width)
        sides.append(longer)
        found.tiny += int(((longer * LONGER_SIDE < TINY_SIDE) | (extent.prod(1) < TINY_SHARE * height * width)).sum())
        if repeated(objects):
            found.twice.append(name)
    shares = torch.cat(sides)
    if len(shares):
        levels = torch.tensor([0.05, 0.5, 0.95])
        found.sides = dict(zip(("5 %", "50 %", "95 %"), shares.quantile(levels).tolist(), strict=True))
    used = {label for _, objects, _ in targets for label in objects.labels.tolist()}
    found.unused = [name for label, name in enumerate(classes) if label not in used]
    return found


def repeated(objects: Objects) -> bool:
    """Whether two plain boxes of one class overlap by `SAME` or more."""
    plain = objects.kinds == PLAIN
    boxes, labels = objects.boxes[plain], objects.labels[plain]
    if len(boxes) < 2:
        return False
    low = torch.maximum(boxes[:, None, :2], boxes[:, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[:, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    overlap = shared / (areas[:, None] + areas - shared).clamp(min=1e-9)
    alike = (overlap >= SAME) & (labels[:, None] == labels)
    return bool(alike.triu(1).any())
