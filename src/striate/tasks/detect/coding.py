"""Boxes as offsets from other boxes (R-CNN, Girshick et al. 2014, appendix C), and the anchors they start from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

STEEPEST = math.log(1000 / 16)  # of the logarithms of sizes, so that exp() of a wild one stays finite


def encode(boxes: Tensor, references: Tensor, weights: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """What `decode` turns the references [..., 4] into the boxes [..., 4] with."""
    centre, size = _centre_size(references)
    wanted_centre, wanted_size = _centre_size(boxes)
    offsets = torch.cat([(wanted_centre - centre) / size, torch.log(wanted_size / size)], -1)
    return offsets * offsets.new_tensor(weights)


def decode(offsets: Tensor, references: Tensor, weights: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """Boxes [..., 4]: references moved by (dx, dy) times their size and grown by exp(dw), exp(dh)."""
    centre, size = _centre_size(references)
    offsets = offsets / offsets.new_tensor(weights)
    centre = offsets[..., :2] * size + centre
    half = 0.5 * (offsets[..., 2:].clamp(max=STEEPEST).exp() * size)
    return torch.cat([centre - half, centre + half], -1)


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * size, size


def clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes [..., 4] within a picture of `size` (height, width)."""
    height, width = size
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def anchors_of(
    grids: Sequence[tuple[int, ...]],
    size: tuple[int, int],
    sides: Sequence[int],
    ratios: Sequence[float],
    device: torch.device | None = None,
) -> list[Tensor]:
    """Of each level of `grids` (rows, columns) the anchors [rows columns ratios, 4] around the corners of its cells.

    They are torchvision's, in order, in place (a cell is ⌊pixels / cells⌋ wide) and in their whole-number sizes.

    Args:
        size: (height, width) of the pictures.
        sides: of each level, the side of its anchors.
        ratios: heights over widths.
    """
    found = []
    for (rows, columns), side in zip(grids, sides, strict=True):
        tall = torch.tensor(ratios, dtype=torch.float32, device=device).sqrt()
        half = torch.stack([-side / tall, -side * tall, side / tall, side * tall], 1) / 2
        y = torch.arange(rows, device=device) * (size[0] // rows)
        x = torch.arange(columns, device=device) * (size[1] // columns)
        y, x = torch.meshgrid(y, x, indexing="ij")
        corners = torch.stack([x, y, x, y], -1).view(-1, 1, 4)
        found.append((corners + half.round()).view(-1, 4))
    return found
