"""A picture, noise that nobody sees, and the other answer that it brings: the figure of the panda and the gibbon.

Goodfellow, Shlens & Szegedy 2015, arXiv:1412.6572, figure 1. The attacks themselves are in `attacks.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from striate.data.seeds import seed_of
from striate.data.targets import class_ids
from striate.data.transforms import eval_transform
from striate.errors import DataError, UsageError
from striate.explain.attacks.adversary_figure import draw_adversary, in_255
from striate.explain.attacks.gradient import Loss, fgsm, in_levels, in_pixels, pgd
from striate.explain.explained import file_name, labels_of
from striate.explain.explanation import Explanation, Label, Request
from striate.inference.sources import Source, expand
from striate.results.words import percent, visible
from striate.tasks.section import Figure, Section, Table

if TYPE_CHECKING:
    from striate.model import Model
    from striate.tasks import Task

STRENGTHS = tuple(levels / 255 for levels in (1, 2, 4, 8))  # tried in turn until the answer changes
PGD_STEPS = 10
MOST = 12  # pictures on a page, unless more are asked for


class Answer(NamedTuple):
    """What a model says of a picture.

    Attributes:
        label, confidence: the class that it is most sure of.
        labels: the classes that hold, the surest first: that one, or where several may, those above their thresholds.
        target: the same as targets are written.
    """

    label: str
    confidence: float
    labels: tuple[str, ...]
    target: int | tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Adversary:
    """One picture attacked.

    Attributes:
        source: where the picture comes from.
        picture, adversary: uint8 [C, h, w], as the network sees them.
        before, after: what the model says of them.
        epsilon: the largest change of a pixel, in 0..1.
        succeeded: the answer changed; with a wanted class: to that.
    """

    source: Source
    picture: Tensor
    adversary: Tensor
    before: Answer
    after: Answer
    epsilon: float
    succeeded: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source.name,
            "before": {"label": self.before.label, "confidence": self.before.confidence},
            "after": {"label": self.after.label, "confidence": self.after.confidence},
            "epsilon": self.epsilon,
            "succeeded": self.succeeded,
        }


def explain_adversary(model: Model, request: Request) -> Explanation:
    """Each picture before and after an attack, with the noise between them magnified.

    Reads of the request: `sources`; `label`, the class to reach (none: away from the model's own answer); `epsilon`
    (none: the smallest of 1, 2, 4 and 8 / 255 that changes the answer); `attack`, FGSM where none is named, and the
    `steps` of PGD, 10; `limit`, `seed`.

    Values: `results`, a dict a picture, as `Adversary.to_dict` gives it; `adversaries`, the Adversary objects.

    Raises:
        UsageError: the model does not know the label, or FGSM is to take several steps.
        DataError: none of the pictures can be read.
    """
    wanted = None if request.label is None else class_index(model, request.label)
    steps = steps_of(request)
    found, skipped = [], []
    for source in islice(expand(request.sources)[0], request.limit or MOST):
        try:
            picture = source.load()
        except DataError as error:
            skipped.append(f"Left out: {error}")
            continue
        found.append(attack_picture(model, source, eval_transform(model.card.preprocess)(picture), request, wanted))
        request.say(told(found[-1]))
    if not found:
        raise DataError(f"none of the pictures could be read; the first: {skipped[0].removeprefix('Left out: ')}")
    changed = sum(one.succeeded for one in found)
    what = "FGSM: x + ε·sign(∇ₓJ)" if steps is None else f"PGD, {steps} steps"
    aim = "away from the model's own answer" if wanted is None else f"towards {visible(model.classes[wanted])}"
    summary = Section(
        "Before and after",
        f"{what}, {aim}: {changed} of {len(found)} answers changed. "
        "Noise is added to the pixels that the network sees, before normalisation; the results are pictures of whole "
        "grey levels, as a file holds them, and no pixel differs by more than ε.",
        tables=[
            Table(
                ("picture", "before", "confidence", "ε", "after", "confidence"),
                [
                    (file_name(one.source), visible(one.before.label), percent(one.before.confidence))
                    + (in_255(one.epsilon), visible(one.after.label), percent(one.after.confidence))
                    for one in found
                ],
            )
        ],
    )
    return Explanation(
        f"Adversaries of {model.name}",
        [summary, *(section_of(one) for one in found)],
        {"results": [one.to_dict() for one in found], "adversaries": found},
        {"model": model.card.architecture, "attack": f"{what}, {aim}", "pictures": str(len(found))},
        skipped,
    )


def attack_picture(model: Model, source: Source, picture: Tensor, request: Request, wanted: int | None) -> Adversary:
    """The weakest attack asked for that succeeds, or the strongest.

    Args:
        picture: uint8 [C, h, w], as the network sees it.
        wanted: the class to reach, None: any other than the model's own.
    """
    task, steps, images = model.task, steps_of(request), picture[None].to(model.device)
    network, loss = in_pixels(model.module, model.card.preprocess, model.device), loss_of(task)
    before = answer_of(task, model.predictor.predict(images)[0])
    own = before.target
    goal = own if wanted is None else (wanted,) if isinstance(own, tuple) else wanted
    targets = task.collate([goal]).to(model.device)
    one: Adversary | None = None
    for epsilon in STRENGTHS if request.epsilon is None else (request.epsilon,):
        generator = torch.Generator().manual_seed(seed_of(request.seed, "adversary", source.name))
        attack = fgsm if steps is None else partial(pgd, steps=steps, generator=generator)
        reached = attack(network, images / 255, targets, epsilon, loss=loss, targeted=wanted is not None)
        adversary = in_levels(reached, images, epsilon)
        after = answer_of(task, model.predictor.predict(adversary)[0])
        succeeded = after.target != own if wanted is None else wanted in class_ids(after.target)
        one = Adversary(source, picture, adversary[0].cpu(), before, after, epsilon, succeeded)
        if succeeded:
            break
    assert one is not None
    return one


def steps_of(request: Request) -> int | None:
    """Of PGD; None for FGSM.

    Raises:
        UsageError: FGSM is to take several.
    """
    if request.attack == "pgd":
        return request.steps or PGD_STEPS
    if request.steps is not None:
        raise UsageError("adversary takes one step, by FGSM; steps are for PGD: ask for attack pgd")
    return None


def class_index(model: Model, label: Label | Sequence[Label]) -> int:
    """Raises UsageError: the model knows no such class, or these are several."""
    found = labels_of(label, model.classes)
    if not isinstance(label, str | int) and len(label) > 1:
        raise UsageError(f"adversary goes towards one class, not {len(label)}")
    return found[0]


def loss_of(task: Task) -> Loss:
    """What a task minimises, as attacks take it."""
    return lambda outputs, targets: task.loss(outputs, targets)["loss"]


def answer_of(task: Task, prediction: Tensor) -> Answer:
    """What is said of one picture."""
    result, (target,) = task.to_result(prediction, Source("", None)), answers(task, [prediction])
    surest = max(range(len(task.classes)), key=result.confidence_of)
    held = sorted(class_ids(target), key=result.confidence_of, reverse=True)
    return Answer(task.classes[surest], result.confidence_of(surest), tuple(task.classes[at] for at in held), target)


def answers(task: Task, predictions: Sequence[Any]) -> list[int | tuple[int, ...]]:
    """What is said of each picture, as targets are written: a class index, or where several may hold, those that do."""
    results = [task.to_result(prediction, Source("", None)) for prediction in predictions]
    return [result.answer for result in results if result.answer is not None]


def section_of(one: Adversary) -> Section:
    return Section(
        file_name(one.source),
        figures=[Figure(draw_adversary(one), told(one), told(one), wide=True)],
    )


def told(one: Adversary) -> str:
    """`cat.jpg: tabby 85 % becomes hare 62 % by 2/255`."""
    before, after = (f"{visible(each.label)} {percent(each.confidence)}" for each in (one.before, one.after))
    how = "becomes" if one.succeeded else "stays" if one.before.labels == one.after.labels else "turns only into"
    return f"{file_name(one.source)}: {before} {how} {after} by {in_255(one.epsilon)}"
