"""Labelled pictures of a data set, as explanations that need the truth take them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from striate.data.sample import Sample
from striate.data.seeds import seed_of
from striate.inference.evaluate import labelled_samples

if TYPE_CHECKING:
    from striate.model import Model

Picture = TypeVar("Picture")


def labelled(model: Model, sources: Any, limit: int, seed: int) -> tuple[str, list[Sample]] | None:
    """What the pictures are, and at most so many of them, drawn at random, with targets in the model's numbering.

    Args:
        sources: a data set as for `striate train` (`photos/:val` names a split), or Samples with such targets.

    Returns:
        None where the sources are neither.

    Raises:
        DataError: it is no data set, or its classes are not the model's.
    """
    if isinstance(sources, str | Path):
        split, samples = labelled_samples(model, str(sources))
        return f"the {split} split of {sources}", limited(samples, limit, seed)
    if isinstance(sources, list | tuple) and sources and all(isinstance(each, Sample) for each in sources):
        return "the labelled pictures given", limited(list(sources), limit, seed)
    return None


def limited(samples: list[Picture], limit: int, seed: int) -> list[Picture]:
    """At most so many, drawn at random, in their order."""
    if limit >= len(samples):
        return samples
    generator = torch.Generator().manual_seed(seed_of(seed, "limit"))
    return [samples[index] for index in sorted(torch.randperm(len(samples), generator=generator)[:limit].tolist())]
