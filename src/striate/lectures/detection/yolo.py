"""You only look once: the picture is cut into S×S cells, and the cell that an object's centre lies in answers for it,
with B boxes of five numbers and C class shares, S·S·(B·5 + C) in all, in one pass of one network (Redmon et al., CVPR
2016). The centre is told in units of the cell, the size relative to the picture, and squared errors are the whole loss.
A cell has one answer, so of two centres in one cell one is lost.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

from striate.lectures.detection.blood import CELLS, NETWORK, SIZE
from striate.lectures.page import Check, Setting, Shown
from striate.lectures.seeing.real import WEIGHTS, absent
from striate.tasks.section import BLUE, GREY, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure as Drawing
    from torch import Tensor

    from striate.lectures.detection.blood import Picture

PYTHON = """\
import torch
from striate.tasks.detect.yolov1 import YOLOv1, decode, encode

given = YOLOv1("darknet_tiny", 20, grid=7, boxes=2).eval()(torch.rand(1, 3, 224, 224))
print(given["predictions"].numel() + given["classes"].numel(), "numbers = 7·7·(2·5 + 20)")
box = torch.tensor([[0.30, 0.40, 0.50, 0.80]])  # x1 y1 x2 y2, shares of the picture
cells, numbers = encode(box, 7, 7)
print("cell (column, row)", cells[0].tolist(), "x y √w √h", numbers[0].tolist())
print("and back", decode(numbers, cells, 7, 7)[0].tolist())
"""

GRID, BOXES = 7, 2
LEARN, JUDGE, STEPS, BATCH = 140, 24, 400, 8
SCORE = 0.25  # from which a box is drawn


def show(setting: Setting) -> Shown:
    checks = [counted()]
    sections: list[Section] = []
    source, weights = setting.found(CELLS), setting.found(WEIGHTS)
    if source is not None and weights is not None:
        from striate.lectures.detection.blood import pictures

        inputs = {"grid": [GRID, BOXES], "learn": LEARN, "judge": JUDGE, "steps": STEPS, "size": SIZE}
        found = setting.remembered("yolo", inputs, lambda: trained(source, weights, setting))
        names, seen = pictures(source, weights, "test", JUDGE)
        checks += [*worked(seen), collisions(seen)]
        sections += [cells(seen), boxes(found, names, seen)]
    needed = {CELLS: "the grid on photographs of blood cells, and a network that answers", WEIGHTS: "that network"}
    return Shown(tuple(checks), tuple(sections), (), absent(setting, needed))


TAUGHT = (
    f"{LEARN} photographs, their mirror images and {STEPS} steps taught the head, the body does not move. The paper: "
    "63.4 % on PASCAL VOC 2007, another task, with all of the network taught."
)


def counted() -> Check:
    """Numbers that a YOLO for PASCAL VOC's 20 classes gives."""
    import torch

    from striate.tasks.detect.yolov1 import YOLOv1

    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        given = YOLOv1("darknet_tiny", 20, grid=7, boxes=2).eval()(torch.zeros(1, 3, 224, 224))
    count = given["predictions"].numel() + given["classes"].numel()
    return Check("numbers for S = 7, B = 2, C = 20", "7·7·30 = 1,470", f"{count:,}", count == 1470)


def relative(picture: Picture) -> Tensor:
    """Boxes of a picture as shares of it, [M, 4]."""
    from striate.tasks.detect.outputs import learnable

    return learnable(picture.target)[0] / picture.target.new_tensor([SIZE[1], SIZE[0]] * 2)


def worked(seen: list[Picture]) -> list[Check]:
    """The first white cell's numbers in plain Python, and all objects there and back."""
    from striate.tasks.detect.yolov1 import decode, encode

    box = example(seen[0])
    x, y = (box[0] + box[2]) / 2 * GRID, (box[1] + box[3]) / 2 * GRID
    numbers = (x - int(x), y - int(y), sqrt(box[2] - box[0]), sqrt(box[3] - box[1]))
    at, said = encode(relative(seen[0]), GRID, GRID)
    row = relative(seen[0]).tolist().index(box)
    printed = f"cell ({int(x)}, {int(y)}): " + ", ".join(f"{value:.3f}" for value in numbers)
    ours = f"cell ({at[row, 0]}, {at[row, 1]}): " + ", ".join(f"{value:.3f}" for value in said[row].tolist())
    worst, count = 0.0, 0
    for picture in seen:
        truth = relative(picture)
        where, told = encode(truth, GRID, GRID)
        worst = max(worst, float((decode(told, where, GRID, GRID) - truth).abs().max()))
        count += len(truth)
    return [
        Check(
            "x, y, √w, √h of the white cell drawn",
            printed,
            ours,
            printed == ours,
            "By hand: the centre times 7, without its whole part; the roots of width and height over the picture's.",
        ),
        Check(
            "boxes told in cells, and back",
            "the same",
            f"largest difference {worst:.1g} of the picture, {count} objects",
            worst < 1e-5,
        ),
    ]


