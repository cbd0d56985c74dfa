"""FCOS: every cell says what is there and how far its four edges are (Tian et al., ICCV 2019, arXiv:1904.01355).

No anchors. Two ways to teach it: `centre`, the paper's (cells near an object's middle, on the level that its size asks
for, weighed by centreness), equal to torchvision's; and `aligned`, the default of detection here (the cells that
classify and place the object best at this moment, Feng et al., ICCV 2021, arXiv:2108.07755).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, complete_box_iou_loss, generalized_box_iou_loss, sigmoid_focal_loss

from striate.data.targets import PLAIN
from striate.tasks.detect.alignment import align
from striate.tasks.detect.fpn import Extra, PyramidBackbone, reductions_of
from striate.tasks.detect.outputs import (
    LEAST_SCORE,
    LIMIT,
    DetectionCoder,
    learnable,
    log_odds,
    stack_detections,
)
from striate.tasks.outputs import image_size

Assignment = Literal["centre", "aligned"]

PRIOR = 0.01  # share of cells that see an object, before anything is learnt (Lin et al. 2017, section 3.3)
CANDIDATES = 1000  # cells looked at, of each level in the paper's way, of the whole picture in ours
BOX_WEIGHT = 5.0  # of the box loss against the class loss; 2 in Feng et al., 15 in YOLOv8


class FCOS(nn.Module):
    """Images float [B, in_chans, H, W] → what each of N cells says. Names are torchvision's (`fcos_resnet50_fpn`).

    Outputs:
        logits: [B, N, K].
        distances: [B, N, 4], to the left, upper, right and lower edge, in pixels, at least 0.
        centreness: logits [B, N], where `assignment` is `centre`.
        level_sizes: int64 [L, 2], rows and columns of each level's cells.
        image_size: int64 [2].

    Args:
        backbone: any of the zoo.
        channels: of pyramid and head.
        convs: in each of the head's two towers.
        reductions: of the backbone's maps, those that it has; None: 8, 16 and 32.
        extra: levels above, see `FeaturePyramid`.
        assignment: how it is taught; `centre` has the centreness branch, and cells at the corners of their squares, as
            torchvision has them; `aligned` has them in the middle.
        arguments: of the backbone (`weights` …).
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        num_classes: int = 80,
        in_chans: int = 3,
        channels: int = 96,
        convs: int = 2,
        reductions: Sequence[int] | None = None,
        extra: Extra = "none",
        assignment: Assignment = "aligned",
        **arguments: object,
    ) -> None:
        super().__init__()
        reductions = reductions_of(backbone, in_chans, reductions or (8, 16, 32))
        self.backbone = PyramidBackbone(backbone, in_chans, channels, reductions, extra, **arguments)
        self.coder = FCOSCoder(assignment)
        self.head = FCOSHead(channels, convs, num_classes, centreness=assignment == "centre")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        levels = self.backbone(images)
        size = (images.shape[-2], images.shape[-1])
        logits, distances, centreness = [], [], []
        classify, regress = self.head.classification_head, self.head.regression_head
        for values in levels:
            step_y, step_x = self.coder.steps(values.shape[-2:], size)
            stride = torch.tensor([step_x, step_y, step_x, step_y], device=values.device)
            logits.append(classify.cls_logits(classify.conv(values)).flatten(2).mT)  # [B, cells, K]
            towered = regress.conv(values)
            edges = regress.bbox_reg(towered).float()
            edges = F.softplus(edges) if regress.bbox_ctrness is None else F.relu(edges)
            distances.append(edges.flatten(2).mT * stride)  # [B, cells, 4] in pixels
            if regress.bbox_ctrness is not None:
                centreness.append(regress.bbox_ctrness(towered).flatten(1))
        return {
            "logits": torch.cat(logits, 1).float(),
            "distances": torch.cat(distances, 1),
            **({"centreness": torch.cat(centreness, 1).float()} if centreness else {}),
            "level_sizes": torch.tensor([[values.shape[-2], values.shape[-1]] for values in levels]),
            "image_size": image_size(images),
        }


class FCOSHead(nn.Module):
    """Two towers over every level: one for the classes, one for edges and centreness."""

    def __init__(self, channels: int, convs: int, num_classes: int, centreness: bool) -> None:
        super().__init__()
        self.classification_head = ClassificationHead(channels, convs, num_classes)
        self.regression_head = RegressionHead(channels, convs, centreness)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.classification_head.cls_logits.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]
        if not centreness:  # at first every cell sees an object two cells around it
            nn.init.constant_(self.regression_head.bbox_reg.bias, 2.0)  # type: ignore[arg-type]


