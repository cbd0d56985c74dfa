"""Outlines of objects as pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def rasterize(mask: Any, size: tuple[int, int]) -> Tensor:
    """Polygons or a run-length encoding, as `Objects.masks` has them, as bool [H, W]; of None nothing is inside."""
    from hotcoco import mask as run_lengths

    if isinstance(mask, dict):
        return torch.from_numpy(np.ascontiguousarray(run_lengths.decode(mask))).bool()
    polygons = [polygon for polygon in mask or () if len(polygon) >= 6]  # four numbers would be taken for a box
    if not polygons:
        return torch.zeros(size, dtype=torch.bool)
    parts = run_lengths.decode(run_lengths.frPyObjects(polygons, *size))  # [H, W, N]
    return torch.from_numpy(np.ascontiguousarray(parts)).any(2)
