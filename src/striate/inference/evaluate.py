"""Judging a trained model on labelled pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from striate.data import Dataset, Sample, open_dataset, split_source
from striate.data.loaders import Batch, Split, read_sample
from striate.data.sample import remap_classes
from striate.errors import DataError, ImageError
from striate.inference.predictor import Predictor
from striate.inference.tiles import predict_windows
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


class EvalOutputs(NamedTuple):
    """What evaluation of a split found besides its metrics: which samples, in the order of the metrics, and the mean
    loss, None where evaluation makes none."""

    indices: list[int]
    loss: float | None


Loss = Callable[[Any, Any], dict[str, Tensor]]  # of raw outputs and a batch's targets


def collect_outputs(
    predictor: Predictor,
    data: Split,
    metrics: Metrics,
    batch: int,
    *,
    rank: int = 0,
    world: int = 1,
    loss: Loss | None = None,
) -> EvalOutputs:
    """Update metrics with every readable picture of a split, batch by batch; nothing else is kept of the outputs.

    Unreadable pictures are left out and remembered in `data.skipped`.

    Args:
        rank, world: of several processes, each takes its share of every batch.
        loss: the mean of it is asked for too.
    """
    indices: list[int] = []
    losses: list[float] = []
    for part in data.eval_batches(batch, rank, world):
        data.skipped.extend(part.skipped)
        if not len(part.images):
            continue

        def take_loss(outputs: Any, rows: list[int], part: Batch = part) -> None:
            targets = part.targets if len(rows) == len(part.images) else part.targets[rows]
            found = loss(outputs, targets.to(predictor.device)) if loss is not None else {}
            losses.append(float(found["loss"]) * len(rows) if found else math.nan)

        predictions = predictor.predict(part.images, part.sizes, take_loss if loss is not None else None)
        metrics.update(predictions, predictor.task.collate(part.references))
        indices += part.indices.tolist()
    mean = float(torch.tensor(losses, dtype=torch.float64).sum()) / max(1, len(indices))
    return EvalOutputs(indices, None if loss is None or math.isnan(mean) else mean)


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
    task, preprocess = model.task, model.card.preprocess
    metrics = task.metrics()
    model.module.eval()
    if tile is None:
        pictures = Split(samples, task.collate, preprocess, target_transform=task.target_transform)
        found = collect_outputs(model.predictor, pictures, metrics, batch or eval_batch_size(preprocess.size))
        judged, skipped = [pictures.samples[index] for index in found.indices], pictures.skipped
    else:
        judged, skipped = _collect_tiled(model, samples, metrics, tile, tile_overlap)
    sections = task.sections(metrics, judged, read_sample)
    return Evaluation(chosen, metrics.compute(), metrics, judged, skipped, sections)


def _collect_tiled(
    model: Model, samples: list[Sample], metrics: Metrics, tile: int | Literal["auto"], overlap: float
) -> tuple[list[Sample], list[str]]:
    """As `collect_outputs`, one picture at a time, through tiles: those judged, and messages of those left out."""
    judged: list[Sample] = []
    skipped: list[str] = []
    for sample in samples:
        try:
            picture = read_sample(sample)
        except ImageError as error:
            skipped.append(str(error))
            continue
        target = model.task.target_transform(sample.target)
        target = None if target is None else target.load((picture.shape[-2], picture.shape[-1]))
        prediction = predict_windows(model.predictor, picture, tile, overlap)
        metrics.update([prediction], model.task.collate([target]))
        judged.append(sample)
    if not judged:
        raise DataError(f"none of the {len(samples)} pictures could be read; the first: {skipped[0]}")
    return judged, skipped


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
        reads=model.task.reads,
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
    return [remap_classes(sample, index, len(known)) for sample in dataset.splits[split]]
