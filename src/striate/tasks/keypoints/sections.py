"""What the report shows of points: numbers, how many pictures are how far off, which points, and the pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from striate.data.sample import Sample
from striate.drawing import draw_points
from striate.results import as_pillow
from striate.tasks.keypoints.metrics import FAILED, KeypointMetrics
from striate.tasks.section import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    Figure,
    PictureCard,
    Section,
    Table,
    numbers_section,
    picture_card,
    refuse_other_count,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

PICTURES = 12
CARD = 240  # pixels, the longer side of a drawn picture
MOST_POINTS = 24  # in the table: the worst

NAMES = {
    "nme": "Normalised mean error (NME)",
    "auc": f"Area under the curve to {FAILED:g}",
    "failures": f"Failures (NME above {FAILED:g})",
    "pck_05": "Points within 0.05 of the unit",
    "pck_10": "Points within 0.1 of the unit",
    "pixels": "Mean distance, pixels",
}


def sections(metrics: KeypointMetrics, samples: Sequence[Sample], read: Callable[[Sample], Tensor]) -> list[Section]:
    """All there is to show; `samples` in the order in which they were judged.

    Raises:
        StriateError: samples and judged outputs differ in number.
    """
    refuse_other_count(len(metrics), samples)
    full = metrics.full()
    left = full["samples"] - full["judged"]
    text = (
        f"Judged on {full['judged']:,} pictures"
        + (f" ({left:,} more have no points to judge by)" if left else "")
        + f". The unit is {full['unit']}. The interval is what another set of as many pictures of the same kind "
        f"would give, 95 times of 100 (bootstrap, {full['resamples']:,} resamples)."
    )
    pictures = picture_sections(metrics, samples, read)
    return [numbers_section(full, NAMES, text), errors_section(metrics), *pictures]


def errors_section(metrics: KeypointMetrics) -> Section:
    of_points = metrics.of_points()
    order = of_points.nan_to_num(-1).argsort(descending=True, stable=True).tolist()
    rows = [[metrics.classes[i], None if of_points[i].isnan() else float(of_points[i])] for i in order[:MOST_POINTS]]
    figures = [
        Figure(
            draw_curve(metrics),
            "How many pictures are off by at most so much: steep and to the left is good.",
            "Curve of the share of pictures by normalised mean error.",
        )
    ]
    if len(metrics.classes) > 2:
        figures.append(
            Figure(
                draw_shape(metrics),
                "Points where they lie on average; a circle is as large as the point is off on average.",
                "Mean shape with a circle a point for its mean error.",
            )
        )
    told = "worst points first" + (f", {MOST_POINTS} of {len(order)}" if len(order) > MOST_POINTS else "")
    table = Table(["point", "mean error, in units"], rows, caption=told)
    return Section("How far off", "", figures, [table])


def draw_curve(metrics: KeypointMetrics) -> Drawing:
    """Cumulative share of pictures by their NME."""
    from matplotlib.figure import Figure

    nme = metrics.of_pictures()["nme"].sort().values
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axes = figure.add_subplot()
    share = torch.arange(1, len(nme) + 1) / len(nme)
    axes.step([0.0, *nme.tolist()], [0.0, *share.tolist()], where="post", color=BLUE)
    axes.axvline(FAILED, linestyle="--", color=GREY, linewidth=1)
    axes.set(xlim=(0, max(1.5 * FAILED, 1.02 * float(nme.quantile(0.95)))), ylim=(0, 1.01))
    axes.set(xlabel="normalised mean error of a picture", ylabel="share of pictures")
    return figure


def draw_shape(metrics: KeypointMetrics) -> Drawing:
    """The mean shape in units, with circles as large as the mean errors."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    shape = mean_shape(metrics)
    radii = metrics.of_points()
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for one, other in metrics.scheme.lines:
        axes.plot(shape[[one, other], 0], shape[[one, other], 1], color=GREY, linewidth=0.8)
    for (x, y), radius in zip(shape.tolist(), radii.tolist(), strict=True):
        if x == x and radius == radius:
            axes.add_patch(Circle((x, y), radius, color=ORANGE, alpha=0.35, linewidth=0))
            axes.plot(x, y, ".", color=RED, markersize=3)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_axis_off()
    return figure


def mean_shape(metrics: KeypointMetrics) -> Tensor:
    """Where each point lies on average from the middle of its picture's points, in units, float64 [K, 2]."""
    from striate.tasks.keypoints.metrics import units

    _, truth = metrics.gathered()
    nan = torch.tensor(float("nan"), dtype=torch.float64)
    points = truth[..., :2].double().where((truth[..., 2] > 0)[..., None], nan)
    return ((points - points.nanmean(1, keepdim=True)) / units(truth, metrics.scheme)[:, None, None]).nanmean(0)


def picture_sections(
    metrics: KeypointMetrics, samples: Sequence[Sample], read: Callable[[Sample], Tensor]
) -> list[Section]:
    """The pictures with the largest and the smallest mean error."""
    said, truth = metrics.gathered()
    nme = metrics.errors().nanmean(1)
    worst = [i for i in nme.nan_to_num(-1).argsort(descending=True, stable=True).tolist() if nme[i] == nme[i]]
    few = max(1, min(PICTURES, len(worst) // 2))

    def card(i: int) -> PictureCard:
        tone = "good" if nme[i] <= FAILED / 2 else "bad" if nme[i] > FAILED else "neutral"
        caption = f"NME {100 * float(nme[i]):.1f} %"
        return picture_card(
            samples[i], lambda one: drawn(read(one), said[i], truth[i], metrics.scheme.lines), caption, tone
        )

    key = "Orange is where the network sees the points, green where they are."
    return [
        Section("Furthest off", f"The largest mean error first. {key}", pictures=[card(i) for i in worst[:PICTURES]]),
        Section("Nearest", f"The smallest mean error first. {key}", pictures=[card(i) for i in worst[::-1][:few]]),
    ]


def drawn(image: Tensor, said: Tensor, truth: Tensor, lines: Sequence[tuple[int, int]]) -> bytes:
    """PNG of a picture uint8 [C, H, W] with points said [K, 3] over the true ones [K, 3]."""
    picture = as_pillow(image)
    scale = CARD / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    factor = torch.tensor([scale, scale, 1.0])
    picture = draw_points(picture, truth * factor, lines, "#22c55e", truth[:, 2] > 0)
    picture = draw_points(picture, said * factor, lines, "#f97316", truth[:, 2] > 0)
    content = BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()
