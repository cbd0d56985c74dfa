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

from striate.data.targets import CROWD, DIFFICULT, Objects
from striate.errors import DataError, UsageError
from striate.tasks.detect.faster_rcnn import FasterRCNN, load_torchvision
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
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=torch.nn.BatchNorm2d, trainable_layers=5
    )
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
    found = ours.coder.detections(outputs, 100)
    assert ours.coder.losses(outputs, torch.zeros(2, 1, 7)) == {}
    assert found.shape == (2, 100, 6)
    for row, wanted in zip(found, expected, strict=True):
        count = len(wanted["boxes"])
        assert count > 90
        assert wanted["scores"].unique().numel() > 50
        torch.testing.assert_close(row[:count, :4], wanted["boxes"], atol=1e-3, rtol=0)
        torch.testing.assert_close(row[:count, 4], wanted["scores"], atol=1e-5, rtol=0)
        assert torch.equal(row[:count, 5].long() + 1, wanted["labels"])
        assert (row[count:, 5] == -1).all()


@pytest.fixture
def first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both samplers take the first objects and the first others."""
    monkeypatch.setattr(torch, "randperm", lambda count, **_: torch.arange(count))
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.linspace(0.999, 0.001, shape[-1]).expand(*shape))


def our_small(theirs: TheirFasterRCNN, **arguments: object) -> FasterRCNN:
    ours = FasterRCNN(**{**SMALL, "anchor_sizes": SIZES, **arguments})
    load_torchvision(ours, theirs.state_dict())
    return ours


@pytest.mark.parametrize("case", ["two pictures", "one without objects", "none with objects"])
def test_losses_equal_torchvisions(first_ones: None, case: str):
    torch.manual_seed(1)
    theirs = their_small()
    images = torch.randn(2, 3, 96, 128)
    stir(theirs, images)
    ours = our_small(theirs)
    truth = objects()
    nothing = Objects.of([], [])
    truth = {"two pictures": truth, "one without objects": [truth[0], nothing], "none with objects": [nothing] * 2}[
        case
    ]
    expected = theirs.train()(list(images), as_theirs(truth))
    outputs = ours.train()(images, collate_objects(truth, rows=5))
    found = ours.coder.losses(outputs, collate_objects(truth))
    assert set(found) == {*expected, "loss"}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["loss"], sum(expected.values()), atol=1e-4, rtol=1e-4)

    found["loss"].backward()
    sum(expected.values()).backward()
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        wanted = gradients[name].grad
        torch.testing.assert_close(parameter.grad, wanted, atol=1e-4 * (1 + float(wanted.abs().max())), rtol=1e-3)


def test_weights_as_published_load():
    """Old names, frozen batch norms without counters that add nothing to the variance."""
    torch.manual_seed(2)
    theirs = their_small()
    theirs.backbone.body = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=lambda count: FrozenBatchNorm2d(count, eps=0.0)
    ).body
    images = torch.randn(1, 3, 96, 128)
    stir(theirs, images)
    old = {
        name.replace("conv.0.0.", "conv.").replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        if name.startswith(("backbone.fpn", "rpn.head.conv"))
        else name: tensor
        for name, tensor in theirs.state_dict().items()
    }
    assert "rpn.head.conv.weight" in old
    assert "backbone.fpn.inner_blocks.0.weight" in old
    ours = FasterRCNN(**SMALL, anchor_sizes=SIZES).eval()
    load_torchvision(ours, old)
    with torch.no_grad():
        (expected,) = theirs(list(images))
        found = ours.coder.detections(ours(images))[0, : len(expected["boxes"])]
    assert len(found) > 20
    torch.testing.assert_close(found[:, :4], expected["boxes"], atol=1e-3, rtol=0)
    torch.testing.assert_close(found[:, 4], expected["scores"], atol=1e-5, rtol=0)


def test_weights_of_another_network_are_refused():
    with pytest.raises(DataError, match=r"cls_score.weight 5×32 in the file, 4×32 here"):
        load_torchvision(FasterRCNN(**SMALL), their_small(classes=4).state_dict())


def test_gradients_reach_every_parameter():
    torch.manual_seed(3)
    network = FasterRCNN(**SMALL, anchor_sizes=SIZES).train()
    targets = collate_objects(objects())
    network.coder.losses(network(torch.randn(2, 3, 96, 128), targets), targets)["loss"].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_crowds_difficult_and_flat_objects_are_not_learnt(first_ones: None):
    torch.manual_seed(4)
    network = FasterRCNN(**SMALL, anchor_sizes=SIZES).train()
    images = torch.randn(1, 3, 96, 128)
    plain = collate_objects([Objects.of([[10, 10, 60, 60]], [1])])
    more = Objects.of(
        [[10, 10, 60, 60], [40, 40, 90, 90], [0, 0, 128, 96], [30, 20, 30, 50]],
        [1, 2, 0, 0],
        kinds=[0, CROWD, DIFFICULT, 0],
    )
    alone = network.coder.losses(network(images, plain), plain)["loss"]
    torch.testing.assert_close(network.coder.losses(network(images, collate_objects([more])), plain)["loss"], alone)


def test_the_order_of_draws_is_torchs_generators():
    network = FasterRCNN(**SMALL, anchor_sizes=SIZES, roi_batch=16).train()
    images, targets = torch.randn(2, 3, 96, 128), collate_objects(objects())
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(network.coder.losses(network(images, targets), targets)["loss"].item())
    assert found[0] == found[1] != found[2]


def test_a_picture_in_which_nothing_is_proposed():
    network = FasterRCNN(**SMALL, anchor_sizes=SIZES)
    torch.nn.init.constant_(network.rpn.head.bbox_pred.bias, -1000.0)  # all proposals vanish at the upper left
    images, nothing = torch.randn(2, 3, 96, 128), collate_objects([None, None])
    found = network.eval()(images)
    assert len(found["regions"]) == 0
    assert (network.coder.detections(found, 7) == torch.tensor([0.0, 0, 0, 0, 0, -1])).all()
    losses = network.coder.losses(network.train()(images, nothing), nothing)
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])
    assert losses["loss_classifier"] == 0


def test_targets_in_eval_mode_are_ignored_and_detections_in_training_refused():
    network = FasterRCNN(**SMALL)
    images, targets = torch.randn(1, 3, 64, 64), collate_objects([Objects.of([[0, 0, 30, 30]], [0])])
    assert "regions" in network.eval()(images, targets)
    outputs = network.train()(images, targets)
    assert all(value.ndim == 0 for value in outputs.values())
    with pytest.raises(RuntimeError, match="losses only"):
        network.coder.detections(outputs)


def test_detections_are_best_first_within_the_picture_and_apart():
    torch.manual_seed(5)
    theirs = their_small()
    images = torch.randn(1, 3, 96, 128)
    stir(theirs, images)
    ours = our_small(theirs).eval()
    found = ours.coder.detections(ours(images), 40)[0]
    found = found[found[:, 5] >= 0]
    assert len(found) > 20
    assert (found[:-1, 4] >= found[1:, 4]).all()
    assert (found[:, :4] >= 0).all()
    assert (found[:, [0, 2]] <= 128).all()
    assert (found[:, [1, 3]] <= 96).all()
    for label in range(3):
        boxes = found[found[:, 5] == label, :4]
        assert (torchvision.ops.box_iou(boxes, boxes).triu(1) <= 0.5).all()


def test_a_backbone_without_stride_32():
    network = FasterRCNN("squeezenet1_1", num_classes=2, in_chans=1, channels=8, representation=8)
    assert network.strides == (4, 8, 16, 32)
    assert network.rpn.sizes == (32, 64, 128, 256)
    assert network.coder.detections(network.eval()(torch.randn(1, 1, 64, 96)), 5).shape == (1, 5, 6)
    fitted = FasterRCNN("squeezenet1_1", num_classes=2, channels=8, representation=8, smallest_anchor=12)
    assert fitted.rpn.sizes == (12, 24, 48, 96)  # as many as it has levels, whatever the backbone


def test_the_count_of_anchor_sizes_is_checked():
    with pytest.raises(UsageError, match=r"3 given, but 5 are needed.*4, 8, 16, 32, 64 px"):
        FasterRCNN(**SMALL, anchor_sizes=(8, 16, 32))
