"""YOLO: one look gives a grid of boxes and classes (Redmon et al. 2016, arXiv:1506.02640).

The picture is cut into S×S cells; the one that an object's centre lies in answers for it. A cell foretells B boxes of
five numbers and C class probabilities, S·S·(B·5 + C) in all (7·7·30 for PASCAL VOC), from a linear last layer:

    x, y           the centre in units of the cell, from its left and upper edge
    √w, √h         roots of the size relative to the picture, so that an error weighs more in a small box
    confidence     Pr(object) · IoU of the box with it
    Pr(class | object), once a cell
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones.backbone import checked
from striate.backbones.darknet import SLOPE
from striate.errors import UsageError
from striate.layers.blocks import ConvNormAct
from striate.tasks.detect.boxes import paired_iou
from striate.tasks.detect.nms import nms
from striate.tasks.detect.outputs import LEAST_SCORE, LIMIT, DetectionCoder, learnable, stack_detections
from striate.tasks.detect.yolov3 import backbone_of
from striate.tasks.outputs import image_size

COORDINATES, NO_OBJECT = 5.0, 0.5  # λcoord and λnoobj: section 2.2
WIDTH = 512  # of the convolutional head
HIDDEN = 4096  # of the fully connected one: figure 3
DROPOUT = 0.5  # behind it: section 2.2


class YOLOv1Coder(DetectionCoder):
    """Outputs: of each cell `predictions` [B, S, S, boxes, 5] (x, y, √w, √h, confidence) and `classes` [B, S, S, C];
    `image_size` int64 [2]."""

    def __init__(self, overlap: float) -> None:
        self.overlap = overlap

    def boxes(self, outputs: dict[str, Tensor]) -> Tensor:
        """[B, S, S, boxes, 4]: x1, y1, x2, y2 relative to the picture, not clipped."""
        classes = outputs["classes"]
        rows, columns = classes.shape[1:3]
        across = torch.arange(columns, device=classes.device)
        down = torch.arange(rows, device=classes.device)
        cells = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)  # [S, S, 2]
        return decode(outputs["predictions"][..., :4], cells[:, :, None], rows, columns)

    def losses(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """targets [B, M, 7] -> the parts of equation 3 with their weights, sums a picture, and `loss`, their sum.

        A cell answers for one object, the first whose centre it holds. Responsible for it is the predictor of highest
        IoU with it, or where none overlaps it the nearest one; its confidence is to be that IoU.
        """
        predictions, classes = outputs["predictions"], outputs["classes"]
        rows, columns = classes.shape[1:3]
        pictures, boxes, labels = self._answered(outputs, targets)
        cells, wanted = encode(boxes, rows, columns)
        where = (pictures, cells[:, 1], cells[:, 0])
        found = predictions[where]  # [G, boxes, 5]
        relative = self.boxes(outputs)[where].detach()  # [G, boxes, 4]
        overlaps = paired_iou(relative, boxes[:, None])  # [G, boxes]
        nearest = (relative - boxes[:, None]).square().sum(-1).argmin(1)
        best = torch.where(overlaps.amax(1) > 0, overlaps.argmax(1), nearest)
        every = torch.arange(len(best), device=best.device)

        confidences = predictions[..., 4]
        without = torch.ones_like(confidences)
        without[(*where, best)] = 0
        truths = F.one_hot(labels, classes.shape[-1])
        parts = {
            "box": COORDINATES * (found[every, best, :4] - wanted).square().sum(),
            "object": (found[every, best, 4] - overlaps[every, best]).square().sum(),
            "no_object": NO_OBJECT * (confidences.square() * without).sum(),
            "classes": (classes[where] - truths).square().sum(),
        }
        parts = {name: part / len(targets) for name, part in parts.items()}
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def class_scores(self, outputs: dict[str, Tensor]) -> Tensor:
        predictions, classes = outputs["predictions"], outputs["classes"]
        chances = predictions[..., 4:].clamp(min=0) * classes.clamp(min=0)[..., None, :]
        return chances.flatten(1, 3)  # cells answer linearly: the scores themselves

    def candidate_boxes(self, outputs: dict[str, Tensor]) -> Tensor:
        predictions = outputs["predictions"]
        batch, rows, columns, boxes = predictions.shape[:4]
        height, width = outputs["image_size"].tolist()
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        corners = torch.stack((x, y, x + 1, y + 1), -1).to(predictions)  # [S, S, 4] in cells
        cells = corners * corners.new_tensor([width / columns, height / rows] * 2)
        return cells[:, :, None].expand(batch, rows, columns, boxes, 4).flatten(1, 3)

    def detections(self, outputs: dict[str, Tensor], limit: int = LIMIT) -> Tensor:
        """[B, limit, 6]: score is Pr(class | object) · confidence (equation 1)."""
        predictions, classes = outputs["predictions"], outputs["classes"]
        height, width = outputs["image_size"].tolist()
        chances = predictions[..., 4:].clamp(0, 1) * classes.clamp(0, 1)[..., None, :]  # [B, S, S, boxes, C]
        corners = self.boxes(outputs).clamp(0, 1) * classes.new_tensor([width, height, width, height])
        boxes, scores, labels = [], [], []
        for chance, corner in zip(chances.detach().flatten(1, 3), corners.detach().flatten(1, 3), strict=True):
            index, label = (chance > LEAST_SCORE).nonzero().unbind(1)
            keep = nms(corner[index], chance[index, label], label, self.overlap, limit)
            boxes.append(corner[index[keep]])
            scores.append(chance[index[keep], label[keep]])
            labels.append(label[keep])
        return stack_detections(boxes, scores, labels, limit)

    def _answered(self, outputs: dict[str, Tensor], targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Objects that a cell answers for: their picture [G], box relative to it [G, 4] and label [G]."""
        rows, columns = outputs["classes"].shape[1:3]
        found = [learnable(target) for target in targets]
        labels = torch.cat([label for _, label in found])
        counts = torch.tensor([len(label) for _, label in found], device=labels.device)
        pictures = torch.repeat_interleave(counts)
        height, width = outputs["image_size"].tolist()
        boxes = torch.cat([box for box, _ in found])
        boxes = boxes / boxes.new_tensor([width, height, width, height])
        cells, _ = encode(boxes, rows, columns)
        keys = (pictures * rows + cells[:, 1]) * columns + cells[:, 0]
        keys = torch.where((boxes[:, 2:] > boxes[:, :2]).all(1), keys, -1)  # nobody answers for what has no area
        order = keys.argsort(stable=True)
        earlier = F.pad(keys[order], (1, 0), value=-1)[:-1]
        first = order[keys[order] != earlier]
        return pictures[first], boxes[first], labels[first]


