"""A task with two networks and two optimisers, the smallest of its kind: a classifier and a critic of its answers.

The critic learns to tell answers from truths; the classifier learns the labels, and to be taken for the truth. It
stands for GANs in tests and in `python -m bench kills --networks 2`; run by itself it trains on digits:
`python -m bench.two_networks OUT [KEY=VALUE …]`, also under torchrun.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.config import Recipe
from striate.tasks import TASKS
from striate.tasks.classify.task import Classify
from striate.tasks.step import Learner, Step, frozen


class CriticStep(Step):
    """First the critic, then the classifier against it."""

    def __call__(self, images: Tensor, targets: Tensor, learner: Learner) -> dict[str, Tensor]:
        critic = self.networks["critic"]
        logits = learner.nets["model"](images).float()
        shares, truth = logits.softmax(1), F.one_hot(targets, logits.shape[1]).float()
        both = learner.nets["critic"](torch.cat((truth, shares.detach())))
        is_truth = (torch.arange(len(both), device=both.device) < len(truth)).float()[:, None]
        told_apart = F.binary_cross_entropy_with_logits(both.float(), is_truth)
        learner.update(told_apart, "critic")
        with frozen(critic):
            believed = critic(shares).float()
            loss = F.cross_entropy(logits, targets) + 0.1 * F.softplus(-believed).mean()
            learner.update(loss, "model")
        return {"loss": loss.detach(), "critic": told_apart.detach()}


class ClassifyAgainstCritic(Classify):
    """Classification whose step owns two networks."""

    def step(self, model: nn.Module, recipe: Recipe, class_weights: Tensor | None = None) -> Step:
        critic = nn.Sequential(nn.Linear(len(self.classes), 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))
        return CriticStep({"model": model, "critic": critic})


def install() -> None:
    """Let `classify` be this task, in this process."""
    TASKS["classify"] = ClassifyAgainstCritic


def main() -> None:
    from striate.train.fit import fit

    install()
    out, *options = sys.argv[1:]
    given: dict[str, Any] = dict(option.split("=", 1) for option in options)
    recipe = {"data": "digits", "out": out, "name": "run", "epochs": 2, "batch": 64, "limit": 256, "device": "cpu"}
    print(fit(Recipe.model_validate({**recipe, "model": "conv8-relu-pool-gap", **given}), quiet=True) / Path("last"))


if __name__ == "__main__":
    main()
