"""What networks give: a tensor, or tensors by name, so that any engine can give them; and who knows what they mean."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Coded(ABC):
    """An optional face of a task that reads outputs as its network's coder says: `class Detect(Coded, Task)`."""

    @abstractmethod
    def adopt(self, network: nn.Module) -> None:
        """From now on read outputs as this network's, which another task of the kind may have built; so does `build`
        with what it makes."""


def image_size(images: Tensor) -> Tensor:
    """int64 [2]: height and width of pictures [B, C, H, W], as outputs carry them."""
    return torch.tensor([images.shape[-2], images.shape[-1]])
