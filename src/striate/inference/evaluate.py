"""Judging a trained model on labelled pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from striate.data import Dataset, Sample, open_dataset, split_source
from striate.data.loaders import Split, read_sample
from striate.data.sample import renumbered
from striate.data.transforms import Normalize
from striate.errors import DataError, ImageError
from striate.inference.tiles import detect_tiled
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
    model: Model,
    data: str,
    split: str | None = None,
    batch: int | None = None,
    download: bool = False,
    tile: int | Literal["auto"] | None = None,
    tile_overlap: float = 0.2,
) -> Evaluation:
    """Metrics of a model on a data set: its `test` split if it has one, else `val`, else what there is.

    On the very data it was trained on, what training held out is held out again; other data without splits is judged
    whole.

    Args:
        data: as for `train`; `photos/:val` names a split.
        split: another way to name it.
        tile: look for objects in tiles of so many pixels a side too, as `Model.predict` does.
        tile_overlap: what neighbouring tiles share, of their side.

    Raises:
        DataError: classes that the model does not know, or no such split; none of the pictures could be read.
        UsageError: tiles for a model that finds no objects.
    """
    chosen, samples = labelled_samples(model, data, split, download)
    targets = model.task.collate([sample.target for sample in samples])
    metrics = model.task.metrics()
    model.module.eval()
    skipped: list[str] = []
    judged: list[Sample] = []
    if tile is None:
        seen = _seen(model, samples, targets, batch, skipped)
    else:
        seen = _seen_in_tiles(model, samples, targets, tile, tile_overlap, skipped)
    for outputs, truth, members in seen:
        metrics.update(outputs, truth)
        judged += members
    sections = model.task.sections(metrics, judged, read_sample)
    return Evaluation(chosen, metrics.compute(), metrics, judged, skipped, sections)


def _seen(
    model: Model, samples: list[Sample], targets: Tensor, batch: int | None, skipped: list[str]
) -> Iterator[tuple[Tensor, Tensor, list[Sample]]]:
    """Settled outputs, targets and samples, some at a time; what could not be read is told in `skipped`."""
    task, preprocess = model.task, model.card.preprocess
    pictures = Split(samples, targets, preprocess, workers=0, collate=task.collate if task.spatial else None)
    normalize = Normalize(preprocess).to(model.device)
    for part in pictures.eval_batches(batch or eval_batch_size(preprocess.size)):
        images = part.images.to(model.device).contiguous(memory_format=torch.channels_last)
        outputs = task.settle(model.module(normalize(images)), part.sizes, preprocess)
        yield outputs, pictures.targets[part.indices], [pictures.samples[index] for index in part.indices.tolist()]
        pictures.skipped.extend(part.skipped)
    skipped.extend(pictures.skipped)


def _seen_in_tiles(
    model: Model,
    samples: list[Sample],
    targets: Tensor,
    tile: int | Literal["auto"],
    overlap: float,
    skipped: list[str],
) -> Iterator[tuple[Tensor, Tensor, list[Sample]]]:
    for sample, target in zip(samples, targets, strict=True):
        try:
            picture = read_sample(sample)
        except ImageError as error:
            skipped.append(str(error))
            continue
        yield detect_tiled(model, picture, tile, overlap)[None], target[None], [sample]
    if len(skipped) == len(samples):
        raise DataError(f"none of the {len(samples)} pictures could be read; the first: {skipped[0]}")


def eval_batch_size(size: tuple[int, int]) -> int:
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
