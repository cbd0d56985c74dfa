"""mixup and CutMix against the papers' formulas, written out by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data.mixing import beta, cutmix_box, mix


def batch(count: int = 6, classes: int = 6, height: int = 7, width: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Every pixel tells picture and place; one class a picture, so that targets tell who was mixed with whom."""
    places = torch.arange(2 * height * width, dtype=torch.float32).view(1, 2, height, width) / 1000
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1) * 10 + places
    return images, torch.eye(count, classes)


def partners_and_share(targets: torch.Tensor) -> list[tuple[int, float]]:
    """For each row: its partner and its own share, read off mixed one-hot targets."""
    found = []
    for row, values in enumerate(targets.tolist()):
        others = [column for column, value in enumerate(values) if column != row and value > 1e-6]
        found.append((others[0] if others else row, values[row]))
        assert sum(values) == pytest.approx(1, abs=1e-5)
        assert len(others) <= 1
    return found


@given(seed=st.integers(0, 2**31), alpha=st.sampled_from([0.1, 0.4, 1.0, 5.0]))
@settings(max_examples=40, deadline=None)
def test_mixup_is_the_weighted_mean_of_two_pictures_and_their_targets(seed: int, alpha: float) -> None:
    images, targets = batch()
    mixed, labels = mix(images, targets, alpha, 0.0, torch.Generator().manual_seed(seed))
    pairs = partners_and_share(labels)
    assert len({round(share, 5) for partner, share in pairs if partner >= 0 and share < 1 - 1e-5}) <= 1  # one a batch
    for row, (partner, share) in enumerate(pairs):
        expected = share * images[row] + (1 - share) * images[partner]
        torch.testing.assert_close(mixed[row], expected, atol=1e-4, rtol=0)


@given(seed=st.integers(0, 2**31), alpha=st.sampled_from([0.1, 1.0, 5.0]))
@settings(max_examples=40, deadline=None)
def test_cutmix_pastes_one_box_and_shares_labels_by_its_area(seed: int, alpha: float) -> None:
    images, targets = batch()
    mixed, labels = mix(images, targets, 0.0, alpha, torch.Generator().manual_seed(seed))
    boxes = set()
    for row, (partner, share) in enumerate(partners_and_share(labels)):
        pasted = (mixed[row] != images[row]).all(0)  # [H, W]
        if partner == row:
            assert not pasted.any() or share < 1e-6
            continue
        ys, xs = np.nonzero(pasted.numpy())
        boxes.add((ys.min(), ys.max(), xs.min(), xs.max()))
        assert pasted.sum() == (ys.max() - ys.min() + 1) * (xs.max() - xs.min() + 1)
        assert torch.equal(mixed[row][:, pasted], images[partner][:, pasted])
        assert share == pytest.approx(1 - float(pasted.float().mean()), abs=1e-5)
    assert len(boxes) <= 1


def test_box_follows_the_paper_where_it_is_not_cut() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = [cutmix_box(100, 200, 0.75, generator) for _ in range(2000)]
    whole = [b for b in boxes if b[0] > 0 and b[1] < 100 and b[2] > 0 and b[3] < 200]
    assert {(bottom - top, right - left) for top, bottom, left, right in whole} == {(50, 100)}  # sqrt(1 - 0.75) = 1/2
    assert all(0 <= top <= bottom <= 100 and 0 <= left <= right <= 200 for top, bottom, left, right in boxes)
    centres = [(top + bottom) / 2 for top, bottom, _, _ in whole]
    assert abs(np.mean(centres) - 50) < 1.5


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_share_is_beta_distributed(alpha: float) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(0)
    draws = [beta(alpha, generator) for _ in range(2000)]
    assert scipy_stats.kstest(draws, scipy_stats.beta(alpha, alpha).cdf).pvalue > 0.001


def test_tiny_alpha_still_gives_a_share() -> None:
    generator = torch.Generator().manual_seed(0)
    assert all(0 <= beta(0.001, generator) <= 1 for _ in range(200))


def test_off_means_untouched_and_both_on_takes_each_half_the_time() -> None:
    images, targets = batch()
    assert mix(images, targets, 0, 0)[0] is images
    generator = torch.Generator().manual_seed(0)
    cut = 0
    for _ in range(200):
        mixed, _ = mix(images, targets, 1.0, 1.0, generator)
        cut += bool(((mixed.view(6, 2, -1) - images.view(6, 2, -1)).std(-1) > 0.3).any() or torch.equal(mixed, images))
    assert 70 < cut < 130


def test_randomness_comes_from_the_generator_and_arguments_stay() -> None:
    images, targets = batch()
    copy = images.clone()
    state = torch.get_rng_state()
    one, two = (mix(images, targets, 0.4, 1.0, torch.Generator().manual_seed(9)) for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(images, copy)


@pytest.mark.parametrize(("mixup", "cutmix"), [(1.0, 0.0), (0.0, 1.0)])
def test_memory_format_is_kept(mixup: float, cutmix: float) -> None:
    images, targets = batch()
    images = images.to(memory_format=torch.channels_last)
    mixed, _ = mix(images, targets, mixup, cutmix, torch.Generator().manual_seed(0))
    assert mixed.is_contiguous(memory_format=torch.channels_last)