class ClassificationHead(nn.Module):
    def __init__(self, channels: int, convs: int, num_classes: int) -> None:
        super().__init__()
        self.conv = tower(channels, convs)
        self.cls_logits = nn.Conv2d(channels, num_classes, 3, padding=1)


class RegressionHead(nn.Module):
    def __init__(self, channels: int, convs: int, centreness: bool) -> None:
        super().__init__()
        self.conv = tower(channels, convs)
        self.bbox_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.bbox_ctrness = nn.Conv2d(channels, 1, 3, padding=1) if centreness else None


def tower(channels: int, convs: int) -> nn.Sequential:
    """3×3 convolutions with group norm: [B, channels, H, W], the same."""
    layers: list[nn.Module] = []
    for _ in range(convs):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(32, channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Cells(NamedTuple):
    """Where the N cells are: points [N, 2], x y of each; strides [N, 4], its width, height, width, height."""

    points: Tensor
    strides: Tensor


class FCOSCoder(DetectionCoder):
    """What FCOS's outputs mean, and how they are taught."""

    def __init__(self, assignment: Assignment = "aligned") -> None:
        self.assignment: Assignment = assignment

    def steps(self, cells: Sequence[int], size: Sequence[int]) -> tuple[float, float]:
        """Height and width in pixels of one of so many rows and columns of a picture of that height and width."""
        (rows, columns), (height, width) = cells, size
        if self.assignment == "aligned":
            return height / rows, width / columns
        return height // rows, width // columns

    def cells(self, outputs: dict[str, Tensor]) -> Cells:
        size, device = outputs["image_size"].tolist(), outputs["logits"].device
        middle = 0.5 if self.assignment == "aligned" else 0.0
        points, strides = [], []
        for rows, columns in outputs["level_sizes"].tolist():
            step_y, step_x = self.steps((rows, columns), size)
            y = (torch.arange(rows, device=device) + middle) * step_y
            x = (torch.arange(columns, device=device) + middle) * step_x
            grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
            points.append(torch.stack((grid_x, grid_y), -1).reshape(-1, 2))
            strides.append(torch.tensor([step_x, step_y, step_x, step_y], device=device).expand(rows * columns, 4))
        return Cells(torch.cat(points), torch.cat(strides).float())

    def losses(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        learn = self._centre_losses if self.assignment == "centre" else self._aligned_losses
        return learn(outputs, self.cells(outputs), targets)

    def _aligned_losses(self, outputs: dict[str, Tensor], cells: Cells, targets: Tensor) -> dict[str, Tensor]:
        truths, labels = targets[..., :4], targets[..., 4]
        valid = (labels >= 0) & (targets[..., 5] == PLAIN)
        logits, boxes = outputs["logits"], boxes_of(cells.points, outputs["distances"])
        scores = logits.detach().sigmoid()
        aim = align(scores, boxes.detach(), cells.points, cells.strides[:, :2], truths, labels.long(), valid)
        total = aim.scores.sum().clamp(min=1)
        class_loss = F.binary_cross_entropy_with_logits(logits, aim.scores, reduction="sum") / total
        weights = aim.scores.amax(-1)[aim.taken]
        overlap = complete_box_iou_loss(boxes[aim.taken], aim.boxes[aim.taken])
        box_loss = (overlap * weights).sum() / total
        return {"loss": class_loss + BOX_WEIGHT * box_loss, "class": class_loss, "box": box_loss}

    def _centre_losses(self, outputs: dict[str, Tensor], cells: Cells, targets: Tensor) -> dict[str, Tensor]:
        """As torchvision: focal loss, GIoU, centreness by cross-entropy, each over the number of cells taught."""
        logits, distances, centreness = outputs["logits"], outputs["distances"], outputs["centreness"]
        counts = outputs["level_sizes"].prod(1).tolist()
        truths, labels = torch.zeros_like(distances), torch.full_like(logits[..., 0], -1).long()
        for number, target in enumerate(targets):
            boxes, classes = learnable(target)
            match = centre_matches(boxes, cells, counts)
            if len(boxes):
                truths[number] = boxes[match.clamp(min=0)]
                labels[number] = torch.where(match >= 0, classes[match.clamp(min=0)], -1)
        taught = labels >= 0
        count = max(1, int(taught.sum()))
        wanted = torch.zeros_like(logits)
        wanted[taught, labels[taught]] = 1.0
        class_loss = sigmoid_focal_loss(logits, wanted, reduction="sum") / count
        boxes = boxes_of(cells.points, distances)[taught]
        box_loss = generalized_box_iou_loss(boxes, truths[taught], reduction="sum") / count
        points = cells.points.expand(len(targets), -1, -1)
        edges = torch.cat((points - truths[..., :2], truths[..., 2:] - points), -1)[taught]  # [n, 4]
        horizontal, vertical = edges[:, [0, 2]], edges[:, [1, 3]]
        ratio = horizontal.amin(1) / horizontal.amax(1) * (vertical.amin(1) / vertical.amax(1))
        centre = ratio.sqrt()  # equation 3
        centre_loss = F.binary_cross_entropy_with_logits(centreness[taught], centre, reduction="sum") / count
        total = class_loss + box_loss + centre_loss
        return {"loss": total, "class": class_loss, "box": box_loss, "centreness": centre_loss}

    def class_scores(self, outputs: dict[str, Tensor]) -> Tensor:
        if self.assignment == "aligned":
            return outputs["logits"]
        return log_odds((F.logsigmoid(outputs["logits"]) + F.logsigmoid(outputs["centreness"])[..., None]) / 2)

    def candidate_boxes(self, outputs: dict[str, Tensor]) -> Tensor:
        points, strides = self.cells(outputs)
        cells = torch.cat((points - strides[:, :2] / 2, points + strides[:, :2] / 2), 1)
        return cells.expand(len(outputs["logits"]), -1, -1)

    def detections(self, outputs: dict[str, Tensor], limit: int = LIMIT) -> Tensor:
        logits = outputs["logits"]
        height, width = outputs["image_size"].tolist()
        bounds = torch.tensor([width, height, width, height], device=logits.device)
        boxes = boxes_of(self.cells(outputs).points, outputs["distances"]).clamp(min=0).minimum(bounds.float())
        if self.assignment == "centre":
            counts = outputs["level_sizes"].prod(1).tolist()
            scores = (logits.sigmoid() * outputs["centreness"].sigmoid()[..., None]).sqrt()
            found = [suppressed(*_by_level(*pair, counts), limit) for pair in zip(scores, boxes, strict=True)]
        else:
            scores = logits.sigmoid()
            found = [suppressed(*best(*pair, LEAST_SCORE), limit) for pair in zip(scores, boxes, strict=True)]
        kept, scored, labelled = zip(*found, strict=True)
        return stack_detections(kept, scored, labelled, limit)


def boxes_of(points: Tensor, distances: Tensor) -> Tensor:
    """[B, N, 4], x1 y1 x2 y2"""
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), -1)


