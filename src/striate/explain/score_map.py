"""Any trained classifier slid over a picture: what it sees where, as a map of scores and as boxes (lecture 2, 4)."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.data.transforms import Normalize, with_channels
from striate.errors import UsageError, did_you_mean
from striate.inference.sources import Source, expand
from striate.results import Detections
from striate.tasks.classify.figures import plain
from striate.tasks.detect.nms import nms
from striate.tasks.detect.sliding import Size, fully_convolutional, pair, score_crops, window_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from striate.model import Model

OVERLAP = 0.3  # of two boxes of a class that overlap by more, the worse goes
STEPS = 8  # windows a window's side, where nothing is said and every window must be cut out


@dataclass(frozen=True, slots=True, eq=False)
class ScoreMap:
    """The scores of every window of one picture.

    Attributes:
        source: the picture.
        classes: K names.
        scores: float32 [K, rows, columns] in 0..1, on the CPU.
        window: (height, width) of a window in pixels of the picture.
        stride: pixels from one window to the one below, and to the one beside; not always whole.
        one_pass: whether they come from one fully convolutional pass, or from crops.
    """

    source: Source
    classes: tuple[str, ...]
    scores: Tensor
    window: tuple[float, float]
    stride: tuple[float, float]
    one_pass: bool

    def boxes(self) -> Tensor:
        """float32 [rows, columns, 4]: the windows."""
        rows, columns = self.scores.shape[1:]
        y, x = torch.meshgrid(
            torch.arange(rows) * self.stride[0], torch.arange(columns) * self.stride[1], indexing="ij"
        )
        return torch.stack((x, y, x + self.window[1], y + self.window[0]), 2)


def slide(
    model: Model,
    picture: Any,
    window: int | Size | None = None,
    stride: int | None = None,
    threshold: float = 0.5,
    background: str | None = None,
) -> Detections:
    """What a classifier says of every window, as boxes: those that score enough, without what overlaps a better one.

    Args:
        model: of task classify.
        picture, window, stride: see `score_map`.
        threshold: the probability from which on a window counts, 0..1.
        background: the class that means that nothing is there.

    Raises:
        UsageError: another task; a threshold outside 0..1; no such class; a picture smaller than the window.
        DataError: the picture cannot be read.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"a threshold must be in 0..1, not {threshold}")
    if background is not None and background not in model.classes:
        raise UsageError(
            f'background: "{background}" is not one of the classes.{did_you_mean(background, model.classes)}'
        )
    found = score_map(model, picture, window, stride)
    held = found.scores >= threshold
    if background is not None:
        held[found.classes.index(background)] = False
    label, row, column = torch.where(held)
    boxes, scores = found.boxes()[row, column], found.scores[label, row, column]
    kept = nms(boxes, scores, label, OVERLAP)
    return Detections(found.source, found.classes, boxes[kept], scores[kept], label[kept])


@torch.inference_mode()
def score_map(model: Model, picture: Any, window: int | Size | None = None, stride: int | None = None) -> ScoreMap:
    """The classifier's probabilities of every window: in one pass where network and stride allow it, else crop by crop.

    Args:
        picture: a path, an array, … as `Model.predict` takes one.
        window: height and width in pixels of the picture; it is resized so that the network sees a window at the size
            that it was trained on. None: that size.
        stride: pixels of the picture between windows. None: the network's own total stride; an eighth of a window where
            there is no fully convolutional way.

    Raises:
        UsageError: as `slide`.
        DataError: the picture cannot be read.
    """
    if model.card.task != "classify":
        raise UsageError(f'only a classifier can slide; this model is of task "{model.card.task}"')
    sources, single = expand(picture)
    if not single:
        raise UsageError("one picture slides at a time: pass them one by one")
    source = next(iter(sources))
    image = with_channels(source.load(), model.card.preprocess.channels)
    seen = window_of(model.module, model.card.preprocess.size)  # type: ignore[arg-type]
    wanted = seen if window is None else pair(window)
    if (stride is not None and stride < 1) or min(wanted) < 1:
        raise UsageError(f"window and stride must be at least 1 pixel, not {wanted} and {stride}")
    height, width = image.shape[-2:]
    if height < wanted[0] or width < wanted[1]:
        raise UsageError(
            f"{source}: a window of {wanted[0]}x{wanted[1]} does not fit in a picture of {height}x{width}: "
            "give a smaller window"
        )
    # whole pixels, and never too small for one window
    size = tuple(max(s, round(n * s / w)) for n, s, w in zip((height, width), seen, wanted, strict=True))
    pixels = image[None].float()
    if size != (height, width):
        pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
    scale = size[0] / height, size[1] / width
    inputs = Normalize(model.card.preprocess)(pixels).to(model.device)
    try:
        network = fully_convolutional(model.module, seen).eval()
    except UsageError:
        network = None
    own = network.stride if network is not None else max(1, min(seen) // STEPS)
    step = own if stride is None else max(1, round(stride * scale[0]))
    one_pass = network is not None and gcd(step, own) == own
    if network is not None and one_pass:
        logits = network(inputs)[0, :, :: step // own, :: step // own].permute(1, 2, 0)
    else:
        logits = score_crops(model.module, inputs, seen, step)
    scores = model.task.probabilities(logits.flatten(0, 1).float())  # type: ignore[attr-defined]
    return ScoreMap(
        source,
        model.classes,
        scores.T.unflatten(1, logits.shape[:2]).float().cpu(),
        (seen[0] / scale[0], seen[1] / scale[1]),
        (step / scale[0], step / scale[1]),
        one_pass,
    )


def draw_score_map(found: ScoreMap, name: str) -> Figure:
    """The picture, and over it what every window says of one class, drawn where the windows have their middles.

    Raises:
        UsageError: no such class.
    """
    from matplotlib.figure import Figure

    if name not in found.classes:
        raise UsageError(f'"{name}" is not one of the classes.{did_you_mean(name, found.classes)}')
    scores = found.scores[found.classes.index(name)]
    image = found.source.load()
    height, width = image.shape[-2:]
    figure = Figure(figsize=(5.6, 5.6 * height / width * 0.86 + 0.5), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(image.expand(3, -1, -1).permute(1, 2, 0), extent=(0, width, height, 0))
    rows, columns = scores.shape
    top, left = (found.window[0] - found.stride[0]) / 2, (found.window[1] - found.stride[1]) / 2
    extent = (left, left + columns * found.stride[1], top + rows * found.stride[0], top)
    shown = axes.imshow(scores, cmap="inferno", vmin=0, vmax=1, alpha=0.65, extent=extent, interpolation="nearest")
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.set_title(
        f"{plain(name)}: {rows} × {columns} windows of {found.window[0]:.0f} × {found.window[1]:.0f} px", fontsize=10
    )
    figure.colorbar(shown, ax=axes, label="probability", shrink=0.8)
    return figure
