"""What the report shows of scores: numbers, said against voted, and the pictures at both ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from striate.data.sample import Sample
from striate.tasks.score.metrics import ScoreMetrics
from striate.tasks.section import (
    BLUE,
    GREY,
    ORANGE,
    Figure,
    PictureCard,
    Section,
    numbers_section,
    picture_card,
    refuse_other_count,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

PICTURES = 12

NAMES = {
    "spearman": "Rank correlation (Spearman)",
    "pearson": "Linear correlation (Pearson)",
    "mae": "Mean error, in grades",
    "emd": "Earth mover's distance",
    "side": "Right side of the middle",
    "spread_spearman": "Rank correlation of the spread",
}


def sections(metrics: ScoreMetrics, samples: Sequence[Sample], read: Callable[[Sample], Tensor]) -> list[Section]:
    """All there is to show; `samples` in the order in which they were judged.

    Raises:
        StriateError: samples and judged outputs differ in number.
    """
    refuse_other_count(len(metrics), samples)
    full = metrics.full()
    text = (
        f"Judged on {full['samples']:,} pictures. The interval is what another set of as many pictures of the same "
        f"kind would give, 95 times of 100 (bootstrap, {full['resamples']:,} resamples)."
    )
    pictures = picture_sections(metrics, samples, read)
    return [numbers_section(full, NAMES, text), agreement_section(metrics), *pictures]


def agreement_section(metrics: ScoreMetrics) -> Section:
    of = metrics.summaries()
    figures = [
        Figure(
            draw_against(of["voted_mean"], of["said_mean"], "mean voted", "mean said"),
            "Each dot is a picture; on the dashed line people and network agree.",
            "Scatter plot of said against voted mean score.",
        ),
        Figure(
            draw_shares(metrics),
            "How often each grade is given, over all pictures.",
            "Bars of the mean shares of grades, voted and said.",
        ),
    ]
    text = "A network that is unsure says a middling score: then the cloud lies flatter than the dashed line."
    if metrics.have_spread:
        figures.append(
            Figure(
                draw_against(of["voted_spread"], of["said_spread"], "spread of votes", "spread said"),
                "The spread (standard deviation) says how much people quarrel about a picture.",
                "Scatter plot of said against voted spread.",
            )
        )
    return Section("Said against voted", text, figures)


def draw_against(truth: Tensor, said: Tensor, x: str, y: str) -> Drawing:
    """Dots and the line of agreement."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axes = figure.add_subplot()
    both = torch.cat([truth, said])
    low, high = float(both.min()), float(both.max())
    margin = 0.05 * max(high - low, 1e-3)
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, "--", color=GREY, linewidth=1)
    size = 18 if len(truth) < 500 else 5
    axes.scatter(truth.numpy(), said.numpy(), s=size, alpha=0.6, color=BLUE, linewidths=0, rasterized=True)
    axes.set(xlim=ends, ylim=ends, xlabel=x, ylabel=y)
    return figure


def draw_shares(metrics: ScoreMetrics) -> Drawing:
    """Mean shares of the grades, voted beside said."""
    from matplotlib.figure import Figure

    said, voted = (shares.mean(0).numpy() for shares in metrics.gathered())
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axes = figure.add_subplot()
    grades = metrics.grades.numpy()
    width = 0.42 * float(grades[1] - grades[0])
    axes.bar(grades - width / 2, voted, width, color=ORANGE, label="voted")
    axes.bar(grades + width / 2, said, width, color=BLUE, label="said")
    if len(grades) <= 12:
        axes.set_xticks(grades)
    axes.set(xlabel="grade", ylabel="share of votes")
    axes.legend(frameon=False)
    return figure


def picture_sections(
    metrics: ScoreMetrics, samples: Sequence[Sample], read: Callable[[Sample], Tensor]
) -> list[Section]:
    """The worst misjudgements, and the pictures that the network likes most and least."""
    of = metrics.summaries()
    error = (of["said_mean"] - of["voted_mean"]).abs()
    order = of["said_mean"].argsort(descending=True, stable=True)
    step = float(metrics.grades[1] - metrics.grades[0])
    few = max(1, min(PICTURES, len(samples) // 2))

    def card(i: int) -> PictureCard:
        caption = f"said {of['said_mean'][i]:.2f} ± {of['said_spread'][i]:.2f}\nvoted {of['voted_mean'][i]:.2f}"
        if metrics.have_spread:
            caption += f" ± {of['voted_spread'][i]:.2f}"
        tone = "good" if error[i] <= step / 2 else "bad" if error[i] > step else "neutral"
        return picture_card(samples[i], read, caption, tone)

    def shown(title: str, text: str, order: Tensor, count: int) -> Section:
        return Section(title, text, pictures=[card(i) for i in order[:count].tolist()])

    worst = error.argsort(descending=True, stable=True)
    return [
        shown("Worst misjudged", "The largest distance between said and voted mean first.", worst, PICTURES),
        shown("Liked most", "The highest mean scores said, highest first.", order, few),
        shown("Liked least", "The lowest mean scores said, lowest first.", order.flip(0), few),
    ]
