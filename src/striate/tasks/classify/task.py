"""Classification: one label a picture, or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones.backbone import WithAuxiliary
from striate.errors import UsageError
from striate.results import Classification, Result
from striate.tasks.calibration import fit_temperature, tune_thresholds
from striate.tasks.classifier import create_classifier
from striate.tasks.classify.metrics import ClassificationMetrics
from striate.tasks.classify.sections import sections
from striate.tasks.explainable import Explainable
from striate.tasks.task import FEATURES, OPTIONS, THRESHOLD, Task, refuse_threshold


class Classify(Explainable, Task):
    """Targets: [B] int64; or float [B, K] when a picture may have several labels, or labels are mixed."""

    name = "classify"
    result: ClassVar[type[Result]] = Classification
    supports: ClassVar[frozenset[str]] = frozenset({*OPTIONS, FEATURES, THRESHOLD})

    def __init__(
        self,
        classes: Sequence[str],
        multi_label: bool = False,
        temperature: float = 1.0,
        thresholds: Sequence[float] | None = None,
    ) -> None:
        self.classes = tuple(classes)
        self.multi_label = multi_label
        self.temperature = temperature
        self.thresholds = list(thresholds) if thresholds is not None else None

    @property
    def independent(self) -> bool:  # type: ignore[override]
        return self.multi_label

    @property
    def arguments(self) -> dict[str, Any]:
        return {"multi_label": self.multi_label, "temperature": self.temperature, "thresholds": self.thresholds}

    def build(self, architecture: str, in_channels: int, **arguments: Any) -> nn.Module:
        return create_classifier(architecture, len(self.classes), in_channels, **arguments)

    def collate(self, targets: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        if not self.multi_label:
            return torch.tensor(targets, dtype=torch.int64)
        labels = torch.zeros(len(targets), len(self.classes))
        for row, indices in enumerate(targets):
            labels[row, list(indices)] = 1  # type: ignore[arg-type]
        return labels

    def soft_targets(self, targets: Tensor) -> Tensor:
        return targets if targets.is_floating_point() else F.one_hot(targets, len(self.classes)).float()

    def loss(
        self,
        outputs: Tensor | WithAuxiliary,
        targets: Tensor,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Cross-entropy, or per-label binary cross-entropy; auxiliary classifiers add theirs.

        Label smoothing by e gives the true one of K classes 1 - e + e/K and the others e/K
        (Szegedy et al. 2016, section 7): with e = 0.1 and ten classes, 0.91 and 0.01.
        """
        if isinstance(outputs, WithAuxiliary):
            return {"loss": outputs.total(lambda one: self.loss(one, targets, label_smoothing, class_weights)["loss"])}
        outputs = outputs.float()
        if self.multi_label:
            smooth = targets * (1 - label_smoothing) + label_smoothing / 2
            return {"loss": F.binary_cross_entropy_with_logits(outputs, smooth, weight=class_weights)}
        return {"loss": F.cross_entropy(outputs, targets, weight=class_weights, label_smoothing=label_smoothing)}

    def predicted_class(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(1)

    def class_score(self, outputs: Tensor, label: int | None = None, target_box: Tensor | None = None) -> Tensor:
        """The logit."""
        return outputs.float().amax(1) if label is None else outputs[:, label].float()

    def calibrate(self, metrics: ClassificationMetrics) -> None:
        logits, targets = metrics.gathered()
        if self.multi_label:
            self.thresholds = tune_thresholds(logits, targets)
        else:
            self.temperature = fit_temperature(logits, targets)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """[K] or [B, K] in 0..1; for one label they add to 1, with the temperature that validation asked for."""
        outputs = outputs.float()
        return outputs.sigmoid() if self.multi_label else (outputs / self.temperature).softmax(-1)

    def to_result(self, prediction: Tensor, source: Any, threshold: float | None = None) -> Classification:
        thresholds = self.thresholds
        if threshold is not None:
            if not self.multi_label:
                raise UsageError("a threshold is for models that give several labels; this one gives one a picture")
            refuse_threshold(threshold)
            thresholds = [threshold] * len(self.classes)
        return Classification(
            source=source,
            classes=self.classes,
            probabilities=self.probabilities(prediction),
            thresholds=thresholds if self.multi_label else None,
        )

    def metrics(self) -> ClassificationMetrics:
        return ClassificationMetrics(self.classes, self.multi_label, self.thresholds, self.temperature)

    sections = staticmethod(sections)
