"""Matching against torchvision's Matcher and against literal loops."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import Matcher

from striate.tasks.detect.assignment import BELOW, BETWEEN, match_anchors, match_greedily


def overlaps(objects: int, others: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 21, (objects, others), generator=generator) / 20  # many ties


@pytest.mark.parametrize("keep_best", [False, True])
def test_anchors_match_as_torchvisions(keep_best):
    theirs = Matcher(0.7, 0.3, allow_low_quality_matches=keep_best)
    assert (Matcher.BELOW_LOW_THRESHOLD, Matcher.BETWEEN_THRESHOLDS) == (BELOW, BETWEEN)
    for seed in range(100):
        overlap = overlaps(1 + seed % 7, 1 + seed % 23, seed) * (0.5 if seed % 3 == 0 else 1)
        assert torch.equal(match_anchors(overlap, 0.7, 0.3, keep_best), theirs(overlap))


def test_no_objects_makes_background():
    assert match_anchors(torch.zeros(0, 3), 0.5, 0.4, True).tolist() == [BELOW] * 3
    assert match_anchors(torch.zeros(2, 0), 0.5, 0.4, True).tolist() == []


def test_each_object_gets_its_best_anchor():
    overlap = torch.tensor([[0.1, 0.2, 0.0], [0.8, 0.3, 0.0]])
    assert match_anchors(overlap, 0.7, 0.25).tolist() == [1, BETWEEN, BELOW]
    assert match_anchors(overlap, 0.7, 0.25, keep_best=True).tolist() == [1, 1, BELOW]  # 1 overlaps the second more


def greedy_by_loop(overlap: list[list[float]], threshold: float) -> list[int]:
    taken: set[int] = set()
    found = []
    for row in overlap:
        best = -1
        for j, value in enumerate(row):
            if j not in taken and value >= (threshold if best < 0 else row[best]):
                best = j
        taken |= {best} - {-1}
        found.append(best)
    return found


def test_greedy_is_the_loop():
    for seed in range(150):
        overlap = overlaps(seed % 9, seed % 6, seed)
        assert match_greedily(overlap, 0.5).tolist() == greedy_by_loop(overlap.tolist(), 0.5)


def test_greedy_takes_batches():
    overlap = torch.stack([overlaps(6, 5, seed) for seed in range(8)])
    assert torch.equal(match_greedily(overlap, 0.5), torch.stack([match_greedily(one, 0.5) for one in overlap]))
