"""Tiles cover everything; what was seen through several of them is counted once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops
from torch import Tensor, nn

from striate.config import Preprocess
from striate.data.geometry import to_picture
from striate.errors import DataError, ImageError, UsageError
from striate.inference.predictor import Predictor
from striate.inference.sources import Source, expand
from striate.inference.tiles import predict_tiled, predict_tiled_stream, predict_windows, tile_size, tiles
from striate.results import Detections, Failure
from striate.tasks import create_task
from striate.tasks.detect.stitching import CONVINCED, COVERED, NEAR, stitch_detections
from striate.tasks.task import TILES

SIDES = st.integers(1, 120)


@given(SIDES, SIDES, st.integers(4, 60), st.floats(0, 0.9))
@settings(deadline=None, max_examples=60)
def test_tiles_cover_everything_and_overlap_enough(height: int, width: int, size: int, overlap: float) -> None:
    windows = tiles(height, width, size, overlap)
    seen = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in windows.tolist():
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        assert (x2 - x1, y2 - y1) == (min(size, width), min(size, height))
        seen[y1:y2, x1:x2] = True
    assert seen.all()
    assert len(windows.unique(dim=0)) == len(windows)
    for axis in (0, 1):
        starts = windows[:, axis].unique()
        steps = starts.diff()
        assert (steps <= max(1, size * (1 - overlap))).all()
        assert len(steps) == 0 or int(steps.max() - steps.min()) <= 1  # evenly spread


def test_tiles_of_a_known_picture() -> None:
    assert tiles(100, 100, 200).tolist() == [[0, 0, 100, 100]]
    assert tiles(64, 128, 64, 0).tolist() == [[0, 0, 64, 64], [64, 0, 128, 64]]
    assert tiles(64, 100, (64, 60), 0.5).tolist() == [[0, 0, 60, 64], [20, 0, 80, 64], [40, 0, 100, 64]]


def shared(one: Any, other: Any) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def area(box: Any) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def merged_slowly(detections: Tensor, windows: Tensor, size: tuple[int, int], same: float) -> list[list[float]]:
    """The rule of `stitch_detections` in plain words: one box at a time."""
    found = []
    for number, (rows, window) in enumerate(zip(detections.tolist(), windows.tolist(), strict=True)):
        wide, high = window[2] - window[0], window[3] - window[1]
        for x1, y1, x2, y2, score, kind in rows:
            if kind < 0:
                continue
            cut = (
                (window[0] > 0 and x1 <= NEAR * wide)
                or (window[1] > 0 and y1 <= NEAR * high)
                or (window[2] < size[1] and x2 >= wide - NEAR * wide)
                or (window[3] < size[0] and y2 >= high - NEAR * high)
            )
            box = [x1 + window[0], y1 + window[1], x2 + window[0], y2 + window[1]]
            found.append((number, cut, box, score, kind))
    whole = [
        (box, score, kind)
        for number, cut, box, score, kind in found
        if not cut
        or not any(
            kind == k and number != n and area(b) > area(box) and s >= CONVINCED * score
            and shared(box, b) >= COVERED * area(box)
            for n, _, b, s, k in found
        )
    ]  # fmt: skip
    kept: list[tuple[Any, float, float]] = []
    for box, score, kind in sorted(whole, key=lambda one: -one[1]):
        if all(k != kind or shared(box, b) <= same * (area(box) + area(b) - shared(box, b)) for b, _, k in kept):
            kept.append((box, score, kind))
    return [[*box, score, kind] for box, score, kind in kept]


@pytest.mark.parametrize("seed", range(25))
def test_merging_is_the_rule_one_box_at_a_time(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    size = (90, 120)
    windows = torch.cat((torch.tensor([[0, 0, 120, 90]]), tiles(*size, 50, 0.3)))
    count = 12
    corners = torch.randint(0, 56, (len(windows), count, 2, 2), generator=generator).clamp(max=50).float()
    boxes = torch.cat((corners.amin(2), corners.amax(2) + 0.5), -1).clamp(max=50)  # many end at a border
    scores = torch.rand(len(windows), count, 1, generator=generator).round(decimals=3)
    scores = scores + torch.arange(scores.numel()).view_as(scores) * 1e-6  # no ties: their order would be free
    labels = torch.randint(-1, 3, (len(windows), count, 1), generator=generator).float()
    detections = torch.cat((boxes, scores, labels), -1)
    expected = merged_slowly(detections, windows, size, 0.5)
    found = stitch_detections(detections, windows, size, limit=200)
    assert len(expected) < int((labels >= 0).sum())
    assert torch.allclose(found[: len(expected)], torch.tensor(expected), atol=1e-4)
    assert (found[len(expected) :, 5] == -1).all()
    assert found.shape == (200, 6)


def one_row(*rows: list[float]) -> Tensor:
    return torch.tensor([[row] for row in rows])


def test_a_part_goes_where_the_whole_is_seen() -> None:
    windows = torch.tensor([[0, 0, 60, 60], [40, 0, 100, 60]])
    part, whole = [45, 10, 60, 30, 0.9, 0], [5, 10, 25, 30, 0.6, 0]  # 45..60 of 45..65
    assert stitch_detections(one_row(part, whole), windows, (60, 100), 3)[:, 4].tolist() == pytest.approx([0.6, 0, 0])
    for other, scores in (
        ([5, 10, 25, 30, 0.6, 1], [0.9, 0.6, 0]),  # another class
        ([5, 10, 25, 30, 0.3, 0], [0.9, 0, 0]),  # too unsure: NMS takes the better one
        ([12, 10, 27, 29, 0.6, 0], [0.9, 0.6, 0]),  # not larger, and elsewhere
    ):
        assert stitch_detections(one_row(part, other), windows, (60, 100), 3)[:, 4].tolist() == pytest.approx(scores)
    inside = [44, 10, 59, 30, 0.9, 0]  # ends before the border: nobody cut it
    assert float(stitch_detections(one_row(inside, whole), windows, (60, 100), 3)[0, 4]) == pytest.approx(0.9)
    at_the_edge = stitch_detections(one_row([0, 10, 15, 30, 0.9, 0], whole), windows, (60, 100), 3)
    assert (at_the_edge[:2, 5] == 0).all()  # the picture's own edge cuts nothing


def test_nothing_found_is_nothing() -> None:
    found = stitch_detections(torch.tensor([[[0.0, 0, 0, 0, 0, -1]]] * 2), tiles(60, 100, 60), (60, 100), 4)
    assert found.tolist() == [[0, 0, 0, 0, 0, -1]] * 4


class Spots(nn.Module):
    """Finds bright rectangles of at least 8 pixels as the network sees them."""

    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        self.seen, self.broken = 0, broken

    def forward(self, images: Tensor) -> Any:
        self.seen += len(images)
        rows = torch.zeros(len(images), 100, 6)
        rows[:, :, 5] = -1
        for row, image in zip(rows, images, strict=True):
            spots = [spot for spot in regionprops(label(image[0].numpy() > 128)) if spot.area >= 64]
            for place, spot in zip(row, spots, strict=False):
                y1, x1, y2, x2 = spot.bbox
                place[:] = torch.tensor([x1, y1, x2, y2, float("nan") if self.broken else 0.8, 0])
        return {"rows": rows}


class FindSpots:
    """As much of the task as tiles need; any task that can stitch will do."""

    name, supports = "spots", frozenset({TILES})

    def postprocess(self, outputs: Any, sizes: Tensor, preprocess: Preprocess) -> list[Tensor]:
        found = outputs["rows"]
        corners = to_picture(found[..., :4].reshape(len(found), -1, 2), sizes, preprocess)
        boxes = corners.clamp(min=0).minimum(sizes.flip(1)[:, None].float()).reshape(len(found), -1, 4)
        return list(torch.cat((boxes * (found[..., 5:] >= 0), found[..., 4:]), -1))

    def stitch(self, predictions: Any, windows: Tensor, size: tuple[int, int]) -> Tensor:
        return stitch_detections(torch.stack(predictions), windows, size, 100)

    def to_result(self, prediction: Tensor, source: Any, threshold: float | None = None) -> Detections:
        bar = 0.3 if threshold is None else threshold
        if not 0 <= bar <= 1:
            raise UsageError(f"a threshold must be in 0..1, not {bar}")
        return Detections.of(source, ("spot",), prediction, bar)


def fake(task: Any = None, broken: bool = False) -> Any:
    return Predictor(Spots(broken), task or FindSpots(), Preprocess(size=(64, 64), fit="pad"), torch.device("cpu"))


SPOTS = [(3, 4, 15, 18), (100, 60, 112, 76), (190, 120, 204, 130), (56, 100, 72, 112), (230, 0, 240, 12)]


def scene(extra: tuple[int, ...] = ()) -> Tensor:
    pixels = torch.zeros(3, 150, 240, dtype=torch.uint8)
    for x1, y1, x2, y2 in [*SPOTS, *([extra] if extra else [])]:
        pixels[:, y1:y2, x1:x2] = 255
    return pixels


@pytest.mark.parametrize("overlap", [0.3, 0.5])
@pytest.mark.parametrize("size", ["auto", 64, (64, 48)])
def test_small_objects_are_found_once_and_exactly(size: Any, overlap: float) -> None:
    model = fake()
    found = predict_tiled(model, Source("scene", scene()), size, overlap)
    assert isinstance(found, Detections)
    assert sorted(box for _, _, box in found) == sorted(SPOTS)  # shrunk to 64 pixels, none is large enough
    assert model.engine.seen == 1 + len(tiles(150, 240, 64 if size == "auto" else size, overlap))


def test_large_objects_come_from_the_whole_picture() -> None:
    large = (20, 20, 180, 55)
    found = predict_windows(fake(), scene(large))
    boxes = found[found[:, 5] >= 0, :4]
    best = (boxes - torch.tensor(large)).abs().amax(1).min()
    assert float(best) <= 240 / 64  # a pixel as the network saw it
    assert len(boxes) == len(SPOTS) + 1  # and none of its parts is left


def test_a_picture_no_larger_than_a_tile_is_seen_once() -> None:
    model = fake()
    assert len(predict_windows(model, scene()[:, :64, :50])) == 100
    assert model.engine.seen == 1


def test_grey_pixels_and_thresholds() -> None:
    assert len(predict_tiled(fake(), Source("a", scene()[:1]), threshold=0.5)) == len(SPOTS)  # type: ignore[arg-type]
    assert len(predict_tiled(fake(), Source("a", scene()), threshold=0.9)) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(("options", "told"), [
    ({"size": 8}, "at least 32"), ({"overlap": 0.95}, r"0\.\.0\.9"), ({"overlap": -1}, "overlap"),
    ({"overlap": float("nan")}, "overlap"), ({"threshold": 2}, r"0\.\.1"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        predict_tiled(fake(), Source("a", scene()), **options)


def test_too_many_tiles_and_other_tasks_are_refused() -> None:
    huge = torch.zeros(1, 1, 1, dtype=torch.uint8).expand(3, 40_000, 40_000)
    with pytest.raises(UsageError, match="tiles; make them larger"):
        predict_windows(fake(), huge, 32)
    with pytest.raises(UsageError, match="classify"):
        predict_windows(fake(create_task("classify", classes=["spot"])), scene())
    assert tile_size("auto", Preprocess(size=(96, 160))) == (96, 160)


def test_a_stream_goes_on_after_what_cannot_be_read() -> None:
    sources = [Source("a", scene()), *expand(["none.png"])[0], Source("b", scene())]
    found = list(predict_tiled_stream(fake(), sources))
    assert [isinstance(one, Failure) for one in found] == [False, True, False]
    with pytest.raises(DataError, match=r"none\.png"):
        list(predict_tiled_stream(fake(), sources, on_error="raise"))
    with pytest.raises(ImageError, match="a: the network's outputs are not finite"):
        predict_tiled(fake(broken=True), Source("a", scene()))