def centre_matches(boxes: Tensor, cells: Cells, counts: Sequence[int]) -> Tensor:
    """For each cell the index of the object it is taught, -1 for none, [N] (section 3.2, with centre sampling).

    Of several the smallest; levels, of so many cells each (`counts`), take objects whose farthest edge is 4 to 8
    strides away, the first and the last all below and above.
    """
    if not len(boxes):
        return torch.full((len(cells.points),), -1, device=boxes.device)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    stride = cells.strides[:, 0]
    near = (cells.points[:, None] - middle).abs().amax(2) < 1.5 * stride[:, None]  # [N, M]
    x, y = cells.points[:, None].unbind(2)
    x1, y1, x2, y2 = boxes.unbind(1)
    edges = torch.stack((x - x1, y - y1, x2 - x, y2 - y), 2)  # [N, M, 4]
    near &= edges.amin(2) > 0
    low, high = stride * 4, stride * 8
    low[: counts[0]] = 0
    high[-counts[-1] :] = math.inf
    farthest = edges.amax(2)
    near &= (farthest > low[:, None]) & (farthest < high[:, None])
    areas = (x2 - x1) * (y2 - y1)
    best, index = (near / areas).max(1)
    return torch.where(best > 1e-5, index, -1)


def best(scores: Tensor, boxes: Tensor, least: float, most: int = CANDIDATES) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and labels of the `most` best pairs of cell and class, from scores [N, K] and boxes [N, 4]."""
    flat = scores.flatten()
    order = (flat > least).nonzero().flatten()
    values, top = flat[order].topk(min(most, len(order)))
    order = order[top]
    return boxes[order // scores.shape[1]], values, order % scores.shape[1]


def _by_level(scores: Tensor, boxes: Tensor, levels: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """As torchvision: those above 0.2, at most 1,000 of each level."""
    parts = [best(*part, 0.2) for part in zip(scores.split(levels), boxes.split(levels), strict=True)]
    kept, scored, labelled = (torch.cat(values) for values in zip(*parts, strict=True))
    return kept, scored, labelled


def suppressed(boxes: Tensor, scores: Tensor, labels: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Without what overlaps a better one of its class by more than 0.6, as torchvision's FCOS."""
    kept = batched_nms(boxes, scores, labels, 0.6)[:limit]
    return boxes[kept], scores[kept], labels[kept]
