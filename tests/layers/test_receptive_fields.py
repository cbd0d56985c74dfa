"""Where fields begin, against gradients: what a value sees is where a change of a pixel changes it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.layers.receptive_fields import FieldTracker


class Branches(nn.Module):
    """A fire module's ways, a shortcut, and padding by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(2, 2, 1)
        self.wide = nn.Conv2d(2, 2, 3, padding=1)
        self.last = nn.Conv2d(4, 2, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat((self.narrow(x), self.wide(x)), 1)
        return self.last(F.pad(both, (0, 1, 1, 0))) + F.avg_pool2d(F.pad(x, (0, 1, 1, 0)), 3, 2)


NETWORKS = {
    "squeezenet's beginning": nn.Sequential(
        nn.Conv2d(2, 3, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)
    ),
    "padded and dilated": nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1), nn.Conv2d(3, 2, 3, padding=2, dilation=2)),
    "same": nn.Sequential(nn.Conv2d(2, 2, 5, padding="same"), nn.AvgPool2d(2)),
    "oblong": nn.Sequential(nn.Conv2d(2, 2, (3, 5), (1, 2), (0, 2)), nn.MaxPool2d((2, 1))),
    "branches": Branches(),
    "transposed": nn.Sequential(nn.Conv2d(2, 2, 3, 2, 1), nn.ConvTranspose2d(2, 2, 4, 2, 1), nn.Conv2d(2, 2, 3)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_place_is_where_gradients_are(name: str):
    network = NETWORKS[name].double()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.1, 1)  # nothing cancels
    for module in network.modules():  # every value of a window counts, not the highest alone
        for child, layer in module.named_children():
            if isinstance(layer, nn.MaxPool2d):
                setattr(module, child, nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode))
    images = torch.rand(1, 2, 41, 41, dtype=torch.float64, requires_grad=True)
    with FieldTracker() as tracker:
        tracker.begin(images)
        maps = network(images)
    place = tracker.place(maps)
    assert place is not None
    exact = name != "transposed"  # there the field of a value depends on its place
    for row, column in ((maps.shape[2] // 2, maps.shape[3] // 2), (maps.shape[2] // 2 + 1, maps.shape[3] // 2 - 1)):
        (gradient,) = torch.autograd.grad(maps[0, 0, row, column], images, retain_graph=True)
        for axis, at in enumerate((row, column)):
            seen = gradient[0].abs().sum((0, 2 - axis)).nonzero().flatten()
            start = place.first[axis] + at * place.jump[axis]
            if exact:
                assert (start, start + place.field[axis] - 1) == (int(seen[0]), int(seen[-1]))
            else:
                assert abs(start - int(seen[0])) <= 2


def test_whole_picture_has_no_place():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
    images = torch.rand(1, 1, 9, 9)
    with FieldTracker() as tracker:
        tracker.begin(images)
        assert tracker.place(network(images)) is None


def test_enlarging_brings_neighbours_closer():
    images = torch.rand(1, 1, 32, 32)
    with FieldTracker() as tracker:
        tracker.begin(images)
        coarse = F.avg_pool2d(images, 8)
        fine = F.interpolate(coarse, scale_factor=2.0)
    place = tracker.place(fine)
    assert place is not None
    assert place.jump == (4, 4)
    assert place.field == (8, 8)
