"""Large pictures and small things: the network looks at overlapping tiles, and at the whole picture.

How predictions of windows become one is the task's matter (`Task.stitch`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from striate.config import Preprocess
from striate.errors import DataError, ImageError, UsageError
from striate.inference.predictor import NOT_FINITE, Predictor, automatic_batch, is_finite
from striate.inference.sources import Source
from striate.results import Failure, Result
from striate.tasks.task import TILES

TileSize = int | tuple[int, int] | Literal["auto"]

OVERLAP = 0.2  # of a tile's side
LEAST_TILE, MOST_TILES = 32, 4096
MOST_OVERLAP = 0.9


def tiles(height: int, width: int, size: int | tuple[int, int], overlap: float = OVERLAP) -> Tensor:
    """Windows that cover a picture, int64 [T, 4]: x1, y1, x2, y2; row by row.

    All are equally large and evenly spread, the first and last flush with the picture's edges, and neighbours share at
    least `overlap` of a side. A side of the picture that is no longer than the tile is not cut.

    Args:
        size: pixels a side, or (height, width).
    """
    high, wide = (size, size) if isinstance(size, int) else size
    rows, columns = _starts(height, high, overlap), _starts(width, wide, overlap)
    return torch.tensor([(x, y, min(x + wide, width), min(y + high, height)) for y in rows for x in columns])


def predict_windows(predictor: Predictor, pixels: Tensor, size: TileSize = "auto", overlap: float = OVERLAP) -> Any:
    """The prediction for one picture, of tiles of it and of the whole: what `Task.stitch` gives.

    Args:
        pixels: uint8 [1 or 3, H, W].
        size: of a tile in pixels of the picture, one number or (height, width); `auto` is what the network sees, so
            that nothing is shrunk.

    Raises:
        UsageError: the task has no use for tiles; a size, an overlap or a number of tiles that cannot be meant.
        ImageError: the network's outputs are not finite.
    """
    task, preprocess = predictor.task, predictor.preprocess
    height, width = pixels.shape[-2:]
    if TILES not in task.supports:
        raise UsageError(f"tiles are for models that find objects; this one's task is {task.name}")
    windows = _windows(height, width, tile_size(size, preprocess), overlap)
    found: list[Any] = []
    for part in windows.split(automatic_batch(preprocess.size, predictor.device)):
        pictures = [predictor.fit(pixels[:, y1:y2, x1:x2]) for x1, y1, x2, y2 in part.tolist()]
        sizes = torch.stack((part[:, 3] - part[:, 1], part[:, 2] - part[:, 0]), 1)  # height, width
        found += predictor.predict(pictures, sizes)
    if not all(is_finite(prediction) for prediction in found):
        raise ImageError(NOT_FINITE)
    return task.stitch(found, windows, (height, width))


def predict_tiled(
    predictor: Predictor,
    source: Source,
    size: TileSize = "auto",
    overlap: float = OVERLAP,
    threshold: float | None = None,
) -> Result:
    """As `Model.predict` on one picture, through tiles.

    Raises:
        DataError: the picture cannot be read.
        UsageError: as `predict_windows`; a threshold outside 0..1.
    """
    try:
        prediction = predict_windows(predictor, source.load(), size, overlap)
    except ImageError as error:
        raise error if str(error).startswith(source.name) else ImageError(f"{source.name}: {error}") from None
    return predictor.task.to_result(prediction, source, threshold)


def predict_tiled_stream(
    predictor: Predictor,
    sources: Iterable[Source],
    size: TileSize = "auto",
    overlap: float = OVERLAP,
    threshold: float | None = None,
    on_error: Literal["skip", "raise"] = "skip",
) -> Iterator[Result | Failure]:
    """As `Predictor.stream`: one result or failure a source, in their order, one picture at a time."""
    for source in sources:
        try:
            yield predict_tiled(predictor, source, size, overlap, threshold)
        except DataError as error:
            if on_error == "raise":
                raise
            yield Failure(source, str(error))


def tile_size(size: TileSize, preprocess: Preprocess) -> tuple[int, int]:
    """Height and width of a tile; `auto` is what the network sees.

    Raises:
        UsageError: smaller than anything could be seen in.
    """
    if size == "auto":
        return preprocess.size
    high, wide = (size, size) if isinstance(size, int) else size
    if min(high, wide) < LEAST_TILE:
        raise UsageError(f"a tile must be at least {LEAST_TILE} pixels a side, not {min(high, wide)}")
    return high, wide


def _windows(height: int, width: int, size: tuple[int, int], overlap: float) -> Tensor:
    """The whole picture, and its tiles if it is larger than one: int64 [T, 4]."""
    if not 0 <= overlap <= MOST_OVERLAP:
        raise UsageError(f"the overlap of tiles must be in 0..{MOST_OVERLAP}, not {overlap}")
    whole = torch.tensor([[0, 0, width, height]])
    count = len(_starts(height, size[0], overlap)) * len(_starts(width, size[1], overlap))
    if count > MOST_TILES:
        raise UsageError(f"a picture of {width} x {height} would take {count:,} tiles; make them larger")
    return whole if count == 1 else torch.cat((whole, tiles(height, width, size, overlap)))


def _starts(length: int, size: int, overlap: float) -> list[int]:
    """Where windows of `size` begin along one side."""
    if length <= size:
        return [0]
    stride = max(1, int(size * (1 - overlap)))
    gaps = -(-(length - size) // stride)  # so many that none is longer than the stride
    return [gap * (length - size) // gaps for gap in range(gaps + 1)]
