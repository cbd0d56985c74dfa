"""Batches as values: the same for the same (epoch, rank, world), and nothing that belongs together is torn apart."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from striate.data.samplers import Groups, InOrder, Shuffled, Unpaired, Weighted
from striate.errors import DataError

WORLDS = st.integers(1, 4)


def whole(sampler, epoch: int, world: int) -> list[list[int]]:
    """The global batches, put together of what the ranks take."""
    shares = [sampler.batches(epoch, rank, world) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1  # every rank takes as many steps
    return [[index for part in parts for index in part] for parts in zip(*shares, strict=True)]


@given(st.integers(8, 90), st.integers(1, 3), WORLDS, st.integers(0, 3))
def test_shuffled_gives_each_sample_once(count: int, share: int, world: int, epoch: int) -> None:
    sampler = Shuffled(count, share * world, seed=3)
    rows = whole(sampler, epoch, world)
    drawn = [index for row in rows for index in row]
    batch = share * world
    assert len(set(drawn)) == len(drawn) == (count if count < batch else count // batch * batch)
    assert rows == whole(sampler, epoch, world)
    assert count < 12 or rows != whole(sampler, epoch + 1, world)


def test_weighted_draws_the_heavy_ones() -> None:
    weights = torch.tensor([1.0] * 50 + [0.0] * 50)
    drawn = [index for row in Weighted(weights, 10).batches(0) for index in row]
    assert len(drawn) == 100
    assert max(drawn) < 50


@given(st.integers(1, 30), st.integers(1, 8), WORLDS)
def test_in_order_gives_all_to_somebody(count: int, batch: int, world: int) -> None:
    rows = [row for rank in range(world) for row in InOrder(count, batch).batches(0, rank, world)]
    assert sorted(index for row in rows for index in row) == list(range(count))


@given(
    st.lists(st.integers(0, 9), min_size=40, max_size=80),
    st.integers(1, 2),
    st.sampled_from([2, 3, 4]),
    st.integers(1, 2),
    st.integers(0, 3),
)
def test_groups_hold_p_identities_of_k_pictures(labels, share, each, world, epoch) -> None:
    groups = share * world
    sampler = Groups(labels, groups, each, seed=1)
    counted = Counter(labels)
    if sum(count > 1 for count in counted.values()) < groups:
        return
    for rank in range(world):
        for row in sampler.batches(epoch, rank, world):
            of_row = Counter(labels[index] for index in row)
            assert len(row) == share * each
            assert set(of_row.values()) == {each}  # no identity is shared between ranks
            for label in of_row:
                distinct = {index for index in row if labels[index] == label}
                assert len(distinct) == min(each, counted[label])
    for row in whole(sampler, epoch, world):
        assert len({labels[index] for index in row}) == groups


def test_groups_that_cannot_be_drawn_are_told() -> None:
    with pytest.raises(DataError, match="4 identities a batch"):
        Groups([0, 0, 1, 1, 2], 4, 2).batches(0)
    with pytest.raises(DataError, match="shared by 2 processes"):
        Groups([0, 0, 1, 1, 2, 2], 3, 2).batches(0, 0, 2)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 2), WORLDS, st.integers(0, 3))
def test_unpaired_has_as_many_of_each_side(first: int, second: int, share: int, world: int, epoch: int) -> None:
    domains = [False] * first + [True] * second
    sampler = Unpaired(domains, share * world, seed=2)
    longest = max(first, second)
    for rank in range(world):
        for row in sampler.batches(epoch, rank, world):
            sides = [domains[index] for index in row]
            assert sides == sorted(sides)  # A's first
            assert longest < share * world or sides.count(False) == sides.count(True) == share
    drawn = Counter(index for row in whole(sampler, epoch, world) for index in row)
    if longest % (share * world) == 0:
        side = [count for index, count in drawn.items() if domains[index] == (second > first)]
        assert set(side) == {1}  # the larger side once each
    with pytest.raises(DataError, match="one of them is empty"):
        Unpaired([True, True], 1).batches(0)
