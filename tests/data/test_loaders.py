"""Order, shares, caching, unreadable pictures and dying workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.config import Augment, Preprocess
from striate.data.loaders import Batch, Split
from striate.data.sample import Sample
from striate.data.samplers import batch_rows, epoch_order
from striate.errors import DataError

SMALL = Preprocess(size=(8, 8), channels=1, fit="squash", mean=(0.0,), std=(1.0,))
PHOTO = Preprocess(size=(16, 16), channels=3)


def memory(count: int = 20) -> list[Sample]:
    return [Sample(torch.full((1, 8, 8), index, dtype=torch.uint8), index % 3, f"{index}") for index in range(count)]


@pytest.fixture
def files(tmp_path: Path) -> list[Sample]:
    samples = []
    for index in range(8):
        path = tmp_path / f"{index}.png"
        Image.fromarray(np.full((20 + index, 24, 3), index * 10, np.uint8)).save(path)
        samples.append(Sample(path, index, path.name))
    return samples


def two_each(split: Split, **where: int) -> Iterator[Batch]:
    return split.batches(split.shuffled(2), **where)


@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 5))
def test_an_epoch_is_a_permutation(count: int, batch: int, epoch: int):
    order = epoch_order(count, seed=1, epoch=epoch)
    assert sorted(order.tolist()) == list(range(count))
    flat = [index for row in batch_rows(order, batch, keep_rest=True) for index in row]
    assert flat == order.tolist()


@given(st.integers(2, 100), st.integers(1, 8), st.integers(1, 4))
def test_shares_of_processes_make_up_the_batch(count: int, share: int, world: int):
    order = epoch_order(count, 0, 0)
    whole = batch_rows(order, share * world)
    parts = [batch_rows(order, share * world, rank, world) for rank in range(world)]
    for number, row in enumerate(whole):
        assert sorted(row) == sorted(index for part in parts for index in part[number])


def test_epochs_differ_and_repeat():
    assert epoch_order(50, 0, 0).tolist() != epoch_order(50, 0, 1).tolist()
    assert epoch_order(50, 3, 7).tolist() == epoch_order(50, 3, 7).tolist()


def test_balanced_draws_even_out():
    targets = torch.tensor([0] * 900 + [1] * 100)
    weights = torch.where(targets == 0, 1 / 900, 1 / 100)
    share = targets[epoch_order(1000, 0, 0, weights)].float().mean().item()
    assert 0.44 < share < 0.56  # 500 ± 3.8 standard deviations


def test_in_order_gives_everything_once():
    samples = memory(21)
    batches = list(Split(samples, torch.tensor, SMALL).eval_batches(8))
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(21))
    assert torch.cat([batch.images for batch in batches])[:, 0, 0, 0].tolist() == list(range(21))


@pytest.mark.parametrize(
    "augment", [Augment(crop="pad", pad=2), Augment(crop="resized", hflip=0.5, color_jitter=0.3)], ids=str
)
@pytest.mark.parametrize("workers", [0, 2])
def test_starting_in_the_middle_gives_the_same_batches(files, augment: Augment, workers: int):
    whole = list(two_each(Split(files, torch.tensor, PHOTO, augment, workers=0, seed=5), epoch=3))
    rest = list(two_each(Split(files, torch.tensor, PHOTO, augment, workers=workers, seed=5), epoch=3, start=2))
    assert len(rest) == len(whole) - 2
    for one, other in zip(whole[2:], rest, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.targets, other.targets)


@pytest.mark.parametrize("cache", [True, False])
def test_unreadable_pictures_are_skipped_and_told(files, cache: bool):
    samples = files
    Path(samples[3].image).write_bytes(b"\xff\xd8\xff not a picture")
    split = Split(samples, torch.tensor, PHOTO, cache=cache)
    batches = list(split.eval_batches(4))
    told = [*split.skipped, *(message for batch in batches for message in batch.skipped)]
    assert len(told) == 1
    assert "3.png" in told[0]
    assert sorted(torch.cat([batch.targets for batch in batches]).tolist()) == [0, 1, 2, 4, 5, 6, 7]


def test_nothing_readable_is_an_error(tmp_path: Path):
    path = tmp_path / "bad.png"
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"none of the 1 pictures.*bad\.png"):
        Split([Sample(path, 0, "bad")], torch.tensor, PHOTO)


def test_a_dying_worker_is_told_and_survived(files):
    augment = Augment(color_jitter=0.1)
    expected = [batch.images for batch in two_each(Split(files, torch.tensor, PHOTO, augment, workers=0, seed=1))]
    split = Split(files, torch.tensor, PHOTO, augment, workers=1, seed=1, cache=False)
    got = []
    for batch in two_each(split):
        if not got:
            assert split._loader is not None
            for worker in split._loader._iterator._workers:  # type: ignore[union-attr]
                os.kill(worker.pid, signal.SIGKILL)
        got.append(batch.images)
    assert all(torch.equal(one, other) for one, other in zip(expected, got, strict=True))


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_augmented_pictures_stay_uint8_of_the_right_shape(seed: int):
    samples = memory(4)
    augment = Augment(crop="pad", pad=1, rotate=10, hflip=0.5)
    for batch in two_each(Split(samples, torch.tensor, SMALL, augment, seed=seed)):
        assert batch.images.dtype == torch.uint8
        assert batch.images.shape == (2, 1, 8, 8)


@pytest.mark.parametrize("cache", [True, False])
def test_pictures_of_several_shapes_come_in_batches_of_one(tmp_path: Path, cache: bool):
    """Judged at their own proportions: each once, each with its own pixels and size."""
    samples = []
    for index, (width, height) in enumerate([(64, 32), (32, 64), (64, 32), (64, 64), (32, 64)]):
        path = tmp_path / f"{index}.png"
        Image.fromarray(np.full((height, width, 3), index * 10, np.uint8)).save(path)
        samples.append(Sample(path, index, path.name))
    tight = Preprocess(size=(64, 64), fit="pad", pad_multiple=32)
    split = Split(samples, torch.tensor, tight, cache=cache)
    seen = {}
    for batch in split.eval_batches(4):
        for image, index, size in zip(batch.images, batch.indices.tolist(), batch.sizes.tolist(), strict=True):
            assert list(image.shape[-2:]) == size
            assert (image == index * 10).all()
            seen[index] = size
    assert seen == {0: [32, 64], 1: [64, 32], 2: [32, 64], 3: [64, 64], 4: [64, 32]}
