"""A face is 68 points, a body 14 or 17, and each is a pair of numbers: a network that ends in 2·K outputs gives them
all (DeepPose, Toshev & Szegedy, CVPR 2014, regresses body joints so, and corrects them from crops around the first
guess). Nearly always a map a point is taught instead, hot where the point is, whose centre of mass is the answer.
Errors count in units of the face, the distance of the outer corners of the eyes, and must beat the mean face, which
looks at nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.lectures.page import Check, Setting, Shown
from striate.lectures.seeing.real import WEIGHTS, absent
from striate.tasks.section import BLUE, GREY, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing
    from torch import Tensor

PYTHON = """\
import torch
from striate.tasks.keypoints.networks import Heatmaps, Regression

for head in (Regression("squeezenet1_0", 68, stages=3), Heatmaps("squeezenet1_0", 68)):
    with torch.inference_mode():
        given = head.eval()(torch.rand(1, 3, 96, 96))
    maps = list(given["maps"].shape) if "maps" in given else "none"
    print(type(head).__name__, "points:", list(given["points"].shape), "maps:", maps)
"""

FACES = "facial-keypoints"
EPOCHS, SIZE = 12, 96
DRAWN = 8


def show(setting: Setting) -> Shown:
    checks, sections = [centre()], []
    source, weights = setting.found(FACES), setting.found(WEIGHTS)
    if source is not None and weights is not None:
        inputs = {"epochs": EPOCHS, "size": SIZE, "weights": WEIGHTS}
        found = setting.remembered("landmarks", inputs, lambda: judged(source, weights, setting))
        checks += claims(found)
        sections.append(faces(found))
    seen = {FACES: "68 points on faces of people not learnt from", WEIGHTS: "a network that learns to find them"}
    return Shown(tuple(checks), tuple(sections), (DEEPPOSE,), absent(setting, seen))


DEEPPOSE = (
    "DeepPose's own way is `--model cascade/squeezenet1_0`: coordinates, and two corrections from crops; "
    "`regression/…` is its first stage alone. Bodies are the same task: COCO's 17 joints are read from its files."
)


def centre() -> Check:
    """Centre of mass of a map with two hot cells, by hand, against the network's reading of it."""
    import torch

    from striate.tasks.keypoints.networks import centres

    chances = torch.zeros(1, 1, 4, 8)
    chances[0, 0, 1, 2], chances[0, 0, 1, 3] = 0.75, 0.25
    logits = chances.clamp(min=1e-30).log()
    x, y = centres(logits)[0, 0].tolist()
    printed = (0.75 * 2.5 + 0.25 * 3.5) / 8, 1.5 / 4  # middles of cells, as shares of the map
    one, other = (f"({a:.4f}, {b:.4f})" for a, b in (printed, (x, y)))
    return Check("a point that lies ¾ in cell (2, 1), ¼ in (3, 1) of an 8×4 map", one, other, one == other)


