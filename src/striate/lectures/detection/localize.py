"""Which, and where, at once: the classifier gets a few more outputs, y = (p, b_x, b_y, b_w, b_h, c_1 … c_K), whether an
object is there, the middle and size of its box as shares of the picture, and its class. Where there is none only p is
judged: the loss leaves the other numbers alone, for nobody can say what they should be. It finds one object a picture;
detectors ask the same question at many places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.lectures.detection.localize_pictures import NAMES, WINDOW, draw_found, draw_target
from striate.lectures.page import Check, Setting, Shown
from striate.lectures.seeing.real import absent
from striate.tasks.section import Figure, Section, Table

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

PYTHON = """\
import torch
from striate.tasks.localize.task import Localize

task = Localize(["pedestrian", "car"])
y = torch.zeros(1, 7, requires_grad=True)  # p, bx, by, bw, bh, c1, c2
for name, label in (("nothing", -1), ("a car", 1)):
    target = torch.tensor([[[20.0, 40, 60, 80, label, 0, 1600]]])  # x1 y1 x2 y2
    outputs = {"values": y, "image_size": torch.tensor([100, 100])}
    (slope,) = torch.autograd.grad(task.loss(outputs, target)["loss"], y)
    print(name, [f"{value:.2f}" for value in slope[0].tolist()])
"""

CELLS = "bccd"
# a dense layer keeps where things are; the mean of maps, which most networks end in, does not
LINE = "conv24-bn-relu-pool-conv48-bn-relu-pool-conv64-bn-relu-pool-conv96-bn-relu-pool-fc128-relu"
SIZE, EPOCHS = 96, 28
LEARN, JUDGE = 205, 72  # photographs from which windows are cut


def show(setting: Setting) -> Shown:
    checks = [squares(), silent()]
    sections: list[Section] = []
    source = setting.found(CELLS)
    if source is not None:
        inputs = {"network": LINE, "window": WINDOW, "size": SIZE, "epochs": EPOCHS, "photographs": [LEARN, JUDGE]}
        found = setting.remembered("localize", inputs, lambda: judged(source, setting))
        checks += claims(found)
        sections += [target_drawn(found), found_cells(found)]
    told = absent(setting, {CELLS: "blood cells found, named and boxed, by a network trained here"})
    return Shown(tuple(checks), tuple(sections), (), told)


def squares() -> Check:
    """The lecture's loss, a sum of squares, by hand and by the task."""
    import torch

    from striate.tasks.localize.task import Localize

    said, truth = (0.8, 0.5, 0.6, 0.3, 0.4, 0.1, 0.7, 0.2), (1, 0.5, 0.7, 0.3, 0.4, 0, 1, 0)
    task = Localize(("pedestrian", "car", "motorcycle"), loss="squared")
    there, nothing = torch.zeros(1, 1, 7), torch.zeros(1, 1, 7)
    there[0, 0] = torch.tensor([35.0, 50, 65, 90, 1, 0, 1200])  # b = (0.5, 0.7, 0.3, 0.4) of 100 × 100 pixels
    nothing[0, 0, 4] = -1
    outputs = {"values": torch.tensor([said]), "image_size": torch.tensor([100, 100])}
    ours = [float(task.loss(outputs, target)["loss"]) for target in (there, nothing)]
    by_hand = [sum((one - other) ** 2 for one, other in zip(said, truth, strict=True)), 0.8**2]
    printed, found = (f"car: {one:.2f}; nothing: {other:.2f}" for one, other in (by_hand, ours))
    return Check(
        "L(ŷ, y), ŷ = (0.8, 0.5, 0.6, 0.3, 0.4, 0.1, 0.7, 0.2)",
        printed,
        found,
        printed == found,
        "Squares of all eight differences where y = (1, 0.5, 0.7, 0.3, 0.4, 0, 1, 0), of p alone where p = 0.",
    )


def silent() -> Check:
    """The gradient of either loss where no object is: all but p's must be exactly zero."""
    import torch

    from striate.tasks.localize.task import LOSSES, Localize

    nothing = torch.zeros(16, 1, 7)
    nothing[..., 4] = -1
    largest, least = 0.0, float("inf")
    for loss in LOSSES:
        values = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        outputs = {"values": values, "image_size": torch.tensor([100, 100])}
        total = Localize(("pedestrian", "car", "motorcycle"), loss=loss).loss(outputs, nothing)["loss"]
        (slope,) = torch.autograd.grad(total, values)
        largest = max(largest, float(slope[:, 1:].abs().max()))
        least = min(least, float(slope[:, 0].abs().min()))
    return Check(
        "slope of the loss where no object is",
        "0 for b and c, not 0 for p",
        f"{largest:g} for b and c; p: {least:.2g} or more",
        largest == 0 and least > 0,
        "16 random outputs, the lecture's squares and our cross-entropies alike.",
    )


