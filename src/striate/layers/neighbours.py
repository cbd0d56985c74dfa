"""A classifier that remembers: weighted k nearest neighbours (Wu et al. 2018, arXiv:1805.01978, section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TEMPERATURE = 0.07  # of the similarities, as in the paper


class NearestNeighbours(nn.Module):
    """Features [B, F] → logits [B, K] from the k stored pictures of the largest cosine.

    Each neighbour votes with its targets and the weight exp(cosine / 0.07); the mean over all pictures votes once
    more, with the weight of one neighbour, so that no class is ever impossible.

    Args:
        count: how many pictures are stored.
        num_features, num_classes: F and K.
        k: neighbours that vote.
        independent: True gives the log-odds of each class (for a sigmoid), False log-shares (for a softmax).

    Attributes:
        features: float [count, F], of length 1.
        targets: float [count, K] in 0..1.
    """

    features: Tensor
    targets: Tensor

    def __init__(self, count: int, num_features: int, num_classes: int, k: int = 10, independent: bool = False) -> None:
        super().__init__()
        self.k, self.independent = min(k, count), independent
        self.register_buffer("features", torch.zeros(count, num_features))
        self.register_buffer("targets", torch.zeros(count, num_classes))

    def remember(self, features: Tensor, targets: Tensor) -> None:
        """Store float [count, F] of any length, and float [count, K]."""
        self.features.copy_(F.normalize(features.float(), dim=1))
        self.targets.copy_(targets)

    def forward(self, features: Tensor) -> Tensor:
        return self.vote(F.normalize(features.float(), dim=1) @ self.features.T)

    def vote(self, cosines: Tensor) -> Tensor:
        """Cosines [B, count] → logits [B, K]."""
        near = cosines.topk(self.k, dim=1)
        weights = (near.values / TEMPERATURE).softmax(1)  # [B, k]
        shares = (weights[:, :, None] * self.targets[near.indices]).sum(1)  # [B, K]
        shares = (self.k * shares + self.targets.mean(0)) / (self.k + 1)
        shares = shares.clamp(1e-6, 1 - 1e-6)
        return shares.logit() if self.independent else shares.log()

    def extra_repr(self) -> str:
        return f"{len(self.features)} pictures, k={self.k}"
