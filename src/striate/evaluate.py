"""Judging a trained model on labelled pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from striate.data import Dataset, Sample, open_dataset, split_source
from striate.data.loaders import Split, read_sample
from striate.data.sample import renumbered
from striate.data.transforms import Normalize
from striate.errors import DataError
from striate.tasks import Metrics
from striate.tasks.section import Section

if TYPE_CHECKING:
    from striate.model import Model


@dataclass
class Evaluation:
    """How good a model is on a split.

    Attributes:
        split: which one.
        values: the metrics, by name.
        metrics: the task's own object, for the full account (`metrics.full()`).
        samples: judged, in order.
        skipped: a message for each picture that could not be read.
    """

    split: str
    values: dict[str, float]
    metrics: Metrics
    samples: list[Sample]
    skipped: list[str]
    sections: list[Section]

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def to_dict(self) -> dict[str, Any]:
        return {"split": self.split, "count": len(self.samples), "skipped": self.skipped, **self.metrics.full()}


@torch.inference_mode()
def evaluate_model(
    model: Model, data: str, split: str | None = None, batch: int | None = None, download: bool = False
) -> Evaluation:
    """Metrics of a model on a data set: its `test` split if it has one, else `val`, else what there is.

    On the very data it was trained on, what training held out is held out again; other data without splits is judged
    whole.

    Args:
        data: as for `train`; `photos/:val` names a split.
        split: another way to name it.

    Raises:
        DataError: classes that the model does not know, or no such split.
    """
    chosen, samples = labelled_samples(model, data, split, download)
    preprocess = model.card.preprocess
    task = model.task
    targets = task.collate([sample.target for sample in samples])
    pictures = Split(samples, targets, preprocess, workers=0, collate=task.collate if task.spatial else None)
    normalize = Normalize(preprocess).to(model.device)
    metrics = task.metrics()
    model.module.eval()
    order: list[int] = []
    for part in pictures.in_order(batch or judging_batch(preprocess.size)):
        images = part.images.to(model.device).contiguous(memory_format=torch.channels_last)
        outputs = task.settle(model.module(normalize(images)), part.sizes, preprocess)
        metrics.update(outputs, pictures.targets[part.indices])
        order += part.indices.tolist()
        pictures.skipped.extend(part.skipped)
    judged = [pictures.samples[index] for index in order]
    sections = task.sections(metrics, judged, read_sample)
    return Evaluation(chosen, metrics.compute(), metrics, judged, pictures.skipped, sections)


def judging_batch(size: tuple[int, int]) -> int:
    """Pictures judged at once: what a processor's caches and a small GPU's memory bear."""
    return 512 if max(size) <= 64 else max(1, min(64, 64 * 256 * 256 // (size[0] * size[1])))


def labelled_samples(
    model: Model, data: str, split: str | None = None, download: bool = False
) -> tuple[str, list[Sample]]:
    """The split to judge on, by name, and its samples with targets in the model's numbering: see `evaluate_model`.

    Raises:
        DataError: classes that the model does not know, or no such split.
    """
    source, named = split_source(data)
    recipe = model.card.recipe
    own = recipe.get("data") in (source, str(Path(source).resolve()))
    dataset = open_dataset(
        source,
        val_fraction=recipe["val_fraction"] if own else 0.0,
        seed=recipe["seed"] if own else 0,
        task=model.task.name,
        download=download,
    )
    chosen = split or named or next(name for name in ("test", "val", *dataset.splits) if name in dataset.splits)
    if chosen not in dataset.splits:
        raise DataError(f'{source}: there is no split "{chosen}"; there are {", ".join(dataset.splits)}')
    return chosen, in_classes_of(model, dataset, chosen)


def in_classes_of(model: Model, dataset: Dataset, split: str) -> list[Sample]:
    """The samples of a split with targets as indices into the model's classes, whatever their order in the data."""
    known = {name: index for index, name in enumerate(model.task.classes)}
    unknown = [name for name in dataset.classes if name not in known]
    if unknown:
        raise DataError(
            f'{dataset.source}: class "{unknown[0]}" is not among the {len(known)} that the model knows '
            f"({', '.join(list(known)[:5])} …)"
        )
    index = [known[name] for name in dataset.classes]
    return [renumbered(sample, index, len(known)) for sample in dataset.splits[split]]
