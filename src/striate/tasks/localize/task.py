"""Classification with localisation: is there an object, where, and which (lecture D2).

y = (p, b_x, b_y, b_w, b_h, c_1 … c_K), p for presence, middle and size of the box as shares of the picture, and the
classes: one network answers all at once. Where no object is, only p is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou_loss

from striate.backbones import MODELS, create_model
from striate.backbones.backbone import WithAuxiliary
from striate.config import Augment, Preprocess
from striate.data.facts import Facts
from striate.data.geometry import to_picture
from striate.data.targets import PLAIN, Objects, Target
from striate.errors import DataError, UsageError
from striate.results import Detections, Result
from striate.tasks.detect.outputs import collate_objects
from striate.tasks.explainable import Explainable
from striate.tasks.localize.metrics import LocalizeMetrics
from striate.tasks.localize.sections import sections
from striate.tasks.outputs import image_size
from striate.tasks.task import THRESHOLD, Task, refuse_threshold

LOSSES = ("likely", "squared")
SMOOTH = 0.05  # of the picture: below, the box's L1 is a parabola
L1_WEIGHT, GIOU_WEIGHT = 5.0, 2.0  # Carion et al. 2020 (DETR, arXiv:2005.12872), section A.4
THRESHOLDS = [step / 20 for step in range(1, 20)]


PLACED = {
    "light": Augment(hflip=0.5, scale=(0.9, 1.1), shift=0.05),
    "standard": Augment(hflip=0.5, scale=(0.75, 1.2), shift=0.1, color_jitter=0.2),
    "strong": Augment(hflip=0.5, scale=(0.6, 1.4), shift=0.15, color_jitter=0.4),
}


class Localizer(nn.Module):
    """Any network that classifies, with 5 + K outputs.

    Outputs:
        values: float [B, 5 + K], before any activation.
        image_size: int64 [2].
        aux1, aux2 …: in training, those of auxiliary classifiers like `values`.
        aux_weight: with them, float64 [], how often the loss of each counts.
    """

    def __init__(self, architecture: str, num_classes: int, in_chans: int = 3, **arguments: Any) -> None:
        super().__init__()
        if architecture in MODELS and not MODELS[architecture].own_head:
            arguments = {"linear_head": True} | arguments
        self.backbone = create_model(architecture, num_classes=5 + num_classes, in_chans=in_chans, **arguments)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        values = self.backbone(images)
        if not isinstance(values, WithAuxiliary):
            return {"values": values, "image_size": image_size(images)}
        beside = {f"aux{number}": one for number, one in enumerate(values.auxiliary, 1)}
        beside["aux_weight"] = torch.tensor(values.weight, dtype=torch.float64)
        return {"values": values.logits, "image_size": image_size(images), **beside}


class Localize(Explainable, Task):
    """Targets: float [B, 1, 7], the object as `striate.tasks.detect.outputs` has it; class -1 where there is none.

    Args:
        loss: `likely`: cross-entropies of presence and class, smooth L1 and generalised IoU of the box; `squared`: the
            lecture's sum of squares of all outputs where an object is, of p alone where none is.
        threshold: from which p on an object is said to be there.
    """

    name = "localize"
    result: ClassVar[type[Result]] = Detections
    supports: ClassVar[frozenset[str]] = frozenset(
        {"label_smoothing", "class_weights", "sampling", "adversarial", THRESHOLD}
    )
    reads: ClassVar[tuple[str, ...]] = ("detect",)  # the largest object of each picture
    spatial: ClassVar[bool] = True

    def __init__(self, classes: Sequence[str], loss: str = "likely", threshold: float = 0.5) -> None:
        self.classes = tuple(classes)
        if not self.classes:
            raise DataError("task localize needs at least one class")
        if loss not in LOSSES:
            raise UsageError(f'loss "{loss}" is not known; there are {", ".join(LOSSES)}')
        self.kind = loss
        self.threshold = threshold

    @property
    def arguments(self) -> dict[str, Any]:
        return {"loss": self.kind, "threshold": self.threshold}

    def default_recipe(self, facts: Facts, device: torch.device, weights: bool, model: str) -> dict[str, Any]:
        return {
            "fit": "pad",
            "fill": 114,
            "augment": PLACED,
            **({} if weights else {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05}),
        }

    def build(self, architecture: str, in_channels: int, **arguments: Any) -> nn.Module:
        return Localizer(architecture, len(self.classes), in_channels, **arguments)

    def collate(self, targets: Sequence[Objects | None]) -> Tensor:
        """The largest plain object of each picture; of equal ones the first."""
        return collate_objects([None if target is None else largest(target) for target in targets], rows=1)

    def target_transform(self, target: Any) -> Target | None:
        return None if target is None else target.without_masks()

    def class_counts(self, targets: Sequence[Objects | None]) -> Tensor:
        labels = self.collate(targets)[:, 0, 4].long()
        return torch.bincount(labels[labels >= 0], minlength=len(self.classes)).float()

    def sample_weights(self, targets: Sequence[Objects | None]) -> Tensor:
        """As classes are rare; pictures without an object are one more class."""
        kinds = self.collate(targets)[:, 0, 4].long() + 1
        return 1 / torch.bincount(kinds).clamp(min=1).float()[kinds]

    def loss(
        self,
        outputs: dict[str, Tensor],
        targets: Tensor,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Scalars by name: `loss`, and its parts `presence`, `box` and `class`; the latter two only of objects there.

        A sum over pictures, over their number. Auxiliary classifiers add their loss.
        """
        if "aux_weight" in outputs:
            beside = tuple(one for name, one in outputs.items() if name.startswith("aux") and name[3:].isdigit())
            together = WithAuxiliary(outputs["values"], beside, outputs["aux_weight"].item())

            def one(values: Tensor) -> Tensor:
                alone = {"values": values, "image_size": outputs["image_size"]}
                return self.loss(alone, targets, label_smoothing, class_weights)["loss"]

            return {"loss": together.total(one)}
        values = outputs["values"].float()
        target = targets[:, 0]
        there = target[:, 4] >= 0
        labels = target[there, 4].long()
        height, width = outputs["image_size"].tolist()
        box = target[there, :4] / target.new_tensor([width, height, width, height])
        form = self.squared if self.kind == "squared" else self.likely
        presence, place, which = form(values, there, box, labels, label_smoothing, class_weights)
        parts = {"presence": presence.mean(), "box": place.sum() / len(values), "class": which.sum() / len(values)}
        return {"loss": parts["presence"] + parts["box"] + parts["class"], **parts}

    def squared(
        self, values: Tensor, there: Tensor, box: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(p - 1)² + … + (c_K - c)² where an object is, p² where none is: [B], [M] and [M]."""
        found = values[there]
        truth = F.one_hot(labels, len(self.classes)).float() * (1 - smoothing) + smoothing / len(self.classes)
        which = (found[:, 5:] - truth).square().sum(1)
        return (
            (values[:, 0] - there.float()).square(),
            (found[:, 1:5] - box_convert(box, "xyxy", "cxcywh")).square().sum(1),
            which if weights is None else which * weights[labels],
        )

    def likely(
        self, values: Tensor, there: Tensor, box: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        found = values[there]
        said = found[:, 1:5].sigmoid()
        off = F.smooth_l1_loss(said, box_convert(box, "xyxy", "cxcywh"), beta=SMOOTH, reduction="none").sum(1)
        overlap = generalized_box_iou_loss(box_convert(said, "cxcywh", "xyxy"), box)
        return (
            F.binary_cross_entropy_with_logits(values[:, 0], there.float(), reduction="none"),
            L1_WEIGHT * off + GIOU_WEIGHT * overlap,
            F.cross_entropy(found[:, 5:], labels, weights, reduction="none", label_smoothing=smoothing),
        )

    def postprocess(self, outputs: dict[str, Tensor], sizes: Tensor, preprocess: Preprocess) -> list[Tensor]:
        """B times float32 [5 + K] on the CPU: x1, y1, x2, y2 in pixels of the pictures as read, p, classes 0..1.

        Args:
            sizes: int64 [B, 2], height and width of the pictures as they were read.
        """
        values = outputs["values"].float().cpu()
        if self.kind == "squared":
            presence, place, which = values[:, :1].clamp(0, 1), values[:, 1:5], values[:, 5:].clamp(0, 1)
        else:
            presence, place, which = values[:, :1].sigmoid(), values[:, 1:5].sigmoid(), values[:, 5:].softmax(1)
        height, width = outputs["image_size"].tolist()
        middle, half = place[:, :2], place[:, 2:].clamp(min=0) / 2
        corners = torch.stack((middle - half, middle + half), 1) * torch.tensor([width, height])  # [B, 2, 2]
        corners = to_picture(corners, sizes.cpu(), preprocess)
        limits = sizes.cpu().flip(1)[:, None].to(corners.dtype)
        corners = torch.minimum(corners.clamp(min=0), limits)
        return list(torch.cat((corners.flatten(1), presence, which), 1))

    def predicted_class(self, outputs: dict[str, Tensor]) -> Tensor:
        return outputs["values"][:, 5:].argmax(1)

    def class_score(
        self, outputs: dict[str, Tensor], label: int | None = None, target_box: Tensor | None = None
    ) -> Tensor:
        """That an object is there, and that it is of the class: the sum of both outputs."""
        values = outputs["values"].float()
        return values[:, 0] + (values[:, 5:].amax(1) if label is None else values[:, 5 + label])

    def calibrate(self, metrics: LocalizeMetrics) -> None:
        """The threshold with the most pictures right; the nearest to a half among equals, or where all have objects."""
        if bool((metrics.gathered()[1][:, 4] >= 0).all()):
            return

        def right(threshold: float) -> float:
            tried = LocalizeMetrics(self.classes, threshold)
            tried.merge(metrics)
            return tried.compute()[tried.best]

        self.threshold = max(THRESHOLDS, key=lambda threshold: (right(threshold), -abs(threshold - 0.5)))

    def to_result(self, prediction: Tensor, source: Any, threshold: float | None = None) -> Detections:
        """One object, scored p times the share of its class, or none where p is below."""
        if threshold is not None:
            refuse_threshold(threshold)
        bar = self.threshold if threshold is None else threshold
        prediction = prediction.float().cpu()
        share, label = prediction[5:].max(0)
        kept = label if prediction[4] >= bar else torch.tensor(-1)
        row = torch.cat((prediction[:4], (prediction[4] * share)[None], kept[None].float()))
        return Detections.of(source, self.classes, row[None])

    def metrics(self) -> LocalizeMetrics:
        return LocalizeMetrics(self.classes, self.threshold)

    sections = staticmethod(sections)


def largest(target: Objects) -> Objects:
    """The plain object with the largest area, alone; none where all are crowds or difficult."""
    plain = (target.kinds == PLAIN).nonzero()[:, 0]
    rows = plain[target.areas[plain].argmax()[None]] if len(plain) else plain
    return Objects(target.boxes[rows], target.labels[rows], target.kinds[rows], target.areas[rows])
