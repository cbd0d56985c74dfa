"""Loss landscapes as a page: the surface around one network, or around two side by side on one scale.

Li et al. 2018, arXiv:1712.09913. What is computed is in `loss_surface.py` and `sharpness.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from striate.data.loaders import Split
from striate.data.transforms import Normalize
from striate.errors import UsageError
from striate.explain.explanation import Explanation, Request
from striate.explain.labelled import labelled
from striate.explain.landscape.figure import draw_contours, draw_lines, draw_reliefs
from striate.explain.landscape.loss_surface import LINES, Batches, Landscape, measure_landscape
from striate.explain.landscape.sharpness import extreme_eigenvalues, keskar_sharpness
from striate.explain.names import names_of
from striate.inference.predictor import automatic_batch
from striate.tasks.section import Figure, Section, Table

if TYPE_CHECKING:
    from striate.model import Model

LIMIT, POINTS, LEAST_POINTS = 256, 21, 5
BATCH = 64
HESSIAN_PICTURES = 64  # second derivatives cost as much as some ten losses, and are wanted a dozen times
NEAR, FAR = 0.2, 0.5  # radii at which the rise is told


def explain_landscape(model: Model, request: Request) -> Explanation:
    """The loss on a fixed part of a data set around the network's weights, along filter-normalised directions.

    Reads of the request: `sources`, a labelled data set (`photos/:train` for the pictures it learnt from); `other`, a
    second model, drawn beside on the same scale; `steps`, points of an axis, 21 (made odd); `limit`, 256 pictures;
    `seed`. The same seed gives the same surface, bit for bit.

    Values: `names`, `landscapes` (a list of Landscape) and `sharpness` (a list of dicts), one a model.

    Raises:
        UsageError: the sources have no labels, or the network's loss is known in training only (two-stage detectors).
        DataError: no such data, or its classes are not the model's.
    """
    models = [model]
    if request.other is not None:
        models.append(type(model).load(request.other, str(model.device)))
    names = names_of(models)
    prepared = [batches_of(one, request) for one in models]  # what cannot be is told before the long work
    points = max(LEAST_POINTS, (request.steps or POINTS) | 1)
    landscapes, sharpness = [], []
    for one, name, (batches, _) in zip(models, names, prepared, strict=True):

        def say(line: str, name: str = name) -> None:
            request.say(f"{name}: {line}")

        landscapes.append(measure_landscape(one.module, batches, one.task, points, request.seed, say))
        sharpness.append(sharpness_of(one, batches, landscapes[-1], request.seed))
        say("sharpness")
    what, count = prepared[0][1], sum(len(images) for images, _ in prepared[0][0])
    built = [f"{name}: {one.card.architecture}" for name, one in zip(names, models, strict=True)]
    facts = {"model": "; ".join(built), "pictures": f"{count} of {what}", "points": f"{points} × {points}"}
    facts["seed"] = str(request.seed)
    values = {"names": names, "landscapes": landscapes, "sharpness": sharpness}
    return Explanation("Loss landscape", [section_of(names, landscapes, sharpness)], values, facts)


def batches_of(model: Model, request: Request) -> tuple[Batches, str]:
    """The fixed pictures, as the network takes them, and what they are."""
    known = labelled(model, request.sources, request.limit or LIMIT, request.seed)
    if known is None:
        raise UsageError("landscape needs labelled data, as for striate train: the loss is drawn")
    what, samples = known
    task, preprocess = model.task, model.card.preprocess
    pictures = Split(samples, task.collate, preprocess, target_transform=task.target_transform)
    normalize = Normalize(preprocess).to(model.device)
    batches = []
    for part in pictures.eval_batches(min(BATCH, automatic_batch(preprocess.size, model.device))):
        images = part.images.to(model.device).contiguous(memory_format=torch.channels_last)
        batches.append((normalize(images), part.targets.to(model.device)))
    with torch.inference_mode():
        outputs = model.module(batches[0][0][:1])
        if "loss" not in task.loss(outputs, batches[0][1][:1]):
            raise UsageError(f"landscape: {model.card.architecture} has no loss outside training")
    return batches, what


def sharpness_of(model: Model, batches: Batches, landscape: Landscape, seed: int) -> dict[str, float]:
    """Figures of how sharp the minimum is, by name."""
    few: list[Any] = []
    for batch in batches:
        if sum(len(images) for images, _ in few) < HESSIAN_PICTURES:
            few.append(batch)
    largest, smallest = extreme_eigenvalues(model.module, few, model.task, seed=seed)
    return {
        "loss": landscape.centre_fp32,
        "near": landscape.nearest(NEAR),
        "rise near": landscape.rise(NEAR),
        "far": landscape.nearest(FAR),
        "rise far": landscape.rise(FAR),
        "not convex": landscape.bent_down,
        "keskar": keskar_sharpness(model.module, few, model.task),
        "largest eigenvalue": largest,
        "smallest eigenvalue": smallest,
        "eigenvalue ratio": abs(smallest) / largest if largest > 0 else math.inf,
        "rounding": landscape.centre - landscape.centre_fp32,
    }


def section_of(names: list[str], landscapes: list[Landscape], sharpness: list[dict[str, float]]) -> Section:
    near, far = sharpness[0]["near"], sharpness[0]["far"]
    rises = {f"mean rise of the loss at distance {near:.2g}": "rise near"}
    if far != near:  # with few points both are read off at the same one
        rises[f"mean rise of the loss at distance {far:.2g}"] = "rise far"
    rows = [
        ("loss of the network itself", "loss"),
        *rises.items(),
        ("share of the inner square that is not convex", "not convex"),
        ("rise within 1e-3 of each weight, % (Keskar)", "keskar"),
        ("largest eigenvalue of the Hessian", "largest eigenvalue"),
        ("smallest eigenvalue of the Hessian", "smallest eigenvalue"),
        ("size of the smallest over the largest; 0 is convex", "eigenvalue ratio"),
        ("loss by the surface's arithmetic, minus by float32", "rounding"),
    ]
    text = (
        "A step of 1 changes every filter by as much as the filter is long; biases and batch norms stay, and batch "
        "norms use their running statistics. The star is the network. Colours and heights are logarithmic, and the "
        "same for all that is drawn here; what lies above the scale is cut.\n\nA wide bowl without ripples is easily "
        "trained and tends to generalise; Li et al. found that shortcuts make deep networks so."
    )
    return Section(
        "The loss around the weights",
        text,
        [
            Figure(draw_contours(names, landscapes), "Level lines of the loss along two directions.", wide=True),
            Figure(draw_reliefs(names, landscapes), "As a relief: height is the logarithm of the loss.", wide=True),
            Figure(draw_lines(names, landscapes), f"Along {LINES} other directions; bold their mean.", wide=True),
        ],
        [Table(("", *names), [(title, *(row[key] for row in sharpness)) for title, key in rows], "Sharpness")],
    )
