"""The drawings of `fast_rcnn`: pooling with numbers, and regions on a photograph, on its maps and pooled."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING, Any

from striate.lectures.detection.blood import SIZE
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, VIOLET

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from striate.lectures.detection.blood import Picture
    from striate.tasks.detect.fast_rcnn import FastRCNN

MAP = (
    (3, 1, 4, 1, 5, 9, 2, 6),
    (5, 3, 5, 8, 9, 7, 9, 3),
    (2, 3, 8, 4, 6, 2, 6, 4),
    (3, 3, 8, 3, 2, 7, 9, 5),
    (0, 2, 8, 8, 4, 1, 9, 7),
    (1, 6, 9, 3, 9, 9, 3, 7),
    (5, 1, 0, 5, 8, 2, 0, 9),
    (7, 4, 9, 4, 4, 5, 9, 2),
)  # the digits of π
REGION = (0, 2, 5, 5)  # columns 0 to 5, rows 2 to 5
POOLED = ((8, 7), (9, 9))  # largest of each 2 rows × 3 columns, by hand
STRIDE = 16


def draw_pooling() -> Drawing:
    from striate.lectures.cells import arrow, matrix, sheet, window, word

    drawing, axes = sheet(19, 9.4)
    matrix(axes, [[str(value) for value in row] for row in MAP], 1, 1, title="a map", colour=GREY)
    left, top, right, bottom = REGION
    colours = ((BLUE, GREEN), (ORANGE, VIOLET))
    high, wide = (bottom - top + 1) // 2, (right - left + 1) // 2
    for row in range(2):
        for column in range(2):
            x, y = left + column * wide, top + row * high
            part = [[str(value) for value in line[x : x + wide]] for line in MAP[y : y + high]]
            matrix(axes, part, 1 + x, 1 + y, colour=colours[row][column])
            window(axes, 1 + x, 1 + y, wide, high, colours[row][column])
            corner = (13.5 + 1.6 * column, 3.4 + 1.6 * row)
            matrix(axes, [[str(POOLED[row][column])]], *corner, colour=colours[row][column], cell=1.4, size=13)
    arrow(axes, (9.6, 5), (12.8, 5))
    word(axes, 11.2, 4.5, "largest of each", 9)
    word(axes, 15, 2.8, "2×2, whatever the region", 10)
    return drawing


def draw_maps(found: dict[str, Any], picture: Picture, detector: FastRCNN) -> Drawing:
    import torch
    from matplotlib.patches import Rectangle
    from torchvision.ops import roi_pool

    from striate.lectures.diagrams import LETTERS, new_figure
    from striate.tasks.detect.fast_rcnn import POOLED as BINS

    with torch.inference_mode():
        maps = detector.backbone(picture.image)[0]
        boxes = torch.tensor(apart(found))
        pooled = roi_pool(maps, [boxes], BINS, 1 / detector.reduction).mean(1)
    figure = new_figure(9.8, 4.6)
    grid = figure.add_gridspec(2, 6, height_ratios=(1.6, 1))
    photo, coarse = figure.add_subplot(grid[0, :3]), figure.add_subplot(grid[0, 3:])
    photo.imshow(picture.pixels.permute(1, 2, 0).numpy())
    mean = maps[0].mean(0)
    coarse.imshow(mean.numpy(), cmap="viridis", extent=(0, STRIDE * mean.shape[1], STRIDE * mean.shape[0], 0))
    colours = (ORANGE, "#ff4fd8", "#35c8ff")  # are seen on cells and on viridis
    for number, (box, colour) in enumerate(zip(boxes.tolist(), colours, strict=True)):
        x1, y1, x2, y2 = box
        cells = [floor(value / STRIDE + 0.5) for value in box]
        rounded = (cells[0] * STRIDE, cells[1] * STRIDE, (cells[2] + 1) * STRIDE, (cells[3] + 1) * STRIDE)
        for axes, (left, top, right, bottom) in ((photo, (x1, y1, x2, y2)), (coarse, rounded)):
            axes.add_patch(
                Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=2.2)
            )
        small = figure.add_subplot(grid[1, 2 * number : 2 * number + 2])
        small.imshow(pooled[number].numpy(), cmap="viridis")
        size = f"{cells[3] - cells[1] + 1}×{cells[2] - cells[0] + 1}"
        small.set_title(f"{size} cells → 7×7", fontsize=LETTERS, color=colour)
        small.set_axis_off()
    photo.set_title(f"{SIZE[0]}×{SIZE[1]} pixels", fontsize=LETTERS + 0.5)
    coarse.set_title(f"{maps.shape[2]}×{maps.shape[3]} cells, the mean of {maps.shape[1]} maps", fontsize=LETTERS + 0.5)
    for axes in (photo, coarse):
        axes.set_axis_off()
        axes.set(xlim=(0, SIZE[1]), ylim=(SIZE[0], 0))
    return figure


def apart(found: dict[str, Any]) -> list[list[float]]:
    """The likeliest white cell and two red ones that hardly overlap; platelets are too small to be seen on maps."""
    from striate.lectures.detection.rcnn import overlap

    chosen: list[list[float]] = []
    for column in (3, 2, 2):  # 0 is the background, 1 platelets
        for row in sorted(range(len(found["scores"])), key=lambda at: -found["scores"][at][column]):
            box = found["proposed"][row]
            if all(overlap(box, other) < 0.02 for other in chosen):
                chosen.append(box)
                break
    return chosen
