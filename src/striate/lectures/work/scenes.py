"""One photograph holds several things, so one answer is too few: the lecture's scene network gives several labels, each
with a confidence of its own. Softmax makes labels compete for a sum of 1; a sigmoid a label asks each by itself "is it
there?", so that two that are there can both be sure. Judged is the order of the photographs for each label: average
precision, and its mean over labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.lectures.page import Check, Setting, Shown
from striate.lectures.seeing.real import WEIGHTS, absent
from striate.tasks.section import BLUE, GREEN, GREY, Figure, Section, Table

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure as Drawing

PYTHON = """\
import torch
from striate.tasks.classify.task import Classify

logits = torch.tensor([[3.0, 2.0, -4.0]])  # kitchen, dining room, beach
for task in (Classify(["a", "b", "c"]), Classify(["a", "b", "c"], multi_label=True)):
    shares = task.probabilities(logits)[0]
    print([f"{share:.2f}" for share in shares.tolist()], f"sum {float(shares.sum()):.2f}")
"""

PHOTOS, LISTS = "coco128-train", "places365-lists"
LEAST = 6  # photographs that a label must be on
HELD_OUT = 3  # one photograph in three


def show(setting: Setting) -> Shown:
    checks, sections = [competing()], []
    photos, weights, lists = (setting.found(name) for name in (PHOTOS, WEIGHTS, LISTS))
    if photos is not None and weights is not None:
        inputs = {"least": LEAST, "held out": HELD_OUT, "weights": WEIGHTS}
        found = setting.remembered("scenes", inputs, lambda: judged(photos, weights, setting))
        checks += claims(found)
        sections.append(several(found, photos))
    if lists is not None:
        more, section = places(lists)
        checks += more
        sections.append(section)
    seen = {
        PHOTOS: "photographs with several labels each",
        WEIGHTS: "a network that gives several labels",
        LISTS: "the scenes that the lecture's network knows",
    }
    return Shown(tuple(checks), tuple(sections), (STANDS_FOR,), absent(setting, seen))


STANDS_FOR = (
    "The lecture's network knows Places365; its weights and photographs are not here, only its lists. In their stead "
    "things on COCO photographs are the labels. With Places weights of one's own: `striate convert resnet18_places365."
    "pth --model resnet18 --classes categories_places365.txt`; scenes alone are one label a photograph."
)


def competing() -> Check:
    """Sigmoids and softmax of the same three logits, by hand in plain Python."""
    from math import exp

    import torch

    from striate.tasks.classify.task import Classify

    values = (3.0, 2.0, -4.0)
    powers = [exp(value) for value in values]
    by_hand = [sum(power / sum(powers) for power in powers), sum(1 / (1 + exp(-value)) for value in values)]
    logits, names = torch.tensor([values]), ("kitchen", "dining room", "beach")
    ours = [float(Classify(names, multi_label=several).probabilities(logits).sum()) for several in (False, True)]
    printed, said = (f"{one:.2f} and {other:.2f}" for one, other in (by_hand, ours))
    return Check("sums of softmax and of sigmoids, logits 3, 2, −4", printed, said, printed == said)


def listed(photos: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Labels on at least LEAST photographs, most frequent first, and those of each photograph's path."""
    from collections import Counter

    import yaml

    from striate.lectures.real_data import inside

    folder = inside(photos, "object_detection")
    names = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))["names"]
    pictures = {path.stem: path for path in inside(photos, "images").rglob("*.jpg")}
    on: dict[str, list[str]] = {}
    for path in sorted(inside(folder, "labels").rglob("*.txt")):
        if path.stem not in pictures:
            continue
        numbers = {int(line.split()[0]) for line in path.read_text().splitlines() if line.strip()}
        on[str(pictures[path.stem])] = sorted(names[number] for number in numbers)
    counts = Counter(name for labels in on.values() for name in labels)
    labels = [name for name, count in counts.most_common() if count >= LEAST]
    return labels, {path: [name for name in found if name in labels] for path, found in on.items()}


