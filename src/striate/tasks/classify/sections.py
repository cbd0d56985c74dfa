"""What the report shows of a classifier: numbers, confusion, classes, confidences, mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from striate.data.sample import Sample
from striate.tasks.classify.figures import (
    draw_confidences,
    draw_confusion,
    draw_precision_recall,
    draw_reliability,
)
from striate.tasks.classify.metrics import ClassificationMetrics
from striate.tasks.section import Figure, Section, Table, numbers_section, picture_card, refuse_other_count

PICTURES = 12  # worst mistakes, and most uncertain, shown
PAIRS = 15  # most confused pairs listed
CURVES = 6  # precision-recall curves drawn: the weakest classes

NAMES = {
    "accuracy": "Accuracy",
    "top5": "Top-5 accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "nll": "Negative log-likelihood",
    "map": "Mean average precision",
    "micro_f1": "Micro F1",
    "exact_match": "Exact match",
}


def sections(
    metrics: ClassificationMetrics, samples: Sequence[Sample], read: Callable[[Sample], Tensor]
) -> list[Section]:
    """All there is to show.

    Args:
        metrics: what was judged.
        samples: the pictures in the order in which they were judged.
        read: a sample's picture, uint8 [3, H, W]; where it raises StriateError the card stays without a picture.

    Raises:
        StriateError: samples and judged outputs differ in number.
    """
    refuse_other_count(len(metrics), samples)
    full = metrics.full()
    text = (
        f"Judged on {full['samples']:,} pictures. The interval is what another set of as many pictures of the same "
        f"kind would give, 95 times of 100 (bootstrap, {full['resamples']:,} resamples); it says nothing of how "
        "another training run would turn out."
    )
    made = [numbers_section(full, NAMES, text)]
    if metrics.multi_label:
        made.append(precision_recall_section(metrics, full))
    else:
        made.append(confusion_section(metrics))
    made += [classes_section(full), confidence_section(metrics, full)]
    return [*made, *(label_pictures if metrics.multi_label else answer_pictures)(metrics, samples, read)]


def confusion_section(metrics: ClassificationMetrics) -> Section:
    confusion, classes = metrics.confusion(), metrics.classes
    wrong = confusion.clone().fill_diagonal_(0)
    support = confusion.sum(1)
    order = wrong.flatten().argsort(descending=True, stable=True)[:PAIRS]
    rows = [
        [classes[true], classes[said], int(wrong[true, said]), f"{wrong[true, said] / support[true]:.1%}"]
        for true, said in ((int(i) // len(classes), int(i) % len(classes)) for i in order)
        if wrong[true, said]
    ]
    mistakes = int(wrong.sum())
    drawing = Figure(
        draw_confusion(confusion, classes),
        "Confusion matrix: a row is a true class, a column what was said. Blue is right, red is wrong; "
        "the strength is the share of the row.",
        f"Confusion matrix of {len(classes)} classes with {mistakes:,} mistakes; the table lists the largest.",
        wide=len(classes) > 12,
    )
    tables = [Table(["true", "said", "pictures", "of the class"], rows, "The most confused pairs")] if rows else []
    text = f"{mistakes:,} of {int(confusion.sum()):,} pictures were named wrongly."
    return Section("What is taken for what", text, [drawing], tables)


def classes_section(full: dict) -> Section:
    rows = sorted(full["per_class"], key=lambda row: 2.0 if row["f1"] is None else row["f1"])
    columns = ["class", "precision", "recall", "f1", "support"]
    if full["multi_label"]:
        columns += ["average_precision", "threshold"]
    absent = sum(row["support"] == 0 for row in rows)
    text = (
        "Precision: of the pictures said to be the class, how many are. Recall: of the class's pictures, how many "
        "were found. F1: their harmonic mean. Support: the class's pictures. The weakest class stands first."
    )
    if absent:
        text += f"\n\n{absent} of the classes had no picture to judge by; means over classes leave them out."
    heads = ["F1" if column == "f1" else column.replace("_", " ") for column in columns]
    return Section("Class by class", text, tables=[Table(heads, [[row[column] for column in columns] for row in rows])])


def confidence_section(metrics: ClassificationMetrics, full: dict) -> Section:
    after, before = full["calibration"], full["calibration"]["before"]
    probabilities, (_, targets) = metrics.probabilities(), metrics.gathered()
    if metrics.multi_label:
        confidence, good, labels = probabilities.flatten(), targets.flatten() > 0.5, ("label there", "label not there")
    else:
        confidence, said = probabilities.max(1)
        good, labels = said == targets, ("right", "wrong")
    text = (
        f"When the network is sure, may one believe it? On average its confidence is off by {after['ece']:.1%} "
        "(expected calibration error over 15 bins, Guo et al. 2017)."
    )
    if before:
        text += (
            f" Before its outputs were divided by a temperature of {metrics.temperature:.2f} it was "
            f"{before['ece']:.1%}. The temperature was chosen on validation "
            "pictures; judged on those same pictures it flatters a little."
        )
    shown = [(name, row) for name, row in (("before temperature", before), ("as delivered", after)) if row]
    measures = ["temperature", "ece", "mce", "brier", "nll"]
    return Section(
        "How sure it is",
        text,
        [
            Figure(
                draw_reliability(after["bins"], before["bins"] if before else None),
                "Reliability: below the dashed line it is too sure, above it too modest. Larger dots hold more.",
                f"Reliability diagram; the expected calibration error is {after['ece']:.1%}.",
            ),
            Figure(
                draw_confidences(confidence, good, labels),
                "How often each confidence comes up (the count is on a logarithmic scale).",
                f"Histogram of confidences, split into {labels[0]} and {labels[1]}.",
            ),
        ],
        [
            Table(
                ["", "temperature", "expected error", "largest error", "Brier score", "log-likelihood (negative)"],
                [[name, *(row[measure] for measure in measures)] for name, row in shown],
            )
        ],
    )


def precision_recall_section(metrics: ClassificationMetrics, full: dict) -> Section:
    there = [i for i, row in enumerate(full["per_class"]) if row["support"]]
    weakest = sorted(there, key=lambda i: full["per_class"][i]["average_precision"])[:CURVES]
    drawing = draw_precision_recall(
        metrics.probabilities()[:, weakest],
        metrics.gathered()[1][:, weakest],
        [metrics.classes[i] for i in weakest],
        [metrics.thresholds[i] for i in weakest],
    )
    few = f"the {len(weakest)} weakest of {len(there)} classes" if len(weakest) < len(there) else "every class"
    return Section(
        "Finding against false alarms",
        "A label is said when its probability reaches its threshold. A lower threshold finds more and errs more: "
        f"the curves show the choice for {few}, the dots where the thresholds stand.",
        [Figure(drawing, "Precision against recall.", f"Precision-recall curves of {few}.", wide=True)],
    )


def answer_pictures(
    metrics: ClassificationMetrics, samples: Sequence[Sample], read: Callable[[Sample], Tensor]
) -> list[Section]:
    """The surest mistakes and the least sure answers, one label a picture."""
    probabilities, (_, targets) = metrics.probabilities(), metrics.gathered()
    top = probabilities.topk(min(2, probabilities.shape[1]), dim=1)
    confidence, said = top.values[:, 0], top.indices[:, 0]
    wrong = said != targets

    def caption(i: int) -> str:
        true = metrics.classes[int(targets[i])]
        if not wrong[i]:
            return f"rightly {true}, {confidence[i]:.1%}"
        return f"{metrics.classes[int(said[i])]}? {confidence[i]:.1%}\nit is {true}, {probabilities[i, targets[i]]:.1%}"

    worst = confidence.where(wrong, torch.tensor(-1.0)).argsort(descending=True, stable=True)
    worst = worst[: min(PICTURES, int(wrong.sum()))].tolist()
    mistakes = "The surest mistakes first. Look for wrong labels too: the truth is only what the files say."
    if not worst:
        mistakes = "None: every picture was named rightly."
    made = [
        Section("Worst mistakes", mistakes, pictures=[picture_card(samples[i], read, caption(i), "bad") for i in worst])
    ]
    if top.values.shape[1] == 2:
        unsure = (top.values[:, 0] - top.values[:, 1]).argsort(stable=True)[:PICTURES].tolist()
        cards = [picture_card(samples[i], read, caption(i), "bad" if wrong[i] else "good") for i in unsure]
        text = "The first and the second choice are nearly level here. More pictures like these teach the most."
        made.append(Section("Least sure", text, pictures=cards))
    return made


def label_pictures(
    metrics: ClassificationMetrics, samples: Sequence[Sample], read: Callable[[Sample], Tensor]
) -> list[Section]:
    """The surest wrong labels and misses, several labels a picture."""
    probabilities, truth, said = metrics.probabilities(), metrics.gathered()[1].bool(), metrics.said()
    sure_of_wrong = torch.where(said, probabilities, 1 - probabilities).where(said != truth, torch.tensor(-1.0))
    surest, label = sure_of_wrong.max(1)
    order = surest.argsort(descending=True, stable=True)
    worst = order[: min(PICTURES, int((surest >= 0).sum()))].tolist()

    def caption(i: int) -> str:
        name, p = metrics.classes[int(label[i])], float(probabilities[i, label[i]])
        first = f"{name}? {p:.1%}, it is not there" if said[i, label[i]] else f"missed {name}, {p:.1%}"
        there = [metrics.classes[int(k)] for k in truth[i].nonzero().flatten()[:6]]
        return f"{first}\ntrue: {', '.join(there) or 'no label'}"

    text = "The surest wrong label of each picture, surest first." if worst else "None: every label is right."
    return [
        Section("Worst mistakes", text, pictures=[picture_card(samples[i], read, caption(i), "bad") for i in worst])
    ]
