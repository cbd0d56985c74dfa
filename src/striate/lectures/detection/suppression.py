"""Two boxes agree as much as they share: the intersection over the union of their areas, 1 for the same box and 0 for
boxes apart; from 0.5 on a found box counts as right. A detector says the same thing many times, so the box of the
highest score stays and all that overlap it by more than 0.5 go, and so on with what is left: non-maximum suppression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing
    from torch import Tensor

PYTHON = """\
import torch
from striate.tasks.detect.boxes import iou
from striate.tasks.detect.nms import nms

boxes = torch.tensor([[0, 0, 4, 4], [1, 1, 5, 5], [0, 0, 4, 5], [6, 1, 9, 4]]).float()  # x1 y1 x2 y2
scores = torch.tensor([0.9, 0.6, 0.8, 0.7])
print(f"IoU of the first two: 9 / (16 + 16 - 9) = {float(iou(boxes[:1], boxes[1:2])):.4f}")
print("what stays at 0.5:", nms(boxes, scores, threshold=0.5).tolist())
"""

BOXES = ((0, 0, 4, 4), (1, 1, 5, 5), (0, 0, 4, 5), (6, 1, 9, 4))
SCORES = (0.9, 0.6, 0.8, 0.7)
SCENES = 300


def show(setting: Setting) -> Shown:
    import torch

    from striate.tasks.detect.boxes import iou
    from striate.tasks.detect.nms import nms

    boxes, scores = torch.tensor(BOXES).float(), torch.tensor(SCORES)
    overlap = iou(boxes, boxes)
    kept = nms(boxes, scores, threshold=0.5).tolist()
    worst, counted = overlaps_by_hand()
    same, total, dropped = suppressed_by_hand()
    checks = (
        Check(
            "IoU of (0, 0, 4, 4) and (1, 1, 5, 5)",
            "9 / (16 + 16 - 9) = 0.3913",
            f"{float(overlap[0, 1]):.4f}",
            f"{float(overlap[0, 1]):.4f}" == "0.3913",
        ),
        Check(
            "IoU of (0, 0, 4, 4) and (0, 0, 4, 5)",
            "16 / 20 = 0.8",
            f"{float(overlap[0, 2]):.4f}",
            abs(float(overlap[0, 2]) - 0.8) < 1e-6,
        ),
        Check(
            "suppression at 0.5 of the four boxes",
            "0.9, 0.7 and 0.6 stay; 0.8 goes",
            ", ".join(f"{SCORES[index]:g}" for index in kept) + " stay",
            [SCORES[index] for index in kept] == [0.9, 0.7, 0.6],
            "The 0.8 shares 0.8 with the 0.9; the 0.6 only 0.39.",
        ),
        Check(
            "IoU against counting pixels",
            "the same",
            f"largest difference {worst:.1g} over {counted:,} pairs",
            worst < 1e-6,
            "Boxes on whole pixels of a 40×40 sheet, each painted and the pixels counted.",
        ),
        Check(
            "suppression against the rule, word by word",
            "the same boxes",
            f"{same} of {total} random scenes",
            same == total,
            f"100 boxes each; {dropped:.0%} of all boxes went.",
        ),
    )
    rows = [
        [str(BOXES[index]), SCORES[index], *(round(float(value), 4) for value in overlap[index])]
        for index in range(len(BOXES))
    ]
    heads = ("box", "score", *(f"IoU with {score:g}" for score in SCORES))
    return Shown(
        checks,
        (
            Section(
                "Intersection over union",
                "",
                [
                    Figure(
                        draw_overlap(),
                        "Shared, 9 pixels, over what both cover, 23.",
                        "Two squares of 4×4, one shifted by one pixel each way, their common 3×3 marked.",
                    ),
                    Figure(
                        draw_scale(),
                        "The same box, moved sideways: half of its width is already an IoU of a third.",
                        "A falling curve of IoU against shift, with four pairs of boxes.",
                    ),
                ],
            ),
            Section(
                "Suppression at 0.5",
                "Best first: keep it, drop what overlaps it by more than 0.5, go on with the rest.",
                [
                    Figure(
                        draw_scene(),
                        "Left: what a detector says of three objects. Right: what stays.",
                        "Many boxes on the left, three on the right.",
                        wide=True,
                    )
                ],
                [Table(heads, rows)],
            ),
        ),
    )


def overlaps_by_hand(count: int = 60, side: int = 40) -> tuple[float, int]:
    """The largest difference between our IoU and painted pixels, and of how many pairs."""
    import torch

    from striate.tasks.detect.boxes import iou

    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(0, side - 1, (count, 2), generator=generator)
    sizes = torch.randint(1, side, (count, 2), generator=generator)
    boxes = torch.cat((corners, (corners + sizes).clamp(max=side)), 1)
    painted = torch.zeros(count, side, side, dtype=torch.bool)
    for sheet, (x1, y1, x2, y2) in zip(painted, boxes.tolist(), strict=True):
        sheet[y1:y2, x1:x2] = True
    shared = (painted[:, None] & painted).sum((2, 3))
    either = (painted[:, None] | painted).sum((2, 3))
    return float((iou(boxes.float(), boxes.float()) - shared / either).abs().max()), count * count


def suppressed_by_hand(scenes: int = SCENES, count: int = 100) -> tuple[int, int, float]:
    """In how many random scenes ours keeps what the rule keeps, of how many, and which share of boxes went."""
    import torch

    from striate.tasks.detect.nms import nms

    same, left = 0, 0
    for seed in range(scenes):
        boxes, scores = crowd(seed, count)
        kept = nms(boxes, scores, threshold=0.5).tolist()
        same += kept == by_the_rule(boxes.tolist(), scores.tolist(), 0.5)
        left += len(kept)
    return same, scenes, 1 - left / (scenes * count)


def by_the_rule(boxes: list[list[float]], scores: list[float], threshold: float) -> list[int]:
    """Non-maximum suppression as it is told, in plain Python."""

    def overlap(a: list[float], b: list[float]) -> float:
        wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        shared = max(wide, 0) * max(high, 0)
        return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)

    waiting = sorted(range(len(boxes)), key=lambda index: -scores[index])
    kept = []
    while waiting:
        best, *waiting = waiting
        kept.append(best)
        waiting = [index for index in waiting if overlap(boxes[best], boxes[index]) <= threshold]
    return kept


def crowd(seed: int, count: int, objects: int = 6, spread: float = 0.18) -> tuple[Tensor, Tensor]:
    """Boxes [count, 4] scattered around some objects, and scores [count] that fall with the distance from theirs."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand((objects, 2), generator=generator) * 80 + 10
    sizes = torch.rand((objects, 2), generator=generator) * 20 + 12
    whose = torch.randint(0, objects, (count,), generator=generator)
    moved = torch.randn((count, 2), generator=generator) * spread
    grown = torch.exp(torch.randn((count, 2), generator=generator) * spread)
    centre, size = centres[whose] + moved * sizes[whose], sizes[whose] * grown
    boxes = torch.cat((centre - size / 2, centre + size / 2), 1)
    noise = torch.rand(count, generator=generator) * 0.15
    return boxes, (0.98 - 1.3 * moved.square().sum(1).sqrt() - noise).clamp(0.05, 0.99)