def judged(photos: Path, weights: Path, setting: Setting) -> dict[str, Any]:
    """Train a head for several labels on SqueezeNet's features; logits and truths of the photographs held out."""
    import csv
    import tempfile
    from pathlib import Path

    import striate
    from striate.tasks.classify.metrics import ClassificationMetrics

    labels, on = listed(photos)
    with tempfile.TemporaryDirectory(prefix="striate-lecture-") as where:
        for split in ("train", "val"):
            with (Path(where) / f"{split}.csv").open("w", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(["image", *labels])
                for number, (path, found) in enumerate(on.items()):
                    if (split == "val") == (number % HELD_OUT == 0):
                        rows.writerow([path, *(int(name in found) for name in labels)])
        setting.say(f"several labels: learning {len(labels)} from {len(on)} photographs")
        model = striate.train(
            where, weights=str(weights), transfer="features", out=where, name="scenes", quiet=True, seed=0
        )
        result = model.evaluate(where, "val")
    assert isinstance(result.metrics, ClassificationMetrics)
    logits, truth = result.metrics.gathered()
    return {
        "labels": list(model.classes),
        "logits": logits.tolist(),
        "truth": truth.int().tolist(),
        "photos": [Path(sample.name).name for sample in result.samples],
    }


def precisions(found: dict[str, Any]) -> dict[str, tuple[float, float, int]]:
    """Average precision (scikit-learn's), the share of photographs that have it, and their number, of each label."""
    import numpy as np
    from sklearn.metrics import average_precision_score

    logits, truth = np.array(found["logits"]), np.array(found["truth"])
    return {
        label: (float(average_precision_score(there, said)), float(there.mean()), int(there.sum()))
        for label, said, there in zip(found["labels"], logits.T, truth.T, strict=True)
        if there.any()
    }


def claims(found: dict[str, Any]) -> list[Check]:
    import torch

    each = precisions(found)
    mean, chance = (sum(row[at] for row in each.values()) / len(each) for at in (0, 1))
    sums = torch.tensor(found["logits"]).sigmoid().sum(1)
    return [
        Check(
            "confidences of one photograph add up to",
            "more than 1, where several labels are there",
            f"{float(sums.min()):.2f} to {float(sums.max()):.2f}",
            float(sums.max()) > 1,
            "A sigmoid each; softmax of the same numbers always adds up to 1.",
        ),
        Check(
            f"mean average precision, {len(each)} labels",
            "above chance",
            f"{mean:.2f} against {chance:.2f}",
            mean > 2 * chance,
            f"{len(found['photos'])} photographs that were not learnt from; chance ranks them at random. Agrees when "
            "more than twice that: some of the labels were seen on four photographs only.",
        ),
    ]


def several(found: dict[str, Any], photos: Path) -> Section:
    each = sorted(precisions(found).items(), key=lambda pair: -pair[1][0])
    rows = [[label, count, round(value, 3), round(share, 3)] for label, (value, share, count) in each]
    figures = [
        Figure(
            draw_photos(found, photos),
            "Green: the label is there. Blue: softmax of the same numbers. Two of the best answers, two of the middle.",
            "Photographs over six bars each, of which several are long.",
            wide=True,
        ),
    ]
    text = (
        f"A linear layer on SqueezeNet’s features, learnt from {len(listed(photos)[1]) - len(found['photos'])} COCO "
        f"photographs for the {len(found['labels'])} things that are on at least {LEAST} of them."
    )
    table = Table(("label", "photographs held out with it", "average precision", "chance"), rows)
    return Section("Several labels a photograph", text, figures, [table])


def draw_photos(found: dict[str, Any], photos: Path) -> Drawing:
    """The photographs held out with the most labels rightly first, over their likeliest labels."""
    import torch

    from striate.images import read_image
    from striate.lectures.diagrams import LETTERS, new_figure
    from striate.lectures.real_data import inside
    from striate.lectures.work.classify import square
    from striate.results.words import percent

    logits, truth = torch.tensor(found["logits"]), torch.tensor(found["truth"])
    sure, shares = logits.sigmoid(), logits.softmax(1)
    pictures = {path.name: path for path in inside(photos, "images").rglob("*.jpg")}
    chosen = typical(sure, truth)
    figure = new_figure(10.4, 4.1)
    grid = figure.subplots(2, len(chosen), height_ratios=(1.7, 1))
    for (photo, bars), row in zip(grid.T, chosen, strict=True):
        photo.imshow(square(read_image(pictures[found["photos"][row]])))
        photo.set_title(f"sum {float(sure[row].sum()):.2f}", fontsize=LETTERS + 0.5)
        for place, label in enumerate(sure[row].topk(6).indices.tolist()):
            colour = GREEN if truth[row, label] else GREY
            value = float(sure[row, label])
            bars.barh(place, 1, color=GREY, alpha=0.16, height=0.86)
            bars.barh(place, value, color=colour, alpha=0.62, height=0.86)
            bars.text(0.02, place, found["labels"][label], va="center", fontsize=LETTERS)
            bars.text(0.98, place, percent(value), va="center", ha="right", fontsize=LETTERS)
            bars.text(1.03, place, f"{float(shares[row, label]):.2f}", va="center", fontsize=LETTERS - 1, color=BLUE)
        bars.set(xlim=(0, 1.16), ylim=(5.6, -0.6))
        for axes in (photo, bars):
            axes.set_axis_off()
    return figure


def typical(sure: Any, truth: Any) -> list[int]:
    """Photographs by how many of their six likeliest labels are there: the best two, and two of the middle."""
    order = truth.gather(1, sure.topk(6).indices).sum(1).argsort(descending=True, stable=True).tolist()
    return [order[place] for place in (0, 1, len(order) // 3, len(order) // 2)]


def places(lists: Path) -> tuple[list[Check], Section]:
    """What the lists of Places365 hold: scenes, whether they are indoors, attributes."""
    lines = [line.split() for line in (lists / "IO_places365.txt").read_text("utf-8").splitlines() if line.strip()]
    attributes = [line for line in (lists / "labels_sunattribute.txt").read_text("utf-8").splitlines() if line.strip()]
    indoor = [name for name, kind in lines if kind == "1"]
    outdoor = [name for name, kind in lines if kind == "2"]

    def some(names: list[str]) -> str:
        return ", ".join(name.split("/", 2)[2].replace("_", " ") for name in names[:: max(1, len(names) // 8)][:8])

    check = Check("scenes of Places365", "365", f"{len(lines)}", len(lines) == 365)
    rows = [
        ["scenes indoors", len(indoor), some(indoor)],
        ["scenes outdoors", len(outdoor), some(outdoor)],
        ["attributes (SUN)", len(attributes), ", ".join(attributes[:: max(1, len(attributes) // 8)][:8])],
    ]
    text = (
        "The lecture’s network says which scene, whether it is indoors (the votes of the ten likeliest scenes), and "
        "which of the attributes hold: the last are several labels, each with its own confidence, as above."
    )
    return [check], Section("What Places365 names", text, [], [Table(("", "number", "some of them"), rows)])
