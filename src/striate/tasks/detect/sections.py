"""What the report shows of a detector: numbers, curves, confusion, classes, sizes, and the worst errors pictured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from striate.data.sample import Sample
from striate.tasks.classify.figures import draw_confusion
from striate.tasks.detect.figures import draw_curves, draw_object, draw_sizes
from striate.tasks.detect.metrics import DetectionMetrics
from striate.tasks.section import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    Figure,
    PictureCard,
    Row,
    Section,
    Table,
    numbers_section,
    picture_card,
    refuse_other_count,
)

PICTURES = 12  # worst misses, and surest false alarms, shown
PAIRS = 15  # most confused pairs listed
CURVES = 6  # precision-recall curves drawn: the weakest classes

NAMES = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP, small objects",
    "ap_medium": "AP, medium objects",
    "ap_large": "AP, large objects",
    "ar100": "AR, 100 detections",
}


def sections(metrics: DetectionMetrics, samples: Sequence[Sample], read: Callable[[Sample], Tensor]) -> list[Section]:
    """All there is to show.

    Args:
        metrics: what was judged.
        samples: the pictures in the order in which they were judged.
        read: a sample's picture, uint8 [3, H, W]; where it raises StriateError the card stays without a picture.

    Raises:
        StriateError: samples and judged pictures differ in number.
    """
    refuse_other_count(metrics.judged.pictures, samples, "pictures")
    full = metrics.full()
    return [
        numbers_section(full, NAMES, numbers_text(full), voc_rows(full)),
        curves_section(full),
        confusion_section(metrics, full),
        classes_section(full),
        sizes_section(full),
        misses_section(metrics, samples, read),
        false_alarms_section(metrics, samples, read),
    ]


def numbers_text(full: dict[str, Any]) -> str:
    return (
        f"Judged on {full['objects']:,} objects of {full['samples']:,} pictures, with {full['detections']:,} "
        "detections. A detection is right when it has the class of an object that no better one found and overlaps it "
        "enough (IoU: the shared area, of the area that both cover). The interval is what another set of as many "
        f"pictures of the same kind would give, 95 times of 100 (bootstrap, {full['resamples']:,} resamples); it says "
        "nothing of how another training run would turn out."
    )


def voc_rows(full: dict[str, Any]) -> list[Row]:
    area = "area below precision against recall at IoU 0.5, the mean over classes (PASCAL VOC 2010 to 2012)"
    meanings = {"voc12": area, "voc07": "the same from eleven recalls (PASCAL VOC 2007)"}
    return [[f"{metric.upper()} AP50", full[metric], "–", meaning] for metric, meaning in meanings.items()]


def curves_section(full: dict[str, Any]) -> Section:
    there = [i for i, curve in enumerate(full["curves"]) if curve is not None]
    if not there:
        return Section("Precision against recall", "No picture has an object to find.")
    weakest = sorted(there, key=lambda i: full["per_class"][i]["ap50"])[:CURVES]
    mean = torch.tensor([full["curves"][i] for i in there]).mean(0).tolist() if len(there) > 1 else None
    which = "of each class" if len(there) <= CURVES else f"of the {CURVES} weakest of {len(there)} classes"
    caption = f"Precision against recall at IoU 0.5, {which}."
    figure = Figure(
        draw_curves([full["curves"][i] for i in weakest], [full["classes"][i] for i in weakest], mean),
        caption,
        f"Curves of precision against recall; AP50 is {full['scalars']['ap50']['value']:.1%}.",
    )
    return Section(
        "Precision against recall",
        "With a lower threshold more objects are found (recall) and more of what is shown is wrong (precision). A "
        "curve that ends early: the other objects are found by no detection, however unsure.",
        [figure],
    )


def confusion_section(metrics: DetectionMetrics, full: dict[str, Any]) -> Section:
    confusion = torch.tensor(full["confusion"])
    names = [*metrics.classes, "nothing"]
    others = confusion.clone().fill_diagonal_(0)
    rows = []
    for place in others.flatten().argsort(descending=True, stable=True)[:PAIRS].tolist():
        true, said = divmod(place, len(names))
        if others[true, said]:
            share = f"{others[true, said] / confusion[true].sum():.1%}" if true < len(names) - 1 else "–"
            rows.append([names[true], names[said], int(others[true, said]), share])
    right, missed, alarms = int(confusion.trace()), int(confusion[:-1, -1].sum()), int(confusion[-1].sum())
    text = (
        f"At the thresholds {right:,} objects are found, {missed:,} are met by nothing, "
        f"{int(others[:-1, :-1].sum()):,} are taken for another class, and {alarms:,} detections met no object."
    )
    if not full["thresholds_given"]:
        text += " The thresholds are those that make F1 best on these very pictures, which flatters a little."
    figure = Figure(
        draw_confusion(confusion, names),
        "A row is a true class, a column what was said, at IoU 0.5. Blue is right, red is wrong; the strength is the "
        "share of the row. The last column: objects missed. The last row: detections where nothing is.",
        f"Confusion matrix of {len(names) - 1} classes and nothing; {missed:,} missed, {alarms:,} false alarms.",
        wide=len(names) > 12,
    )
    tables = [Table(["true", "said", "count", "of the class"], rows, "The most frequent errors")] if rows else []
    return Section("What is taken for what", text, [figure], tables)


def classes_section(full: dict[str, Any]) -> Section:
    columns = ["class", "ap", "ap50", "precision", "recall", "f1", "threshold", "count"]
    heads = ["class", "AP", "AP50", "precision", "recall", "F1", "threshold", "objects"]
    rows = sorted(full["per_class"], key=lambda row: 2.0 if row["ap"] is None else row["ap"])
    absent = sum(row["count"] == 0 for row in rows)
    text = (
        "AP and AP50 judge the order of all detections. Precision, recall and F1 hold at the threshold and IoU 0.5. "
        "The weakest class stands first."
    )
    if absent:
        text += f"\n\n{absent} of the classes had no object to judge by; means over classes leave them out."
    return Section("Class by class", text, tables=[Table(heads, [[row[column] for column in columns] for row in rows])])


def sizes_section(full: dict[str, Any]) -> Section:
    sizes = full["per_size"]
    text = (
        "COCO's bands, in pixels of the original picture: small is up to 32 × 32, large from 96 × 96 on. Where small "
        "objects are weak, a larger input size or tiling helps."
    )
    figure = Figure(draw_sizes(sizes), "Average precision by the size of objects.", "Bars of AP and AP50 by size.")
    rows = [[row[key] for key in ("size", "ap", "ap50", "ar100", "count")] for row in sizes]
    return Section("Large and small", text, [figure], [Table(["size", "AP", "AP50", "AR100", "objects"], rows)])


def misses_section(metrics: DetectionMetrics, samples: Sequence[Sample], read: Callable[[Sample], Tensor]) -> Section:
    misses = metrics.misses()
    if not misses:
        return Section("Worst misses", "None: every object was found.")
    found = metrics.shown()

    def caption(miss: dict[str, Any]) -> str:
        if miss["said"]:
            why = f"taken for {miss['said']}"
        elif miss["score"]:
            why = f"found, but with {miss['score']:.1%} only"
        else:
            why = "nothing was said"
        return f"missed {miss['class']}\n{why}"

    cards = []
    for miss in misses[:PICTURES]:
        said = found.boxes[found.pictures == miss["picture"]]
        cards.append(card(samples[miss["picture"]], read, miss["box"], ORANGE, said, BLUE, caption(miss)))
    text = (
        f"{len(misses):,} objects were not found by a detection of their class; the largest first. Orange is the "
        "object, blue what was detected. Look for wrong boxes too: the truth is only what the files say."
    )
    return Section("Worst misses", text, pictures=cards)


def false_alarms_section(
    metrics: DetectionMetrics, samples: Sequence[Sample], read: Callable[[Sample], Tensor]
) -> Section:
    alarms = metrics.false_alarms()
    if not alarms:
        return Section("Surest false alarms", "None: every detection found an object.")
    truth = metrics.judged.truth

    def caption(alarm: dict[str, Any]) -> str:
        if alarm["true"]:
            why = f"it is {alarm['true']}"
        elif alarm["overlap"] >= 0.5:
            why = "found twice"
        elif alarm["overlap"] >= 0.1:
            why = f"the box is off, IoU {alarm['overlap']:.2f}"
        else:
            why = f"no {alarm['class']} is marked here"
        return f"{alarm['class']}? {alarm['score']:.1%}\n{why}"

    cards = []
    for alarm in alarms[:PICTURES]:
        there = truth.boxes[truth.pictures == alarm["picture"]]
        cards.append(card(samples[alarm["picture"]], read, alarm["box"], RED, there, GREEN, caption(alarm)))
    text = (
        f"{len(alarms):,} detections found no object of their class that was still to be found; the surest first. Red "
        "is the detection, green what the files mark. An object that nobody marked shows up here."
    )
    return Section("Surest false alarms", text, pictures=cards)


def card(
    sample: Sample,
    read: Callable[[Sample], Tensor],
    box: Sequence[float],
    colour: str,
    others: Tensor,
    other_colour: str,
    caption: str,
) -> PictureCard:
    def drawn(sample: Sample) -> Tensor:
        return draw_object(read(sample), box, colour, others, other_colour)

    return picture_card(sample, drawn, caption, "bad")
