"""FCOS against torchvision's, from the same weights: boxes, scores, labels, losses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import fcos_resnet50_fpn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from striate.data.targets import Objects
from striate.errors import UsageError
from striate.tasks.detect.fcos import FCOS
from striate.tasks.detect.fpn import PyramidBackbone
from striate.tasks.detect.outputs import collate_objects

SIZE = (160, 224)


@pytest.fixture(scope="module")
def twins() -> tuple[nn.Module, FCOS]:
    """torchvision's FCOS with random weights, scaled so that boxes survive its threshold, and ours with the same."""
    torch.manual_seed(0)
    theirs = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=20)
    for name, values in theirs.named_buffers():
        if "running_mean" in name:
            values.normal_(0, 0.1)
        if "running_var" in name:
            values.uniform_(0.5, 1.5)
    with torch.no_grad():
        theirs.head.classification_head.cls_logits.weight.mul_(60)
        theirs.head.classification_head.cls_logits.bias.fill_(-4)
        theirs.head.regression_head.bbox_reg.weight.mul_(40)
        theirs.head.regression_head.bbox_reg.bias.fill_(2)
        theirs.head.regression_head.bbox_ctrness.weight.mul_(20)
    theirs.transform = GeneralizedRCNNTransform(SIZE[0], SIZE[1], [0.0] * 3, [1.0] * 3)
    ours = FCOS("resnet50", 20, channels=256, convs=4, extra="p6p7", assignment="centre")
    ours.load_state_dict(theirs.state_dict())  # every name is theirs
    return theirs, ours


def test_boxes_equal_torchvisions(twins: tuple[nn.Module, FCOS]):
    theirs, ours = (network.eval() for network in twins)
    images = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(list(images))
        found = ours.coder.detections(ours(images), 100)
    for wanted, rows in zip(expected, found, strict=True):
        count = len(wanted["boxes"])
        assert count > 50
        assert int((rows[:, 5] >= 0).sum()) == count
        torch.testing.assert_close(rows[:count, :4], wanted["boxes"], atol=1e-3, rtol=0)
        torch.testing.assert_close(rows[:count, 4], wanted["scores"], atol=1e-5, rtol=0)
        # a cell may give two classes the same score: then either comes first
        ours_, theirs_ = (
            [(round(float(s), 4), int(k)) for s, k in zip(*pair, strict=True)]
            for pair in ((rows[:count, 4], rows[:count, 5]), (wanted["scores"], wanted["labels"]))
        )
        assert sorted(ours_) == sorted(theirs_)


def test_losses_equal_torchvisions(twins: tuple[nn.Module, FCOS]):
    theirs, ours = (network.train() for network in twins)
    images = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    boxes = torch.tensor([[10.0, 20, 100, 90], [50, 60, 210, 150], [100, 100, 112, 111]])
    labels = torch.tensor([3, 7, 1])
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    expected = theirs(list(images), [{"boxes": boxes, "labels": labels}, empty])
    found = ours.coder.losses(ours(images), collate_objects([Objects.of(boxes, labels), Objects.of([], [])]))
    pairs = {"class": "classification", "box": "bbox_regression", "centreness": "bbox_ctrness"}
    for name, there in pairs.items():
        torch.testing.assert_close(found[name], expected[there], atol=1e-4, rtol=1e-4)


def test_the_pyramid_takes_any_backbone_that_has_the_maps():
    for name, reductions in {"resnet18": (4, 8, 16), "mobilenet_v2": (8, 16, 32), "darknet_tiny": (8, 16)}.items():
        pyramid = PyramidBackbone(name, channels=32, reductions=reductions, extra="none").eval()
        sizes = [tuple(level.shape[-2:]) for level in pyramid(torch.zeros(1, 3, 64, 96))]
        assert sizes == [(64 // step, 96 // step) for step in reductions]
    assert len(FCOS("squeezenet1_0", 2, channels=32)(torch.zeros(1, 3, 64, 96))["level_sizes"]) == 2  # it has no 32
    with pytest.raises(UsageError, match="no feature maps 32 times smaller"):
        PyramidBackbone("squeezenet1_0")
    with pytest.raises(UsageError, match="no feature maps 8 or 16 or 32 times smaller"):
        FCOS("resnet20_cifar", 2)


def one_picture() -> tuple[Tensor, Tensor]:
    images = torch.zeros(1, 3, 96, 128)
    images[:, 0, 20:60, 30:90] = 2.0
    images[:, 1, 64:80, 8:24] = 2.0
    return images, collate_objects([Objects.of([[30, 20, 90, 60], [8, 64, 24, 80]], [0, 1])])


def test_by_alignment_one_picture_is_learnt_by_heart():
    torch.manual_seed(0)
    images, targets = one_picture()
    network = FCOS("darknet_tiny", 2, channels=32, convs=1, reductions=(8, 16))
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(60):
        losses = network.coder.losses(network(images), targets)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    rows = network.coder.detections(network(images))[0]
    best = {int(row[5]): row for row in rows.flip(0) if row[5] >= 0}
    torch.testing.assert_close(best[0][:4], targets[0, 0, :4], atol=4.0, rtol=0)
    torch.testing.assert_close(best[1][:4], targets[0, 1, :4], atol=4.0, rtol=0)


@pytest.mark.parametrize("assignment", ["centre", "aligned"])
def test_pictures_without_objects_teach_that_there_are_none(assignment):
    network = FCOS("darknet_tiny", 3, channels=32, convs=1, reductions=(8, 16), assignment=assignment)
    outputs = network(torch.rand(2, 3, 64, 64))
    losses = network.coder.losses(outputs, collate_objects([None, Objects.of([], [])]))
    losses["loss"].backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert float(losses["box"]) == 0.0
    assert float(losses["class"]) > 0.0


def test_crowds_and_difficult_objects_are_not_taught():
    images, targets = one_picture()
    network = FCOS("darknet_tiny", 2, channels=32, convs=1, reductions=(8, 16)).eval()
    with torch.no_grad():
        outputs = network(images)
    hidden = targets.clone()
    hidden[0, :, 5] = torch.tensor([1.0, 2.0])
    nothing = collate_objects([None])
    assert network.coder.losses(outputs, hidden) == network.coder.losses(outputs, nothing)
