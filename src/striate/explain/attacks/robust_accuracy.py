"""Accuracy under attack against its strength: FGSM and PGD, and whether the adversaries fool another model too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from striate.data.loaders import Split
from striate.data.sample import Sample, remap_classes
from striate.data.seeds import seed_of
from striate.data.targets import class_ids
from striate.data.transforms import eval_transform
from striate.errors import DataError, UsageError
from striate.explain import check_model
from striate.explain.attacks.adversary import answers, loss_of
from striate.explain.attacks.adversary_figure import draw_robust_accuracy, in_255
from striate.explain.attacks.gradient import in_levels, in_pixels, pgd, pixel_gradient
from striate.explain.explanation import Explanation, Request
from striate.explain.labelled import labelled
from striate.explain.names import names_of
from striate.explain.pictures import at_one_size
from striate.inference.predictor import automatic_batch
from striate.inference.sources import expand
from striate.results.words import percent
from striate.tasks.section import Figure, Section, Table

if TYPE_CHECKING:
    from striate.model import Model

STRONGEST, GRADES = 8 / 255, 8  # grades of it, at most
PGD_STEPS = 10
LIMIT = 200  # pictures, unless more are asked for


@dataclass(frozen=True, eq=False)
class AttackSet:
    """Pictures to attack, and what is right to say of them.

    Attributes:
        images: uint8 [N, C, h, w], as the network sees them.
        samples: their names, and as targets the truth in the model's numbering.
        truth: what the targets are, in a sentence.
        has_labels: they are labels, not the model's own answers.
        skipped: a message for each picture that could not be read.
    """

    images: Tensor
    samples: list[Sample]
    truth: str
    skipped: list[str]
    has_labels: bool = True


def explain_robust_accuracy(model: Model, request: Request) -> Explanation:
    """The share of right answers under FGSM and PGD, for ε = 0, 1/255 … 8/255.

    Reads of the request: `sources`, a data set with the model's classes, Samples with indices of them as targets, or
    any pictures: then what is told is the share of answers that stay as they are undisturbed; `epsilon`, the
    strongest, up to which eight strengths of whole grey levels are tried; `steps` of PGD, 10; `limit`, 200; `other`, a
    second model, which is shown the same adversaries; `seed`. A picture that falls to PGD counts as fallen at every
    greater ε: the smaller noise is within it.

    Values: `epsilons`; `fgsm`, `pgd` and, with another model, `other`, `transfer_fgsm`, `transfer_pgd`: a share each;
    `count`; `truth`.

    Raises:
        UsageError: the other is no classifier, or does not know the classes.
        DataError: none of the pictures can be read.
    """
    other = None if request.other is None else second_model(model, request.other)
    attacked = attack_set(model, request)
    steps = request.steps or PGD_STEPS
    epsilons = strengths(request.epsilon or STRONGEST)
    network, *others = names_of([model] if other is None else [model, other])
    names = ["FGSM", f"PGD, {steps} steps"]
    names += [f"{name} on {one}" for one in others for name in names]
    batch, hits = automatic_batch(model.card.preprocess.size, model.device), torch.zeros(len(names), len(epsilons))
    for start in range(0, len(attacked.samples), batch):
        part = slice(start, start + batch)
        generator = torch.Generator().manual_seed(seed_of(request.seed, "epsilons", start))
        hits += hits_of(model, other, attacked.images[part], attacked.samples[part], epsilons, steps, generator)
        request.say(f"{min(start + batch, len(attacked.samples))} of {len(attacked.samples)} pictures")
    rates = [row.tolist() for row in hits.double() / len(attacked.samples)]
    columns = [f"ε {in_255(epsilon)}" if epsilon else "undisturbed" for epsilon in epsilons]
    what = "right answers" if attacked.has_labels else "answers that stay the same"
    text = (
        f"{attacked.truth} {sentence(epsilons, rates[0], rates[1], attacked.has_labels)}\n\n"
        "FGSM takes one step along the gradient's sign, PGD several from a random start: the lower of the two "
        "tells what the network is worth. Where FGSM looks harmless and PGD does not, the network only hides its "
        "gradient."
    )
    if other is not None:
        text += f"\n\nDashed: {others[0]} sees the pictures that were made to fool {network}, not it."
    figure = Figure(
        draw_robust_accuracy(epsilons, dict(zip(names, rates, strict=True)), what),
        f"{what.capitalize()} against ε.",
        wide=True,
    )
    table = Table(("attack", *columns), [(name, *row) for name, row in zip(names, rates, strict=True)])
    keys = ("fgsm", "pgd", "transfer_fgsm", "transfer_pgd")
    values: dict[str, Any] = {"epsilons": epsilons, "count": len(attacked.samples), "truth": attacked.truth}
    values |= dict(zip(keys, rates, strict=False)) | ({"other": request.other} if other is not None else {})
    facts = {"model": model.card.architecture, "pictures": f"{len(attacked.samples):,}", "seed": str(request.seed)}
    skipped = [f"Left out: {message}" for message in attacked.skipped]
    title = f"{'Accuracy' if attacked.has_labels else 'Answers'} of {network} under attack"
    return Explanation(title, [Section("Against the strength", text, [figure], [table])], values, facts, skipped)


def strengths(strongest: float) -> list[float]:
    """From 0 up in whole grey levels, of 0..1: those are what pictures can hold."""
    levels = int(255 * strongest + 1e-3)
    return [level / 255 for level in dict.fromkeys(levels * grade // GRADES for grade in range(GRADES + 1))]


def hits_of(
    model: Model,
    other: Model | None,
    images: Tensor,
    samples: Sequence[Sample],
    epsilons: Sequence[float],
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """How many of a batch are answered rightly: float [attacks, epsilons]; FGSM, PGD, and the same of the other."""
    network, loss = in_pixels(model.module, model.card.preprocess, model.device), loss_of(model.task)
    truth = [sample.target for sample in samples]
    targets, pixels = model.task.collate(truth).to(model.device), images.to(model.device) / 255
    sign = pixel_gradient(network, pixels, targets, loss).sign()  # the same for every ε
    standing = right(model, images, truth)
    hits = torch.zeros(2 if other is None else 4, len(epsilons))
    slow = images.clone()
    for column, epsilon in enumerate(epsilons):
        fast = in_levels(pixels + epsilon * sign, images.to(model.device), epsilon).cpu()
        hits[0, column] = right(model, fast, truth).sum()
        rows = standing.nonzero().flatten() if other is None else torch.arange(len(images))  # the fallen stay fallen
        if epsilon and len(rows):
            reached = pgd(network, pixels[rows], targets[rows], epsilon, steps, loss=loss, generator=generator)
            slow[rows] = in_levels(reached.cpu(), images[rows], epsilon)
            standing[rows] &= right(model, slow[rows], [truth[row] for row in rows.tolist()])
        hits[1, column] = standing.sum()
        if other is not None:
            theirs = [
                remap_classes(sample, in_classes_of(model, other), len(other.classes)).target for sample in samples
            ]
            for row, adversaries in ((2, fast), (3, slow)):
                seen = torch.stack([eval_transform(other.card.preprocess)(picture) for picture in adversaries])
                hits[row, column] = right(other, seen, theirs).sum()
    return hits


def right(model: Model, images: Tensor, truth: Sequence[Any]) -> Tensor:
    """Bool [B]: which pictures, uint8 [B, C, h, w] as the network sees them, are answered as they should be."""
    said = answers(model.task, model.predictor.predict(images))
    return torch.tensor([set(class_ids(one)) == set(class_ids(other)) for one, other in zip(said, truth, strict=True)])


def second_model(model: Model, path: str) -> Model:
    """The model to fool with another's adversaries.

    Raises:
        UsageError: it is no classifier, or does not know the classes.
    """
    other = type(model).load(path, str(model.device))
    check_model(other, ["robust_accuracy"], {})
    in_classes_of(model, other)
    return other


def in_classes_of(model: Model, other: Model) -> list[int]:
    """What each class of the one is called by the other.

    Raises:
        UsageError: it does not know one of them.
    """
    known = {name: index for index, name in enumerate(other.classes)}
    if unknown := [name for name in model.classes if name not in known]:
        raise UsageError(f'other: class "{unknown[0]}" is not among the {len(known)} that it knows')
    return [known[name] for name in model.classes]


def attack_set(model: Model, request: Request) -> AttackSet:
    """The pictures asked for, with their labels or, where they have none that the model knows, its own answers."""
    sources, limit = request.sources, request.limit or LIMIT
    try:
        if (known := labelled(model, sources, limit, request.seed)) is not None:
            return read_all(model, known[1], f"The truth: the labels of {known[0]}.")
    except DataError:
        pass  # pictures without labels will do
    found, skipped = [], []
    for source in islice(expand(sources)[0], limit):
        try:
            found.append(Sample(source.load(), None, source.name))
        except DataError as error:
            skipped.append(str(error))
    if not found:
        raise DataError(f"none of the pictures could be read; the first: {skipped[0]}")
    attacked = read_all(model, found, "Without labels that the model knows: the share of answers that stay the same.")
    return replace(attacked, skipped=[*skipped, *attacked.skipped], has_labels=False)


def read_all(model: Model, samples: list[Sample], truth: str) -> AttackSet:
    """Pictures as the network sees them; those without a target get the model's own answer."""
    pictures = Split(samples, list, at_one_size(model.card.preprocess), cache=True)
    assert isinstance(pictures.stack, torch.Tensor)
    kept = pictures.samples
    if any(sample.target is None for sample in kept):
        batch = automatic_batch(model.card.preprocess.size, model.device)
        parts = pictures.stack.split(batch)
        said = [answer for part in parts for answer in answers(model.task, model.predictor.predict(part))]
        kept = [replace(sample, target=answer) for sample, answer in zip(kept, said, strict=True)]
    return AttackSet(pictures.stack, kept, truth, pictures.skipped)


def sentence(epsilons: Sequence[float], fast: Sequence[float], slow: Sequence[float], has_labels: bool) -> str:
    """What the curves say, in one line."""
    left = f"nder noise of {in_255(epsilons[-1])} FGSM leaves {percent(fast[-1])} and PGD {percent(slow[-1])}."
    return f"Undisturbed, {percent(fast[0])} are answered rightly; u{left}" if has_labels else f"U{left}"
