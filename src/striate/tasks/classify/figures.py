"""The drawings of a classifier's report, each from plain tensors to a matplotlib Figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, RED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANNOTATED = 20  # up to so many classes each cell of the confusion matrix shows its count
LABELLED = 60  # up to so many classes the axes carry names


def plain(text: str, longest: int = 22) -> str:
    """A class name as matplotlib must get it: one short line, no mathematics between dollars."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return text.replace("$", r"\$")


def draw_confusion(confusion: Tensor, classes: Sequence[str]) -> Figure:
    """Rows are the truth, columns what was said; a cell's strength is its share of the row. Int64 [K, K]."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba
    from matplotlib.figure import Figure

    count = len(classes)
    share = confusion / confusion.sum(1, keepdim=True).clamp_min(1)
    right = torch.eye(count, dtype=torch.bool)
    side = min(10.0, 3.2 + 0.42 * count)
    figure = Figure(figsize=(side, side * 0.92), layout="constrained")
    axes = figure.add_subplot()
    for chosen, colour in ((right, BLUE), (~right, RED)):  # from nothing to full colour: reads on any background
        shades = LinearSegmentedColormap.from_list("shades", [(*to_rgba(colour)[:3], 0.0), to_rgba(colour)])
        strength = share.sqrt().where(chosen, torch.zeros(()))  # the root shows rare mistakes too
        axes.imshow(strength.numpy(), cmap=shades, vmin=0, vmax=1, interpolation="nearest")
    if count <= ANNOTATED:
        axes.set_xticks([i - 0.5 for i in range(count + 1)], minor=True)
        axes.set_yticks([i - 0.5 for i in range(count + 1)], minor=True)
        axes.grid(which="minor", color=GREY, alpha=0.25, linewidth=0.6)
        axes.tick_params(which="both", length=0)
        for row, column in confusion.nonzero().tolist():
            strong = share[row, column] > 0.25
            text = f"{int(confusion[row, column]):,}"
            size = 9 if count <= 12 else 7
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color="white" if strong else "black")
    if count <= LABELLED:
        size = 9 if count <= ANNOTATED else 6
        names = [plain(name) for name in classes]
        turned = 0 if count <= 12 and max(map(len, names)) * count <= 60 else 90
        axes.set_xticks(range(count), names, rotation=turned, fontsize=size)
        axes.set_yticks(range(count), names, fontsize=size)
    axes.set_xlabel("said")
    axes.set_ylabel("true")
    return figure


def draw_reliability(after: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]] | None) -> Figure:
    """Confidence against outcome; on the dashed line they agree. Bins as `reliability_bins` gives them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], linestyle="--", color=GREY, linewidth=1, label="perfect")
    largest = max(bin["count"] for bin in after)
    shown = [(before, ORANGE, "before temperature")] if before else []
    for bins, colour, label in (*shown, (after, BLUE, "as delivered" if before else "this network")):
        filled = [bin for bin in bins if bin["count"]]
        x, y = [bin["confidence"] for bin in filled], [bin["accuracy"] for bin in filled]
        sizes = [18 + 90 * (bin["count"] / largest) ** 0.5 for bin in filled]
        axes.plot(x, y, color=colour, linewidth=1.6, label=label)
        axes.scatter(x, y, s=sizes, color=colour, alpha=0.75, linewidths=0)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.05), xlabel="confidence", ylabel="right")
    axes.legend(loc="upper left", frameon=False)
    return figure


def draw_confidences(confidence: Tensor, good: Tensor, labels: tuple[str, str]) -> Figure:
    """Stacked histogram of confidences [N], split by `good` bool [N]; `labels` name the good and the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    parts = [confidence[good].numpy(), confidence[~good].numpy()]
    axes.hist(parts, bins=25, range=(0, 1), stacked=True, color=[GREEN, RED], label=list(labels), linewidth=0)
    axes.set(xlim=(0, 1), xlabel="confidence", ylabel="count", yscale="symlog")
    axes.legend(loc="upper left", frameon=False)
    return figure


def draw_precision_recall(scores: Tensor, truth: Tensor, names: Sequence[str], thresholds: Sequence[float]) -> Figure:
    """One curve a class and a dot where its threshold stands; `scores` [N, C] are probabilities, `truth` is 0/1."""
    from matplotlib.figure import Figure
    from sklearn.metrics import precision_recall_curve

    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for score, there, name, threshold in zip(scores.T, truth.T, names, thresholds, strict=True):
        precision, recall, _ = precision_recall_curve(there.numpy(), score.numpy())
        (line,) = axes.step(recall, precision, where="post", linewidth=1.6, label=plain(name))
        said = score >= threshold
        hits = float((said & there.bool()).sum())
        if said.any():
            axes.plot(hits / float(there.sum()), hits / float(said.sum()), "o", color=line.get_color(), markersize=6)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
    axes.legend(loc="lower left", frameon=False, fontsize=8)
    return figure
