"""What the report shows of one object a picture: numbers, classes, how well boxes fit, and the pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from striate.data.sample import Sample
from striate.results import as_pillow
from striate.tasks.localize.metrics import OVERLAP, LocalizeMetrics
from striate.tasks.section import (
    BLUE,
    GREY,
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
SAID, TRUE = "#f97316", "#22c55e"

NAMES = {
    "localized": "Right in all",
    "presence": "Presence",
    "accuracy": "Class",
    "boxed": f"Box, IoU at least {OVERLAP:g}",
    "iou": "Mean IoU",
}


def sections(metrics: LocalizeMetrics, samples: Sequence[Sample], read: Callable[[Sample], Tensor]) -> list[Section]:
    """All there is to show; `samples` in the order in which they were judged.

    Raises:
        StriateError: samples and judged outputs differ in number.
    """
    refuse_other_count(len(metrics), samples)
    full = metrics.full()
    text = (
        f"Judged on {full['samples']:,} pictures, {full['objects']:,} of them with an object; one is said to be there "
        f"from p = {full['threshold']:g} on. The interval is what another set of as many pictures of the same kind "
        f"would give, 95 times of 100 (bootstrap, {full['resamples']:,} resamples)."
    )
    pictures = picture_sections(metrics, samples, read)
    return [numbers_section(full, NAMES, text), classes_section(metrics), *pictures]


def classes_section(metrics: LocalizeMetrics) -> Section:
    keys = ("name", "pictures", "localized", "accuracy", "boxed", "iou")
    rows = [[row[key] for key in keys] for row in metrics.of_classes()]
    table = Table(["class", "pictures", *(NAMES[key].lower() for key in keys[2:])], rows)
    of = metrics.of_pictures()
    figures = []
    if of["there"].any():
        figures.append(
            Figure(
                draw_overlaps(of["iou"][of["there"]]),
                "How well boxes fit: an IoU of 1 is the very box; right of the dashed line it counts as right.",
                "Histogram of the IoU of said and true boxes.",
            )
        )
    return Section("By class, and how boxes fit", "", figures, [table])


def draw_overlaps(iou: Tensor) -> Drawing:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(iou.numpy(), bins=20, range=(0, 1), color=BLUE)
    axes.axvline(OVERLAP, linestyle="--", color=GREY, linewidth=1)
    axes.set(xlim=(0, 1), xlabel="IoU of said and true box", ylabel="objects")
    return figure


def picture_sections(
    metrics: LocalizeMetrics, samples: Sequence[Sample], read: Callable[[Sample], Tensor]
) -> list[Section]:
    """Objects misnamed, missed or badly boxed; objects seen where none is; and some that are right."""
    of, (said, truth) = metrics.of_pictures(), metrics.gathered()
    fit = torch.where(of["named"] & of["seen"], of["iou"], -said[:, 4].double())  # misnamed ones first, surest first

    def card(i: int) -> PictureCard:
        label = int(said[i, 5:].argmax())
        is_seen, is_there = bool(of["seen"][i]), bool(of["there"][i])
        caption = f"{metrics.classes[label]} (p {said[i, 4]:.2f})" if is_seen else f"nothing (p {said[i, 4]:.2f})"
        caption += f"\nis {metrics.classes[int(truth[i, 4])]}, IoU {of['iou'][i]:.2f}" if is_there else "\nis nothing"
        boxes = said[i, :4] if is_seen else None, truth[i, :4] if is_there else None
        tone = "good" if of["right"][i] else "bad"
        return picture_card(samples[i], lambda one: drawn(read(one), *boxes), caption, tone)

    def shown(title: str, text: str, chosen: Tensor, order: Tensor) -> list[Section]:
        rows = [i for i in order.tolist() if chosen[i]][:PICTURES]
        return [Section(title, text, pictures=[card(i) for i in rows])] if rows else []

    key = "Orange is the box said, green the true one."
    worst = fit.argsort(stable=True)
    surest = said[:, 4].argsort(descending=True, stable=True)
    return [
        *shown("Misnamed, missed or misplaced", f"The worst first. {key}", of["there"] & ~of["right"], worst),
        *shown("Seen where nothing is", f"The surest first. {key}", ~of["there"] & of["seen"], surest),
        *shown("Right", f"The best fitting first. {key}", of["there"] & of["right"], worst.flip(0)),
    ]


def drawn(image: Tensor, said: Tensor | None, truth: Tensor | None) -> bytes:
    """PNG of a picture uint8 [C, H, W] with the boxes [4] on it."""
    picture = as_pillow(image)
    scale = CARD / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for box, ink in ((truth, TRUE), (said, SAID)):
        if box is not None:
            left, up, right, down = (box * scale).tolist()
            pen.rectangle((left, up, max(left, right - 1), max(up, down - 1)), outline=ink, width=2)
    content = BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()