class YOLOv1(nn.Module):
    """Any network of the zoo, and a head that gives each cell of the grid its boxes and classes.

    Args:
        backbone: the head reads its map of `reduction`, or the next finer one where there is none.
        grid: S; the map is pooled to S×S whatever the picture's size. None: the map's own size.
        boxes: B, how many each cell foretells.
        head: `conv`: a 3x3 and a 1x1 convolution; `fc`: two fully connected layers as in the paper, which see the whole
            picture and have 4096 · S · S · channels weights.
        overlap: IoU from which on the better of two boxes of a class suppresses the other.
        reduction: 32 or 16, how many times smaller than the picture the map is.
        arguments: the backbone's (`weights` …).

    Raises:
        UsageError: an unknown head, one fully connected without a grid, or a grid or number of boxes below 1.
    """

    def __init__(
        self,
        backbone: str = "darknet53",
        num_classes: int = 20,
        in_chans: int = 3,
        grid: int | None = 7,
        boxes: int = 2,
        head: str = "conv",
        overlap: float = 0.5,
        reduction: int = 32,
        **arguments: object,
    ) -> None:
        super().__init__()
        checked("head", head, ("conv", "fc"))
        if boxes < 1 or (grid is not None and grid < 1):
            raise UsageError(f"grid and boxes must be whole numbers from 1, not {grid!r} and {boxes!r}")
        if head == "fc" and grid is None:
            raise UsageError("head=fc is bound to one number of cells: give a grid, or take head=conv")
        self.grid, self.boxes, self.num_classes = grid, boxes, num_classes
        self.coder = YOLOv1Coder(overlap)
        checked("reduction", reduction, (16, 32))
        self.backbone = backbone_of(backbone, in_chans, (16, 32) if reduction == 32 else (16,), **arguments)
        channels, answers = self.backbone.channels()[-1], boxes * 5 + num_classes
        self.head = nn.Sequential()
        if head == "conv":
            self.head.append(ConvNormAct(channels, WIDTH, 3, activation=partial(nn.LeakyReLU, SLOPE)))
            self.head.append(nn.Conv2d(WIDTH, answers, 1))
        else:
            assert grid is not None
            self.head.append(nn.Flatten())
            self.head.append(nn.Linear(channels * grid * grid, HIDDEN))
            self.head.append(nn.LeakyReLU(SLOPE, inplace=True))
            self.head.append(nn.Dropout(DROPOUT))
            self.head.append(nn.Linear(HIDDEN, answers * grid * grid))
            self.head.append(nn.Unflatten(1, (answers, grid, grid)))
        self._initialise()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images float [B, C, H, W] -> see `YOLOv1Coder`"""
        features = self.backbone(images)[-1]
        if self.grid is not None:
            features = F.adaptive_avg_pool2d(features, self.grid)
        return self.answers(self.head(features), image_size(images))

    def answers(self, values: Tensor, size: Tensor) -> dict[str, Tensor]:
        """What the head gives, [B, boxes · 5 + C, S, S], of pictures of that height and width, as outputs."""
        predictions, classes = values.float().permute(0, 2, 3, 1).split([self.boxes * 5, self.num_classes], dim=-1)
        return {"predictions": predictions.unflatten(-1, (self.boxes, 5)), "classes": classes, "image_size": size}

    def _initialise(self) -> None:
        """The first answers: boxes in the middle of their cells, each predictor of another size, every class 1 / C."""
        last = next(layer for layer in reversed(list(self.head)) if isinstance(layer, nn.Conv2d | nn.Linear))
        nn.init.normal_(last.weight, std=0.01)
        bias = torch.full((self.boxes * 5 + self.num_classes,), 1 / max(self.num_classes, 1))
        for number in range(self.boxes):
            side = (number + 1) / (self.boxes + 1)
            bias[5 * number : 5 * number + 5] = torch.tensor([0.5, 0.5, side, side, 0.0])
        assert last.bias is not None
        with torch.no_grad():
            last.bias.copy_(bias.repeat_interleave(last.bias.numel() // len(bias)))


def encode(boxes: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Boxes [G, 4] relative to the picture -> the cells (column, row) of their centres, int64 [G, 2], and x, y, √w, √h.

    A centre outside the picture belongs to the nearest cell.
    """
    grid = boxes.new_tensor([columns, rows])
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2 * grid, boxes[:, 2:] - boxes[:, :2]
    cells = torch.minimum(centres.floor().clamp(min=0), grid - 1)
    return cells.long(), torch.cat((centres - cells, sizes.clamp(min=0).sqrt()), dim=1)


def decode(numbers: Tensor, cells: Tensor, rows: int, columns: int) -> Tensor:
    """x, y, √w, √h [..., 4] in the cells (column, row) [..., 2] -> x1, y1, x2, y2 relative to the picture."""
    centres = (numbers[..., :2] + cells) / numbers.new_tensor([columns, rows])
    halves = numbers[..., 2:].square() / 2
    return torch.cat((centres - halves, centres + halves), dim=-1)