def example(picture: Picture) -> list[float]:
    """The largest object's box, as shares."""
    return max(relative(picture).tolist(), key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))


def collisions(seen: list[Picture]) -> Check:
    """Objects whose cell already answers for another, counted by hand."""
    lost = total = 0
    for picture in seen:
        rows = [(int((x1 + x2) / 2 * GRID), int((y1 + y2) / 2 * GRID)) for x1, y1, x2, y2 in relative(picture).tolist()]
        total += len(rows)
        lost += len(rows) - len(set(rows))
    return Check(
        "small things in groups",
        "are hard for a grid: one answer a cell",
        f"{lost} of {total} objects share their cell with another",
        lost > 0,
        f"{len(seen)} photographs of blood cells, S = {GRID}: no such network can find more than "
        f"{1 - lost / total:.0%}.",
    )


def trained(source: Path, weights: Path, setting: Setting) -> dict[str, Any]:
    """The head of a YOLO taught on maps computed once; what it finds on photographs held out."""
    import torch
    from torch.nn import functional as F

    from striate.lectures.detection.blood import average_precision, give_weights, pictures
    from striate.tasks.detect.yolov1 import YOLOv1

    names, learn = pictures(source, weights, "train", LEARN)
    _, judge = pictures(source, weights, "test", JUDGE)
    learn += [mirrored(one) for one in learn]
    setting.say(f"YOLO: maps of {len(learn) + JUDGE} photographs")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = YOLOv1(NETWORK, len(names), grid=GRID, boxes=BOXES, reduction=16)
        give_weights(network.backbone, weights)
        with torch.inference_mode():
            maps = torch.cat(
                [F.adaptive_avg_pool2d(network.backbone(one.image)[-1], GRID) for one in (*learn, *judge)]
            ).clone()
        scale = maps[: len(learn)].std()

        def answers(features: Tensor) -> dict[str, Tensor]:
            return network.answers(network.head(features / scale), torch.tensor(SIZE))

        optimizer = torch.optim.AdamW(network.head.parameters(), 1e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
        network.head.train()
        losses = []
        most = max(len(one.target) for one in learn)
        targets = torch.stack([padded(one.target, most) for one in learn])
        for step in range(STEPS):
            chosen = torch.randint(0, len(learn), (BATCH,))
            loss = network.coder.losses(answers(maps[chosen]), targets[chosen])["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            if step % 40 == 0:
                setting.say(f"YOLO: step {step} of {STEPS}, loss {losses[-1]:.2f}")
        network.head.eval()
        with torch.inference_mode():
            detections = network.coder.detections(answers(maps[len(learn) :]))
    kept = [rows[(rows[:, 5] >= 0) & (rows[:, 4] >= SCORE)].tolist() for rows in detections]
    return {"ap": average_precision(names, list(detections), judge), "found": kept, "losses": losses}


def mirrored(picture: Picture) -> Picture:
    """A photograph and its objects, left and right exchanged."""
    target = picture.target.clone()
    target[:, [0, 2]] = SIZE[1] - target[:, [2, 0]]
    return picture._replace(pixels=picture.pixels.flip(2), image=picture.image.flip(3), target=target)


def padded(target: Tensor, rows: int) -> Tensor:
    """Rows [M, 7] filled up with rows that are no objects."""
    import torch

    empty = target.new_zeros(rows - len(target), 7)
    empty[:, 4] = -1
    return torch.cat((target, empty))


def cells(seen: list[Picture]) -> Section:
    from striate.tasks.detect.yolov1 import encode

    box = example(seen[0])
    _, told = encode(relative(seen[0]), GRID, GRID)
    row = relative(seen[0]).tolist().index(box)
    values = ", ".join(f"{value:.2f}" for value in told[row].tolist())
    figure = Figure(
        draw_grid(seen[0]),
        f"Dots are centres of objects; blue cells answer for one. The orange one answers for the white cell: "
        f"x, y, √w, √h = {values}.",
        "A photograph of blood cells under a grid of 7×7, with dots.",
        wide=True,
    )
    text = (
        f"Of {GRID}·{GRID} cells those with a centre in them answer; a number for each class, and {BOXES} boxes with a "
        "confidence each, of which the one that fits best is taught. The others learn only that their confidence is 0."
    )
    return Section("Which cell answers", text, [figure])


def draw_grid(picture: Picture) -> Drawing:
    from matplotlib.patches import Rectangle

    from striate.lectures.diagrams import LETTERS, new_figure
    from striate.tasks.detect.yolov1 import encode

    height, width = SIZE
    wide, high = width / GRID, height / GRID
    truth = relative(picture)
    at, told = encode(truth, GRID, GRID)
    mark = truth.tolist().index(example(picture))
    figure = new_figure(9.6, 3.7)
    whole, close = figure.subplots(1, 2)
    for axes in (whole, close):
        axes.imshow(picture.pixels.permute(1, 2, 0).numpy())
        for line in range(GRID + 1):
            axes.axvline(line * wide, color="white", linewidth=0.8, alpha=0.75)
            axes.axhline(line * high, color="white", linewidth=0.8, alpha=0.75)
        for number, (column, row) in enumerate(at.tolist()):
            colour = ORANGE if number == mark else BLUE
            axes.add_patch(Rectangle((column * wide, row * high), wide, high, facecolor=colour, alpha=0.3))
        for number, (x1, y1, x2, y2) in enumerate((truth * truth.new_tensor([width, height] * 2)).tolist()):
            colour = ORANGE if number == mark else BLUE
            axes.plot((x1 + x2) / 2, (y1 + y2) / 2, "o", color=colour, markersize=5, markeredgecolor="white")
        axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    x1, y1, x2, y2 = (value * side for value, side in zip(example(picture), (width, height) * 2, strict=True))
    column, row = at[mark].tolist()
    x, y = told[mark, :2].tolist()
    close.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=ORANGE, linewidth=2.2))
    line = {"arrowstyle": "<->", "color": "black", "linewidth": 1.4, "mutation_scale": 8}
    close.annotate("", (column * wide, (y1 + y2) / 2), ((x1 + x2) / 2, (y1 + y2) / 2), arrowprops=line)
    close.annotate("", ((x1 + x2) / 2, row * high), ((x1 + x2) / 2, (y1 + y2) / 2), arrowprops=line)
    margin = 12
    close.set(xlim=(max(0, x1 - margin), min(width, x2 + margin)), ylim=(min(height, y2 + margin), max(0, y1 - margin)))
    whole.set_title("7×7 cells", fontsize=LETTERS + 1)
    close.set_title(f"x = {x:.2f}, y = {y:.2f} of a cell; w = {(x2 - x1) / width:.2f}, h = {(y2 - y1) / height:.2f} "
                    "of the picture", fontsize=LETTERS + 1)  # fmt: skip
    return figure


