"""Any trained classifier slid over a picture: what it sees where, as a map of scores and as boxes (lecture 2, 4)."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.backbones import Backbone
from striate.data.transforms import Normalize, with_channels
from striate.errors import UsageError, did_you_mean
from striate.explain.attribution.overlay import encoded
from striate.explain.explained import ExplainedImage, ExplainedModel, look_at
from striate.explain.explanation import Explanation, Label, Request
from striate.inference.sources import Source, expand
from striate.results import Detections
from striate.results.words import percent
from striate.tasks.classify.figures import plain
from striate.tasks.detect.nms import nms
from striate.tasks.detect.sliding import Size, fully_convolutional, pair, score_crops, window_of
from striate.tasks.section import Figure, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from striate.model import Model

OVERLAP = 0.3  # of two boxes of a class that overlap by more, the worse goes
STEPS = 8  # windows a window's side, where nothing is said and every window must be cut out
HALF = 2  # of a page: the window is this part of the picture's shorter side
BEST = 3  # windows of a page that get a box
PICTURES = 4
HELD = 0.5  # the probability from which on a window counts


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


def explain_slide(model: Model, request: Request) -> Explanation:
    """Each picture, what the classifier says of every window of it about one class, and the best windows as boxes.

    Reads of the request: `sources`; `label`; `limit`, 4; `steps`, the picture's shorter side over the window's, 2.

    `values["maps"]`: float [rows, columns] a picture, the probability of the class in each window; `values["boxes"]`:
    float [k, 4], the best windows in pixels of the picture, and `values["confidences"]`, float [k]; `values["window"]`
    and `values["stride"]`: (height, width) in pixels; `values["labels"]` and `values["sources"]`: names.
    """
    explained = ExplainedModel.of(model)
    pictures, notes = look_at(explained, request, PICTURES)
    sections: list[Section] = []
    values: dict[str, list[Any]] = {name: [] for name in ("sources", "labels", "maps", "boxes", "confidences")}
    values |= {"window": [], "stride": []}
    for number, one in enumerate(pictures, start=1):
        request.say(f"Windows: {one.name} ({number} of {len(pictures)})")
        side = max(1, min(one.size) // (request.steps or HALF))
        found = score_windows(model, one.source, one.picture, side, None)
        best = best_windows(found, one.label)
        sections.append(section_of(one, found, best))
        values["sources"].append(one.source.name)
        values["labels"].append(one.class_name)
        values["maps"].append(found.scores[one.label])
        values["boxes"].append(best.boxes)
        values["confidences"].append(best.scores)
        values["window"].append(found.window)
        values["stride"].append(found.stride)
    facts = {"window": f"1/{request.steps or HALF} of the shorter side", "source": "Sermanet et al. 2014 (OverFeat)"}
    return Explanation(f"Windows of {model.name}", sections, dict(values), facts, notes)


def best_windows(found: ScoreMap, label: int) -> Detections:
    """The windows that speak most for a class, none overlapping a better one by more than `OVERLAP`."""
    boxes, scores = found.boxes().flatten(0, 1), found.scores[label].flatten()
    kept = nms(boxes, scores, threshold=OVERLAP, limit=BEST)
    return Detections(found.source, found.classes, boxes[kept], scores[kept], torch.full_like(kept, label))


def section_of(one: ExplainedImage, found: ScoreMap, best: Detections) -> Section:
    rows, columns = found.scores.shape[1:]
    held = float((found.scores[one.label] >= HELD).float().mean())
    how = "in one pass of the network as convolutions" if found.one_pass else "each cut out"
    text = (
        f"{one.said} Of {rows} × {columns} windows, {found.window[0]:.0f} × {found.window[1]:.0f} pixels every "
        f"{found.stride[0]:.0f} ({how}), {percent(held)} are {one.class_name} with a "
        f"probability of {HELD} or more."
    )
    boxed = f"The {len(best)} best windows for {one.class_name}, none overlapping a better one by more than {OVERLAP}."
    mapped = f"What each window says of {one.class_name}, drawn where its middle is."
    return Section(
        one.name,
        text,
        [
            Figure(encoded(best.draw(one.picture)), boxed, f"The best windows of {one.name}"),
            Figure(draw_score_map(found, one.label), mapped, f"Scores of the windows of {one.name}"),
        ],
    )


def slide(
    model: Model,
    picture: Any,
    window: int | Size | None = None,
    stride: int | None = None,
    threshold: float = HELD,
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
    return score_windows(model, source, source.load(), window, stride)


@torch.inference_mode()
def score_windows(
    model: Model, source: Source, picture: Tensor, window: int | Size | None, stride: int | None
) -> ScoreMap:
    """`score_map` of a picture that has been read, uint8 [1 or 3, H, W]."""
    image = with_channels(picture, model.card.preprocess.channels)
    size = model.card.preprocess.size
    seen = window_of(model.module, size) if isinstance(model.module, Backbone) else size
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


def draw_score_map(found: ScoreMap, label: Label) -> Drawing:
    """The picture, and over it what every window says of one class, drawn where the windows have their middles.

    Raises:
        UsageError: no such class.
    """
    from matplotlib.figure import Figure as Drawing

    if isinstance(label, str) and label not in found.classes:
        raise UsageError(f'"{label}" is not one of the classes.{did_you_mean(label, found.classes)}')
    index = found.classes.index(label) if isinstance(label, str) else label
    scores = found.scores[index]
    image = found.source.load()
    height, width = image.shape[-2:]
    figure = Drawing(figsize=(5.6, 5.6 * height / width * 0.86 + 0.5), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(image.expand(3, -1, -1).permute(1, 2, 0), extent=(0, width, height, 0))
    rows, columns = scores.shape
    top, left = (found.window[0] - found.stride[0]) / 2, (found.window[1] - found.stride[1]) / 2
    extent = (left, left + columns * found.stride[1], top + rows * found.stride[0], top)
    shown = axes.imshow(scores, cmap="inferno", vmin=0, vmax=1, alpha=0.65, extent=extent, interpolation="nearest")
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    size = f"{found.window[0]:.0f} × {found.window[1]:.0f} px"
    axes.set_title(f"{plain(found.classes[index])}: {rows} × {columns} windows of {size}", fontsize=10)
    figure.colorbar(shown, ax=axes, label="probability", shrink=0.8)
    return figure
