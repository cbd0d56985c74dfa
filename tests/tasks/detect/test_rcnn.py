from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_iou

from striate.data.targets import Objects
from striate.errors import UsageError
from striate.tasks.detect.outputs import collate_objects
from striate.tasks.detect.rcnn import RCNN, hinge
from striate.tasks.detect.roi import SampledRegions

BODY = "(conv8-relu)-pool-(conv16-relu)-pool"


def blocks(count: int) -> tuple[Tensor, Tensor]:
    """Pictures with one red or blue block each on grey, with noise, and their targets."""
    generator = torch.Generator().manual_seed(0)
    images = 0.1 * torch.randn(count, 3, 64, 64, generator=generator)
    objects = []
    for number, image in enumerate(images):
        x, y, w, h = *torch.randint(4, 30, (2,), generator=generator), *torch.randint(16, 30, (2,), generator=generator)
        image[2 * (number % 2), y : y + h, x : x + w] += 2
        objects.append(Objects.of([[x, y, x + w, y + h]], [number % 2]))
    return images, collate_objects(objects)


@pytest.mark.parametrize("classifier", ["softmax", "svm"])
def test_it_learns_blocks(classifier: str):
    torch.manual_seed(0)
    network = RCNN(BODY, 2, classifier=classifier, crop=24)
    images, targets = blocks(10)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(60):
        losses = network.coder.losses(network(images, targets), targets)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert ("svm" in losses) == (classifier == "svm")
    network.eval()
    with torch.no_grad():
        outputs = network(images)
    assert network.coder.losses(outputs, targets) == {}
    found = network.coder.detections(outputs, 10)
    assert found.shape == (10, 10, 6)
    best = found[:, 0]
    overlap = torch.stack([box_iou(a[None, :4], b[:1, :4])[0, 0] for a, b in zip(best, targets, strict=True)])
    assert ((overlap >= 0.5) & (best[:, 5] == targets[:, 0, 4])).float().mean() >= 0.7


def test_warping_shows_16_of_227_pixels_of_context():
    """A region of 195 pixels becomes a crop of 227: the same pixels, with 16 more around (appendix A)."""
    network = RCNN(BODY, 2, crop=227)
    image = torch.rand(1, 3, 300, 300)
    rows = torch.tensor([[0.0, 50, 60, 245, 255], [0, 0, 0, 195, 195]])
    inner, edge = network.warp(image, rows)
    assert torch.allclose(inner, image[0, :, 44:271, 34:261], atol=1e-4)
    assert torch.allclose(edge[:, 17:, 17:], image[0, :, 1:211, 1:211], atol=1e-4)
    assert (edge[:, :15] == 0).all()  # the mean, beyond the picture


def test_warping_averages_what_it_shrinks():
    network = RCNN(BODY, 2, crop=16, context=0.0)
    image = torch.rand(2, 3, 64, 64)
    crop = network.warp(image, torch.tensor([[1.0, 0, 0, 64, 64]]))[0]
    assert torch.allclose(crop, functional.avg_pool2d(image[1], 4), atol=1e-5)


def test_judging_in_chunks_is_judging_at_once(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    network = RCNN(BODY, 2, crop=16).eval()
    images, _ = blocks(3)
    with torch.no_grad():
        once = network(images)
        monkeypatch.setattr("striate.tasks.detect.rcnn.CHUNK", 3)
        chunks = network(images)
    assert torch.allclose(once["scores"], chunks["scores"], atol=1e-6)
    assert torch.allclose(once["codes"], chunks["codes"], atol=1e-6)


def test_machines_learn_from_objects_and_the_hardest_background():
    """One class; object, half an object (neither), four of background of which the three hardest count."""
    boxes = torch.tensor(
        [[0.0, 0, 10, 10], [0, 0, 10, 20], [50, 50, 60, 60], [70, 70, 80, 80], [90, 0, 99, 9], [0, 90, 9, 99]]
    )
    target = collate_objects([Objects.of([[0, 0, 10, 10]], [0])])
    margins = torch.tensor([[0.25], [9.0], [0.5], [-0.5], [-2.0], [-0.75]])
    drawn = [SampledRegions(boxes, torch.tensor([1, 1, 0, 0, 0, 0]), boxes)]
    expected = (0.75**2 + 1.5**2 + 0.5**2 + 0.25**2) / 6
    assert hinge(margins, drawn, target).item() == pytest.approx(expected, rel=1e-6)


def test_machines_leave_the_features_alone():
    network = RCNN(BODY, 2, crop=16, classifier="svm")
    images, targets = blocks(2)
    network.coder.losses(network(images, targets), targets)["svm"].backward()
    assert network.machines is not None
    assert network.machines.weight.grad is not None
    assert all(parameter.grad is None for parameter in network.backbone.parameters())


@pytest.mark.parametrize("classifier", ["softmax", "svm"])
def test_constant_pictures_empty_targets_and_one_proposal(classifier: str):
    network = RCNN("resnet20_cifar", 2, crop=16, classifier=classifier)  # with normalisation over the batch
    flat, empty = torch.zeros(2, 3, 64, 64), collate_objects([None, None])
    losses = network.coder.losses(network(flat, empty), empty)
    losses["loss"].backward()
    assert losses["loss"] == 0
    images, _ = blocks(2)
    losses = network.coder.losses(network(images, empty), empty)
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])
    network.eval()
    with torch.no_grad():
        assert (network.coder.detections(network(flat), 4)[:, :, 5] == -1).all()
        one = RCNN(BODY, 2, crop=16, classifier=classifier, proposals=1).eval()
        assert one(images)["scores"].shape == (2, 3)


def test_wrong_arguments_are_named():
    with pytest.raises(UsageError, match="classifier"):
        RCNN(BODY, 2, classifier="tree")
    with pytest.raises(UsageError, match="search"):
        RCNN(BODY, 2, search="slow")
