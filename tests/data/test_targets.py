"""Targets: each goes where its picture's pixels go, says its classes, and is read where its picture is read."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from striate.config import Augment, Preprocess
from striate.data.geometry import Affine, hflip, map_to_picture, rotation, scaling, shifting, warp
from striate.data.loaders import Split
from striate.data.sample import Sample, remap_classes
from striate.data.spatial import TrainPair, eval_pair
from striate.data.targets import (
    CROWD,
    IGNORE,
    Identity,
    ImageTarget,
    Label,
    Labels,
    Objects,
    Points,
    SegmentationMap,
    Votes,
    as_target,
    class_ids,
)
from striate.errors import ImageError


def picture_of(values: Tensor) -> Tensor:
    """A picture in which the class of every pixel can be seen: uint8 [3, H, W], 40 levels a class."""
    return (values * 40).to(torch.uint8).expand(3, -1, -1).contiguous()


def halves(height: int, width: int) -> Tensor:
    """uint8 [H, W]: 1 on the left, 2 on the right, 3 in a block above the middle."""
    values = torch.ones(height, width, dtype=torch.uint8)
    values[:, width // 2 :] = 2
    values[: height // 3, width // 4 : width // 2] = 3
    return values


def test_labels_are_the_numbers_that_they_were() -> None:
    assert Sample("x", 3, "x").target == 3
    assert isinstance(Sample("x", 3, "x").target, Label)
    assert Sample("x", (0, 2), "x").target == (0, 2)
    assert torch.tensor([as_target(1), as_target(2)]).tolist() == [1, 2]
    for target in (Label(3), Labels((1, 2)), Votes((1.0, 2.0)), Identity(7)):
        assert pickle.loads(pickle.dumps(target)) == target
        assert target.warp(scaling(2, 2), (4, 4)) == target.load((4, 4)) == target
    assert Sample("x", None, "x").target is None


@pytest.mark.parametrize(
    ("target", "ids", "stratum", "names"),
    [
        (Label(1), (1,), 1, "b"),
        (Labels((2, 0)), (2, 0), (2, 0), ("c", "a")),
        (Labels(()), (), (), ()),
        (Objects.of([[0, 0, 1, 1]] * 3, [2, 0, 2]), (2, 0, 2), (0, 2), None),
        (Points(torch.zeros(3, 3)), (), None, None),
    ],
)
def test_what_targets_say_of_classes(target, ids, stratum, names) -> None:
    assert class_ids(target) == ids
    assert target.stratum() == stratum
    assert target.names(("a", "b", "c")) == names


def test_other_classes_other_numbers() -> None:
    table = (2, 0)
    assert remap_classes(Sample("x", Label(0), "x"), table, 3).target == 2
    assert remap_classes(Sample("x", Labels((0, 1)), "x"), table, 3).target == (2, 0)
    assert Objects.of([[0, 0, 1, 1]], [1]).remap(table, 3).labels.tolist() == [0]
    assert Identity(5).remap(table, 3) == 5  # people of validation need not be known
    values = torch.tensor([[0, 1], [1, IGNORE]], dtype=torch.uint8)
    found = SegmentationMap(values).remap(table, 3)
    assert found.load((2, 2)).values.tolist() == [[2, 0], [0, IGNORE]]  # type: ignore[union-attr]
    assert found.remap((5, 6, 7), 8).class_ids() == (5, 7)


def test_digests_tell_apart_what_differs() -> None:
    map_ = SegmentationMap(halves(6, 6))
    told = [Label(1), Label(2), Labels((1,)), map_, map_.remap((3, 1, 2, 0), 4), ImageTarget(torch.zeros(3, 2, 2))]
    assert len({target.digest() for target in told}) == len(told)
    assert map_.digest() == SegmentationMap(halves(6, 6)).digest()


@settings(max_examples=40, deadline=None)
@given(st.integers(16, 80), st.integers(16, 80), st.sampled_from(["pad", "squash", "crop", "native"]))
def test_a_map_is_where_eval_transform_puts_its_pixels(height: int, width: int, fit: str) -> None:
    preprocess = Preprocess(size=(48, 64), fit=fit, interpolation="nearest", pad_multiple=16 * (fit == "native"))
    values = halves(height, width)
    seen, target = eval_pair(picture_of(values), SegmentationMap(values), preprocess)
    assert isinstance(target, SegmentationMap)
    assert target.values.shape == seen.shape[-2:]  # type: ignore[union-attr]
    known = target.values != IGNORE
    off = (seen[0] != target.values * 40) & known  # type: ignore[operator]
    assert int(off.sum()) <= 4 * max(seen.shape)  # edges may fall one pixel aside
    if fit in ("crop", "squash"):
        assert bool(known.all())  # type: ignore[union-attr]
    else:
        assert bool((seen[0][~known] == preprocess.fill).all())


@pytest.mark.parametrize("seed", range(8))
def test_maps_and_masks_move_with_their_pixels_in_training(seed: int) -> None:
    """Scale, shift, rotation, flip: of what is seen of each class, the map says so."""
    augment = Augment(hflip=0.5, scale=(0.7, 1.3), shift=0.1, rotate=25, mosaic=0.3)
    values = halves(60, 80)
    mask = values == 3
    objects = Objects.of([[20, 0, 40, 20]], [0])
    whole = Objects(objects.boxes, objects.labels, objects.kinds, objects.areas, mask[None])
    preprocess = Preprocess(size=(64, 64), fit="pad", interpolation="nearest")
    pair = TrainPair(augment, preprocess)
    for target in (SegmentationMap(values), whole):
        torch.manual_seed(seed)
        seen, moved = pair(picture_of(values), target, lambda target=target: (picture_of(values), target))
        if isinstance(moved, SegmentationMap):
            known = moved.values != IGNORE
            exact = (seen[0] == moved.values * 40) & known  # type: ignore[operator]
            assert float(exact.sum()) >= 0.85 * float(known.sum())  # rotation blurs the picture at edges
        else:
            assert isinstance(moved, Objects)
            assert isinstance(moved.masks, Tensor)
            assert moved.masks.shape == (len(moved), 64, 64)
            for one in moved.masks:
                assert float((seen[0][one] > 100).float().mean()) > 0.8


def test_outlines_become_pixels_where_the_picture_is_read() -> None:
    polygon = [[2.0, 1.0, 8.0, 1.0, 8.0, 5.0, 2.0, 5.0]]
    objects = Objects.of([[2, 1, 8, 5]], [0], masks=(polygon,))
    assert objects.lazy
    assert not objects.without_masks().lazy
    loaded = objects.load((10, 12))
    assert isinstance(loaded.masks, Tensor)
    assert loaded.masks.shape == (1, 10, 12)
    assert int(loaded.masks.sum()) == 6 * 4
    flipped = loaded.hflip((10, 12))
    assert isinstance(flipped, Objects)
    assert flipped.boxes.tolist() == [[4, 1, 10, 5]]
    assert torch.equal(flipped.masks, loaded.masks.flip(-1))  # type: ignore[arg-type]


def test_points_flip_only_where_names_are_known() -> None:
    points = Points(torch.tensor([[1.0, 2, 1], [7, 2, 1]]))
    assert points.hflip((10, 10)) is None
    assert points.hflip((10, 10), (1, 0)).values.tolist() == [[3, 2, 1], [9, 2, 1]]  # type: ignore[union-attr]


def test_maps_are_read_by_workers_and_never_kept(tmp_path: Path) -> None:
    samples = []
    for number in range(6):
        values = halves(20 + number, 30)
        Image.fromarray(picture_of(values).permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
        Image.fromarray(values.numpy()).save(tmp_path / f"{number}-map.png")
        samples.append(Sample(tmp_path / f"{number}.png", SegmentationMap(tmp_path / f"{number}-map.png"), f"{number}"))
    preprocess = Preprocess(size=(24, 32), fit="pad", interpolation="nearest")
    for workers in (0, 2):
        split = Split(samples, list, preprocess, workers=workers)
        assert split.stack is None
        assert split.pictures is None
        seen = list(split.eval_batches(2))
        assert [one.values.shape for batch in seen for one in batch.targets] == [(24, 32)] * 6
        sizes = [(20 + number, 30) for number in range(6)]
        assert [tuple(one.values.shape) for batch in seen for one in batch.references] == sizes  # type: ignore[union-attr]
    (tmp_path / "3-map.png").write_bytes(b"no picture")
    (told,) = [message for batch in Split(samples, list, preprocess).eval_batches(2) for message in batch.skipped]
    assert "3-map.png" in told
    Image.new("RGB", (4, 4)).save(tmp_path / "colour.png")
    with pytest.raises(ImageError, match="one channel of class indices"):
        SegmentationMap(tmp_path / "colour.png").load((4, 4))


def test_a_map_of_another_size_is_brought_to_its_picture(tmp_path: Path) -> None:
    Image.fromarray(np.array([[1, 2], [3, 0]], np.uint8)).save(tmp_path / "small.png")
    found = SegmentationMap(tmp_path / "small.png").load((4, 6))
    expected = np.kron([[1, 2], [3, 0]], np.ones((2, 3)))
    assert found.values.tolist() == expected.tolist()  # type: ignore[union-attr]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(-20, 20), st.integers(-20, 20))
def test_whole_shifts_move_pixels_and_change_none(height: int, width: int, x: int, y: int) -> None:
    pixels = torch.randint(0, 255, (1, height, width), dtype=torch.uint8)
    moved = warp(pixels, shifting(x, y), (50, 50), 255)
    back = warp(moved, shifting(-x, -y), (height, width), 255)
    inside = torch.zeros(50, 50, dtype=torch.bool)
    inside[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = True
    assert bool((moved[0][~inside] == 255).all())
    if x >= 0 and y >= 0 and x + width <= 50 and y + height <= 50:
        assert torch.equal(back, pixels)
    assert torch.equal(warp(warp(pixels, hflip(width), (height, width)), hflip(width), (height, width)), pixels)


def test_a_general_warp_is_the_literal_loop() -> None:
    pixels = torch.randint(0, 255, (1, 9, 11), dtype=torch.uint8)
    by = rotation(30, 10, (5.5, 4.5)).then(Affine(1.1, 0, 0.3, 0, 0.9, -0.2))
    found = warp(pixels, by, (9, 11), 7, "nearest")
    inverse = np.linalg.inv(np.array([[by.xx, by.xy, by.x0], [by.yx, by.yy, by.y0], [0, 0, 1]]))
    for row in range(9):
        for column in range(11):
            x, y, _ = inverse @ [column + 0.5, row + 0.5, 1]
            at = (int(np.floor(y)), int(np.floor(x)))
            inside = 0 <= at[0] < 9 and 0 <= at[1] < 11
            near_an_edge = min(abs(x - round(x)), abs(y - round(y))) < 1e-3
            if not near_an_edge:
                assert int(found[0, row, column]) == (int(pixels[0, at[0], at[1]]) if inside else 7)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(20, 70), st.integers(20, 70), st.sampled_from(["pad", "squash", "native"]), st.sampled_from([1, 2, 4])
)
def test_dense_answers_come_back_onto_their_picture(height: int, width: int, fit: str, stride: int) -> None:
    """A network that says x and y of every place: each pixel of the picture gets its own."""
    preprocess = Preprocess(size=(64, 64), fit=fit, pad_multiple=32 * (fit == "native"))
    seen = eval_pair(torch.zeros(3, height, width, dtype=torch.uint8), None, preprocess)[0]
    there = [(index + 0.5) * stride for index in range(max(seen.shape) // stride)]
    rows, columns = seen.shape[-2] // stride, seen.shape[-1] // stride
    x = torch.tensor(there[:columns]).expand(rows, columns)
    y = torch.tensor(there[:rows])[:, None].expand(rows, columns)
    found = map_to_picture(torch.stack((x, y)), (height, width), preprocess)
    assert found.shape == (2, height, width)
    from striate.data.geometry import preprocess_affine

    by = preprocess_affine((height, width), preprocess)
    pixel_x = ((found[0] - by.x0) / by.xx)[:, 4:-4]
    expected = (torch.arange(width) + 0.5)[4:-4]
    assert float((pixel_x - expected).abs().max()) <= 0.51 * stride / by.xx
    enlarged = map_to_picture(torch.zeros(1, *[side * 4 for side in seen.shape[-2:]]), (height, width), preprocess, 4)
    assert enlarged.shape == (1, height * 4, width * 4)


def test_native_pictures_are_padded_and_never_resized() -> None:
    preprocess = Preprocess(size=(32, 32), fit="native", pad_multiple=8, fill=9)
    picture = torch.randint(10, 255, (3, 21, 34), dtype=torch.uint8)
    seen, target = eval_pair(picture, Objects.of([[0, 0, 34, 21]], [0], kinds=[CROWD]), preprocess)
    assert seen.shape == (3, 24, 40)
    assert torch.equal(seen[:, 1:22, 3:37], picture)
    assert target.boxes.tolist() == [[3, 1, 37, 22]]  # type: ignore[union-attr]
    assert torch.equal(map_to_picture(seen.float(), (21, 34), preprocess), picture.float())
