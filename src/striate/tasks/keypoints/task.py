"""Keypoints: where K named points of a face, a body or a thing are (lecture D3).

The default head learns from coordinates and from maps at once, which few pictures need (`python -m bench landmarks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.config import Augment, Preprocess
from striate.data.facts import Facts
from striate.data.geometry import to_picture
from striate.data.targets import Points
from striate.errors import DataError, UsageError, did_you_mean
from striate.results import Result
from striate.results.keypoints import Keypoints as KeypointsResult
from striate.tasks.explainable import Explainable
from striate.tasks.keypoints.metrics import KeypointMetrics
from striate.tasks.keypoints.networks import Heatmaps, Regression, gaussians, nearby, peaks
from striate.tasks.keypoints.schemes import scheme_of
from striate.tasks.keypoints.sections import sections
from striate.tasks.task import Task

HEADS = {  # `--model cascade/resnet18`: which points a network gives, and in how many stages
    "soft": 1,  # centres of mass of heat maps; the default
    "heatmap": 1,  # their peaks
    "regression": 1,  # coordinates themselves
    "cascade": 3,  # coordinates, corrected twice from crops around the points (DeepPose)
}
SOFT_SIGMA = 1.0  # cells, of the Gaussian that a soft map should look like (Nibali et al. 2018, section 5.2)
HEAT_SIGMA = 1.5  # cells, of the heat that is taught; 2 in Xiao et al. 2018 for maps twice as large


PLACED = {
    "light": Augment(hflip=0.5, rotate=10, scale=(0.9, 1.1), shift=0.04),
    "standard": Augment(hflip=0.5, rotate=25, scale=(0.8, 1.2), shift=0.08, color_jitter=0.2),
    "strong": Augment(hflip=0.5, rotate=40, scale=(0.7, 1.3), shift=0.12, color_jitter=0.4),
}
PLACED["auto"] = PLACED["standard"]


class Keypoints(Explainable, Task):
    """Targets: float [B, K, 3], x, y in pixels of the network's picture and 1 where the point is known, else 0.

    Args:
        classes: the K points' names.
        symmetry: K indices, which point each becomes in a mirror; known for 300-W's 68 and COCO's 17 points and by
            names with left and right in them.
    """

    name = "keypoints"
    result: ClassVar[type[Result]] = KeypointsResult
    supports: ClassVar[frozenset[str]] = frozenset({"class_weights", "adversarial"})
    spatial: ClassVar[bool] = True

    def __init__(self, classes: Sequence[str], symmetry: Sequence[int] | None = None) -> None:
        self.classes = tuple(classes)
        if not self.classes:
            raise DataError("task keypoints needs at least one point")
        self._symmetry = None if symmetry is None else list(symmetry)
        self.scheme = scheme_of(self.classes, symmetry)
        self.pairs = self.scheme.mirror  # None where unknown: then pictures must not be mirrored

    @property
    def arguments(self) -> dict[str, Any]:
        return {} if self._symmetry is None else {"symmetry": self._symmetry}

    def backbone_of(self, architecture: str) -> str:
        return parsed(architecture)[1]

    def default_recipe(self, facts: Facts, device: torch.device, weights: bool, model: str) -> dict[str, Any]:
        """As `python -m bench landmarks` found it for 200 faces; small batches, for faces are few."""
        side = min(96 if device.type == "cpu" else 256, -(-max(facts.height, facts.width) // 32) * 32)
        return {
            "size": (side, side),
            "fit": "pad",
            "batch": 8,
            "optimizer": "adamw",
            "lr": 2e-3,
            "weight_decay": 0.01,
            "clip": 5.0,
            "epochs": min(max(round(8_000 / facts.count), 10), 60),
            "augment": PLACED,
        }

    def build(self, architecture: str, in_channels: int, **arguments: Any) -> nn.Module:
        head, backbone = parsed(architecture)
        if head in ("regression", "cascade"):
            return Regression(backbone, len(self.classes), in_channels, HEADS[head], **arguments)
        return Heatmaps(backbone, len(self.classes), in_channels, head == "soft", **arguments)

    def collate(self, targets: Sequence[Points | None]) -> Tensor:
        """[B, K, 3]; all 0 where unlabelled, and where a point is unknown."""
        found = torch.zeros(len(targets), len(self.classes), 3)
        for row, target in zip(found, targets, strict=True):
            if target is not None:
                known = target.values[:, 2:] > 0
                row.copy_(torch.where(known, target.values, torch.zeros(())))
        return found

    def class_counts(self, targets: Sequence[Points | None]) -> Tensor:
        """In how many pictures each point is known, float [K]."""
        return (self.collate(targets)[..., 2] > 0).sum(0).float()

    def loss(
        self,
        outputs: dict[str, Tensor],
        targets: Tensor,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The mean over known points; heat maps cannot teach points outside the picture and leave them out.

        `soft`: distance plus the Jensen-Shannon divergence of map and Gaussian (Nibali et al., equations 6, 8 and 11),
        in their units, where a picture is 2 wide. `heatmap`: squared error, summed over a map. `regression`: L1, summed
        over stages. Weights are the points'; there is nothing to smooth.
        """
        points, maps = outputs.get("points"), outputs.get("maps")
        height, width = outputs["image_size"].tolist()
        truth = targets[..., :2] / targets.new_tensor([width, height])
        known = targets[..., 2] > 0
        if maps is not None:
            known = known & ((truth >= 0) & (truth <= 1)).all(2)
        weights = known.float() if class_weights is None else known * class_weights
        whole = weights.sum().clamp(min=1)

        def mean(of_points: Tensor) -> Tensor:
            return (of_points.where(known, torch.zeros_like(of_points)) * weights).sum() / whole

        if maps is None:
            off = (outputs["points"] - truth[:, None]).abs().sum(3).sum(1)  # [B, K]
            return {"loss": mean(off)}
        rows, columns = maps.shape[2:]
        if points is None:
            return {"loss": mean((maps - gaussians(truth, rows, columns, HEAT_SIGMA)).square().sum((2, 3)))}
        distance = mean(2 * (points[:, -1] - truth).square().sum(2).clamp(min=1e-12).sqrt())
        divergence = mean(jensen_shannon(maps, gaussians(truth, rows, columns, SOFT_SIGMA)))
        return {"loss": distance + divergence, "distance": distance, "divergence": divergence}

    def postprocess(self, outputs: dict[str, Tensor], sizes: Tensor, preprocess: Preprocess) -> list[Tensor]:
        """B times float32 [K, 3] on the CPU: x, y in pixels of the pictures as they were read, and how sure, 0..1.

        Regression does not know how sure it is and says 1.

        Args:
            sizes: int64 [B, 2], height and width of the pictures as they were read.
        """
        sure: Tensor | None = None
        if "points" not in outputs:
            points, sure = peaks(outputs["maps"].float())
        else:
            points = outputs["points"][:, -1].float()
            if "maps" in outputs:
                sure = nearby(outputs["maps"].float(), points)
        sure = torch.ones_like(points[..., 0]) if sure is None else sure.clamp(0, 1)
        height, width = outputs["image_size"].tolist()
        pixels = (points * points.new_tensor([width, height])).cpu()
        return list(torch.cat((to_picture(pixels, sizes.cpu(), preprocess), sure.cpu()[..., None]), 2))

    def predicted_class(self, outputs: dict[str, Tensor]) -> Tensor:
        return torch.full((len(outputs["points" if "points" in outputs else "maps"]),), -1)

    def class_score(
        self, outputs: dict[str, Tensor], label: int | None = None, target_box: Tensor | None = None
    ) -> Tensor:
        """The peak of a point's map, of a soft one the logarithm of its share; without a label the mean of all points.

        Raises:
            UsageError: the network gives coordinates only.
        """
        if "maps" not in outputs:
            raise UsageError(
                "coordinates alone do not say what speaks for them: explain a model with the head soft or heatmap"
            )
        maps = outputs["maps"].float().flatten(2)
        peaks = (maps.log_softmax(2) if "points" in outputs else maps).amax(2)  # [B, K]
        return peaks.mean(1) if label is None else peaks[:, label]

    def to_result(self, prediction: Tensor, source: Any, threshold: float | None = None) -> KeypointsResult:
        if threshold is not None:
            raise UsageError("a threshold is for models that say whether something is there; this one says where")
        points = prediction.float().cpu()
        return KeypointsResult(source=source, names=self.classes, points=points, lines=self.scheme.lines)

    def metrics(self) -> KeypointMetrics:
        return KeypointMetrics(self.classes, self.scheme)

    sections = staticmethod(sections)


