"""What YOLOv3's maps mean: where predictions stand, how boxes are coded, which of them learn an object, the losses.

At each cell of each map, A anchors each foretell x, y, w, h, objectness and C classes, all as logits t:

    loss="paper"     centre = (σ(t) + cell) · stride          size = anchor · exp(t)     (section 2.1, figure 2)
    loss="improved"  centre = (2 σ(t) - 1/2 + cell) · stride  size = anchor · (2 σ(t))²  (reaches into the neighbours)

In the paper (Redmon & Farhadi 2018, arXiv:1804.02767) one anchor, of one cell, learns an object. The default lets every
anchor learn it whose sides are within four times its own, at the cell of its centre and at the two nearest neighbours;
its boxes learn by CIoU (Zheng et al. 2020, arXiv:1911.08287), and objectness learns how well the box fits instead of 1.
Coding and matching are those that the YOLO line took up after its fourth version.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.tasks.detect.boxes import box_loss, iou
from striate.tasks.detect.nms import nms
from striate.tasks.detect.outputs import LEAST_SCORE, LIMIT, DetectionCoder, learnable, log_odds, stack_detections

IGNORED = 0.5  # paper, section 2.1: predictions that overlap an object more are no background
RATIO = 4.0  # improved: the size formula's reach
LEAST_SIDE = 0.01  # of a box, pixels: CIoU divides width by height
CANDIDATES = 1000  # of a picture, that suppression looks at
WEIGHTS = {"box": 2.0, "objectness": 1.0, "classes": 1.0}  # improved


class Places(NamedTuple):
    """Where predictions stand: of each of N its cell (x, y), the cell's and the anchor's size (w, h) in pixels."""

    cells: Tensor
    strides: Tensor
    anchors: Tensor


class Grid(NamedTuple):
    """One level's map: its size in cells, a cell's in pixels, its anchors [A, 2], and its first prediction's index."""

    height: int
    width: int
    stride: Tensor
    anchors: Tensor
    start: int