def boxes(found: dict[str, Any], names: list[str], seen: list[Picture]) -> Section:
    from striate.explain.units.sheets import beside, webp
    from striate.lectures.detection.blood import draw_found

    sheet = beside([draw_found(seen[at].pixels, found["found"][at], names) for at in (0, 1)], gap=12)
    figures = [
        Figure(
            webp(sheet),
            f"Photographs not learnt from: boxes with a score of {SCORE} or more, after suppression.",
            "Two photographs of blood cells with many boxes.",
            wide=True,
        ),
        Figure(draw_losses(found["losses"]), "The loss of each step, smoothed.", "A falling curve."),
    ]
    rows = [[name, value] for name, value in found["ap"].items()]
    table = Table(("class", "AP at IoU 0.5"), rows, f"{len(seen)} photographs held out; {TAUGHT}")
    return Section("What a small one finds", "", figures, [table])


def draw_losses(losses: list[float]) -> Drawing:
    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes

    figure = new_figure(4.8, 3.2)
    axes = plain_axes(figure.add_subplot())
    axes.plot(losses, color=GREY, alpha=0.4, linewidth=0.8)
    smooth = [sum(losses[max(0, at - 9) : at + 1]) / len(losses[max(0, at - 9) : at + 1]) for at in range(len(losses))]
    axes.plot(smooth, color=BLUE, linewidth=1.6)
    axes.set_ylim(0, 1.1 * max(smooth))
    axes.set_xlabel("step", fontsize=LETTERS)
    axes.set_ylabel("loss", fontsize=LETTERS)
    return figure