def windows(source: Path, folder: Path) -> Path:
    """Square windows of BCCD's photographs as a CSV of boxes: one white cell, or platelets alone, or neither.

    Red cells are everywhere and count as background. A window shows an object whole or not at all.
    """
    import csv
    import random
    from pathlib import Path

    from PIL import Image

    from striate.data import open_dataset
    from striate.lectures.detection.anchors import place_of

    folder.mkdir(parents=True)
    dataset = open_dataset(place_of(source, folder), val_fraction=0.2, seed=0)
    platelet, white = (dataset.classes.index(name) for name in ("Platelets", "WBC"))
    draw = random.Random(0)
    with (folder / "boxes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "x1", "y1", "x2", "y2", "label", "split"])
        for split, count in (("train", LEARN), ("test", JUDGE)):
            for number, sample in enumerate(dataset.splits[split][:count]):
                kept = sample.target.labels != dataset.classes.index("RBC")
                boxes, labels = sample.target.boxes[kept].tolist(), sample.target.labels[kept].tolist()
                assert isinstance(sample.image, str | Path)
                with Image.open(sample.image) as photo:
                    for kind in (white, platelet, None):
                        corner = place(draw, boxes, labels, kind, white, photo.size)
                        if corner is None:
                            continue
                        name = f"{split}-{number}-{'none' if kind is None else dataset.classes[kind]}.png"
                        photo.crop((*corner, corner[0] + WINDOW, corner[1] + WINDOW)).save(folder / name)
                        inside = [(box, label) for box, label in zip(boxes, labels, strict=True) if whole(box, corner)]
                        for box, label in inside:
                            moved = [value - corner[axis % 2] for axis, value in enumerate(box)]
                            rows.writerow([name, *moved, NAMES[1] if label == white else NAMES[0], split])
                        if not inside:
                            rows.writerow([name, *[""] * 5, split])
    return folder / "boxes.csv"


def whole(box: list[float], corner: tuple[int, int]) -> bool:
    """Whether a box lies in the window at a corner."""
    return all(0 <= value - corner[axis % 2] <= WINDOW for axis, value in enumerate(box))


def touched(box: list[float], corner: tuple[int, int]) -> bool:
    return all(box[axis] < corner[axis] + WINDOW and box[axis + 2] > corner[axis] for axis in (0, 1))


def place(
    draw: Any, boxes: list[list[float]], labels: list[int], kind: int | None, white: int, size: tuple[int, int]
) -> tuple[int, int] | None:
    """The upper left corner of a random window that shows an object of the kind whole, and cuts none; or None."""
    for _ in range(200):
        corner = (draw.randint(0, size[0] - WINDOW), draw.randint(0, size[1] - WINDOW))
        seen = [(box, label) for box, label in zip(boxes, labels, strict=True) if touched(box, corner)]
        if any(not whole(box, corner) for box, _ in seen):
            continue
        there = {label for _, label in seen}
        if (kind is None and not there) or (
            kind is not None and kind in there and (kind == white or white not in there)
        ):
            return corner
    return None


def judged(source: Path, setting: Setting) -> dict[str, Any]:
    """Train on windows, then what is said of those of other photographs."""
    import tempfile
    from pathlib import Path

    import striate
    from striate.data.reader import read_sample
    from striate.tasks.localize.metrics import LocalizeMetrics

    with tempfile.TemporaryDirectory(prefix="striate-lecture-") as where:
        data = windows(source, Path(where) / "windows")
        setting.say("localisation: learning blood cells")
        model = striate.train(
            str(data), task="localize", model=LINE, size=SIZE, epochs=EPOCHS, batch=16, out=where, name="cells",
            quiet=True, seed=0,
        )  # fmt: skip
        assert model.classes == NAMES
        result = model.evaluate(str(data), "test")
        assert isinstance(result.metrics, LocalizeMetrics)
        said, truth = result.metrics.gathered()
        chosen = spread(truth[:, 4].tolist())
        return {
            "values": {name: float(value) for name, value in result.values.items()},
            "classes": list(model.classes),
            "threshold": result.metrics.threshold,
            "said": said.tolist(),
            "truth": truth[:, :5].tolist(),
            "drawn": {str(index): read_sample(result.samples[index]).tolist() for index in chosen},
        }


def spread(labels: list[float]) -> list[int]:
    """Three pictures of each kind of label, and two without an object."""
    chosen: list[int] = []
    for label, count in ((0, 3), (1, 3), (-1, 2)):
        chosen += [index for index, one in enumerate(labels) if one == label][:: max(1, labels.count(label) // count)][
            :count
        ]
    return chosen


def overlaps(found: dict[str, Any]) -> Tensor:
    """IoU of the said and the true box of every picture with an object."""
    import torch

    from striate.tasks.detect.boxes import paired_iou

    said, truth = torch.tensor(found["said"]), torch.tensor(found["truth"])
    there = truth[:, 4] >= 0
    return paired_iou(said[there, :4], truth[there, :4])


def claims(found: dict[str, Any]) -> list[Check]:
    import torch

    from striate.tasks.detect.boxes import paired_iou

    said, truth = torch.tensor(found["said"]), torch.tensor(found["truth"])
    there = truth[:, 4] >= 0
    right = float(((said[:, 4] >= found["threshold"]) == there).float().mean())
    named = float((said[there, 5:].argmax(1) == truth[there, 4]).float().mean())
    ours = overlaps(found)
    means = torch.stack([truth[there][truth[there, 4] == label, :4].mean(0) for label in range(len(NAMES))])
    blind = paired_iou(means[truth[there, 4].long()], truth[there, :4])
    error = float((ours - blind).std() / len(ours) ** 0.5)
    commonest = float(torch.bincount((truth[:, 4] + 1).long()).max() / len(truth))
    return [
        Check(
            "is an object there, and which",
            "both right, mostly",
            f"{right:.0%} and {named:.0%}",
            right > 0.8 and named > 0.8,
            f"{len(truth)} windows of photographs not learnt from; the commonest of white cell, platelet and nothing "
            f"is {commonest:.0%} of them.",
        ),
        Check(
            "IoU of the box, on average",
            "greater than of a box that does not look",
            f"{float(ours.mean()):.2f} against {float(blind.mean()):.2f}",
            float((ours - blind).mean()) > 2 * error,
            f"The other is the mean true box of the right class. Two standard errors of the difference are "
            f"{2 * error:.2f}; {share(ours):.0%} against {share(blind):.0%} overlap the truth by half.",
        ),
    ]


def share(overlap: Tensor) -> float:
    """Of boxes, those that count as right."""
    return float((overlap >= 0.5).float().mean())


def target_drawn(found: dict[str, Any]) -> Section:
    index = next(key for key in found["drawn"] if found["truth"][int(key)][4] == NAMES.index("white cell"))
    nothing = next(key for key in found["drawn"] if found["truth"][int(key)][4] < 0)
    figure = Figure(
        draw_target(found, index, nothing),
        "A window of a blood smear with its y, and one without an object: a dash is not judged.",
        "A picture with a box, its middle marked, beside eight numbers; another with one number and dashes.",
        wide=True,
    )
    return Section("What the network is to say", "", [figure])


def found_cells(found: dict[str, Any]) -> Section:
    each = overlaps(found)
    truth = [row for row in found["truth"] if row[4] >= 0]
    rows = []
    for label, name in enumerate(NAMES):
        values = [float(value) for value, row in zip(each, truth, strict=True) if row[4] == label]
        mean = sum(values) / max(len(values), 1)
        rows.append(
            [name, len(values), round(mean, 3), f"{sum(value >= 0.5 for value in values) / max(len(values), 1):.0%}"]
        )
    figure = Figure(
        draw_found(found),
        "Windows not learnt from. Green, dashed: the truth; orange: what the network says, with p and IoU.",
        "Eight pictures of blood cells with two boxes each, or none.",
        wide=True,
    )
    text = (
        f"Four convolutions and a dense layer with 5 + {len(NAMES)} outputs, from scratch, at {SIZE} pixels. White "
        "cells and platelets are objects; red cells are the background."
    )
    return Section(
        "One cell a picture", text, [figure], [Table(("object", "windows", "mean IoU", "IoU 0.5 or more"), rows)]
    )
