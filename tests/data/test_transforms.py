"""Transforms against torchvision's own, and the batch path against the path a picture."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from striate.config import Augment, Preprocess
from striate.data.batch_augment import affine, batch_augment, batchable, move
from striate.data.sample import Dataset, Sample
from striate.data.statistics import channel_statistics, fingerprint
from striate.data.transforms import Normalize, eval_transform, train_transform
from striate.errors import DataError


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randint(
        0, 256, (channels, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def preprocess(size: tuple[int, int], channels: int = 3, **settings: object) -> Preprocess:
    return Preprocess(size=size, channels=channels, mean=(0.5,) * channels, std=(0.25,) * channels, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (256, 256), (100, 90), (225, 999), (1, 7)])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_crop_equals_torchvision_resize_and_center_crop(shape: tuple[int, int], mode: str) -> None:
    image = picture(*shape)
    theirs = v2.Compose([v2.Resize(256, interpolation=v2.InterpolationMode(mode), antialias=True), v2.CenterCrop(224)])(
        image
    )
    assert torch.equal(eval_transform(preprocess((224, 224), interpolation=mode))(image), theirs)


def test_crop_ratio_of_torchvision_weights_gives_their_resize_size() -> None:
    image = picture(300, 400)
    theirs = v2.CenterCrop(224)(v2.Resize(232, antialias=True)(image))
    assert torch.equal(eval_transform(preprocess((224, 224), crop_ratio=224 / 232))(image), theirs)


def test_squash_equals_torchvision_resize() -> None:
    image = picture(30, 77)
    assert torch.equal(
        eval_transform(preprocess((40, 48), fit="squash"))(image), v2.Resize((40, 48), antialias=True)(image)
    )


def test_pad_keeps_the_whole_picture_and_fills_around_it() -> None:
    white = torch.full((3, 100, 50), 255, dtype=torch.uint8)
    fitted = eval_transform(preprocess((64, 64), fit="pad", fill=7))(white)
    assert (fitted[:, :, 16:48] == 255).all()  # 32 wide, in the middle
    assert (fitted[:, :, :16] == 7).all()
    assert (fitted[:, :, 48:] == 7).all()


def test_a_picture_of_the_right_size_is_returned_as_it_is() -> None:
    image = picture(224, 224)
    assert eval_transform(preprocess((224, 224)))(image) is image


def test_channels_follow_preprocess() -> None:
    colour, grey = picture(20, 20), picture(20, 20, 1)
    pillow = np.asarray(F.to_pil_image(colour).convert("L"))
    to_grey = eval_transform(preprocess((20, 20), 1))
    assert np.array_equal(to_grey(colour)[0].numpy(), pillow)
    assert torch.equal(to_grey(grey.expand(3, -1, -1)), grey)
    assert torch.equal(eval_transform(preprocess((20, 20)))(grey), grey.expand(3, -1, -1))


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    fit=st.sampled_from(["crop", "squash", "pad"]),
    ratio=st.floats(0.3, 1),
    channels=st.sampled_from([1, 3]),
)
@settings(max_examples=60, deadline=None)
def test_any_picture_becomes_the_size_asked_for(height, width, size, fit, ratio, channels) -> None:
    result = eval_transform(preprocess(size, channels, fit=fit, crop_ratio=ratio))(picture(height, width))
    assert (tuple(result.shape), result.dtype) == ((channels, *size), torch.uint8)


STRONG = Augment(
    policy="trivial", crop="resized", hflip=0.5, rotate=10, shear=5, scale=(0.9, 1.1), color_jitter=0.3, erase=0.5
)


@pytest.mark.parametrize(
    "augment", [STRONG, STRONG.model_copy(update={"policy": "rand"}), STRONG.model_copy(update={"crop": "pad"})]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_training_transform_is_uint8_of_the_right_size_and_repeatable(augment: Augment, channels: int) -> None:
    transform = pickle.loads(pickle.dumps(train_transform(augment, preprocess((32, 40), channels))))
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(transform(picture(60, 70)))
    assert (tuple(results[0].shape), results[0].dtype) == ((channels, 32, 40), torch.uint8)
    assert torch.equal(*results)
    torch.manual_seed(4)
    assert not torch.equal(results[0], transform(picture(60, 70)))


def test_training_without_augmentation_is_the_judging_transform() -> None:
    image, settings_ = picture(60, 70), preprocess((32, 32))
    assert torch.equal(train_transform(Augment(), settings_)(image), eval_transform(settings_)(image))


def test_normalize_matches_torchvision_and_keeps_the_memory_format() -> None:
    settings_ = Preprocess(size=(8, 9))
    images = torch.stack([picture(8, 9, seed=seed) for seed in range(4)])
    theirs = v2.Normalize(settings_.mean, settings_.std)(images.float() / 255)
    normalize = Normalize(settings_)
    torch.testing.assert_close(normalize(images), theirs, atol=2e-6, rtol=0)
    torch.testing.assert_close(normalize(images.float()), theirs, atol=2e-6, rtol=0)
    last = normalize(images.to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert normalize(images).is_contiguous()
    assert not normalize.state_dict()


# the batch path


def stack(count: int, height: int, width: int, channels: int = 1) -> torch.Tensor:
    return picture(count * height, width, channels).view(channels, count, height, width).transpose(0, 1).contiguous()


def test_batch_path_covers_geometry_and_erasing_only() -> None:
    assert batchable(Augment(crop="pad", hflip=0.5, rotate=5, shear=3, scale=(0.8, 1), erase=1))
    assert not batchable(Augment(color_jitter=0.1))
    assert not batchable(Augment(crop="resized"))
    assert not batchable(Augment(policy="trivial"))


def test_batch_path_with_everything_off_changes_nothing() -> None:
    images = stack(5, 9, 12, 3)
    assert torch.equal(batch_augment(images, Augment()), images)


def shift_of(moved: np.ndarray, original: np.ndarray, pad: int) -> tuple[int, int, bool]:
    """Which shift and mirror, by trying all; fails when none or more than one explain the picture."""
    found = []
    height, width = original.shape
    for mirror in (False, True):
        padded = np.pad(original[:, ::-1] if mirror else original, pad)
        for y in range(-pad, pad + 1):
            for x in range(-pad, pad + 1):
                if np.array_equal(padded[pad - y : pad - y + height, pad - x : pad - x + width], moved):
                    found.append((y, x, mirror))  # noqa: PERF401
    (only,) = found
    return only


@pytest.mark.parametrize("path", ["batch", "picture"])
def test_shifts_and_mirrors_are_even_over_all_that_pad_allows(path: str) -> None:
    augment, original, count = Augment(crop="pad", pad=1, hflip=0.5), picture(6, 7, 1), 3600
    if path == "batch":
        results = batch_augment(original.expand(count, -1, -1, -1), augment, torch.Generator().manual_seed(0))
    else:
        torch.manual_seed(0)
        transform = train_transform(augment, preprocess((6, 7), 1))
        results = torch.stack([transform(original) for _ in range(count)])
    shifts = [shift_of(result[0].numpy(), original[0].numpy(), 1) for result in results]
    counts = np.unique(np.array(shifts, dtype=int), axis=0, return_counts=True)[1]
    assert len(counts) == 18  # 3 × 3 shifts, mirrored or not
    chi_squared = ((counts - count / 18) ** 2 / (count / 18)).sum()
    assert chi_squared < 40.8  # 17 degrees of freedom, p = 0.001; the seed is fixed


@given(
    pad=st.integers(0, 3),
    mirror=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**31),
    channels=st.sampled_from([1, 3]),
)
@settings(max_examples=30, deadline=None)
def test_shifts_are_within_pad_and_pixels_exact(pad: int, mirror: float, seed: int, channels: int) -> None:
    images = stack(4, 10, 9, channels)
    augment = Augment(crop="pad", pad=pad, mirror=mirror)
    moved = batch_augment(images, augment, torch.Generator().manual_seed(seed))
    for before, after in zip(images, moved, strict=True):
        found = {shift_of(after[c].numpy(), before[c].numpy(), pad) for c in range(channels)}
        assert len(found) == 1  # every channel the same way


def smooth(height: int, width: int) -> torch.Tensor:
    return F.resize(picture(5, 6, 1), [height, width], antialias=True)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (24, 36)])
@pytest.mark.parametrize(
    ("angle", "shear", "scale", "y", "x", "mirror"),
    [
        (30.0, 0.0, 1.0, 0, 0, False),
        (-17.0, 12.0, 1.2, 0, 0, False),
        (5.0, -20.0, 0.8, 3, -2, False),
        (40.0, 10.0, 1.1, -1, 4, True),
        (0.0, 0.0, 1.0, 2, 3, True),
    ],
)
def test_affine_equals_torchvision(height, width, angle, shear, scale, y, x, mirror) -> None:
    image = smooth(height, width)
    before = F.horizontal_flip(image) if mirror else image
    theirs = F.affine(before, angle, [x, y], scale, [shear, 0.0], interpolation=v2.InterpolationMode.BILINEAR)
    one = torch.ones(1)
    ours = affine(image[None], torch.tensor([mirror]), one * angle, one * shear, one * scale, one * y, one * x)[0]
    inside = slice(4, -4)  # torchvision blends the border with its fill a second time
    difference = (ours.int() - theirs.int()).abs()
    assert difference.float().mean() < 1
    filled = F.affine(
        torch.full_like(image, 255), angle, [x, y], scale, [shear, 0.0], interpolation=v2.InterpolationMode.BILINEAR
    )
    assert difference[filled == 255].max() <= 2
    assert difference[:, inside, inside][filled[:, inside, inside] == 255].numel() > 50


def test_affine_with_nothing_to_turn_moves_whole_pixels_as_indexing_does() -> None:
    images = stack(6, 11, 8, 3)
    mirror = torch.tensor([True, False] * 3)
    y, x = torch.tensor([0, 1, -2, 2, -1, 0]), torch.tensor([1, -1, 2, 0, -2, 0])
    zero, one = torch.zeros(6), torch.ones(6)
    assert torch.equal(affine(images, mirror, zero, zero, one, y, x), move(images, mirror, y, x, 2))


def test_batch_path_draws_from_its_generator_only() -> None:
    images = stack(8, 12, 12, 3)
    augment = Augment(crop="pad", hflip=0.5, rotate=20, shear=5, scale=(0.8, 1.2), erase=0.5)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second = (batch_augment(images, augment, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, batch_augment(images, augment, torch.Generator().manual_seed(6)))


def test_erasing_blacks_out_one_rectangle_of_torchvisions_shapes() -> None:
    white = torch.full((2000, 1, 32, 32), 255, dtype=torch.uint8)
    erased = batch_augment(white, Augment(erase=0.5), torch.Generator().manual_seed(0))
    holes = erased[:, 0] == 0
    areas = holes.flatten(1).sum(1).float()
    assert 0.45 < (areas > 0).float().mean() < 0.55
    for hole, area in zip(holes, areas, strict=True):
        assert int(hole.any(0).sum()) * int(hole.any(1).sum()) == int(area)  # a full rectangle
    torch.manual_seed(0)
    transform = v2.RandomErasing(1.0, value=0)
    theirs = torch.stack([(transform(white[0]) == 0).sum() for _ in range(1000)]).float()
    ours = areas[areas > 0]
    assert abs(float(ours.mean() - theirs.mean())) < 12  # standard errors of the two means: 3 each
    assert abs(float(ours.std() - theirs.std())) < 12


# statistics


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_equal_numpy(channels: int) -> None:
    images = [picture(5 + seed, 9, channels, seed) for seed in range(6)]
    pixels = np.concatenate([image.flatten(1).numpy().astype(np.float64) / 255 for image in images], axis=1)
    mean, std = channel_statistics(iter(images), channels)
    np.testing.assert_allclose(mean, pixels.mean(1), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(1), rtol=1e-12)


def test_statistics_of_batches_limits_and_channels() -> None:
    images = stack(4, 8, 8, 1)
    assert channel_statistics([images], 1) == channel_statistics(list(images), 1)
    assert channel_statistics(list(images), 1, limit=2) == channel_statistics([images[:2]], 1)
    (mean,), (std,) = channel_statistics([images], 1)
    assert channel_statistics([images], 3) == ((mean,) * 3, (std,) * 3)
    assert len(channel_statistics([picture(8, 8)], 1)[0]) == 1


def test_statistics_of_one_colour_may_be_divided_by_and_of_nothing_are_refused() -> None:
    mean, std = channel_statistics([torch.full((3, 4, 4), 51, dtype=torch.uint8)], 3)
    assert mean == pytest.approx((0.2,) * 3)
    assert min(std) > 0
    with pytest.raises(DataError):
        channel_statistics([], 3)


def small_set(**changes: object) -> Dataset:
    samples = [Sample(picture(4, 4, 1, seed), seed % 2, f"train/{seed}") for seed in range(4)]
    values = {"source": "a", "format": "idx", "task": "classify", "classes": ("x", "y")}
    return Dataset(**values | {"splits": {"train": samples}} | changes)  # type: ignore[arg-type]


def test_fingerprint_changes_with_what_matters_only(tmp_path) -> None:
    base = small_set()
    first, *rest = base.splits["train"]
    assert fingerprint(base) == fingerprint(small_set(source="elsewhere"))
    (tmp_path / "p").write_bytes(b"12")
    path = Sample(tmp_path / "p", 0, "p")
    marks = [
        fingerprint(small_set(**change))
        for change in (
            {},
            {"classes": ("x", "z")},
            {"splits": {"val": base.splits["train"]}},
            {"splits": {"train": rest}},
            {"splits": {"train": [Sample(first.image, 1, first.name), *rest]}},
            {"splits": {"train": [Sample(first.image, 0, "other"), *rest]}},
            {"splits": {"train": [Sample(picture(4, 4, 1, 99), 0, first.name), *rest]}},
            {"splits": {"train": [path]}},
        )
    ]
    (tmp_path / "p").write_bytes(b"123")
    marks.append(fingerprint(small_set(splits={"train": [path]})))
    (tmp_path / "p").unlink()
    marks.append(fingerprint(small_set(splits={"train": [path]})))
    assert len(set(marks)) == len(marks)
