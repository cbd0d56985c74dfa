"""Where detectors start from: boxes of fixed shapes, or points, at every cell of a feature map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """The shapes of one level, around 0: float32 [A, 4] with A = ratios × sizes, sizes running faster.

    A box of size s and ratio r (height to width) has the area s² (Faster R-CNN, section 3.1.1), and its edges are
    rounded to whole pixels, as torchvision's are.
    """
    tall = torch.tensor(ratios, dtype=torch.float32).sqrt()[:, None]
    side = torch.tensor(sizes, dtype=torch.float32)
    width, height = (1 / tall * side).flatten(), (tall * side).flatten()
    return (torch.stack([-width, -height, width, height], 1) / 2).round()


def grid_anchors(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[tuple[int, int]],
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[Sequence[float]],
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """Anchors of every level, equal to torchvision's `AnchorGenerator`.

    Args:
        shapes: height and width of each level's feature map.
        strides: pixels from cell to cell, down and across, of each level.
        sizes, ratios: of each level, see `cell_anchors`.

    Returns:
        Of each level float32 [H·W·A, 4], row by row, the shapes of a cell together; centred on the cells' upper left
        corners.
    """
    levels = []
    for (height, width), (down, across), size, ratio in zip(shapes, strides, sizes, ratios, strict=True):
        y, x = torch.meshgrid(torch.arange(height) * down, torch.arange(width) * across, indexing="ij")
        corners = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
        levels.append((corners + cell_anchors(size, ratio)).reshape(-1, 4).to(device))
    return levels


def cell_centres(height: int, width: int, stride: float, device: torch.device | str = "cpu") -> Tensor:
    """The middle of every cell in pixels, x y: float32 [H·W, 2], row by row (FCOS, section 3.1)."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return (torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride
