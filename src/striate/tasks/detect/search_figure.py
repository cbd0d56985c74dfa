"""Selective search as the lectures draw it: first regions, what merging makes of them, and the boxes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from striate.tasks.detect.first_regions import Array
from striate.tasks.detect.selective_search import LONGEST, hierarchies, selective_search, shrunk

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#24292f"
BOXES = 60  # drawn of each, so that single ones can be seen


def draw_search(image: Tensor, mode: str = "fast") -> bytes:
    """A PNG of six panels: the picture uint8 [C, H, W], its first regions, three levels of merging, the best boxes.

    Regions have the mean colour of their pixels; shown is the first strategy of the mode, the boxes are of all.

    Raises:
        UsageError: as `selective_search`.
    """
    boxes = selective_search(image, mode).numpy()
    picture = shrunk(image, LONGEST[mode])
    hierarchy = hierarchies(picture, mode)[0]
    count = len(hierarchy.merges) + 1
    shown = picture.repeat(3, axis=2) if picture.shape[2] == 1 else picture
    levels = [max(1, round(count / part)) for part in (4, 16, 64)]
    figure, panels = _panels(picture.shape[1] / picture.shape[0])
    panels[0].imshow(shown)
    panels[0].set_title("picture", color=INK, fontsize=10)
    for panel, left in zip(panels[1:5], [count, *levels], strict=True):
        panel.imshow(mean_colours(shown, hierarchy.level(left)))
        name = f"{left} region{'s' if left > 1 else ''}"
        panel.set_title(f"{name}, by graph segmentation" if panel is panels[1] else name, color=INK, fontsize=10)
    panels[5].imshow(shown)
    panels[5].set_title(f"the first {min(BOXES, len(boxes))} of {len(boxes)} boxes", color=INK, fontsize=10)
    _boxes(panels[5], boxes[:BOXES] * (picture.shape[1] / image.shape[2]))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def mean_colours(picture: Array, segments: Array) -> Array:
    """uint8 [H, W, 3]: each region in its mean colour, its border white."""
    count = int(segments.max()) + 1
    sizes = np.maximum(np.bincount(segments.ravel(), minlength=count), 1)
    means = [np.bincount(segments.ravel(), one.ravel(), count) / sizes for one in np.moveaxis(picture, 2, 0)]
    painted = np.stack(means, axis=1)[segments].astype(np.uint8)
    painted[:, 1:][segments[:, 1:] != segments[:, :-1]] = 255
    painted[1:][segments[1:] != segments[:-1]] = 255
    return painted


def _panels(aspect: float) -> tuple[Figure, Array]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8.6 / max(aspect, 0.5)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 3).ravel()
    for panel in panels:
        panel.set_axis_off()
    return figure, panels


def _boxes(panel: object, boxes: Array) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    patches = [Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes]
    panel.add_collection(PatchCollection(patches, facecolor="none", edgecolor="#EE6677", linewidth=0.9))  # type: ignore
