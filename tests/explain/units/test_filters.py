"""Filters whose colours and shapes are known; feature maps against the network's own."""

from __future__ import annotations

import pytest
import torch
from tests.explain.models import Residual, Sides, model_of, picture, zoo_model
from torch import nn

from striate.errors import UsageError
from striate.explain.units.filters import brightness_share, painted, separable_share, strongest_pattern


def test_brightness_share_is_1_for_grey_and_0_for_opponent_colours():
    pattern = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    grey = pattern.expand(3, 5, 5)
    red_green = torch.stack((pattern, -pattern, torch.zeros(5, 5)))
    red = torch.stack((pattern, torch.zeros(5, 5), torch.zeros(5, 5)))
    shares = brightness_share(torch.stack((grey, red_green, red)))
    assert shares.tolist() == pytest.approx([1.0, 0.0, 1 / 3], abs=1e-6)


def test_separable_share_is_1_for_sobel_and_half_for_a_saddle():
    sobel = torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 0, -1]))
    two = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 1]])  # two singular values, both 1
    weights = torch.stack((sobel, two))[:, None]
    assert separable_share(weights).tolist() == pytest.approx([1.0, 0.5])


def test_the_strongest_pattern_is_the_best_of_rank_one():
    weights = torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(1))
    found = strongest_pattern(weights).flatten(1)
    for one, pattern in zip(weights.flatten(2), found, strict=True):
        strengths = torch.linalg.svdvals(one)
        mix = one @ pattern / pattern.square().sum()
        left = (one - torch.outer(mix, pattern)).square().sum()
        torch.testing.assert_close(left, strengths[1:].square().sum(), rtol=1e-4, atol=1e-5)
    grey = torch.randn(1, 1, 3, 3)
    torch.testing.assert_close(strongest_pattern(grey)[0].abs(), grey[0, 0].abs())


def test_each_filter_is_painted_by_its_own_largest_weight():
    weights = torch.zeros(3, 2, 2)
    weights[0, 0, 0], weights[2, 1, 1] = 0.02, -0.02
    drawn = painted(weights)
    assert drawn[:, 0, 1].tolist() == [128, 128, 128]
    assert drawn[0, 0, 0] == 255
    assert drawn[2, 1, 1] == 0
    assert painted(torch.zeros(1, 3, 3)).unique().tolist() == [128]


def test_explain_filters_gives_the_first_convolution():
    model = zoo_model()
    found = model.explain(how="filters")
    first = next(layer for layer in model.module.modules() if isinstance(layer, nn.Conv2d))
    assert torch.equal(found.values["weights"], first.weight.detach())
    assert len(found.values["brightness"]) == len(first.weight)
    some = model.explain(how="filters", layer="layer2.0.conv1", units=[3, 1])
    assert torch.equal(some.values["weights"], model.module.get_submodule("layer2.0.conv1").weight[[3, 1]])
    for options, said in (
        ({"layer": "bn1"}, "not a convolution"),
        ({"units": [16]}, "numbered 0 to 15"),
        ({"units": [-1]}, "no unit -1"),
    ):
        with pytest.raises(UsageError, match=said):
            model.explain(how="filters", **options)
    with pytest.raises(UsageError, match="no convolution"):
        model_of(nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 2))).explain(how="filters")


def test_feature_maps_are_the_networks_own_strongest_first():
    model = zoo_model()
    found = model.explain(picture(32, 32), "features")
    maps = found.values["maps"][0]
    images = (picture(32, 32)[None].float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        expected = model.module.feature_maps(images)  # type: ignore[operator]
    assert list(maps) == list(expected)
    for stage, values in maps.items():
        channels = found.values["channels"][0][stage]
        torch.testing.assert_close(values, expected[stage][0, channels], rtol=1e-4, atol=1e-5)
        strengths = values.square().mean((1, 2))
        assert bool((strengths.diff() <= 1e-6).all())
        assert float(strengths[0]) == pytest.approx(float(expected[stage][0].square().mean((1, 2)).max()), rel=1e-4)


def test_a_layer_before_an_activation_in_place_is_not_overwritten():
    model = model_of(Residual())
    found = model.explain(picture(16, 16), "features", layer="stem", units=[0, 5])
    images = (picture(16, 16)[None].float() / 255 - 0.5) / 0.25
    expected = model.module.get_submodule("stem")(images)[0, [0, 5]].detach()
    torch.testing.assert_close(found.values["maps"][0]["stem"], expected, rtol=1e-4, atol=1e-5)
    assert found.values["maps"][0]["stem"].min() < 0
    with pytest.raises(UsageError, match="no maps"):
        model.explain(picture(), "features", layer="fc")
    with pytest.raises(UsageError, match="--layer"):
        model_of(Sides()).explain(picture(), "features")
