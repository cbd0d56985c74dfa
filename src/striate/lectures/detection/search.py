"""Before networks proposed regions themselves, pictures did: selective search cuts a picture into small regions by
colour, then joins the two neighbours most alike, again and again, until one is left (Uijlings, van de Sande, Gevers &
Smeulders, IJCV 2013). Every region met on the way is a proposal, so objects of all sizes are among them. Alike means
colour, texture, small ones first, and no holes; some two thousand boxes hold nearly every object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREY, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure as Drawing
    from torch import Tensor

PYTHON = """\
import skimage.data, torch
from striate.tasks.detect.selective_search import hierarchies, selective_search

photo = torch.from_numpy(skimage.data.coffee()[::2, ::2].copy()).permute(2, 0, 1)  # uint8 [3, 200, 300]
hierarchy = hierarchies(photo.permute(1, 2, 0).numpy())[0]
print(len(hierarchy.merges) + 1, "first regions,", len(hierarchy.boxes), "regions with all that merging made")
boxes = selective_search(photo)
print(len(boxes), "proposals from all strategies, the first:", boxes[0].tolist())
"""

PHOTO = "coffee"
COUNTS = (10, 50, 100, 200, 500, 1000, 2000)
PICTURES = 24  # of coco128, for the recall


def show(setting: Setting) -> Shown:
    from striate.lectures.real_data import missing, photograph
    from striate.tasks.detect.selective_search import selective_search

    picture = photograph(PHOTO)
    boxes = selective_search(picture)
    checks = [*merging(picture), _number(len(boxes))]
    sections = [
        Section(
            "Merging, step by step",
            "Regions are shown in the mean colour of their pixels; a merge joins the two neighbours most alike.",
            [
                Figure(
                    draw_steps(picture),
                    "First regions, what is left of them as they merge, and the proposals ranked first.",
                    "A photograph of a cup of coffee, cut into ever fewer regions, and with boxes.",
                    wide=True,
                )
            ],
            [strategies(picture)],
        )
    ]
    source = setting.found("coco128-train")
    if source is None:
        told = (missing("coco128-train", "how many objects the proposals find"),)
        return Shown(tuple(checks), tuple(sections), missing=told)
    inputs = {"pictures": PICTURES, "counts": COUNTS}
    found = setting.remembered("search-recall", inputs, lambda: recall(source, setting))
    check, section = found_objects(found)
    return Shown((*checks, check), (*sections, section))


def _number(count: int) -> Check:
    return Check(
        "proposals of one picture",
        "about 2,000",
        f"{count:,}",
        500 <= count <= 2500,
        "In the fast mode, four strategies; the paper's quality mode, 80 strategies, gives 10,000.",
    )


def merging(picture: Tensor) -> list[Check]:
    """The hierarchy against its rule: its first merge by comparing all pairs in plain loops, and its shape."""
    import numpy as np

    from striate.tasks.detect.first_regions import SPACES, first_regions
    from striate.tasks.detect.selective_search import merged, shrunk

    image = shrunk(picture, 192)
    regions = first_regions(SPACES["hsv"](image), 50)
    hierarchy = merged(regions, "CTSF")
    count = len(regions.sizes)
    best, pair = -1.0, (0, 0)
    for one in range(count):
        for other in range(one + 1, count):
            if not regions.neighbours[one, other]:
                continue
            colour = sum(np.minimum(regions.colours[one], regions.colours[other]))
            texture = sum(np.minimum(regions.textures[one], regions.textures[other]))
            both = regions.sizes[one] + regions.sizes[other]
            left, top = np.minimum(regions.boxes[one], regions.boxes[other])[:2]
            right, bottom = np.maximum(regions.boxes[one], regions.boxes[other])[2:]
            around = (right - left) * (bottom - top)
            alike = (
                colour + texture + (1 - both / regions.segments.size) + (1 - (around - both) / regions.segments.size)
            )
            if alike > best:
                best, pair = float(alike), (one, other)
    first = tuple(sorted(hierarchy.merges[0].tolist()))
    whole = hierarchy.boxes[-1].tolist()
    return [
        Check(
            "the first merge: of all neighbours the two most alike",
            f"regions {pair[0]} and {pair[1]}, likeness {best:.3f}",
            f"regions {first[0]} and {first[1]}",
            first == pair,
            f"Equations 1 to 6 of the paper in plain loops, over {int(regions.neighbours.sum()) // 2} pairs.",
        ),
        Check(
            f"{count} first regions, merged until one is left",
            f"{count - 1} merges; the last region is the picture",
            f"{len(hierarchy.merges)} merges, {whole[2]}×{whole[3]} pixels",
            len(hierarchy.merges) == count - 1 and whole == [0, 0, image.shape[1], image.shape[0]],
        ),
    ]


def strategies(picture: Tensor) -> Table:
    """What each strategy finds in this picture."""
    from striate.tasks.detect.selective_search import LONGEST, MODES, hierarchies, shrunk

    names = {"C": "colour", "T": "texture", "S": "size", "F": "fill"}
    segmentations, likenesses = MODES["fast"]
    told = [(space, k, likeness) for space, k in segmentations for likeness in likenesses]
    rows = []
    for (space, k, likeness), hierarchy in zip(told, hierarchies(shrunk(picture, LONGEST["fast"])), strict=True):
        words = ", ".join(names[letter] for letter in likeness)
        rows.append([space.upper(), k, words, len(hierarchy.merges) + 1, len(hierarchy.boxes)])
    return Table(("colours", "k", "alike by", "first regions", "regions in all"), rows)


def draw_steps(picture: Tensor) -> bytes:
    """Six panels as WebP: the picture, four levels of its first hierarchy, the boxes ranked first."""
    import io

    from PIL import Image

    from striate.tasks.detect.search_figure import draw_search

    buffer = io.BytesIO()
    Image.open(io.BytesIO(draw_search(picture))).convert("RGB").save(buffer, "WEBP", quality=88)
    return buffer.getvalue()


def recall(source: Path, setting: Setting) -> dict[str, Any]:
    """Share of coco128's objects that some of the first n proposals overlap by half, and of as many random boxes."""
    import tempfile
    from pathlib import Path

    import torch

    from striate.data import open_dataset
    from striate.data.reader import read_sample
    from striate.data.targets import PLAIN, Objects
    from striate.lectures.detection.anchors import place_of
    from striate.tasks.detect.boxes import iou
    from striate.tasks.detect.selective_search import selective_search

    generator = torch.Generator().manual_seed(0)
    best: dict[str, list[torch.Tensor]] = {"search": [], "random": []}
    numbers = []
    with tempfile.TemporaryDirectory(prefix="striate-lecture-") as where:
        dataset = open_dataset(place_of(source, Path(where)), val_fraction=0)
        samples = next(iter(dataset.splits.values()))
        chosen = [sample for sample in samples if isinstance(sample.target, Objects) and len(sample.target.boxes)]
        for number, sample in enumerate(chosen[:PICTURES]):
            setting.say(f"selective search: picture {number + 1} of {PICTURES}")
            target = sample.target
            assert isinstance(target, Objects)
            image = read_sample(sample)
            truths = target.boxes[target.kinds == PLAIN]
            proposed = selective_search(image)
            numbers.append(len(proposed))
            size = torch.tensor([image.shape[2], image.shape[1]])
            corners = torch.rand((max(COUNTS), 2, 2), generator=generator).sort(1).values * size
            for name, boxes in (("search", proposed), ("random", corners.flatten(1))):
                overlap = iou(truths, boxes)
                best[name].append(torch.stack([overlap[:, :count].amax(1) for count in COUNTS], 1))
    shares = {name: (torch.cat(rows) >= 0.5).float().mean(0).tolist() for name, rows in best.items()}
    objects = sum(len(rows) for rows in best["search"])
    return {"shares": shares, "objects": objects, "pictures": len(numbers), "proposals": sum(numbers) / len(numbers)}


