"""Disturbances against SciPy, numpy, colorsys and ImageNet-C's formulas; what each must leave alone."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from striate.data.corruptions import CORRUPTIONS, GREY, border_colour, disturb, gaussian_matrix, graded

NAMES = list(CORRUPTIONS)
SHAPES = [(1, 1, 1, 1), (2, 3, 1, 1), (2, 1, 1, 9), (3, 3, 7, 5), (2, 1, 8, 8), (1, 3, 31, 40)]


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def applied(name: str, images: torch.Tensor, strength: float, seed: int = 0) -> torch.Tensor:
    return CORRUPTIONS[name].apply(images, strength, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_strength_zero_changes_no_bit(name: str, shape: tuple[int, ...]) -> None:
    images = pictures(*shape)
    assert torch.equal(applied(name, images, 0), images)
    assert torch.equal(disturb(images, name, 0, 5, range(len(images))), images)


@given(
    name=st.sampled_from(NAMES),
    shape=st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 17), st.integers(1, 17)),
    grade=st.integers(0, 4),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=150, deadline=None)
def test_pixels_depend_on_seed_and_place_alone(name: str, shape: tuple[int, ...], grade: int, seed: int) -> None:
    images, strength = pictures(*shape), CORRUPTIONS[name].strengths[grade]
    before = images.clone()
    together = disturb(images, name, strength, seed, range(len(images)))
    assert together.dtype == torch.uint8
    assert together.shape == images.shape
    assert torch.equal(images, before)  # the input is not written to
    assert torch.equal(together, disturb(images, name, strength, seed, range(len(images))))
    for place in reversed(range(len(images))):
        assert torch.equal(disturb(images[place : place + 1], name, strength, seed, [place])[0], together[place])


@pytest.mark.parametrize("name", ["shift", "rotation", "noise", "occlusion"])
def test_places_and_seeds_draw_differently(name: str) -> None:
    images = pictures(1, 3, 16, 16).expand(12, -1, -1, -1)
    strength = CORRUPTIONS[name].strengths[2]
    drawn = disturb(images, name, strength, 0, range(12))
    assert len({picture.numpy().tobytes() for picture in drawn}) > 1
    assert not torch.equal(drawn, disturb(images, name, strength, 1, range(12)))


@pytest.mark.parametrize("name", NAMES)
def test_grades_rise_and_the_strongest_changes_a_picture(name: str) -> None:
    strengths = CORRUPTIONS[name].strengths
    assert len(strengths) == 5
    assert list(strengths) == sorted(set(strengths))
    images = pictures(1, 3, 32, 32)
    assert not torch.equal(applied(name, images, strengths[-1]), images)
    assert CORRUPTIONS[name].unit
    assert all(len(CORRUPTIONS[name].write(strength)) <= 8 for strength in (0, *strengths))


def test_shift_is_a_slice_on_the_colour_of_the_edge() -> None:
    image = pictures(1, 3, 10, 20).numpy()
    ring = np.concatenate([image[..., 0, :], image[..., -1, :], image[..., 0], image[..., -1]], axis=-1)
    fill = np.sort(ring, axis=-1)[..., (ring.shape[-1] - 1) // 2]
    wanted = []
    for axis, pixels in ((2, 3), (2, -3), (3, 6), (3, -6)):  # 30 % of 10 rows, of 20 columns
        rolled = np.roll(image, pixels, axis)
        uncovered = (
            np.arange(image.shape[axis]) < pixels if pixels > 0 else np.arange(image.shape[axis])[::-1] < -pixels
        )
        place = uncovered[:, None] if axis == 2 else uncovered[None, :]
        wanted.append(np.where(place, fill[..., None, None], rolled))
    seen = set()
    for seed in range(40):
        shifted = applied("shift", torch.from_numpy(image), 0.3, seed).numpy()
        matches = [at for at, one in enumerate(wanted) if np.array_equal(one, shifted)]
        assert len(matches) == 1
        seen.update(matches)
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("side", [1, 2, 7, 8, 33])
def test_a_quarter_turn_is_rot90(side: int) -> None:
    images = pictures(2, 3, side, side)
    turns = [torch.rot90(images, times, (2, 3)) for times in (1, 3)]
    seen = [[torch.equal(applied("rotation", images, 90, seed), turn) for turn in turns] for seed in range(20)]
    assert all(any(row) for row in seen)
    assert {True} == {any(column) for column in zip(*seen, strict=True)}  # both ways occur


@pytest.mark.parametrize("value", [0, 1, 77, 255])
@pytest.mark.parametrize("name", ["shift", "smaller", "larger", "rotation", "blur"])
def test_moving_a_blank_page_leaves_it_blank(name: str, value: int) -> None:
    page = torch.full((1, 3, 15, 15), value, dtype=torch.uint8)
    assert torch.equal(applied(name, page, CORRUPTIONS[name].strengths[3]), page)


def test_rotation_equals_scipy() -> None:
    image = torch.from_numpy(ndimage.gaussian_filter(pictures(41, 41).double().numpy(), 3)).round().byte()[None, None]
    ground = float(border_colour(image))
    turned = applied("rotation", image, 20).double().numpy()[0, 0]
    ways = [
        ndimage.rotate(image[0, 0].double().numpy() - ground, angle, reshape=False, order=1, mode="grid-constant")
        for angle in (20, -20)
    ]
    assert min(np.abs(turned - way - ground).max() for way in ways) <= 1


def test_smaller_keeps_the_ink_in_proportion_and_the_ground() -> None:
    images = torch.zeros(1, 1, 40, 40, dtype=torch.uint8)
    images[..., 10:30, 10:30] = 200
    half = applied("smaller", images, 0.5)
    assert (half[..., 17:23, 17:23] == 200).all()
    assert float(half.sum()) == pytest.approx(float(images.sum()) / 4, rel=0.05)
    assert not half[..., :10, :].any()


def test_larger_by_100_percent_shows_the_middle_half() -> None:
    images = torch.zeros(1, 1, 40, 40, dtype=torch.uint8)
    images[..., 12:28, 12:28] = 200
    double = applied("larger", images, 1.0)[0, 0]
    assert (double[5:35, 5:35] == 200).all()
    assert not double[:3].any()


@pytest.mark.parametrize(
    ("shape", "strength"), [((9, 7), 0.2), ((8, 8), 0.03), ((50, 64), 0.03), ((3, 40), 0.5), ((1, 1), 1)]
)
def test_blur_equals_scipy(shape: tuple[int, int], strength: float) -> None:
    images = pictures(2, 3, *shape)
    sigma = strength * min(shape)
    theirs = ndimage.gaussian_filter(images.double().numpy(), (0, 0, sigma, sigma), mode="reflect", truncate=4)
    ours = applied("blur", images, strength).double().numpy()
    assert np.abs(ours - theirs).max() <= 0.5 + 1e-3


def test_blur_keeps_the_mean_and_lowers_the_variance() -> None:
    images = pictures(4, 3, 32, 32)
    variances = [images.double().var()]
    for strength in CORRUPTIONS["blur"].strengths:
        blurred = applied("blur", images, strength).double()
        assert float(blurred.mean()) == pytest.approx(float(images.double().mean()), abs=0.05)
        variances.append(blurred.var())
    assert variances == sorted(variances, reverse=True)
    matrix = gaussian_matrix(11, 4.0)
    assert torch.allclose(matrix.sum(0), torch.ones(11))
    assert torch.allclose(matrix, matrix.T)


def test_noise_has_the_sigma_asked_for() -> None:
    middle = torch.full((1, 3, 200, 200), 128, dtype=torch.uint8)
    for strength in (0.04, 0.08, 0.12):  # 3 sigma and more stay unclipped
        difference = applied("noise", middle, strength).double() - 128
        # 120,000 draws: the standard error of sigma is 0.2 %, that of the mean sigma / 346; rounding adds 1/12
        assert float(difference.var().sub(1 / 12).sqrt()) == pytest.approx(255 * strength, rel=0.01)
        assert abs(float(difference.mean())) < 255 * strength / 346 * 4
    red, green, _ = applied("noise", middle, 0.1)[0].double().flatten(1)
    assert abs(float(torch.corrcoef(torch.stack([red, green]))[0, 1])) < 0.03  # channels are independent


def test_stronger_noise_is_the_same_noise_louder() -> None:
    middle = torch.full((1, 1, 20, 20), 128, dtype=torch.uint8)
    soft, loud = (disturb(middle, "noise", strength, 0, [3]).double() - 128 for strength in (0.04, 0.08))
    assert float((loud - 2 * soft).abs().max()) <= 1.5


def test_lighter_is_the_v_of_hsv() -> None:
    image = pictures(1, 3, 6, 6)
    image[..., 0, 0] = 0
    lighter = applied("lighter", image, 0.3)[0].flatten(1).T.tolist()
    for before, after in zip(image[0].flatten(1).T.tolist(), lighter, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in before))
        wanted = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.3, 1))
        assert np.abs(np.array(after) - 255 * np.array(wanted)).max() <= 0.51
    grey = pictures(1, 1, 6, 6)
    assert torch.equal(applied("lighter", grey, 0.2), (grey.int() + 51).clamp(max=255).byte())


def test_darker_and_contrast_take_away_their_share() -> None:
    grey = pictures(2, 1, 16, 16)
    assert (applied("darker", grey, 0.6).double() - grey.double() * 0.4).abs().max() <= 1
    mean = grey.double().mean((1, 2, 3), keepdim=True)  # ImageNet-C: (x - mean) * c + mean
    assert (applied("contrast", grey, 0.7).double() - ((grey - mean) * 0.3 + mean)).abs().max() <= 2


@given(height=st.integers(1, 60), width=st.integers(1, 60), strength=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_occlusion_covers_the_share_asked_for(height: int, width: int, strength: float, seed: int) -> None:
    white = torch.full((1, 1, height, width), 255, dtype=torch.uint8)
    covered = applied("occlusion", white, strength, seed)[0, 0] == GREY
    rows, columns = covered.any(1).nonzero(), covered.any(0).nonzero()
    if len(rows):  # one solid rectangle
        assert covered[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
    high = max(1, round(height * strength**0.5))
    assert abs(int(covered.sum()) - strength * height * width) <= max(high / 2, height) + 1e-9
    if min(height, width) >= 20:
        assert abs(float(covered.double().mean()) - strength) <= 0.03


def test_number_of_grades() -> None:
    strengths = CORRUPTIONS["rotation"].strengths
    assert graded(strengths, 5) == strengths
    assert graded(strengths, 1) == (60,)
    assert graded(strengths, 10)[1::2] == strengths
    assert graded(strengths, 10)[0] == 5
    for count in range(1, 11):
        places = np.linspace(0, 5, count + 1)[1:]
        assert graded(strengths, count) == pytest.approx(np.interp(places, range(6), [0, *strengths]))
