"""Pages of attributions: each picture, and beside it what speaks for the answer, by one method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from striate.explain.attribution.maps import (
    SMOOTH_NOISE,
    SMOOTH_SAMPLES,
    averaged,
    grad_cam,
    guided_backpropagation,
    guided_grad_cam,
    hires_cam,
    integrated_gradients,
    occlusion_map,
    smooth_gradient,
)
from striate.explain.attribution.overlay import (
    CLIPPED,
    blurred,
    coloured,
    encoded,
    heat,
    on_picture,
    photograph,
    signed,
    was_seen,
    with_places,
)
from striate.explain.explained import PLACES, ExplainedImage, ExplainedModel, deepest_maps, look_at, maps_by_stage
from striate.explain.explanation import Explanation, Request
from striate.explain.layers import find_layer
from striate.tasks.section import Figure, Section

if TYPE_CHECKING:
    from striate.model import Model

STEPS = 50  # of integrated gradients
ACROSS = 14  # places of the covering square along a side


class Panel(NamedTuple):
    """One map of a picture.

    Attributes:
        name: in `values`.
        found: float [rows, columns] or, for `coloured`, [C, h, w], over the picture that the network saw.
        paint: how it is shown. single: its values are of single pixels, few of which stand far out.
        caption: what it shows.
    """

    name: str
    found: Tensor
    paint: Literal["heat", "signed", "coloured"]
    caption: str
    single: bool = False


PAINTS = {"heat": heat, "signed": signed, "coloured": coloured}
REGIONS = {False: "Grad-CAM", True: "HiResCAM"}  # by whether the task is about places
CITED = {False: "Selvaraju et al. 2017", True: "Draelos & Carin 2020, of Selvaraju et al. 2017"}
PLACEWISE = (
    "HiResCAM is Grad-CAM with each place weighed by its own gradient, not by their mean: this answer is about one "
    "place, and a mean over the picture says nothing of it."
)
BRIGHT = "Black is nothing, pale yellow the most."


def explain_gradcam(model: Model, request: Request) -> Explanation:
    """Grad-CAM of each picture; of answers about places (detections, points) HiResCAM.

    `values["maps"]`: float [H, W], at least 0, one a picture, in its own pixels; `values["layers"]`: the layer of each.
    """
    explained = ExplainedModel.of(model)
    pictures, notes = look_at(explained, request)
    layers: list[str] = []
    remarks: dict[str, None] = {}

    def panels(one: ExplainedImage) -> list[Panel]:
        name, found = regions(explained, one, request)
        layers.append(name)
        size = f"{found.shape[1]} × {found.shape[2]} places"
        if remark := few_places(explained, one, name, found):
            remarks[remark] = None
        caption = f"Where {name} ({size}) speaks for {named(one)}. {BRIGHT}"
        return [Panel("maps", found[0], "heat", caption)]

    explanation = assembled(REGIONS[explained.task.spatial], explained, request, pictures, notes, panels, {})
    explanation.values["layers"] = layers
    explanation.notes[:] = [*remarks, *([PLACEWISE] if explained.task.spatial else []), *notes]
    explanation.facts.update({"layer": ", ".join(dict.fromkeys(layers)), "source": CITED[explained.task.spatial]})
    return explanation


def explain_guided(model: Model, request: Request) -> Explanation:
    """Guided backpropagation of each picture, and its product with Grad-CAM.

    `values["maps"]`: float [H, W], the sum over channels of what is not negative; `values["gradients"]` and
    `values["guided_gradcam"]`: float [C, H, W].
    """
    explained = ExplainedModel.of(model)
    pictures, notes = look_at(explained, request)

    def panels(one: ExplainedImage) -> list[Panel]:
        guided = guided_backpropagation(explained.network, one.images, explained.class_score_of(one))
        name, found = regions(explained, one, request)
        product, answer = guided_grad_cam(guided, found)[0], named(one)
        where = f"Only where {name} speaks for {answer} ({REGIONS[explained.task.spatial]})."
        edges = "The gradient itself: grey is 0. It shows edges of anything."
        return [
            Panel("maps", guided[0].clamp(min=0).sum(0), "heat", f"What would raise the evidence for {answer}.", True),
            Panel("gradients", guided[0], "coloured", edges, True),
            Panel("guided_gradcam", product, "coloured", where, True),
        ]

    notes = [*notes, "Guided backpropagation tells classes apart badly: --how sanity shows how little depends on them."]
    facts = {"source": f"Springenberg et al. 2015; {CITED[explained.task.spatial]}"}
    return assembled("Guided backpropagation", explained, request, pictures, notes, panels, facts)


def explain_saliency(model: Model, request: Request) -> Explanation:
    """The gradient of each picture, the mean of noisy copies.

    `values["maps"]`: float [H, W], the sum over channels of absolute values.
    """
    explained = ExplainedModel.of(model)
    pictures, notes = look_at(explained, request)
    samples = request.steps or SMOOTH_SAMPLES

    def panels(one: ExplainedImage) -> list[Panel]:
        network, images, class_score = explained.network, one.images, explained.class_score_of(one)
        smooth = smooth_gradient(network, images, class_score, samples, seed=request.seed)[0].abs().sum(0)
        caption = f"How {named(one)} hangs on each pixel: mean of {samples} noisy copies. {BRIGHT}"
        return [Panel("maps", smooth, "heat", caption, True)]

    facts = {"noise": f"{SMOOTH_NOISE:g} of the range, {samples} copies, seed {request.seed}"}
    facts["source"] = "Simonyan et al. 2014; Smilkov et al. 2017"
    return assembled("Saliency", explained, request, pictures, notes, panels, facts)


def explain_integrated(model: Model, request: Request) -> Explanation:
    """Integrated gradients of each picture, from the mean colour.

    `values["maps"]`: float [H, W], the sum over channels; for each picture its `values["evidence"]` less
    `values["baseline"]` is what the attributions add up to, to within `values["gap"]` (a share of it).
    """
    explained = ExplainedModel.of(model)
    pictures, notes = look_at(explained, request)
    steps = request.steps or STEPS
    numbers: dict[str, list[float]] = {"baseline": [], "gap": []}

    def panels(one: ExplainedImage) -> list[Panel]:
        class_score = explained.class_score_of(one)
        found = integrated_gradients(explained.network, one.images, class_score, steps)[0].sum(0)
        with torch.no_grad():
            baseline = float(class_score(explained.network(torch.zeros_like(one.images)))[0])
        rise = one.class_score - baseline
        numbers["baseline"].append(baseline)
        numbers["gap"].append(abs(float(found.sum()) - rise) / max(abs(rise), 1e-6))
        total = f"They add up to {found.sum():+.2f}; the evidence rose from {baseline:.2f} to {one.class_score:.2f}."
        caption = f"Orange speaks for {named(one)}, blue against, smoothed a little. {total}"
        return [Panel("maps", found, "signed", caption, True)]

    facts = {"baseline": "the mean colour", "steps": str(steps), "source": "Sundararajan et al. 2017"}
    explanation = assembled("Integrated gradients", explained, request, pictures, notes, panels, facts)
    explanation.values.update(numbers)
    return explanation


def explain_occlusion(model: Model, request: Request) -> Explanation:
    """How much the evidence for each picture's answer falls where a square of the mean colour covers it.

    `values["maps"]`: float [H, W], in units of the evidence, the mean over the squares that cover a pixel;
    `values["squares"]`: float [rows, columns], the fall by each square alone.
    """
    explained = ExplainedModel.of(model)
    pictures, notes = look_at(explained, request)
    across = request.steps or ACROSS
    stride = max(1, -(-min(explained.preprocess.size) // across))
    window = 2 * stride
    squares: list[Tensor] = []

    def panels(one: ExplainedImage) -> list[Panel]:
        found = occlusion_map(
            explained.network, one.images, explained.class_score_of(one), window, stride
        )  # [1, rows, columns]
        squares.append(found[0].cpu())
        caption = (
            f"Orange: covered, the evidence for {named(one)} falls; blue: it rises. "
            f"{extremes(found, one.class_score)} Each pixel shows the mean over the squares that cover it."
        )
        return [Panel("maps", averaged(found, one.images.shape[2:], window, stride)[0], "signed", caption)]

    facts = {
        "square": f"{window} px, every {stride} px, of the mean colour",
        "source": "Zeiler & Fergus 2014, section 4.2",
    }
    explanation = assembled("Occlusion", explained, request, pictures, notes, panels, facts)
    explanation.values["squares"] = squares
    return explanation


def extremes(drops: Tensor, class_score: float) -> str:
    """What the squares that matter most do to the evidence, in a sentence."""
    most, least = float(drops.max()), float(drops.min())
    if most <= 0:
        return f"No square lowers it; one raises it by {-least:.2f}."
    rise = f"another raises it by {-least:.2f}" if least < 0 else "none raises it"
    return f"One square alone costs {most:.2f} of {class_score:.2f}, {rise}."


def regions(explained: ExplainedModel, one: ExplainedImage, request: Request) -> tuple[str, Tensor]:
    """The layer that the request names, or that suits the picture, and where it speaks for the answer:
    [1, rows, columns]."""
    if request.layer is not None:
        name, layer = request.layer, find_layer(explained.network, request.layer)
    else:
        name, layer = deepest_maps(explained, one)
    way = hires_cam if explained.task.spatial else grad_cam
    return name, way(explained.network, one.images, explained.class_score_of(one), layer)


def few_places(explained: ExplainedModel, one: ExplainedImage, name: str, found: Tensor) -> str:
    """A remark where a map, [1, rows, columns], is too coarse to say where; nothing where it is not."""
    rows, columns = found.shape[1:]
    if min(rows, columns) >= PLACES:
        return ""
    finer = [stage for stage, maps in maps_by_stage(explained, one).items() if maps[0] * maps[1] > rows * columns]
    return f"{name} has only {rows} x {columns} places" + (f"; try --layer {finer[-1]}" if finer else "")


def named(one: ExplainedImage) -> str:
    return "the answer" if one.class_name is None else one.class_name


def assembled(
    title: str,
    explained: ExplainedModel,
    request: Request,
    pictures: Sequence[ExplainedImage],
    notes: list[str],
    panels: Callable[[ExplainedImage], list[Panel]],
    facts: dict[str, str],
) -> Explanation:
    """A section a picture: the photograph, and the panels laid over it."""
    values: dict[str, Any] = {
        "sources": [one.source.name for one in pictures],
        "labels": [one.class_name for one in pictures],
        "evidence": [one.class_score for one in pictures],
    }
    sections: list[Section] = []
    for number, one in enumerate(pictures, start=1):
        request.say(f"{title}: {one.name} ({number} of {len(pictures)})")
        shown = was_seen(one.size, explained.preprocess)
        name = one.name
        caption = "The picture" + ("." if bool(shown.all()) else "; the network was not shown what is dark.")
        dimmed = photograph(one.picture) * photograph(shown[None] * 255).clamp(min=0.45)
        figures = [Figure(encoded(with_places(dimmed, one.result, one.picture)), caption, f"The picture {name}")]
        for panel in panels(one):
            found = on_picture(panel.found.float().cpu(), one.size, explained.preprocess)
            values.setdefault(panel.name, []).append(found)
            smooth = blurred(found) if panel.single and panel.paint == "signed" else found
            image = PAINTS[panel.paint](one.picture, smooth, shown, CLIPPED if panel.single else 1.0)
            figures.append(
                Figure(encoded(with_places(image, one.result, one.picture)), panel.caption, f"{title}, {name}")
            )
        text = f"{one.said} Evidence for {named(one)}: {one.class_score:.2f}."
        sections.append(Section(name, text, figures))
    facts = {"evidence": "what the network gives for the class before it becomes a probability", **facts}
    return Explanation(f"{title} of {explained.name}", sections, values, facts, notes)
