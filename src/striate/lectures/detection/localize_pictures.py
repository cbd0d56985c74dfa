"""The drawings of `localize`: windows of a blood smear with boxes, and the target vector beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.tasks.section import BLUE, GREEN, GREY, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

NAMES = ("platelet", "white cell")  # as `striate train` sorts them
WINDOW = 240  # pixels of a photograph of 640 × 480
DRAWN = 8


def vector(row: list[float]) -> list[str]:
    """y of a true row x1, y1, x2, y2, label in pixels of a window."""
    if row[4] < 0:
        return ["0", *"–" * (4 + len(NAMES))]
    x1, y1, x2, y2, label = row
    shares = ((x1 + x2) / 2 / WINDOW, (y1 + y2) / 2 / WINDOW, (x2 - x1) / WINDOW, (y2 - y1) / WINDOW)
    return ["1", *(f"{share:.2f}" for share in shares), *(str(int(label == one)) for one in range(len(NAMES)))]


PARTS = ("p", "b_x", "b_y", "b_w", "b_h", "c_1", "c_2")


def draw_target(found: dict[str, Any], index: str, nothing: str) -> Drawing:
    from striate.lectures.cells import matrix, word
    from striate.lectures.diagrams import new_figure

    figure = new_figure(9.4, 3.1)
    panels = figure.subplots(1, 4, width_ratios=(1.5, 0.8, 1.5, 0.8))
    for (picture, column), key in zip((panels[:2], panels[2:]), (index, nothing), strict=True):
        row = found["truth"][int(key)]
        draw_window(picture, found["drawn"][key])
        if row[4] >= 0:
            frame(picture, row[:4], GREEN)
            picture.plot((row[0] + row[2]) / 2, (row[1] + row[3]) / 2, "o", color=GREEN, markersize=5)
        numbers = vector(row)
        matrix(column, [[number] for number in numbers], 0.9, 0, colour=BLUE if row[4] >= 0 else GREY, size=9)
        for place, part in enumerate(PARTS):
            told = f" {NAMES[place - 5]}" if place > 4 else ""
            word(column, 0.7, place + 0.5, f"${part}$", 9, align="right")
            word(column, 2.05, place + 0.5, told, 8, GREY, align="left")
        column.set(xlim=(-0.6, 3.6), ylim=(7.2, -0.2), aspect="equal")
        column.set_axis_off()
    return figure


def draw_window(axes: Axes, picture: Any) -> None:
    import numpy as np

    axes.imshow(np.array(picture, np.uint8).transpose(1, 2, 0))
    axes.set_axis_off()


def frame(axes: Axes, box: list[float], colour: str, dashed: bool = False) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = box
    axes.add_patch(
        Rectangle(
            (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=2, linestyle="--" if dashed else "-"
        )
    )


def draw_found(found: dict[str, Any]) -> Drawing:
    import torch

    from striate.lectures.diagrams import LETTERS, new_figure
    from striate.tasks.detect.boxes import paired_iou

    figure = new_figure(9.6, 5.2)
    grid = figure.subplots(2, DRAWN // 2).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, (key, picture) in zip(grid, found["drawn"].items(), strict=False):
        said, truth = found["said"][int(key)], found["truth"][int(key)]
        draw_window(axes, picture)
        told = f"p {said[4]:.2f}"
        if truth[4] >= 0:
            frame(axes, truth[:4], GREEN, dashed=True)
        if said[4] >= found["threshold"]:
            frame(axes, said[:4], ORANGE)
            told += f", {found['classes'][max(range(len(NAMES)), key=lambda at: said[5 + at])]}"
            if truth[4] >= 0:
                told += f", IoU {float(paired_iou(torch.tensor(said[:4]), torch.tensor(truth[:4]))):.2f}"
        else:
            told += ": nothing" + (f" (missed a {NAMES[int(truth[4])]})" if truth[4] >= 0 else "")
        axes.set_title(told, fontsize=LETTERS)
    return figure
