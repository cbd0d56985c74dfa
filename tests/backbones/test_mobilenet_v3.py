"""MobileNet V3 dilated as torchvision's segmenters are."""

import pytest
import torch
from referee import outputs_agree, stages_agree, trained, twin_of

from striate.backbones.mobilenet_v3 import MODELS
from striate.errors import UsageError


@pytest.mark.parametrize("name", MODELS)
def test_dilation_of_all_is_torchvisions(name):
    ours = trained(name, output_stride=16, dilate_first=True, num_classes=5)
    theirs = twin_of(ours, name, dilated=True, num_classes=5)
    images = torch.randn(2, 3, 80, 80)
    outputs_agree(ours, theirs, images)
    last = {"mobilenet_v3_large": (1, 3, 6, 12, 16), "mobilenet_v3_small": (0, 1, 3, 8, 12)}[name]
    stages_agree(ours, theirs, images, [f"features.{index}" for index in last])


def test_dilate_first_is_yes_or_no():
    with torch.device("meta"), pytest.raises(UsageError, match="dilate_first must be one of False, True"):
        MODELS["mobilenet_v3_small"].build(dilate_first="yes")