def judged(source: Path, weights: Path, setting: Setting) -> dict[str, Any]:
    """Train, then the points said of everybody held out, and those of the mean face."""
    import json
    import tempfile
    from pathlib import Path

    import torch

    import striate
    from striate.data import open_dataset
    from striate.data.reader import read_sample
    from striate.tasks.keypoints.metrics import KeypointMetrics

    setting.say("landmarks: learning 68 points")
    with tempfile.TemporaryDirectory(prefix="striate-lecture-") as where:
        model = striate.train(
            str(source), model="soft/squeezenet1_0", weights=str(weights), size=SIZE, epochs=EPOCHS, out=where,
            name="faces", quiet=True, seed=0,
        )  # fmt: skip
        result = model.evaluate(str(source), "val")
        lines = (Path(where) / "keypoints" / "faces" / "metrics.jsonl").read_text().splitlines()
    assert isinstance(result.metrics, KeypointMetrics)
    said, truth = result.metrics.gathered()
    learnt = open_dataset(str(source), val_fraction=0.2, seed=0).splits["train"]
    sizes = [torch.tensor(read_sample(sample).shape[:0:-1]) for sample in (*learnt, *result.samples)]  # width, height
    shares = torch.stack([sample.target.values[:, :2] / size for sample, size in zip(learnt, sizes, strict=False)])
    mean = shares.mean(0)[None] * torch.stack(sizes[len(learnt) :])[:, None]
    order = errors(said, truth).argsort().tolist()
    chosen = order[:: max(1, len(order) // DRAWN)][: DRAWN - 1] + order[-1:]
    return {
        "curve": [json.loads(line)["val_nme"] for line in lines],
        "said": said[..., :2].tolist(),
        "truth": truth.tolist(),
        "mean": mean.tolist(),
        "learnt": len(learnt),
        "lines": result.metrics.scheme.lines,
        "nme": float(result["nme"]),
        "drawn": {str(index): read_sample(result.samples[index]).tolist() for index in chosen},
    }


CORNERS = (36, 45)  # of 68 points, the outer corners of the eyes


def errors(said: Tensor, truth: Tensor) -> Tensor:
    """Mean distance of the points of each face, in units of the outer eye corners: [N]"""
    unit = (truth[:, CORNERS[0], :2] - truth[:, CORNERS[1], :2]).norm(dim=1)
    return (said[..., :2] - truth[..., :2]).norm(dim=2).mean(1) / unit


def claims(found: dict[str, Any]) -> list[Check]:
    import torch

    truth = torch.tensor(found["truth"])
    ours, blind = (float(errors(torch.tensor(found[name]), truth).mean()) for name in ("said", "mean"))
    return [
        Check(
            "normalised mean error of the network and of the mean face",
            "the network is far better",
            f"{ours:.1%} against {blind:.1%}",
            ours < blind / 2,
            f"{len(truth)} pictures of people who are not among the {found['learnt']} that were learnt from; in units "
            f"of the outer eye corners. {EPOCHS} epochs here; forty do better, see `python -m bench landmarks`.",
        ),
        Check(
            "the error by its definition and by striate evaluate",
            f"{ours:.4f}",
            f"{found['nme']:.4f}",
            abs(ours - found["nme"]) < 5e-5,
        ),
    ]


def faces(found: dict[str, Any]) -> Section:
    import torch

    truth, said = torch.tensor(found["truth"]), torch.tensor(found["said"])
    mean = torch.tensor(found["mean"])
    unit = (truth[:, CORNERS[0], :2] - truth[:, CORNERS[1], :2]).norm(dim=1)[:, None]
    rows = []
    for name, first, last in REGIONS:
        part = slice(first, last)
        values = [float(((points[:, part] - truth[:, part, :2]).norm(dim=2) / unit).mean()) for points in (said, mean)]
        rows.append([name, last - first, *(f"{value:.1%}" for value in values)])
    figures = [
        Figure(
            draw_faces(found),
            "People not learnt from, from the best answer to the worst: what the network says, and its error.",
            "Eight faces with 68 points each, joined to outlines.",
            wide=True,
        ),
        Figure(draw_curve(found), "Error on the people held out; dotted: the mean face.", "A falling curve."),
        Figure(draw_mean(found), "The best answer without looking, on one face: grey the truth.", "Two outlines."),
    ]
    text = f"SqueezeNet from ImageNet’s weights, {SIZE} pixels, soft heat maps, {EPOCHS} epochs."
    return Section("68 points", text, figures, [Table(("part", "points", "network", "mean face"), rows)])


REGIONS = (
    ("jaw", 0, 17),
    ("brows", 17, 27),
    ("nose", 27, 36),
    ("eyes", 36, 48),
    ("mouth", 48, 68),
)


def draw_outline(axes: Axes, points: Any, lines: Any, colour: str, size: float = 2.4) -> None:
    import numpy as np

    points = np.array(points)[:, :2]
    for one, other in lines:
        axes.plot(*points[[one, other]].T, color=colour, linewidth=0.9)
    axes.plot(*points.T, "o", color=colour, markersize=size, markeredgewidth=0)


BRIGHT = "#22e0ff"  # is seen on skin


def around(points: list[list[float]]) -> tuple[float, float, float, float]:
    """left, top, right, bottom of a square around a face, with half as much beside it."""
    xs, ys = ([point[axis] for point in points] for axis in (0, 1))
    x, y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    half = 0.75 * max(max(xs) - min(xs), max(ys) - min(ys))
    return x - half, y - half, x + half, y + half


def draw_faces(found: dict[str, Any]) -> Drawing:
    import torch

    from striate.lectures.detection.localize_pictures import draw_window
    from striate.lectures.diagrams import LETTERS, new_figure

    each = errors(torch.tensor(found["said"]), torch.tensor(found["truth"]))
    figure = new_figure(9.6, 5.3)
    grid = figure.subplots(2, DRAWN // 2).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, (key, picture) in zip(grid, found["drawn"].items(), strict=False):
        draw_window(axes, picture)
        draw_outline(axes, found["said"][int(key)], found["lines"], BRIGHT, size=2)
        axes.set_title(f"{float(each[int(key)]):.1%}", fontsize=LETTERS)
        left, top, right, bottom = around(found["truth"][int(key)])
        axes.set(xlim=(left, right), ylim=(bottom, top))
    return figure


def draw_curve(found: dict[str, Any]) -> Drawing:
    import torch

    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes

    blind = 100 * float(errors(torch.tensor(found["mean"]), torch.tensor(found["truth"])).mean())
    figure = new_figure(4.6, 3.4)
    axes = plain_axes(figure.add_subplot())
    axes.plot(
        range(1, len(found["curve"]) + 1), [100 * value for value in found["curve"]], "o-", color=BLUE, markersize=4
    )
    axes.axhline(blind, color=GREY, linestyle=":", linewidth=1)
    axes.set_ylim(0, 1.1 * max(blind, 100 * max(found["curve"][:1])))
    axes.set_xlabel("epoch", fontsize=LETTERS)
    axes.set_ylabel("error (%)", fontsize=LETTERS)
    return figure


def draw_mean(found: dict[str, Any]) -> Drawing:
    from striate.lectures.diagrams import new_figure

    key = int(list(found["drawn"])[len(found["drawn"]) // 2])
    figure = new_figure(3.6, 3.4)
    axes = figure.add_subplot()
    draw_outline(axes, found["truth"][key], found["lines"], GREY)
    draw_outline(axes, found["mean"][key], found["lines"], ORANGE)
    axes.set(aspect="equal")
    axes.invert_yaxis()
    axes.set_axis_off()
    return figure
