"""Deletion and insertion: how the confidence moves as squares go, or come, in a map's order (Petsiuk et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from striate.explain.explained import ExplainedImage, ExplainedModel, whole_result
from striate.tasks.section import GREY

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

CELLS = 14  # squares along a side: single pixels taken away make noise that no network has learnt to read
STEPS = 14  # points of a curve after the first
RANDOM = 3  # random orders of each picture
BLUR = 0.05  # of the longer side: deviation of the blur that insertion begins with
AT_ONCE = 16


@dataclass(frozen=True)
class Curves:
    """Confidence 0..1 against the share of squares gone (deletion) or come (insertion), float [STEPS + 1], a mean over
    pictures."""

    deletion: Tensor
    insertion: Tensor

    @property
    def areas(self) -> tuple[float, float]:
        """Under the deletion and the insertion curve, 0..1."""
        return tuple(float(torch.trapezoid(one)) / STEPS for one in (self.deletion, self.insertion))  # type: ignore


def curves_of(
    explained: ExplainedModel, pictures: Sequence[ExplainedImage], maps: Mapping[str, Sequence[Tensor]], seed: int
) -> dict[str, Curves]:
    """Of each method's maps, [h, w] a picture, and of `random` orders of squares."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[Curves]] = {name: [] for name in (*maps, "random")}
    for index, one in enumerate(pictures):
        for name, drawn in maps.items():
            found[name].append(curves(explained, one, order_of(drawn[index])))
        for _ in range(RANDOM):
            found["random"].append(curves(explained, one, torch.randperm(CELLS**2, generator=generator)))
    return {
        name: Curves(torch.stack([c.deletion for c in many]).mean(0), torch.stack([c.insertion for c in many]).mean(0))
        for name, many in found.items()
    }


def order_of(found: Tensor) -> Tensor:
    """Squares by the mean of a map [h, w] in them, the greatest first: int64 [CELLS²]."""
    cells = F.adaptive_avg_pool2d(found[None, None].float(), CELLS)
    return cells.flatten().argsort(descending=True, stable=True).cpu()


def curves(explained: ExplainedModel, one: ExplainedImage, order: Tensor) -> Curves:
    """Of one picture, for squares in this order, int64 [CELLS²]."""
    images = one.images
    size = (images.shape[-2], images.shape[-1])
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    gone = torch.linspace(0, len(order), STEPS + 1).round()[:, None, None, None]  # squares gone at each step
    first = F.interpolate(rank.view(1, 1, CELLS, CELLS).float(), size, mode="nearest") < gone  # [STEPS + 1, 1, h, w]
    first = first.to(images.device)
    sigma = BLUR * max(size)
    side = min(2 * round(2 * sigma) + 1, min(size) - 1 + min(size) % 2)
    soft = gaussian_blur(images, [side, side], [sigma, sigma])
    deleted = torch.where(first, torch.zeros_like(images), images)
    inserted = torch.where(first, images, soft)
    return Curves(confidences(explained, one, deleted), confidences(explained, one, inserted))


def confidences(explained: ExplainedModel, one: ExplainedImage, images: Tensor) -> Tensor:
    """How sure the model is of the picture's label in each of these, float [B] in 0..1."""
    found: list[float] = []
    for batch in images.split(AT_ONCE):
        sizes = torch.tensor([one.size]).expand(len(batch), 2)
        predictions = explained.predictor.predict(batch, sizes)
        results = [whole_result(explained.task, prediction, one.source) for prediction in predictions]
        found += [result.confidence_of(one.label) for result in results]
    return torch.tensor(found)


def draw_curves(measured: Mapping[str, Curves], colours: Mapping[str, str]) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(9, 3.6), layout="constrained")
    sides = drawing.subplots(1, 2, sharey=True)
    for axes, kind, label in zip(sides, ("deletion", "insertion"), ("taken away", "put back"), strict=True):
        for name, one in measured.items():
            values = getattr(one, kind).numpy()
            style = {"color": colours.get(name, GREY), "linestyle": "--" if name == "random" else "-"}
            axes.plot(torch.linspace(0, 1, len(values)).numpy(), values, linewidth=1.8, label=name, **style)
        axes.set(title=kind, xlabel=f"share of squares {label}", xlim=(0, 1), ylim=(0, None))
        axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    sides[0].set_ylabel("confidence")
    sides[0].legend(frameon=False, fontsize=8)
    return drawing
