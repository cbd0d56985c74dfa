"""Places go where their pixels go: checked with pictures in which a place can be seen."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from striate.config import Augment, Preprocess
from striate.data.geometry import preprocess_affine, rotation, to_picture, warp
from striate.data.loaders import Split
from striate.data.sample import Sample
from striate.data.spatial import GREY, TrainPair, eval_pair
from striate.data.targets import Objects, Points
from striate.data.transforms import input_size
from striate.tasks.detect.outputs import collate_objects

SIDES = st.integers(20, 200)


def with_block(height: int, width: int, box: tuple[int, int, int, int], ground: int = 0) -> Tensor:
    """uint8 [3, H, W], a white block on black"""
    picture = torch.full((3, height, width), ground, dtype=torch.uint8)
    picture[:, box[1] : box[3], box[0] : box[2]] = 255
    return picture


def seen_box(picture: Tensor) -> Tensor:
    """Where the white is: sums of a soft-edged block say its edges to a fraction of a pixel."""
    light = picture[0].float() / 255
    across, down = light.amax(0), light.amax(1)
    x, y = (torch.where(values > 0.5)[0] for values in (across, down))
    return torch.tensor([x[0], y[0], x[-1] + 1, y[-1] + 1], dtype=torch.float32)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.sampled_from(["pad", "squash", "crop"]))
def test_a_box_is_where_eval_transform_puts_its_pixels(height: int, width: int, fit: str):
    preprocess = Preprocess(size=(96, 128), fit=fit, crop_ratio=0.9)
    box = (width // 3, height // 3, width * 2 // 3, height * 2 // 3)
    picture = with_block(height, width, box)
    seen, target = eval_pair(picture, Objects.of([box], [0]), preprocess)
    assert isinstance(target, Objects)
    assert seen.shape[-2:] == (96, 128)
    factor = max(preprocess_affine((height, width), preprocess).xx, preprocess_affine((height, width), preprocess).yy)
    torch.testing.assert_close(target.boxes[0], seen_box(seen), atol=1.01 + factor / 2, rtol=0)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES)
def test_a_tight_picture_is_its_letterbox_without_the_bars(height: int, width: int):
    """The same scale as without `tight`, and fewer than 32 rows or columns of padding."""
    tight, loose = (Preprocess(size=(128, 128), fit="pad", fill=114, tight=step) for step in (32, 0))
    box = (width // 3, height // 3, width * 2 // 3, height * 2 // 3)
    seen, target = eval_pair(with_block(height, width, box), Objects.of([box], [0]), tight)
    assert isinstance(target, Objects)
    assert all(side % 32 == 0 and side <= 128 for side in seen.shape[-2:])
    assert seen.shape[-2:] == input_size(height, width, tight)
    fitted = preprocess_affine((height, width), tight)
    assert (fitted.xx, fitted.yy) == (
        preprocess_affine((height, width), loose).xx,
        preprocess_affine((height, width), loose).yy,
    )
    assert seen.shape[-1] - fitted.xx * width < 32
    assert seen.shape[-2] - fitted.yy * height < 32
    torch.testing.assert_close(target.boxes[0], seen_box(seen), atol=1.01 + fitted.xx / 2, rtol=0)
    again, _ = eval_pair(seen, None, tight)
    assert torch.equal(again, seen)  # what is kept can be fitted once more


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.sampled_from(["pad", "squash", "crop"]), st.sampled_from([0, 32]))
def test_to_picture_undoes_fitting(height: int, width: int, fit: str, tight: int):
    preprocess = Preprocess(size=(64, 96), fit=fit, tight=tight)
    points = torch.rand(1, 7, 2) * torch.tensor([width, height])
    there = preprocess_affine((height, width), preprocess).points(points)
    back = to_picture(there, torch.tensor([[height, width]]), preprocess)
    torch.testing.assert_close(back, points, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_augmented_boxes_stay_on_their_pixels(seed: int):
    """Scale, shift, mirror and mosaic together: every box left holds white at its middle, and grey beyond its edge."""
    augment = Augment(hflip=0.5, scale=(0.6, 1.4), shift=0.1, mosaic=0.5)
    preprocess = Preprocess(size=(96, 96), fit="pad", fill=GREY)
    box = (30, 20, 60, 80)
    picture = with_block(100, 90, box, ground=40)
    place = TrainPair(augment, preprocess)
    torch.manual_seed(seed)
    seen, target = place(picture, Objects.of([box], [0]), lambda: (picture, Objects.of([box], [0])))
    assert isinstance(target, Objects)
    assert seen.shape == (3, 96, 96)
    for x1, y1, x2, y2 in target.boxes.tolist():
        middle = seen[0, int((y1 + y2) / 2), int((x1 + x2) / 2)]
        assert middle > 200
        if x1 >= 3:
            assert seen[0, int((y1 + y2) / 2), int(x1) - 3] < 200
        if x2 <= 92:
            assert seen[0, int((y1 + y2) / 2), int(x2) + 2] < 200
    white = int((seen[0] > 200).sum())
    boxed = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in target.boxes.tolist())
    assert white == pytest.approx(boxed, rel=0.2, abs=150)  # blocks of which too little is left keep their pixels


@pytest.mark.parametrize("seed", range(6))
def test_points_turn_with_their_pixels(seed: int):
    augment = Augment(rotate=40, scale=(0.8, 1.2), shift=0.05, hflip=0.5)
    place = TrainPair(augment, Preprocess(size=(96, 96), fit="pad"), pairs=(1, 0))
    dots = torch.tensor([[40.5, 50.5, 1.0], [60.5, 45.5, 1.0]])
    picture = torch.zeros(3, 96, 96, dtype=torch.uint8)
    picture[0, 48:53, 38:43] = 255  # red around the first
    picture[1, 43:48, 58:63] = 255  # green around the second
    torch.manual_seed(seed)
    seen, target = place(picture, Points(dots), lambda: (picture, Points(dots)))
    assert isinstance(target, Points)
    for row, (x, y, _) in enumerate(target.values.tolist()):
        channel = seen[:2, int(y), int(x)]
        assert int(channel.max()) > 120
        mirrored = bool(seen[row, int(y), int(x)] < 60)
        other = target.values[1 - row]
        assert bool(seen[1 - row, int(other[1]), int(other[0])] < 60) == mirrored  # both change names, or neither


def test_a_turn_is_clockwise_and_keeps_its_centre():
    there = rotation(90, 0, (10, 10)).points(torch.tensor([[10.0, 10.0], [15.0, 10.0]]))
    torch.testing.assert_close(there, torch.tensor([[10.0, 10.0], [10.0, 15.0]]), atol=1e-5, rtol=0)


def test_warping_by_a_quarter_turn_is_rot90():
    picture = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    assert torch.equal(warp(picture, rotation(90, 0, (8, 8)), (16, 16)), picture.rot90(-1, (1, 2)))


def test_what_is_cut_off_is_dropped_and_nothing_else():
    objects = Objects.of([[0, 0, 10, 10], [-30, 0, 5, 10], [20, 20, 20.5, 30]], [0, 1, 2])
    kept = objects.warp(preprocess_affine((50, 50), Preprocess(size=(50, 50))), (50, 50))
    assert isinstance(kept, Objects)
    assert kept.labels.tolist() == [0, 2]  # of the second a seventh is left; the third was thin before


def test_split_gives_targets_in_network_pixels_and_sizes_as_read():
    samples = [
        Sample(with_block(100, 200, (50, 25, 100, 75)), Objects.of([[50, 25, 100, 75]], [1]), "a"),
        Sample(with_block(64, 64, (0, 0, 64, 64)), Objects.of([], []), "b"),
    ]
    preprocess = Preprocess(size=(64, 64), fit="pad")
    for augment in (None, Augment()):
        split = Split(samples, collate_objects, preprocess, augment)
        batch = next(split.eval_batches(2))
        assert batch.sizes.tolist() == [[100, 200], [64, 64]]
        assert batch.targets[0, 0, :5].tolist() == [16.0, 24.0, 32.0, 40.0, 1.0]  # 200 → 64 px, 16 px above
        assert batch.targets[0, 0, 6] == 2500  # the area stays that of the picture as it was read
        assert (batch.targets[1, :, 4] == -1).all()
        torch.testing.assert_close(seen_box(batch.images[0]), batch.targets[0, 0, :4], atol=1.0, rtol=0)


def test_batches_of_several_scales_keep_boxes_on_their_pixels():
    box = (32, 32, 96, 64)
    samples = [Sample(with_block(128, 128, box), Objects.of([box], [0]), str(number)) for number in range(8)]
    augment = Augment(multi_scale=(0.5, 1.5))
    split = Split(samples, collate_objects, Preprocess(size=(128, 128), fit="pad"), augment)
    sizes = set()
    for epoch in range(4):
        for batch in split.batches(split.shuffled(4), epoch=epoch):
            sizes.add(tuple(batch.images.shape[-2:]))
            torch.testing.assert_close(seen_box(batch.images[0]), batch.targets[0, 0, :4], atol=1.0, rtol=0)
    assert len(sizes) > 1
    assert all(height % 32 == 0 and width % 32 == 0 for height, width in sizes)
