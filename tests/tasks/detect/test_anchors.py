"""Anchors equal to torchvision's, centres by hand."""

from __future__ import annotations

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from striate.tasks.detect.anchors import cell_anchors, cell_centres, grid_anchors


def test_anchors_are_torchvisions():
    sizes, ratios = ((32, 45), (64,), (128, 190, 256)), ((0.5, 1.0, 2.0),) * 3
    shapes, strides = [(12, 9), (6, 5), (3, 3)], [(8, 8), (16, 14), (32, 24)]
    maps = [torch.zeros(1, 2, *shape) for shape in shapes]
    theirs = AnchorGenerator(sizes, ratios)(ImageList(torch.zeros(1, 3, 96, 72), [(96, 72)]), maps)[0]
    assert torch.equal(torch.cat(grid_anchors(shapes, strides, sizes, ratios)), theirs)


def test_shapes_have_the_area_and_the_ratio():
    anchors = cell_anchors([100.0], [0.25, 1.0, 4.0])
    assert (anchors[:, 2:] - anchors[:, :2]).tolist() == [[200, 50], [100, 100], [50, 200]]
    assert (anchors[:, 2:] + anchors[:, :2]).abs().max() == 0


def test_centres():
    assert cell_centres(2, 3, 8).tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
