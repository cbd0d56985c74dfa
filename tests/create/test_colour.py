"""Colours: scikit-image knows YIQ; statistics are checked as numpy computes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from striate.create.colour import from_yiq, luminance, match_colours, match_luminance, to_yiq, with_chroma_of


def picture(seed: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return torch.rand(1, 3, 12, 10, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


def test_yiq_is_scikit_images() -> None:
    color = pytest.importorskip("skimage.color")
    expected = color.rgb2yiq(picture(0)[0].permute(1, 2, 0).numpy())
    np.testing.assert_allclose(to_yiq(picture(0))[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)
    torch.testing.assert_close(from_yiq(to_yiq(picture(0))), picture(0), atol=1e-5, rtol=1e-5)


def test_chroma_is_the_photos_and_brightness_the_paintings() -> None:
    photo, painted = picture(1, 0.4, 0.6), picture(2, 0.4, 0.6)  # nothing has to be cut to 0..1
    found = to_yiq(with_chroma_of(painted, photo))
    torch.testing.assert_close(found[:, 1:], to_yiq(photo)[:, 1:], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[:, :1], to_yiq(painted)[:, :1], atol=1e-5, rtol=1e-4)


def test_matched_colours_have_the_photos_mean_and_covariance() -> None:
    turn = torch.tensor([[0.5, 0.2, 0.0], [0.1, 0.3, 0.1], [0.0, 0.2, 0.4]])
    photo = torch.einsum("ij,bjhw->bihw", turn, picture(3)) * 0.4 + 0.3
    style = picture(4)[..., :7]
    found = match_colours(style, photo)
    ours, theirs = (images[0].flatten(1).double().numpy() for images in (found, photo))
    np.testing.assert_allclose(ours.mean(1), theirs.mean(1), atol=2e-3)
    np.testing.assert_allclose(np.cov(ours), np.cov(theirs), atol=2e-4)


def test_grey_pictures_are_matched_too() -> None:
    flat = torch.full((1, 3, 4, 4), 0.25)
    torch.testing.assert_close(match_colours(flat, flat), flat, atol=1e-4, rtol=0)
    assert torch.isfinite(match_colours(flat, picture(5))).all()
    assert torch.isfinite(match_luminance(flat, luminance(picture(5)))).all()


def test_matched_luminance_has_the_photos_mean_and_deviation() -> None:
    photo, style = luminance(picture(6, 0.3, 0.7)), luminance(picture(7))
    found = match_luminance(style, photo)
    assert float(found.mean()) == pytest.approx(float(photo.mean()), abs=1e-3)
    assert float(found.std()) == pytest.approx(float(photo.std()), abs=1e-3)


def test_luminance_is_three_equal_channels() -> None:
    found = luminance(picture(8))
    assert torch.equal(found[:, 0], found[:, 1])
    assert torch.equal(found[:, 0], found[:, 2])
