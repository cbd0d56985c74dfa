"""MobileNet V1: timm's start, the paper's tables, and the lecture's cost of a depthwise separable convolution."""

import pytest
import torch
from referee import TWINS, starts_agree
from timm.models._efficientnet_builder import efficientnet_init_weights
from torch import nn

from striate.backbones.mobilenet_v1 import MODELS
from striate.network_summary import summarize

# millions of multiply-adds at 224x224 and of parameters: the paper's table 6


def build(name: str = "mobilenet_v1", **arguments: object) -> nn.Module:
    return MODELS[name].build(**arguments)


@pytest.mark.parametrize("resolution", [(224, 569), (192, 418), (160, 290), (128, 186)])
def test_smaller_pictures_cost_what_table_7_says(resolution):
    side, expected = resolution
    with torch.device("meta"):
        assert summarize(build(), (3, side, side)).multiply_adds / 1e6 == pytest.approx(expected, abs=1)


def test_it_starts_as_timms():
    name = "mobilenet_v1_025"
    ours, theirs = build(name, num_classes=7), TWINS[name](num_classes=7)
    torch.manual_seed(3)
    ours._initialise()  # again: while it builds, timm draws numbers for layers that it throws away
    torch.manual_seed(3)
    efficientnet_init_weights(theirs)
    starts_agree(ours, theirs)


def test_depthwise_separable_cost_is_the_lectures():
    """1 / C_out + 1 / f² of a full convolution's, block by block; so 4866 M shrink to 569 M (table 4)."""
    with torch.device("meta"):
        rows = {row.name: row for row in summarize(build(), (3, 224, 224)).rows}
        separable = full = 0
        for name, row in rows.items():
            if not name.endswith("conv_dw"):
                continue
            pointwise = rows[name.replace("conv_dw", "conv_pw")]
            in_channels, (_, out_channels, *size) = row.output[1], pointwise.output
            convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
            cost = summarize(convolution, (in_channels, *size)).multiply_adds
            assert (row.multiply_adds + pointwise.multiply_adds) / cost == pytest.approx(1 / out_channels + 1 / 3**2)
            separable += row.multiply_adds + pointwise.multiply_adds
            full += cost
    rest = sum(row.multiply_adds for row in rows.values()) - separable
    assert (full + rest) / 1e6 == pytest.approx(4866, rel=0.0005)
    assert 8 < full / separable < 9  # "8 to 9 times less computation" (section 3.1)
