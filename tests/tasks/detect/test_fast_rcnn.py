from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou, roi_pool

from striate.data.targets import Objects
from striate.errors import UsageError
from striate.tasks.detect.fast_rcnn import FastRCNN
from striate.tasks.detect.outputs import collate_objects
from striate.tasks.detect.selective_search import propose

BODY = "(conv8-relu)-pool-(conv16-relu)-pool"


def blocks(count: int, seed: int = 0, size: int = 64) -> tuple[Tensor, Tensor]:
    """Pictures with one red or blue block each on grey, with noise, and their targets."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.1 * torch.randn(count, 3, size, size, generator=generator)
    objects = []
    for image in images:
        x, y = torch.randint(4, 30, (2,), generator=generator).tolist()
        w, h = torch.randint(16, 30, (2,), generator=generator).tolist()
        label = int(torch.randint(2, (1,), generator=generator))
        image[2 * label, y : y + h, x : x + w] += 2
        objects.append(Objects.of([[x, y, x + w, y + h]], [label]))
    return images, collate_objects(objects)


def learn(network: torch.nn.Module, images: Tensor, targets: Tensor, steps: int, rate: float) -> list[float]:
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    values = []
    for _ in range(steps):
        loss = network.coder.losses(network(images, targets), targets)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    return values


def found_right(detections: Tensor, targets: Tensor) -> float:
    """The share of pictures whose best detection is its object, in its place."""
    best = detections[:, 0]
    overlap = torch.stack([box_iou(a[None, :4], b[:1, :4])[0, 0] for a, b in zip(best, targets, strict=True)])
    return float(((overlap >= 0.5) & (best[:, 5] == targets[:, 0, 4])).float().mean())


@pytest.mark.parametrize("pool", ["pool", "align"])
def test_it_learns_blocks(pool: str):
    torch.manual_seed(0)
    network = FastRCNN(BODY, 2, stride=4, hidden=32, pool=pool)
    images, targets = blocks(12)
    losses = learn(network, images, targets, 80, 3e-3)
    assert losses[-1] < 0.5 * losses[0]
    network.eval()
    with torch.no_grad():
        outputs = network(images)
    assert network.coder.losses(outputs, targets) == {}
    found = network.coder.detections(outputs, 10)
    assert found.shape == (12, 10, 6)
    assert (found[:, :-1, 4] >= found[:, 1:, 4]).all()
    assert found_right(found, targets) >= 0.75


def test_regions_are_pooled_from_one_pass():
    """Logits are those of the two layers on `roi_pool` of the maps; the backbone runs once."""
    torch.manual_seed(0)
    network = FastRCNN(BODY, 3, stride=4, hidden=16).eval()
    images, _ = blocks(2)
    calls = []
    network.backbone.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        outputs = network(images)
        regions = propose(images)
        cells = roi_pool(network.backbone(images)[0], regions, 7, 1 / 4)
        expected = network.classes(network.hidden(cells)).softmax(1)
    assert len(calls) == 2  # one of them here
    assert torch.allclose(outputs["scores"], expected, atol=1e-6)
    assert outputs["scores"].shape == (sum(map(len, regions)), 4)


def test_constant_pictures_empty_targets_and_no_proposals():
    network = FastRCNN(BODY, 2, stride=4, hidden=16)
    flat = torch.zeros(2, 3, 64, 64)
    empty = collate_objects([None, None])
    losses = network.coder.losses(network(flat, empty), empty)
    losses["loss"].backward()
    assert losses["loss"] == 0
    images, targets = blocks(2)
    losses = network.coder.losses(network(images, empty), empty)
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])
    assert losses["boxes"] == 0
    losses = network.coder.losses(
        network(flat, targets), targets
    )  # objects that nothing proposes are learnt themselves
    assert losses["loss"] > 0
    network.eval()
    with torch.no_grad():
        assert (network.coder.detections(network(flat), 4)[:, :, 5] == -1).all()
        one = FastRCNN(BODY, 2, stride=4, hidden=16, proposals=1).eval()
        assert one(images)["scores"].shape == (2, 3)


def test_grey_pictures_and_wrong_arguments():
    network = FastRCNN(BODY, 2, in_chans=1, stride=4, hidden=16).eval()
    assert network.coder.detections(network(blocks(1)[0][:, :1]), 3).shape == (1, 3, 6)
    with pytest.raises(UsageError, match="pool"):
        FastRCNN(BODY, 2, pool="mean")
    with pytest.raises(UsageError, match="search"):
        FastRCNN(BODY, 2, search="slow")


def test_the_papers_defaults():
    network = FastRCNN("resnet18", 20)
    assert network.reduction == 16
    assert network.regions == 64
    assert network.takes_targets
    assert network.classes.out_features == 21
    assert network.boxes.out_features == 84