def found_objects(found: dict[str, Any]) -> tuple[Check, Section]:
    search, random = found["shares"]["search"], found["shares"]["random"]
    check = Check(
        f"objects found by the proposals, {found['pictures']} photographs of coco128",
        "nearly every one",
        f"{search[-1]:.0%} overlap one of {found['proposals']:,.0f} by half; random boxes: {random[-1]:.0%}",
        search[-1] > random[-1] and search[-1] > 0.6,
        f"{found['objects']} objects, of which COCO has many small ones; the paper reports 88 to 99 % on PASCAL "
        "VOC, whose objects are large.",
    )
    rows = [[count, a, b] for count, a, b in zip(COUNTS, search, random, strict=True)]
    figure = Figure(
        draw_recall(search, random), "", "Two rising curves, selective search above random boxes.", wide=True
    )
    return check, Section(
        "Do they hold the objects?",
        "The share of objects that some of the first n boxes overlaps by half.",
        [figure],
        [Table(("first n boxes", "selective search", "random boxes"), rows)],
    )


def draw_recall(search: list[float], random: list[float]) -> Drawing:
    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes

    figure = new_figure(7, 3.3)
    axes = plain_axes(figure.add_subplot())
    for name, shares, colour in (("selective search", search, BLUE), ("random boxes", random, ORANGE)):
        axes.plot(COUNTS, shares, color=colour, marker="o", markersize=4.5, linewidth=1.6)
        axes.text(COUNTS[-1] * 1.08, shares[-1], name, va="center", fontsize=LETTERS)
    axes.set_xscale("log")
    axes.set_xticks(COUNTS, [f"{count:,}" for count in COUNTS])
    axes.minorticks_off()
    axes.set(ylim=(0, 1), xlim=(8, 6500))
    axes.set_xlabel("boxes a picture", fontsize=LETTERS)
    axes.set_ylabel("objects found (IoU 0.5)", fontsize=LETTERS)
    axes.axhline(1, color=GREY, linewidth=0.6, alpha=0.5)
    return figure
