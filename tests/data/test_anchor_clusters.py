"""Dimension clusters against all possible clusterings of a few boxes."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from striate.config import Preprocess
from striate.data.anchor_clusters import cluster, draw, mean_iou, shape_iou, sizes_of
from striate.data.sample import Sample
from striate.data.targets import CROWD, PLAIN, Objects


def test_shape_iou_by_hand():
    """10×20 and 20×10 share 10×10 of 300: a third."""
    overlap = shape_iou(torch.tensor([[10.0, 20.0]]), torch.tensor([[20.0, 10.0], [10.0, 20.0]]))
    torch.testing.assert_close(overlap, torch.tensor([[1 / 3, 1.0]]))


@pytest.mark.parametrize("seed", range(6))
def test_two_clusters_are_as_good_as_the_best_of_all_splits(seed: int):
    sizes = torch.rand(8, 2, generator=torch.Generator().manual_seed(seed)) * 90 + 10
    best = 0.0
    for sides in product((False, True), repeat=7):
        mask = torch.tensor([False, *sides])
        if mask.any():
            anchors = torch.stack((sizes[~mask].mean(0), sizes[mask].mean(0)))
            best = max(best, mean_iou(sizes, anchors))
    # k-means ends where no box changes sides, which may be a little below the best of all means
    assert mean_iou(sizes, cluster(sizes, 2)) >= best - 0.05


def test_more_anchors_fit_better_and_come_by_area():
    sizes = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * 100 + 5
    found = [cluster(sizes, count) for count in range(1, 7)]
    fits = [mean_iou(sizes, anchors) for anchors in found]
    assert fits == sorted(fits)
    areas = found[-1].prod(1).tolist()
    assert areas == sorted(areas)
    assert torch.equal(cluster(sizes, 4, seed=3), cluster(sizes, 4, seed=3))


def test_clear_groups_are_found():
    groups = torch.tensor([[10.0, 10.0], [40.0, 20.0], [30.0, 90.0]])
    noise = torch.rand(300, 2, generator=torch.Generator().manual_seed(1)) - 0.5
    sizes = groups.repeat(100, 1) + noise
    torch.testing.assert_close(cluster(sizes, 3), groups, atol=0.2, rtol=0)


def test_sizes_are_those_the_network_sees():
    objects = Objects.of([[0, 0, 50, 20], [0, 0, 10, 10]], [0, 0], kinds=[PLAIN, CROWD])
    sample = Sample(torch.zeros(3, 100, 200, dtype=torch.uint8), objects, "x")
    sizes = sizes_of([sample], Preprocess(size=(64, 64), fit="pad"))
    torch.testing.assert_close(sizes, torch.tensor([[16.0, 6.4]]))  # 200 → 64
    assert draw(sizes, sizes, [1.0], "one").startswith(b"\x89PNG")
