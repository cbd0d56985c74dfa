"""Held-out splits: disjoint, covering, stratified, the same every time."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data.sample import Sample
from striate.data.split import hold_out, stratified_split

fractions = st.floats(0.01, 0.9)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=200), fractions, st.integers(0, 2**31))
def test_one_label(targets, fraction, seed):
    rest, held = stratified_split(targets, fraction, seed)
    assert sorted(rest + held) == list(range(len(targets)))
    assert (rest, held) == stratified_split(targets, fraction, seed)
    whole, taken = Counter(targets), Counter(targets[index] for index in held)
    for label, count in whole.items():
        if count == 1:
            assert taken[label] == 0
        else:
            assert abs(taken[label] - count * fraction) < 1 + 1e-9
            assert 1 <= taken[label] < count


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 4), max_size=4).map(lambda s: tuple(sorted(s))), max_size=120), st.integers(0, 99)
)
def test_several_labels(targets, seed):
    rest, held = stratified_split([*targets, (7,)], 0.3, seed)
    assert sorted(rest + held) == list(range(len(targets) + 1))
    assert len(targets) in rest  # the only one with label 7
    assert (rest, held) == stratified_split([*targets, (7,)], 0.3, seed)


def test_several_labels_keep_their_shares():
    generator = torch.Generator().manual_seed(0)
    chances = torch.tensor([0.5, 0.2, 0.1, 0.05, 0.02])
    table = torch.rand(2000, 5, generator=generator) < chances
    targets = [tuple(row.nonzero()[:, 0].tolist()) for row in table]
    _, held = stratified_split(targets, 0.2, 1)
    assert abs(len(held) - 400) < 12
    for label in range(5):
        count = int(table[:, label].sum())
        assert abs(int(table[held, label].sum()) - 0.2 * count) <= max(3, 0.05 * count)


def test_balanced_classes_give_the_exact_count_and_seeds_differ():
    targets = [index % 10 for index in range(60_000)]
    _, held = stratified_split(targets, 5000 / 60_000, 0)
    assert len(held) == 5000
    assert held != stratified_split(targets, 5000 / 60_000, 1)[1]


def test_hold_out_leaves_a_val_alone_and_never_mixes():
    samples = [Sample(f"{index}.png", index % 2, f"{index}.png") for index in range(40)]
    splits, note = hold_out({"train": samples, "val": samples[:3]}, 0.2, 0)
    assert note is None
    assert splits["val"] == samples[:3]
    splits, note = hold_out({"train": samples, "test": samples[:1]}, 0.2, 0, at_most=4)
    assert list(splits) == ["train", "val", "test"]
    assert len(splits["val"]) == 4
    assert note is not None
    assert "4 of 40" in note
    assert not {s.name for s in splits["train"]} & {s.name for s in splits["val"]}
    assert hold_out({"train": samples}, 0.0, 0) == ({"train": samples}, None)
    alone = [Sample("a.png", 0, "a"), Sample("b.png", 1, "b")]
    splits, note = hold_out({"train": alone}, 0.5, 0)
    assert splits == {"train": alone}
    assert note is not None
