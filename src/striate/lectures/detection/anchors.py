"""Objects of a data set have their own shapes, and a detector learns better from boxes that are like them than from boxes
picked by hand. YOLOv2 finds them by k-means, but measures distance by 1 - IoU, so that a large box's error counts no
more than a small one's (Redmon & Farhadi, CVPR 2017, section 2); YOLOv3 takes nine, three for each of its scales.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from striate.lectures.page import Check, Setting, Shown
from striate.lectures.real_data import inside, missing
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, VIOLET, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from torch import Tensor

PYTHON = """\
import striate
from striate.data.anchor_clusters import cluster, mean_iou, sizes_of

samples = striate.open_dataset("shapes", val_fraction=0).splits["train"]
sizes = sizes_of(samples, striate.Preprocess(size=(416, 416), fit="pad"))  # [N, 2] pixels
anchors = cluster(sizes, 9)
print(len(sizes), "boxes;", [f"{w:.0f}×{h:.0f}" for w, h in anchors.tolist()])
print(f"mean IoU with the nearest of nine: {mean_iou(sizes, anchors):.3f}")
"""

SIDE = 416  # of YOLOv3's pictures
SETS = {"bccd": "blood cells", "coco128-train": "COCO photographs"}
MOST = 12  # anchors on the curve
FEW, MANY = 5, 9


def show(setting: Setting) -> Shown:
    checks: list[Check] = []
    sections: list[Section] = []
    told: list[str] = []
    for name, what in SETS.items():
        folder = setting.found(name)
        if folder is None:
            told.append(missing(name, f"the clusters of its boxes ({what})"))
            continue
        found = setting.remembered(f"anchors-{name}", {"side": SIDE, "most": MOST}, lambda at=folder: clustered(at))
        checks += claims(what, found)
        sections.append(section(what, found))
    if not sections:
        found = setting.remembered("anchors-shapes", {"side": SIDE, "most": MOST}, lambda: clustered("shapes"))
        checks += claims("drawn shapes", found)
        sections.append(section("drawn shapes", found))
    return Shown(tuple(checks), tuple(sections), (PAPER,), tuple(told))


PAPER = (
    "The paper's table 1, on PASCAL VOC: five clusters under IoU reach a mean of 61.0, nine anchors picked by hand 60.9, "
    "five clusters under squared distance 58.7, nine under IoU 67.2."
)


def clustered(source: Path | str) -> dict[str, Any]:
    """Boxes of a set's training pictures, and what stands for them in four ways."""
    from striate.config import Preprocess
    from striate.data import open_dataset
    from striate.data.anchor_clusters import cluster, mean_iou, sizes_of

    with TemporaryDirectory(prefix="striate-lecture-") as where:
        dataset = open_dataset(place_of(source, Path(where)), val_fraction=0)
        samples = dataset.splits.get("train") or next(iter(dataset.splits.values()))
        sizes = sizes_of(samples, Preprocess(size=(SIDE, SIDE), fit="pad"))
    curve = [mean_iou(sizes, cluster(sizes, count)) for count in range(1, MOST + 1)]
    euclid = {count: by_squares(sizes, count) for count in (FEW, MANY)}
    hand = by_hand()
    return {
        "sizes": sizes[:: max(1, len(sizes) // 1500)].tolist(),
        "boxes": len(sizes),
        "curve": curve,
        "anchors": cluster(sizes, MANY).tolist(),
        "squares": {str(count): mean_iou(sizes, found) for count, found in euclid.items()},
        "hand": mean_iou(sizes, hand),
        "hand anchors": hand.tolist(),
    }


def place_of(source: Path | str, where: Path) -> str:
    """The part of an unpacked archive that is a set of boxes.

    coco128's boxes lie beside other tasks: `where` becomes a folder of links to its pictures and them.
    """
    if not isinstance(source, Path):
        return source
    if any(source.rglob("Annotations")):
        return str(inside(source, "Annotations").parent)
    for name, folder in (
        ("images", inside(source, "images")),
        ("labels", inside(inside(source, "object_detection"), "labels")),
    ):
        for path in (path for path in folder.rglob("*.*") if path.is_file()):
            link = where / name / "train" / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    return str(where)


def by_squares(sizes: Tensor, count: int, seed: int = 0) -> Tensor:
    """k-means under squared distance, scikit-learn's, best of ten starts: [count, 2]"""
    import torch
    from sklearn.cluster import KMeans

    centres = KMeans(count, n_init=10, random_state=seed).fit(sizes.numpy()).cluster_centers_
    return torch.from_numpy(centres).to(sizes.dtype)


def by_hand() -> Tensor:
    """Faster R-CNN's nine: areas of 128², 256², 512² for a picture of 600 pixels, at 1:1, 1:2, 2:1; scaled to ours."""
    import torch

    scale = SIDE / 600
    return torch.tensor(
        [[area * scale * ratio**0.5, area * scale / ratio**0.5] for area in (128, 256, 512) for ratio in (0.5, 1, 2)]
    )


def claims(what: str, found: dict[str, Any]) -> list[Check]:
    few, many = found["curve"][FEW - 1], found["curve"][MANY - 1]
    return [
        Check(
            f"{what}: {count} clusters, under IoU against squared distance",
            "under IoU they fit better",
            f"mean IoU {value:.3f} against {found['squares'][str(count)]:.3f}",
            value > found["squares"][str(count)],
        )
        for count, value in ((FEW, few), (MANY, many))
    ] + [
        Check(
            f"{what}: five clusters against nine boxes picked by hand",
            "as good (61.0 against 60.9 on VOC)",
            f"{100 * few:.1f} against {100 * found['hand']:.1f}",
            few >= found["hand"] - 0.005,
            "Faster R-CNN's nine, which no one made for these pictures.",
        )
    ]


def section(what: str, found: dict[str, Any]) -> Section:
    rows = [
        [count, value, found["squares"].get(str(count)), found["hand"] if count == MANY else None]
        for count, value in enumerate(found["curve"], start=1)
    ]
    return Section(
        f"{what[0].upper()}{what[1:]}: {found['boxes']:,} boxes",
        f"Pictures fitted into {SIDE}×{SIDE}; each point is a box's width and height, coloured by its cluster.",
        [
            Figure(draw_sizes(found), "Nine clusters, their means as outlines.", "Points of box sizes in nine colours."),
            Figure(draw_curve(found), "What one more anchor gains.", "A rising curve that flattens."),
        ],
        [Table(("anchors", "mean IoU", "under squared distance", "by hand"), rows)],
    )


def draw_sizes(found: dict[str, Any]) -> Drawing:
    import torch
    from matplotlib.patches import Rectangle

    from striate.data.anchor_clusters import shape_iou
    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes

    tones = (BLUE, ORANGE, GREEN, VIOLET, "#e5484d", "#2da5c4", "#c28a00", "#aa3377", GREY)
    sizes, anchors = torch.tensor(found["sizes"]), torch.tensor(found["anchors"])
    nearest = shape_iou(sizes, anchors).argmax(1)
    figure = new_figure(4.9, 4.4)
    axes = plain_axes(figure.add_subplot())
    for index, (width, height) in enumerate(anchors.tolist()):
        own = sizes[nearest == index]
        axes.scatter(*own.T.tolist(), s=7, color=tones[index], alpha=0.5, linewidths=0)
        axes.add_patch(Rectangle((0, 0), width, height, facecolor="none", edgecolor=tones[index], linewidth=0.9))
        axes.plot(width, height, "o", color=tones[index], markersize=6, markeredgecolor="white")
    most = float(torch.cat((sizes, anchors)).quantile(0.998)) * 1.05
    axes.set(xlim=(0, most), ylim=(0, most), aspect="equal")
    axes.set_xlabel("width, pixels", fontsize=LETTERS)
    axes.set_ylabel("height, pixels", fontsize=LETTERS)
    return figure


def draw_curve(found: dict[str, Any]) -> Drawing:
    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes

    figure = new_figure(4.4, 4.4)
    axes = plain_axes(figure.add_subplot())
    axes.plot(range(1, MOST + 1), found["curve"], color=BLUE, marker="o", markersize=5, linewidth=1.6, label="under IoU")
    counts = [int(count) for count in found["squares"]]
    axes.plot(counts, list(found["squares"].values()), "s", color=ORANGE, markersize=6, label="under squared distance")
    axes.plot(MANY, found["hand"], "D", color=GREY, markersize=6, label="nine picked by hand")
    axes.set_xlabel("anchors", fontsize=LETTERS)
    axes.set_ylabel("mean IoU with the nearest", fontsize=LETTERS)
    axes.set(ylim=(0, 1), xlim=(0.5, MOST + 0.5))
    axes.legend(frameon=False, fontsize=LETTERS, loc="lower right")
    return figure
