"""The drawn set: its truth against its pixels and against pycocotools' reading of its masks."""

from __future__ import annotations

import pytest
import torch

from striate.data import open_dataset
from striate.data.shapes import CLASSES, LEAST_VISIBLE, draw_scene


def decoded(mask) -> torch.Tensor:
    from pycocotools import mask as coco

    rle = coco.frPyObjects(mask, *mask["size"]) if isinstance(mask["counts"], list) else mask
    return torch.from_numpy(coco.decode(rle)).bool()


@pytest.mark.parametrize("index", range(12))
def test_boxes_and_areas_are_those_of_the_masks(index: int):
    picture, objects = draw_scene(3, index)
    assert picture.shape == (3, 160, 160)
    assert picture.dtype == torch.uint8
    assert 1 <= len(objects) <= 6
    assert objects.masks is not None
    seen = torch.zeros(160, 160, dtype=torch.int64)
    for box, area, mask in zip(objects.boxes, objects.areas, objects.masks, strict=True):
        pixels = decoded(mask)
        seen += pixels
        y, x = pixels.nonzero().unbind(1)
        tight = torch.tensor([int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1], dtype=torch.float32)
        torch.testing.assert_close(box, tight)
        assert float(area) == float(pixels.sum())
    assert int(seen.max()) == 1  # a pixel belongs to one figure


def test_a_scene_depends_on_its_numbers_alone():
    first, objects = draw_scene(0, 7)
    draw_scene(5, 1)
    again, same = draw_scene(0, 7)
    assert torch.equal(first, again)
    assert torch.equal(objects.boxes, same.boxes)
    assert not torch.equal(first, draw_scene(0, 8)[0])
    assert not torch.equal(first, draw_scene(1, 7)[0])


def test_the_set_has_its_size_and_all_classes():
    dataset = open_dataset("shapes")
    assert dataset.task == "detect"
    assert dataset.classes == CLASSES
    assert {name: len(samples) for name, samples in dataset.splits.items()} == {"train": 640, "val": 160}
    counts = torch.bincount(torch.cat([sample.target.labels for sample in dataset.splits["train"]]), minlength=5)
    assert (counts > 200).all()
    assert LEAST_VISIBLE >= 0.6


def test_figures_stand_out_from_what_is_under_them():
    """A figure's mean colour differs from its surroundings: what is drawn can be seen."""
    for index in range(6):
        picture, objects = draw_scene(11, index)
        union = torch.zeros(160, 160, dtype=torch.bool)
        masks = [decoded(mask) for mask in objects.masks or ()]
        for mask in masks:
            union |= mask
        ground = picture.float()[:, ~union].mean(1)
        for mask in masks:
            assert float((picture.float()[:, mask].mean(1) - ground).norm()) > 20
