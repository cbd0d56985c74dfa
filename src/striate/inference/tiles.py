"""Large pictures and small objects: a detector looks at overlapping tiles, and at the whole picture.

What a tile's border cuts through appears as a part here and, if the overlap is as wide as the object, whole in the
neighbour; what is larger than a tile is whole in the picture as a whole. A part is therefore dropped where a fuller
one of its class, seen through another window, covers it (`merge`); sliced inference as in Akyol et al. 2022
(arXiv:2202.06934), who do not ask whether a box was cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_area

from striate.config import Preprocess
from striate.data.transforms import eval_transform
from striate.errors import DataError, ImageError, UsageError
from striate.inference.predictor import automatic_batch, forward_by_shape
from striate.inference.sources import Source
from striate.results import Detections, Failure, Result
from striate.tasks.detect.outputs import LIMIT, stack_detections

if TYPE_CHECKING:
    from striate.model import Model

TileSize = int | tuple[int, int] | Literal["auto"]

OVERLAP = 0.2  # of a tile's side
LEAST_TILE, MOST_TILES = 32, 4096
MOST_OVERLAP = 0.9
SHOWN_MOST = 1000  # objects kept of one picture that is predicted on; judged are as many as COCO counts
SAME = 0.5  # IoU from which two boxes of a class are one object
COVERED = 0.7  # share of a cut box that a fuller one must cover
NEAR = 0.01  # of a window's side: a box that ends so near to its border is taken to be cut by it
CONVINCED = 0.5  # of the cut one's score that the fuller one must have, lest noise erase what is sure


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


def merge(detections: Tensor, windows: Tensor, size: tuple[int, int], limit: int = LIMIT, same: float = SAME) -> Tensor:
    """What was seen through several windows as one list, each object once.

    1. A box is cut if it ends at a border of its window that is none of the picture's. It is dropped if a larger box
       of its class, seen through another window, covers `COVERED` of it with at least `CONVINCED` of its score.
    2. Of the rest, class by class, those that overlap a better one by more than `same` (IoU) are dropped.

    An object larger than the overlap of its tiles that was not found in the whole picture stays in pieces.

    Args:
        detections: float [T, K, 6] as in `striate.tasks.detect.outputs`, in pixels of each window.
        windows: int64 [T, 4], x1 y1 x2 y2 in the picture; the whole picture may be one of them.
        size: height and width of the picture.

    Returns:
        float32 [limit, 6] in pixels of the picture, best first.
    """
    index = torch.arange(len(windows))[:, None].expand(detections.shape[:2])
    held = detections[..., 5] >= 0
    rows, index = detections[held].float(), index[held]  # [N, 6], [N]
    cut = _cut(rows, windows[index].float(), size)
    boxes = rows[:, :4] + windows[index][:, :2].repeat(1, 2)
    keep = ~_covered(boxes, rows[:, 4], rows[:, 5], index, cut)
    boxes, scores, labels = boxes[keep], rows[keep, 4], rows[keep, 5]
    best = batched_nms(boxes, scores, labels, same)
    return stack_detections([boxes[best]], [scores[best]], [labels[best]], limit)[0]


def detect_tiled(
    model: Model, pixels: Tensor, size: TileSize = "auto", overlap: float = OVERLAP, limit: int = LIMIT
) -> Tensor:
    """What a model finds on one picture, looking at tiles of it and at the whole: float32 [limit, 6] as `merge` gives.

    Args:
        pixels: uint8 [1 or 3, H, W].
        size: of a tile in pixels of the picture, one number or (height, width); `auto` is what the network sees, so
            that nothing is shrunk.

    Raises:
        UsageError: the model finds no objects; a size, an overlap or a number of tiles that cannot be meant.
        ImageError: the network's outputs are not finite.
    """
    preprocess = model.card.preprocess
    height, width = pixels.shape[-2:]
    if model.task.result is not Detections:
        raise UsageError(f"tiles are for models that find objects; this one's task is {model.task.name}")
    windows = _windows(height, width, tile_size(size, preprocess), overlap)
    prepare = eval_transform(preprocess)
    batch = automatic_batch(preprocess.size, model.device)
    found: list[Tensor] = []
    for part in windows.split(batch):
        pictures = [prepare(pixels[:, y1:y2, x1:x2]) for x1, y1, x2, y2 in part.tolist()]
        sizes = torch.stack((part[:, 3] - part[:, 1], part[:, 2] - part[:, 0]), 1)  # height, width

        def settle(outputs: object, sizes: Tensor) -> Tensor:
            return model.task.settle(outputs, sizes, preprocess)

        found.append(forward_by_shape(model._network, pictures, model.device, settle, sizes))
    detections = torch.cat(found)  # [T, K, 6]
    if not detections.isfinite().all():
        raise ImageError("the network's outputs are not finite; its weights may be damaged")
    return merge(detections, windows, (height, width), limit)


def predict_tiled(
    model: Model,
    source: Source,
    size: TileSize = "auto",
    overlap: float = OVERLAP,
    threshold: float | None = None,
) -> Result:
    """As `Model.predict` on one picture, through tiles: `Detections` with at most `SHOWN_MOST` objects.

    Raises:
        DataError: the picture cannot be read.
        UsageError: as `detect_tiled`; a threshold outside 0..1.
    """
    try:
        found = detect_tiled(model, source.load(), size, overlap, SHOWN_MOST)
    except ImageError as error:
        raise error if str(error).startswith(source.name) else ImageError(f"{source.name}: {error}") from None
    return model.task.decode(found[None], [source], threshold)[0]


def predict_tiled_stream(
    model: Model,
    sources: Iterable[Source],
    size: TileSize = "auto",
    overlap: float = OVERLAP,
    threshold: float | None = None,
    on_error: Literal["skip", "raise"] = "skip",
) -> Iterator[Result | Failure]:
    """As `predict_stream`: one result or failure a source, in their order, one picture at a time."""
    for source in sources:
        try:
            yield predict_tiled(model, source, size, overlap, threshold)
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


def _cut(rows: Tensor, windows: Tensor, size: tuple[int, int]) -> Tensor:
    """bool [N]: whether each box [N, 6], in pixels of its window [N, 4], ends at a border inside the picture."""
    height, width = size
    sides = windows[:, 2:] - windows[:, :2]  # [N, 2]
    near = NEAR * sides
    inside_first = windows[:, :2] > 0
    inside_last = windows[:, 2:] < torch.tensor([width, height])
    return ((inside_first & (rows[:, :2] <= near)) | (inside_last & (rows[:, 2:4] >= sides - near))).any(1)


def _covered(boxes: Tensor, scores: Tensor, labels: Tensor, windows: Tensor, cut: Tensor) -> Tensor:
    """bool [N]: the cut boxes that a fuller one of another window covers. All are judged at once: a box that is itself
    covered may cover others, for what covers it lies over them too."""
    areas = box_area(boxes)
    covered = torch.zeros(len(boxes), dtype=torch.bool)
    for label in labels[cut].unique():
        same = labels == label
        part, all_of = (cut & same).nonzero()[:, 0], same.nonzero()[:, 0]
        first = torch.maximum(boxes[part, None, :2], boxes[None, all_of, :2])  # [P, A, 2]
        last = torch.minimum(boxes[part, None, 2:], boxes[None, all_of, 2:])
        shared = (last - first).clamp(min=0).prod(2)  # [P, A]
        fuller = areas[all_of] > areas[part, None]
        elsewhere = windows[all_of] != windows[part, None]
        convinced = scores[all_of] >= CONVINCED * scores[part, None]
        covers = shared >= COVERED * areas[part, None]
        covered[part] = (fuller & elsewhere & convinced & covers).any(1)
    return covered
