"""The sliding window as a detector: a classifier of crops, run everywhere on an image pyramid (lectures 2 and 4).

Trained on crops: objects with a margin, shifted and scaled by a little, and places where no object is. In judging the
picture is scaled step by step, so that objects of every size fill the window once, and each step is scored in one fully
convolutional pass; what scores enough becomes a box, and of boxes that overlap the best one stays (Sermanet et al.
2014; the margin and the sampling are ours).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from striate.backbones import create_model
from striate.backbones.backbone import Backbone, WithAuxiliary
from striate.data.targets import PLAIN
from striate.errors import UsageError
from striate.tasks.detect.boxes import box_area, box_convert, iou
from striate.tasks.detect.nms import weighted_nms
from striate.tasks.detect.outputs import LIMIT, SamplingCoder, answer, stack_detections
from striate.tasks.detect.sliding import fully_convolutional, score_crops, window_of

CROP_STRIDE = 8  # windows a window's side, where crops must be cut out one by one
TRIES = 8  # random windows drawn for each that is wanted: many touch an object


class SlidingWindowCoder(SamplingCoder):
    """Outputs in judging, of R windows that scored enough in B pictures, in the pictures' order, before suppression:
    `boxes` [R, 4], `scores` [R], `labels` int64 [R]; `counts` int64 [B], windows of each.

    Args:
        overlap: above this IoU the worse of two boxes goes, and has a say in where the better one lies.
    """

    def __init__(self, overlap: float) -> None:
        self.overlap = overlap

    def class_scores(self, outputs: dict[str, Tensor]) -> Tensor:
        raise UsageError("this detector slides a classifier over pictures: train that one on crops, and explain it")

    def candidate_boxes(self, outputs: dict[str, Tensor]) -> Tensor:
        return self.class_scores(outputs)

    def detections(self, outputs: dict[str, Tensor], limit: int = LIMIT) -> Tensor:
        *found, counts = answer(outputs, "boxes", "scores", "labels", "counts")
        kept: list[tuple[Tensor, Tensor, Tensor]] = []
        for boxes, scores, labels in zip(*(values.split(counts.tolist()) for values in found), strict=True):
            rows, moved = weighted_nms(boxes, scores, labels, self.overlap, limit)
            kept.append((moved, scores[rows], labels[rows]))
        return stack_detections(*zip(*kept, strict=True), limit)  # type: ignore[arg-type]


class SlidingWindow(nn.Module):
    """Pictures [B, in_chans, H, W], and in training targets [B, M, 7], to losses or what `SlidingWindowCoder` reads.

    Args:
        backbone: any classifier; one that cannot be made fully convolutional is run crop by crop.
        window: side of the square that the classifier sees, in pixels.
        margin: share of an object's longer side that a window shows around it on either side.
        smallest: longer side in pixels of the smallest object that is looked for; the largest fills the picture.
        step: between two sizes that are looked for.
        crops: windows a picture in training, as many as a quarter of them objects.
        least_score, overlap: of detections: what is reported, and the IoU above which the worse of two goes.
        **arguments: the backbone's.

    Raises:
        UsageError: a step not above 1; a window that the backbone cannot take.
    """

    takes_targets = True
    proportions: Tensor

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        in_chans: int = 3,
        window: int = 48,
        margin: float = 0.1,
        smallest: float = 14.0,
        step: float = 1.35,
        crops: int = 32,
        least_score: float = 0.05,
        overlap: float = 0.3,
        **arguments: object,
    ) -> None:
        super().__init__()
        if step <= 1:
            raise UsageError(f"step, between two sizes that are looked for, must be above 1, not {step}")
        own = {"linear_head": True, "image_size": (window, window), **arguments}
        # the last class is background
        classifier = create_model(backbone, num_classes=num_classes + 1, in_chans=in_chans, **own)
        assert isinstance(classifier, Backbone)
        window_of(classifier, window)
        self.classifier = classifier
        self.num_classes, self.window, self.margin = num_classes, window, margin
        self.smallest, self.step, self.crops = smallest, step, crops
        self.least_score = least_score
        self.coder = SlidingWindowCoder(overlap)
        try:
            fully_convolutional(self.classifier, window)
            self.by_crops = False
        except UsageError:
            self.by_crops = True
        # of each class, sums over objects seen: width and height over the longer side, and their number
        self.register_buffer("proportions", torch.zeros(num_classes, 3))

    def forward(self, images: Tensor, targets: Tensor | None = None) -> dict[str, Tensor]:
        """With targets in training mode the losses; without, or in eval mode, the windows that score enough."""
        if targets is None or not self.training:
            found = [self._search(image[None]) for image in images]
            boxes, scores, label = (torch.cat(parts) for parts in zip(*found, strict=True))
            counts = torch.tensor([len(one) for one, _, _ in found])
            return {"boxes": boxes, "scores": scores, "labels": label, "counts": counts}
        rois, labels = [], []
        for number, target in enumerate(targets):
            windows, label = sample_windows(
                target, images.shape[-2:], self.num_classes, self.crops, self.margin, self.step, self.smallest
            )
            rois.append(F.pad(windows, (1, 0), value=number))
            labels.append(label)
        self._learn_proportions(targets)
        wanted = torch.cat(labels)
        seen = roi_align(images, torch.cat(rois).to(images.dtype), self.window, aligned=True)
        logits = self.classifier(seen)
        if isinstance(logits, WithAuxiliary):
            return {"loss": logits.total(lambda one: F.cross_entropy(one.float(), wanted))}
        return {"loss": F.cross_entropy(logits.float(), wanted)}

    def _learn_proportions(self, targets: Tensor) -> None:
        rows = targets[(targets[..., 4] >= 0) & (targets[..., 5] == PLAIN)]
        sides = (rows[:, 2:4] - rows[:, :2]).clamp(min=1e-6)
        shape = F.pad(sides / sides.amax(1, keepdim=True), (0, 1), value=1.0)
        self.proportions.index_add_(0, rows[:, 4].long(), shape.to(self.proportions))

    def scales(self, height: int, width: int) -> Iterator[float]:
        """What a picture is scaled by: from where the smallest object fills the window, as wide steps as asked."""
        filled = self.window / (1 + 2 * self.margin)
        count = math.ceil(math.log(max(height, width) / self.smallest, self.step)) + 1
        for level in range(max(count, 1)):
            yield filled / (self.smallest * self.step**level)

    def _search(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels of one picture [1, C, H, W]."""
        height, width = image.shape[-2:]
        network = None if self.by_crops else fully_convolutional(self.classifier, self.window).eval()
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for scale in self.scales(height, width):
            size = max(1, round(height * scale)), max(1, round(width * scale))
            level = F.interpolate(image, size, mode="bilinear", antialias=True)
            # objects at the edge lie in the middle of a window too; a small picture has at least one window
            reach = self.window // 2
            level = F.pad(level, (reach, reach, reach, reach))
            if network is None:
                stride = max(1, self.window // CROP_STRIDE)
                scores = score_crops(self.classifier, level, self.window, stride).softmax(2)
            else:
                stride = network.stride
                scores = network(level)[0].softmax(0).permute(1, 2, 0)
            row, column, label = torch.where(scores[..., :-1] >= self.least_score)
            middle = torch.stack((column, row), 1) * stride + self.window / 2 - reach
            middle = middle * middle.new_tensor([width / size[1], height / size[0]])
            side = self.window / scale / (1 + 2 * self.margin)
            boxes = box_convert(torch.cat((middle, side * self.shape_of(label)), 1), "cxcywh", "xyxy")
            boxes[:, 0::2].clamp_(0, width)
            boxes[:, 1::2].clamp_(0, height)
            found.append((boxes, scores[row, column, label].float(), label))
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        whole = (boxes[:, 2:] > boxes[:, :2]).all(1)
        return boxes[whole], scores[whole], labels[whole]

    def shape_of(self, labels: Tensor) -> Tensor:
        """Mean width and height of the classes' objects over their longer side, [n, 2]; 1 where none was seen."""
        sums = self.proportions[labels]
        return torch.where(sums[:, 2:] > 0, sums[:, :2] / sums[:, 2:].clamp(min=1), 1.0)


def sample_windows(
    target: Tensor,
    size: tuple[int, int] | torch.Size,
    background: int,
    count: int,
    margin: float = 0.1,
    step: float = 1.35,
    smallest: float = 14.0,
) -> tuple[Tensor, Tensor]:
    """Windows of one picture to learn from; random, from torch's global generator of the targets' device.

    A quarter of them show objects, as many times each as that takes: squares around them, off by as much as
    windows of a pyramid are. The others overlap no object, and no object's square, by an IoU of 0.3 or more, nor lie
    by 0.3 or more on a crowd or a difficult one; half of them are near an object. Of these there may be fewer.

    Args:
        target: [M, 7].
        size: height and width of the picture.
        background: the label of windows without an object.
        count: windows wanted.
        margin, step, smallest: see `SlidingWindow`.

    Returns:
        float [n, 4], n at most `count`, squares that may reach over the edge; int64 [n].
    """
    rows = target[target[:, 4] >= 0]
    rows = rows[box_area(rows[:, :4]) > 0]
    plain = rows[:, 5] == PLAIN
    boxes, labels = rows[plain, :4], rows[plain, 4].long()
    middles, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(1)
    taken = count // 4 if len(boxes) else 0
    which = torch.arange(taken, device=target.device) % max(len(boxes), 1)
    if taken < len(boxes):
        which = torch.randperm(len(boxes), device=target.device)[:taken]
    jitter = torch.rand(len(which), 3, device=target.device) * 2 - 1
    side = sides[which] * (1 + 2 * margin) * step ** (jitter[:, 2] / 2)
    objects = squares(middles[which] + jitter[:, :2] * side[:, None] / 12, side)

    height, width = size
    drawn = (count - taken) * TRIES
    extent = target.new_tensor([width, height])
    middle = torch.rand(drawn, 2, device=target.device) * extent
    longest = max(max(size) / smallest, 1.0)
    side = smallest * longest ** torch.rand(drawn, device=target.device) * (1 + 2 * margin)  # as many small as large
    if len(boxes):
        near = torch.randint(len(boxes), (drawn // 2,), device=target.device)
        away = torch.rand(len(near), 2, device=target.device) * 2 - 1
        scale = 4 ** (torch.rand(len(near), device=target.device) * 2 - 1)
        side[: len(near)] = sides[near] * scale
        middle[: len(near)] = middles[near] + away * (sides[near] * (1 + scale) / 2)[:, None]
    windows = squares(middle, side)
    free = torch.ones(drawn, dtype=torch.bool, device=target.device)
    if len(boxes):
        free &= iou(windows, boxes).amax(1) < 0.3
        free &= iou(windows, squares(middles, sides * (1 + 2 * margin))).amax(1) < 0.3
    others = rows[~plain, :4]
    if len(others):
        low = torch.maximum(windows[:, None, :2], others[:, :2])
        high = torch.minimum(windows[:, None, 2:], others[:, 2:])
        free &= ((high - low).clamp(min=0).prod(2) / box_area(windows)[:, None]).amax(1) < 0.3
    free &= (windows[:, :2] < extent).all(1) & (windows[:, 2:] > 0).all(1)
    empty = windows[free]
    empty = empty[torch.randperm(len(empty), device=target.device)[: count - taken]]
    label = torch.cat((labels[which], torch.full((len(empty),), background, device=target.device)))
    return torch.cat((objects, empty)), label


def squares(middles: Tensor, sides: Tensor) -> Tensor:
    """Boxes [n, 4] of these sides [n] around these points [n, 2]."""
    half = sides[:, None] / 2
    return torch.cat((middles - half, middles + half), 1)
