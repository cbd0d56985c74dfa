"""The pictures of a data set, or whatever else names pictures, streamed as the network sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from striate.config import Preprocess
from striate.data import open_dataset
from striate.data.transforms import eval_transform
from striate.errors import DataError, ImageError
from striate.explain.explanation import Request
from striate.explain.labelled import limited
from striate.inference.predictor import automatic_workers
from striate.inference.sources import Source, expand

MOST = 2000  # pictures looked at where no limit is given


def pictures_of(request: Request) -> list[Source]:
    """The pictures that a request names: those of a data set (of one split: `photos/:val`), else as for `predict`.

    More than `request.limit` are drawn from at random, by its seed; their order stays.

    Raises:
        DataError: nothing is there.
    """
    limit = request.limit or MOST
    found = _of_data_set(request.sources)
    if found is None:
        stream = expand(request.sources)[0]
        found = list(stream if isinstance(request.sources, str | Path) else islice(stream, limit))
    if len(found) > limit:
        request.say(f"{limit:,} of {len(found):,} pictures, drawn at random")
    return limited(found, limit, request.seed)


def at_one_size(preprocess: Preprocess) -> Preprocess:
    """The same, every picture in the whole of `size`: units are compared at the same places of all."""
    return preprocess.model_copy(update={"pad_multiple": 0})


def batches(
    sources: Sequence[Source], preprocess: Preprocess, batch: int, skipped: list[str]
) -> Iterator[tuple[list[int], Tensor]]:
    """Rows of `sources`, and their pictures as the network sees them: uint8 [B, C, H, W].

    What cannot be read is left out, with a message in `skipped`.

    Raises:
        DataError: not one could be read.
    """
    prepare = eval_transform(at_one_size(preprocess))

    def read(source: Source) -> Tensor | str:
        try:
            return prepare(source.load())
        except ImageError as error:
            return str(error)

    seen = 0
    with ThreadPoolExecutor(automatic_workers()) as pool:
        for start in range(0, len(sources), batch):
            found = list(pool.map(read, sources[start : start + batch]))
            skipped += [message for message in found if isinstance(message, str)]
            rows = [start + at for at, picture in enumerate(found) if isinstance(picture, Tensor)]
            if rows:
                seen += len(rows)
                yield rows, torch.stack([picture for picture in found if isinstance(picture, Tensor)])
    if not seen:
        first = f"; the first: {skipped[0]}" if skipped else ""
        raise DataError(f"none of the {len(sources)} pictures could be read{first}")


def _of_data_set(sources: Any) -> list[Source] | None:
    """The samples of every split; None where this is no data set."""
    if not isinstance(sources, str | Path):
        return None
    try:
        dataset = open_dataset(sources, val_fraction=0)
    except DataError:
        try:
            return list(expand(sources)[0])
        except DataError:
            pass
        raise  # what is wrong with the data set says more
    return [Source(sample.name, sample.image) for samples in dataset.splits.values() for sample in samples]