def parsed(architecture: str) -> tuple[str, str]:
    """`heatmap/resnet18` → (`heatmap`, `resnet18`); `resnet18` has the default head.

    Raises:
        UsageError: no such head, or no network after it.
    """
    head, slash, backbone = architecture.partition("/")
    if head in HEADS and backbone:
        return head, backbone
    if head in HEADS:
        raise UsageError(f'"{head}" is a head and needs a network: {head}/resnet18')
    if slash and head != "timm":
        raise UsageError(f'no head is called "{head}"; there are {", ".join(HEADS)}.{did_you_mean(head, HEADS)}')
    return "soft", architecture


def jensen_shannon(maps: Tensor, heat: Tensor) -> Tensor:
    """Divergence of softmax maps [B, K, h, w] and of heat, brought to the sum 1: [B, K], 0..log 2."""
    said = maps.flatten(2).log_softmax(2)
    heat = heat.flatten(2)
    taught = (heat / heat.sum(2, keepdim=True).clamp(min=1e-12)).clamp(min=1e-12).log()
    middle = torch.logaddexp(said, taught) - torch.tensor(2.0).log()
    both = F.kl_div(middle, said, reduction="none", log_target=True) + F.kl_div(
        middle, taught, reduction="none", log_target=True
    )
    return both.sum(2) / 2
