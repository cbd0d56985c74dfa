"""Pages of attributions: each picture, and beside it what speaks for the answer, by one method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from striate.explain.attribution import (
    SMOOTH_NOISE,
    SMOOTH_SAMPLES,
    grad_cam,
    guided_backpropagation,
    guided_grad_cam,
    integrated_gradients,
    occlusion,
    smooth_gradient,
)
from striate.explain.explanation import Explanation, Request
from striate.explain.overlay import (
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
from striate.explain.subject import Seen, Subject, deepest_maps, layer_of, look_at
from striate.results import visible
from striate.tasks.section import Figure, Section

if TYPE_CHECKING:
    from torch import nn

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
BRIGHT = "Black is nothing, pale yellow the most."


def explain_gradcam(model: Model, request: Request) -> Explanation:
    """Grad-CAM of each picture.

    `values["maps"]`: float [H, W], at least 0, one a picture, in its own pixels.
    """
    subject = Subject.of(model)
    seen, notes = look_at(subject, request)
    name, layer = layer_for(subject, seen, request)

    def panels(one: Seen) -> list[Panel]:
        found = grad_cam(subject.network, one.images, subject.evidence(one.label), layer)[0]
        caption = (
            f"Where {name} ({found.shape[0]} × {found.shape[1]} places) speaks for {named(subject, one)}. {BRIGHT}"
        )
        return [Panel("maps", found, "heat", caption)]

    return assembled("Grad-CAM", subject, seen, notes, panels, {"layer": name, "source": "Selvaraju et al. 2017"})


def explain_guided(model: Model, request: Request) -> Explanation:
    """Guided backpropagation of each picture, and its product with Grad-CAM.

    `values["maps"]`: float [H, W], the sum over channels of what is not negative; `values["gradients"]` and
    `values["guided_gradcam"]`: float [C, H, W].
    """
    subject = Subject.of(model)
    seen, notes = look_at(subject, request)
    name, layer = layer_for(subject, seen, request)

    def panels(one: Seen) -> list[Panel]:
        network, images, evidence = subject.network, one.images, subject.evidence(one.label)
        guided = guided_backpropagation(network, images, evidence)[0]
        product = guided_grad_cam(network, images, evidence, layer)[0]
        answer = named(subject, one)
        return [
            Panel("maps", guided.clamp(min=0).sum(0), "heat", f"What would raise the evidence for {answer}.", True),
            Panel("gradients", guided, "coloured", "The gradient itself: grey is 0. It shows edges of anything.", True),
            Panel("guided_gradcam", product, "coloured", f"Only where {name} speaks for {answer} (Grad-CAM).", True),
        ]

    notes = [*notes, "Guided backpropagation tells classes apart badly: --how sanity shows how little depends on them."]
    facts = {"layer": name, "source": "Springenberg et al. 2015; Selvaraju et al. 2017, section 3.2"}
    return assembled("Guided backpropagation", subject, seen, notes, panels, facts)


def explain_saliency(model: Model, request: Request) -> Explanation:
    """The gradient of each picture, the mean of noisy copies.

    `values["maps"]`: float [H, W], the sum over channels of absolute values.
    """
    subject = Subject.of(model)
    seen, notes = look_at(subject, request)
    samples = request.steps or SMOOTH_SAMPLES

    def panels(one: Seen) -> list[Panel]:
        network, images, evidence = subject.network, one.images, subject.evidence(one.label)
        smooth = smooth_gradient(network, images, evidence, samples, seed=request.seed)[0].abs().sum(0)
        caption = f"How {named(subject, one)} hangs on each pixel: mean of {samples} noisy copies. {BRIGHT}"
        return [Panel("maps", smooth, "heat", caption, True)]

    facts = {"noise": f"{SMOOTH_NOISE:g} of the range, {samples} copies, seed {request.seed}"}
    facts["source"] = "Simonyan et al. 2014; Smilkov et al. 2017"
    return assembled("Saliency", subject, seen, notes, panels, facts)


def explain_integrated(model: Model, request: Request) -> Explanation:
    """Integrated gradients of each picture, from the mean colour.

    `values["maps"]`: float [H, W], the sum over channels; for each picture its `values["evidence"]` less
    `values["baseline"]` is what the attributions add up to, to within `values["gap"]` (a share of it).
    """
    subject = Subject.of(model)
    seen, notes = look_at(subject, request)
    steps = request.steps or STEPS
    numbers: dict[str, list[float]] = {"baseline": [], "gap": []}

    def panels(one: Seen) -> list[Panel]:
        evidence = subject.evidence(one.label)
        found = integrated_gradients(subject.network, one.images, evidence, steps)[0].sum(0)
        with torch.no_grad():
            baseline = float(evidence(subject.network(torch.zeros_like(one.images)))[0])
        rise = one.evidence - baseline
        numbers["baseline"].append(baseline)
        numbers["gap"].append(abs(float(found.sum()) - rise) / max(abs(rise), 1e-6))
        total = f"They add up to {found.sum():+.2f}; the evidence rose from {baseline:.2f} to {one.evidence:.2f}."
        caption = f"Orange speaks for {named(subject, one)}, blue against, smoothed a little. {total}"
        return [Panel("maps", found, "signed", caption, True)]

    facts = {"baseline": "the mean colour", "steps": str(steps), "source": "Sundararajan et al. 2017"}
    explanation = assembled("Integrated gradients", subject, seen, notes, panels, facts)
    explanation.values.update(numbers)
    return explanation


def explain_occlusion(model: Model, request: Request) -> Explanation:
    """How much the evidence for each picture's answer falls where a square of the mean colour covers it.

    `values["maps"]`: float [H, W], in units of the evidence.
    """
    subject = Subject.of(model)
    seen, notes = look_at(subject, request)
    across = request.steps or ACROSS
    stride = max(1, -(-min(subject.preprocess.size) // across))
    window = 2 * stride

    def panels(one: Seen) -> list[Panel]:
        found = occlusion(subject.network, one.images, subject.evidence(one.label), window, stride)[0]
        answer = named(subject, one)
        fall = f"by at most {found.max():.2f} of {one.evidence:.2f}"
        caption = (
            f"Orange: covered, the evidence for {answer} falls, {fall}. Blue: it rises, by at most {-found.min():.2f}."
        )
        return [Panel("maps", found, "signed", caption)]

    facts = {
        "square": f"{window} px, every {stride} px, of the mean colour",
        "source": "Zeiler & Fergus 2014, section 4.2",
    }
    return assembled("Occlusion", subject, seen, notes, panels, facts)


def layer_for(subject: Subject, seen: Sequence[Seen], request: Request) -> tuple[str, nn.Module]:
    """The layer that the request names, else the deepest maps."""
    if request.layer is not None:
        return request.layer, layer_of(subject.network, request.layer)
    return deepest_maps(subject.network, seen[0].images)


def named(subject: Subject, one: Seen) -> str:
    return visible(subject.task.classes[one.label]) if one.label >= 0 else "the answer"


def assembled(
    title: str,
    subject: Subject,
    seen: Sequence[Seen],
    notes: list[str],
    panels: Callable[[Seen], list[Panel]],
    facts: dict[str, str],
) -> Explanation:
    """A section a picture: the photograph, and the panels laid over it."""
    values: dict[str, Any] = {
        "sources": [one.source.name for one in seen],
        "labels": [named(subject, one) if one.label >= 0 else None for one in seen],
        "evidence": [one.evidence for one in seen],
    }
    sections: list[Section] = []
    for one in seen:
        shown = was_seen(one.size, subject.preprocess)
        name = one.name
        caption = "The picture" + ("." if bool(shown.all()) else "; the network was not shown what is dark.")
        dimmed = photograph(one.picture) * photograph(shown[None] * 255).clamp(min=0.45)
        figures = [Figure(encoded(with_places(dimmed, one.result, one.picture)), caption, f"The picture {name}")]
        for panel in panels(one):
            found = on_picture(panel.found.float().cpu(), one.size, subject.preprocess)
            values.setdefault(panel.name, []).append(found)
            smooth = blurred(found) if panel.single and panel.paint == "signed" else found
            image = PAINTS[panel.paint](one.picture, smooth, shown, CLIPPED if panel.single else 1.0)
            figures.append(
                Figure(encoded(with_places(image, one.result, one.picture)), panel.caption, f"{title}, {name}")
            )
        text = f"{one.said} Evidence for {named(subject, one)}: {one.evidence:.2f}."
        sections.append(Section(name, text, figures))
    return Explanation(f"{title} of {subject.architecture}", sections, values, facts, notes)