def draw_overlap() -> Drawing:
    from striate.lectures.diagrams import LETTERS, new_figure

    figure = new_figure(3.4, 3.4)
    axes = figure.add_subplot()
    for line in range(6):
        axes.plot((0, 5), (line, line), color=GREY, linewidth=0.5, alpha=0.5)
        axes.plot((line, line), (0, 5), color=GREY, linewidth=0.5, alpha=0.5)
    _frame(axes, BOXES[0], BLUE, wash=0.18)
    _frame(axes, BOXES[1], ORANGE, wash=0.18)
    _frame(axes, (1, 1, 4, 4), GREEN, wash=0.4)
    axes.text(2.5, 2.5, "shared\n3 × 3 = 9", ha="center", va="center", fontsize=LETTERS)
    axes.text(0.1, 0.5, "16", va="center", fontsize=LETTERS)
    axes.text(4.9, 4.5, "16", va="center", ha="right", fontsize=LETTERS)
    axes.text(2.5, 5.45, "IoU = 9 / (16 + 16 - 9) = 0.39", ha="center", va="center", fontsize=LETTERS + 1)
    axes.set(xlim=(-0.2, 5.2), ylim=(5.8, -0.2), aspect="equal")
    axes.set_axis_off()
    return figure


def draw_scale() -> Drawing:
    import torch

    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes
    from striate.tasks.detect.boxes import iou

    shifts = torch.linspace(0, 1, 51)
    moved = torch.stack((shifts, torch.zeros(51), shifts + 1, torch.ones(51)), 1)
    values = iou(torch.tensor([[0.0, 0, 1, 1]]), moved)[0]
    figure = new_figure(4.6, 3.4)
    axes = plain_axes(figure.add_subplot())
    axes.plot(shifts, values, color=BLUE, linewidth=1.8)
    axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.text(0.99, 0.515, "counts as right", ha="right", va="bottom", fontsize=LETTERS)
    for shift in (0.1, 1 / 3, 0.5, 0.8):
        value = (1 - shift) / (1 + shift)
        axes.plot(shift, value, "o", color=ORANGE, markersize=5)
        axes.annotate(f"{value:.2f}", (shift, value), (6, 5), textcoords="offset points", fontsize=LETTERS)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_xlabel("moved sideways, in widths", fontsize=LETTERS)
    axes.set_ylabel("IoU", fontsize=LETTERS)
    return figure


def draw_scene() -> Drawing:
    from striate.lectures.diagrams import LETTERS, new_figure
    from striate.tasks.detect.nms import nms

    boxes, scores = crowd(3, 21, objects=3, spread=0.07)
    kept = set(nms(boxes, scores, threshold=0.5).tolist())
    figure = new_figure(9, 3.9)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for index in scores.argsort().tolist():
        box, score = boxes[index].tolist(), float(scores[index])
        _frame(left, box, BLUE if index in kept else GREY, wash=0.03, line=0.6 + 1.8 * score)
        if index in kept:
            _frame(right, box, BLUE, wash=0.14, line=0.6 + 1.8 * score)
            right.text(box[0], box[1] - 1, f"{score:.2f}", fontsize=LETTERS, va="bottom")
    for axes, title in ((left, f"{len(boxes)} boxes"), (right, f"{len(kept)} stay, IoU 0.5")):
        axes.set_title(title, fontsize=LETTERS + 1, loc="left")
        axes.set(aspect="equal")
        axes.set_axis_off()
    low, high = boxes[:, :2].amin(0).tolist(), boxes[:, 2:].amax(0).tolist()
    left.set(xlim=(low[0] - 3, high[0] + 3), ylim=(high[1] + 3, low[1] - 5))
    return figure


def _frame(axes: Axes, box: object, colour: str, wash: float, line: float = 1.4) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = box  # type: ignore[misc]
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, facecolor=colour, alpha=wash, edgecolor="none"))
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, facecolor="none", edgecolor=colour, linewidth=line))
