"""Transfer without fitting anything: the features of the training pictures are remembered, and the nearest ones vote.

How many of them vote is what does best when every training picture is judged by all the others.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.data.loaders import Split
from striate.data.seeds import seed_of
from striate.layers.neighbours import NearestNeighbours
from striate.tasks import Task
from striate.train.transfer import FittedHead, features_for, objectives, targets_of

CHOICES = (1, 3, 5, 10, 20, 50)  # of k
JUDGED = 4096  # pictures at most by which k is chosen


def learn_neighbours(model: Any, task: Task, data: Split, device: torch.device, seed: int) -> FittedHead:
    """Put the training pictures' own features into the model, as the memory of a k-NN classifier."""
    begin = time.perf_counter()
    features, indices = features_for(model, data, device)
    targets = targets_of(task, data, indices)
    shares = task.soft_targets(targets)
    loss, score = objectives(task)

    def head(k: int) -> NearestNeighbours:
        made = NearestNeighbours(len(features), features.shape[1], shares.shape[1], k, task.independent)
        made.remember(features, shares)
        return made

    some = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed_of(seed, "folds")))[:JUDGED]
    cosines = without_themselves(F.normalize(features, dim=1), some)
    tried = []
    for k in [k for k in CHOICES if k < len(features)] or [1]:
        outputs = head(k).vote(cosines)
        tried.append((float(loss(outputs, targets[some])), float(score(outputs, targets[some])), k))
    best_loss, best_score, k = min(tried)
    model.give_head("neighbours", head(k).to(device))
    what = "the nearest neighbour" if k == 1 else f"the {k} nearest neighbours"
    return FittedHead(what, best_loss, best_score, time.perf_counter() - begin)


def without_themselves(features: Tensor, some: Tensor) -> Tensor:
    """Cosines of some pictures [S] to all [N], with -1 to themselves: float [S, N]."""
    cosines = features[some] @ features.T
    cosines[torch.arange(len(some)), some] = -1
    return cosines


def neighbours_of(model: nn.Module) -> dict[str, Any] | None:
    """What `create_model` needs to make room for the same memory; None where there is none."""
    head = getattr(model, "neighbours", None)
    if not isinstance(head, NearestNeighbours):
        return None
    return {"count": len(head.features), "k": head.k, "independent": head.independent}
