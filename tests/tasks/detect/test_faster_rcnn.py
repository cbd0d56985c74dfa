"""Faster R-CNN against torchvision's: the same weights must give the same boxes and the same losses."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.models.detection import FasterRCNN as TheirFasterRCNN
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from striate.data.sample import CROWD, DIFFICULT, Objects
from striate.errors import DataError, UsageError
from striate.tasks.detect.faster_rcnn import FasterRCNN, Learnt, Regions, load_torchvision
from striate.tasks.detect.outputs import collate_objects

SMALL = {"backbone": "resnet18", "num_classes": 3, "channels": 16, "representation": 32}
SIZES = (8, 16, 32, 64, 128)


def bare(model: TheirFasterRCNN) -> TheirFasterRCNN:
    """Without resizing and normalising."""
    model.transform.resize = lambda image, target: (image, target)
    model.transform.normalize = lambda image: image
    return model


@torch.no_grad()
def stir(model: torch.nn.Module, images: Tensor) -> None:
    """Random weights under which many boxes survive, with scores that differ."""
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    model.eval()
    with torch.no_grad():
        levels = model.backbone(images)
    spread = torch.cat([values.flatten() for values in levels.values()]).std()
    for block in model.backbone.fpn.layer_blocks:
        block[0].weight /= spread
    model.rpn.head.cls_logits.weight *= 100
    model.rpn.head.bbox_pred.weight *= 30
    model.roi_heads.box_head.fc6.weight *= 3
    model.roi_heads.box_predictor.cls_score.weight *= 40
    model.roi_heads.box_predictor.bbox_pred.weight *= 10


def their_small(classes: int = 3, channels: int = 16, representation: int = 32) -> TheirFasterRCNN:
    """torchvision's on ResNet-18 with narrow heads."""
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=torch.nn.BatchNorm2d)
    backbone.fpn = torchvision.ops.FeaturePyramidNetwork(
        [64, 128, 256, 512], channels, torchvision.ops.feature_pyramid_network.LastLevelMaxPool()
    )
    backbone.out_channels = channels
    anchors = AnchorGenerator(tuple((size,) for size in SIZES), ((0.5, 1.0, 2.0),) * 5)
    head = torchvision.models.detection.faster_rcnn.TwoMLPHead(channels * 49, representation)
    predictor = torchvision.models.detection.faster_rcnn.FastRCNNPredictor(representation, classes + 1)
    return bare(TheirFasterRCNN(backbone, None, rpn_anchor_generator=anchors, box_head=head, box_predictor=predictor))


def objects() -> list[Objects]:
    """Of two pictures of 96 × 128."""
    first = Objects.of([[10, 12, 50, 60], [60, 20, 120, 90], [5, 5, 13, 15]], [0, 2, 1])
    return [first, Objects.of([[30, 30, 100, 80]], [1])]


def as_theirs(found: list[Objects]) -> list[dict[str, Tensor]]:
    return [{"boxes": each.boxes, "labels": each.labels + 1} for each in found]


def test_boxes_equal_torchvisions_resnet50():
    torch.manual_seed(0)
    theirs = bare(fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None))
    images = torch.randn(2, 3, 160, 224)
    stir(theirs, images)
    ours = FasterRCNN("resnet50", num_classes=90).eval()
    assert set(ours.state_dict()) == set(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict(), strict=True)
    with torch.no_grad():
        expected = theirs(list(images))
        outputs = ours(images)
    found = outputs.detections(100)
    assert outputs.losses(torch.zeros(2, 1, 7)) == {}
    assert found.shape == (2, 100, 6)
    for row, wanted in zip(found, expected, strict=True):
        count = len(wanted["boxes"])
        assert count > 90
        assert wanted["scores"].unique().numel() > 50
        torch.testing.assert_close(row[:count, :4], wanted["boxes"], atol=1e-3, rtol=0)
        torch.testing.assert_close(row[:count, 4], wanted["scores"], atol=1e-5, rtol=0)
        assert torch.equal(row[:count, 5].long() + 1, wanted["labels"])
        assert (row[count:, 5] == -1).all()
