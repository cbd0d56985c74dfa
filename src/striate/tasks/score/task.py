"""Scores: how people would grade a picture, as a whole distribution (NIMA, Talebi & Milanfar 2018, arXiv:1709.05424).

A network that is taught the mean alone cannot say "people will quarrel about this one". The head gives the share of
each grade; the loss is the distance that the shares' mass has to be moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from striate.backbones.backbone import WithAuxiliary
from striate.data.targets import Votes
from striate.errors import DataError, UsageError
from striate.results import Rating, Result
from striate.tasks.classifier import create_classifier
from striate.tasks.explainable import Explainable
from striate.tasks.score.metrics import ScoreMetrics, mean_and_spread
from striate.tasks.score.sections import sections
from striate.tasks.task import FEATURES, OPTIONS, Task

NEARLY_NOTHING = 1e-12  # under the root, whose slope at 0 is infinite


def earth_movers_distance(logits: Tensor, shares: Tensor) -> Tensor:
    """Squared EMD of each picture, [B]: the root of the mean squared difference of cumulative shares (equation 1).

    Args:
        logits: float [B, K].
        shares: float [B, K], of each grade from low to high; rows add to 1.
    """
    difference = logits.float().softmax(1).cumsum(1) - shares.cumsum(1)
    return (difference.square().mean(1) + NEARLY_NOTHING).sqrt()


class Score(Explainable, Task):
    """How people grade a picture. Targets: float [B, K], the share of votes that each grade got.

    `classes` are the grades, numbers as text, from low to high.
    """

    name = "score"
    result: ClassVar[type[Result]] = Rating
    supports: ClassVar[frozenset[str]] = frozenset({*OPTIONS, FEATURES})

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        try:
            self.grades = torch.tensor([float(grade) for grade in classes])
        except ValueError:
            raise DataError(f"task score needs numbers as classes, not {', '.join(self.classes[:5])}") from None

    def build(self, architecture: str, in_channels: int, **arguments: Any) -> nn.Module:
        return create_classifier(architecture, len(self.classes), in_channels, **arguments)

    def collate(self, targets: Sequence[Votes]) -> Tensor:
        counts = torch.tensor([target.counts for target in targets], dtype=torch.float64).reshape(-1, len(self.classes))
        return (counts / counts.sum(1, keepdim=True)).float()

    def soft_targets(self, targets: Tensor) -> Tensor:
        return targets

    def class_counts(self, targets: Sequence[Votes]) -> Tensor:
        """Pictures by the grade nearest to their mean, float [K]."""
        return torch.bincount(self.nearest(self.collate(targets)), minlength=len(self.classes)).float()

    def sample_weights(self, targets: Sequence[Votes]) -> Tensor:
        """So that pictures of all mean grades are drawn alike: most means lie in the middle."""
        return 1 / self.class_counts(targets).clamp(min=1)[self.nearest(self.collate(targets))]

    def nearest(self, targets: Tensor) -> Tensor:
        """The grade nearest to the mean, int64 [B]."""
        mean, _ = mean_and_spread(targets, self.grades)
        return (mean[:, None] - self.grades).abs().argmin(1)

    def loss(
        self,
        outputs: Tensor | WithAuxiliary,
        targets: Tensor,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The mean of `earth_movers_distance`; auxiliary classifiers add theirs.

        Smoothing by e moves a share e of the votes evenly over all grades; weights count a picture as much as its
        votes' grades do on the average.
        """
        if label_smoothing:
            targets = targets * (1 - label_smoothing) + label_smoothing / len(self.classes)

        def one(logits: Tensor) -> Tensor:
            distance = earth_movers_distance(logits, targets)
            if class_weights is None:
                return distance.mean()
            weights = targets @ class_weights
            return (distance * weights).sum() / weights.sum()

        return {"loss": outputs.total(one) if isinstance(outputs, WithAuxiliary) else one(outputs)}

    def predicted_class(self, outputs: Tensor) -> Tensor:
        return torch.full((len(outputs),), -1)

    def class_score(self, outputs: Tensor, label: int | None = None, target_box: Tensor | None = None) -> Tensor:
        """The mean grade; of a grade its logit."""
        outputs = outputs.float()
        return outputs.softmax(1) @ self.grades.to(outputs.device) if label is None else outputs[:, label]

    def to_result(self, prediction: Tensor, source: Any, threshold: float | None = None) -> Rating:
        if threshold is not None:
            raise UsageError("a threshold is for models that give several labels; this one gives a score")
        return Rating(source=source, grades=tuple(self.grades.tolist()), shares=prediction.float().softmax(-1))

    def metrics(self) -> ScoreMetrics:
        return ScoreMetrics(self.grades)

    sections = staticmethod(sections)