class YOLOv3Coder(DetectionCoder):
    """Outputs: `logits` [B, N, 5 + C] of all levels, in each by anchor, row, column; `level_sizes` int64 [L, 2], rows
    and columns of the levels; `image_size` int64 [2].

    Args:
        anchors: (width, height) of each level's, in the order of the levels.
        anchor_size, loss, overlap: see `YOLOv3`.
    """

    def __init__(
        self, anchors: Sequence[Sequence[Sequence[float]]], anchor_size: int | None, loss: str, overlap: float
    ) -> None:
        self.anchors, self.anchor_size, self.loss, self.overlap = anchors, anchor_size, loss, overlap

    def grids(self, outputs: dict[str, Tensor]) -> tuple[Grid, ...]:
        picture, device = outputs["image_size"].tolist(), outputs["logits"].device
        scale = sqrt(picture[0] * picture[1]) / self.anchor_size if self.anchor_size else 1.0
        grids, start = [], 0
        for (height, width), anchors in zip(outputs["level_sizes"].tolist(), self.anchors, strict=True):
            stride = torch.tensor([picture[1] / width, picture[0] / height], device=device)
            grids.append(Grid(height, width, stride, torch.tensor(anchors, device=device) * scale, start))
            start += len(anchors) * height * width
        return tuple(grids)

    def boxes(self, outputs: dict[str, Tensor]) -> Tensor:
        """[B, N, 4]: x1, y1, x2, y2 in pixels, not clipped."""
        return decode(outputs["logits"][..., :4], places_of(self.grids(outputs)), self.loss)

    def losses(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """targets [B, M, 7] -> `box`, `objectness`, `classes`, and `loss`, their weighted sum."""
        found = [learnable(target) for target in targets]
        boxes, labels = torch.cat([box for box, _ in found]), torch.cat([label for _, label in found])
        pictures = torch.repeat_interleave(torch.tensor([len(label) for _, label in found], device=labels.device))
        solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
        judge = paper_losses if self.loss == "paper" else improved_losses
        return judge(outputs["logits"], self.grids(outputs), pictures[solid], boxes[solid], labels[solid])

    def class_scores(self, outputs: dict[str, Tensor]) -> Tensor:
        logits = outputs["logits"]
        return log_odds(F.logsigmoid(logits[..., 4:5]) + F.logsigmoid(logits[..., 5:]))

    def candidate_boxes(self, outputs: dict[str, Tensor]) -> Tensor:
        places = places_of(self.grids(outputs))
        middles, half = (places.cells + 0.5) * places.strides, places.anchors / 2
        return torch.cat((middles - half, middles + half), 1).expand(len(outputs["logits"]), -1, -1)

    def detections(self, outputs: dict[str, Tensor], limit: int = LIMIT) -> Tensor:
        """[B, limit, 6]: score is objectness · class probability; a box may be of several classes."""
        logits = outputs["logits"]
        height, width = outputs["image_size"].tolist()
        chances = (logits[..., 4:5].sigmoid() * logits[..., 5:].sigmoid()).detach()  # [B, N, C]
        boxes = self.boxes(outputs).detach()
        most = torch.tensor([width, height, width, height], device=boxes.device)
        kept: list[tuple[Tensor, Tensor, Tensor]] = []
        for chance, box in zip(chances, boxes, strict=True):
            scores, order = chance.flatten().topk(min(CANDIDATES, chance.numel()))
            order, scores = order[scores > LEAST_SCORE], scores[scores > LEAST_SCORE]
            labels, corners = order % chance.shape[1], box[order // chance.shape[1]]
            corners = torch.minimum(corners.clamp(min=0), most)
            keep = nms(corners, scores, labels, self.overlap, limit)
            kept.append((corners[keep], scores[keep], labels[keep]))
        return stack_detections(*map(list, zip(*kept, strict=True)), limit=limit)  # type: ignore[arg-type]


def decode(logits: Tensor, places: Places, loss: str) -> Tensor:
    """Logits [..., N, 4] of boxes at those places -> x1, y1, x2, y2 in pixels, by the formulas above."""
    if loss == "paper":
        centres = (logits[..., :2].sigmoid() + places.cells) * places.strides
        sizes = places.anchors * logits[..., 2:].clamp(max=8).exp()  # e⁸ anchors are more than any picture
    else:
        centres = (2 * logits[..., :2].sigmoid() - 0.5 + places.cells) * places.strides
        sizes = (places.anchors * (2 * logits[..., 2:].sigmoid()) ** 2).clamp(min=LEAST_SIDE)
    return torch.cat((centres - sizes / 2, centres + sizes / 2), dim=-1)


def encode(boxes: Tensor, places: Places) -> Tensor:
    """What the paper's loss wants of boxes [N, 4]: the centre's part of its cell in 0..1, and log(size / anchor)."""
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return torch.cat((centres / places.strides - places.cells, (sizes / places.anchors).log()), dim=1)


def assign_one(boxes: Tensor, grids: Sequence[Grid]) -> Tensor:
    """The prediction of each box [G, 4]: that of the anchor of most alike shape, at its centre's cell (section 2.1).

    int64 [G], indices of predictions.
    """
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    anchors = torch.cat([grid.anchors for grid in grids])
    common = torch.minimum(sizes[:, None], anchors).prod(-1)  # [G, anchors]
    best = (common / (sizes.prod(1)[:, None] + anchors.prod(1) - common)).argmax(1)
    places = torch.stack([_at(grid, anchor, centres / grid.stride) for grid in grids for anchor in _numbers(grid)], 1)
    return places.gather(1, best[:, None])[:, 0]


def assign_several(boxes: Tensor, grids: Sequence[Grid]) -> tuple[Tensor, Tensor]:
    """All predictions that learn the boxes [G, 4]: indices of boxes and of predictions, int64 [P] each.

    Anchors of which no side is more than `RATIO` times the box's or less than its RATIO-th, and always the one of most
    alike shape; at the cell of the centre and, where there are any, at the next one left or right and above or below.
    """
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    objects, places = [torch.arange(len(boxes), device=boxes.device)], [assign_one(boxes, grids)]
    for grid in grids:
        where = centres / grid.stride
        limits = where.new_tensor([grid.width, grid.height])
        steps = (where.frac() >= 0.5).to(where.dtype) * 2 - 1  # [G, 2]: to the nearer neighbour
        across, down = steps * steps.new_tensor([1, 0]), steps * steps.new_tensor([0, 1])
        for anchor, size in enumerate(grid.anchors):
            quotient = sizes / size
            alike = (torch.maximum(quotient, 1 / quotient) < RATIO).all(1)
            for step in (torch.zeros_like(across), across, down):
                cell = where.floor() + step
                taken = (alike & ((cell >= 0) & (cell < limits)).all(1)).nonzero()[:, 0]
                objects.append(taken)
                places.append(_at(grid, anchor, cell[taken]))
    pairs = torch.stack((torch.cat(objects), torch.cat(places)), dim=1).unique(dim=0)
    return pairs[:, 0], pairs[:, 1]


def paper_losses(
    logits: Tensor, grids: Sequence[Grid], pictures: Tensor, boxes: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Section 2: squared errors of the box, logistic objectness and classes; sums a picture, mean over the batch.

    Half the squares, so that the gradient is truth less prediction; of the centre they are taken of σ(t), as darknet
    does: its inverse is infinite at a cell's border.
    """
    places, batch = places_of(grids), len(logits)
    chosen = assign_one(boxes, grids)
    found = logits[pictures, chosen]  # [G, 5 + C]
    predicted = torch.cat((found[:, :2].sigmoid(), found[:, 2:4]), dim=1)
    wanted = encode(boxes, _take(places, chosen))
    truth, counted = torch.zeros_like(logits[..., 4]), torch.ones_like(logits[..., 4])  # [B, N]
    all_boxes = decode(logits[..., :4], places, "paper").detach()
    for picture in range(batch):
        overlaps = iou(all_boxes[picture], boxes[pictures == picture])  # [N, G of it]
        counted[picture] = ~(overlaps > IGNORED).any(1)
    truth[pictures, chosen] = 1
    counted[pictures, chosen] = 1
    of_classes = F.one_hot(labels, found.shape[1] - 5).to(found)
    parts = {
        "box": (predicted - wanted).square().sum() / 2 / batch,
        "objectness": F.binary_cross_entropy_with_logits(logits[..., 4], truth, counted, reduction="sum") / batch,
        "classes": F.binary_cross_entropy_with_logits(found[:, 5:], of_classes, reduction="sum") / batch,
    }
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


def improved_losses(
    logits: Tensor, grids: Sequence[Grid], pictures: Tensor, boxes: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """The module's docstring: means over the predictions that learn an object (objectness: sums, over their number)."""
    objects, chosen = assign_several(boxes, grids)
    where = (pictures[objects], chosen)
    count = max(1, len(objects))
    found = logits[where]  # [P, 5 + C]
    predicted = decode(found[:, :4], _take(places_of(grids), chosen), "improved")
    distances = box_loss(predicted, boxes[objects], "ciou")  # [P], 1 - CIoU
    quality = torch.zeros_like(logits[..., 4])
    flat = where[0] * quality.shape[1] + where[1]  # two objects may share a prediction: the better fit counts
    quality.view(-1).scatter_reduce_(0, flat, (1 - distances.detach()).clamp(0, 1), "amax")
    of_classes = F.one_hot(labels[objects], found.shape[1] - 5).to(found)
    parts = {
        "box": distances.sum() / count,
        "objectness": F.binary_cross_entropy_with_logits(logits[..., 4], quality, reduction="sum") / count,
        "classes": F.binary_cross_entropy_with_logits(found[:, 5:], of_classes, reduction="sum") / count,
    }
    return {"loss": torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum(), **parts}


def places_of(grids: Sequence[Grid]) -> Places:
    """Where all predictions of the levels stand, in the order of the logits."""
    cells, strides, anchors = [], [], []
    for grid in grids:
        rows = torch.arange(grid.height, device=grid.stride.device)
        columns = torch.arange(grid.width, device=grid.stride.device)
        one = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).view(-1, 2)  # [h · w, 2]
        cells.append(one.repeat(len(grid.anchors), 1))
        strides.append(grid.stride.expand(len(cells[-1]), 2))
        anchors.append(grid.anchors.repeat_interleave(len(one), dim=0))
    return Places(torch.cat(cells).float(), torch.cat(strides), torch.cat(anchors))


def _take(places: Places, chosen: Tensor) -> Places:
    return Places(*(values[chosen] for values in places))


def _numbers(grid: Grid) -> range:
    return range(len(grid.anchors))


def _at(grid: Grid, anchor: int, where: Tensor) -> Tensor:
    """Indices of the predictions of an anchor at cells (x, y) [n, 2]; fractions are dropped, strangers moved inside."""
    column = where[:, 0].long().clamp(0, grid.width - 1)
    row = where[:, 1].long().clamp(0, grid.height - 1)
    return grid.start + (anchor * grid.height + row) * grid.width + column
