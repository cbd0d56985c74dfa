"""One-line networks: what they build, against hand-written torch, and what they refuse."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from striate.backbones import create_model
from striate.backbones.chain_parser import parse
from striate.errors import UsageError


def test_the_line_of_the_lecture_is_this_network():
    model = create_model("(conv32-relu)x2-pool-(conv64-relu)x2-pool-fc128-relu", num_classes=10, in_chans=1)
    by_hand = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    for mine, hand in zip(model.parameters(), by_hand.parameters(), strict=True):
        hand.data.copy_(mine.data)
    images = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(model(images), by_hand(images))
    assert model.arguments == {"image_size": [28, 28]}
    assert {name: tuple(stage) for name, stage in model.pyramid.items()} == {
        "stage1": (32, 1),
        "stage2": (64, 2),
        "stage3": (64, 4),
    }


def test_a_line_without_fc_takes_any_size():
    model = create_model("conv8s2-bn-relu-maxpool3s2p1-conv16k5", num_classes=3).eval()
    for size in ((32, 32), (57, 91)):
        assert model(torch.rand(2, 3, *size)).shape == (2, 3)
    assert model.image_size is None
    assert model.conv1.bias is None  # the norm after it has one
    assert model.conv2.bias is not None


def test_a_bound_line_says_the_size_it_wants():
    model = create_model("conv4-flatten", num_classes=2, image_size=(20, 24))
    with pytest.raises(UsageError, match=r"20x24, these are 24x20: build it with image_size=\(24, 20\)"):
        model(torch.rand(1, 3, 24, 20))


def test_local_response_normalisation_is_alexnets():
    values = torch.rand(1, 7, 2, 2)
    norm = create_model("conv7-lrn", num_classes=0).lrn1(values)
    for channel in range(7):
        near = values[:, max(0, channel - 2) : channel + 3].square().sum(1)
        expected = values[:, channel] / (2 + 1e-4 * near) ** 0.75
        torch.testing.assert_close(norm[:, channel], expected)


def test_groups_nest_and_repeat():
    words = [token.text for token in parse("((conv3-relu)x2-pool)×2-(fc4)")]
    assert words == ["conv3", "relu", "conv3", "relu", "pool"] * 2 + ["fc4"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cnov32-relu", 'character 1: "cnov32" is not a layer. Did you mean "conv"'),
        ("conv32-rellu", 'character 8: "rellu" is not a layer. Did you mean "relu"'),
        ("conv-relu", "character 5: .* like conv32"),
        ("conv32x3-relu", '"x" in "conv32x3" is not an option'),
        ("conv32kk3-relu", "not understood"),
        ("conv32q3-relu", '"q" in "conv32q3" is not an option of conv'),
        ("conv32k3k3", "twice"),
        ("conv0", "from 1 to"),
        ("conv999999", "from 1 to"),
        ("conv8k0", "the kernel"),
        ("conv8k4", "no middle"),
        ("relu3", "character 5: .*takes no number"),
        ("conv3--relu", "character 7: a layer is missing"),
        ("conv3-", "a layer is missing"),
        ("(conv3", "never closed"),
        ("conv3)", "closes nothing"),
        ("()", "a layer is missing"),
        ("(conv3)x", "how often"),
        ("(conv3)x0", "how often"),
        ("(conv3)y2", 'expected, not "y"'),
        ("((relu)x999)x999", "more than 2,000 layers"),
        ("(" * 40 + "relu" + ")" * 40, "more than 32 groups"),
        ("drop1.5", "probability"),
        ("drop-relu", "probability"),
        ("fc10-conv3", "character 6: .*needs a map"),
        ("conv3-flatten-pool", "needs a map"),
        ("conv3-maxpool99-fc2", "does not fit"),
        ("conv3-maxpool2p2", "half the window"),
    ],
)
def test_errors_say_where(line, message):
    with pytest.raises(UsageError, match=message):
        create_model(line, num_classes=2)


@given(st.text(alphabet="convfcpolrelubnx()-×0123456789ksp. ", max_size=40))
def test_no_text_crashes_the_parser(line):
    try:
        tokens = parse(line)
    except UsageError as error:
        if "character" not in str(error):
            raise
    else:
        assert tokens
