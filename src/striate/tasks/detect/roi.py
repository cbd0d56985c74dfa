"""What detectors that judge regions share: which are learnt, how a box is moved onto its object, what is kept.

R-CNN (Girshick et al. 2014), Fast R-CNN (Girshick 2015) and Faster R-CNN (Ren et al. 2015) differ in where regions come
from and how their features are made. Scores have the background in column 0, as torchvision's have: class c is in
column c + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

from striate.backbones import Backbone, FeatureList, create_model
from striate.data.targets import PLAIN
from striate.errors import UsageError
from striate.tasks.detect.boxes import decode_boxes, encode_boxes
from striate.tasks.detect.outputs import LEAST_SCORE, LIMIT, SamplingCoder, answer, learnable, padded, stack_detections

FOREGROUND = 0.25  # of the regions learnt, at most (Fast R-CNN, section 2.3)
OVERLAP = 0.5  # IoU from which a region is its object's
NMS = 0.5  # IoU from which the weaker of two detections of a class goes
LEAST_BOX = 1e-2  # pixels


@dataclass(frozen=True, slots=True, eq=False)
class SampledRegions:
    """Regions of one picture to learn from: boxes [R, 4]; labels int64 [R], 0 the background and c + 1 class c; and the
    boxes [R, 4] of their objects (of no meaning where the label is 0)."""

    boxes: Tensor
    labels: Tensor
    objects: Tensor


class RegionCoder(SamplingCoder):
    """Outputs in judging, of R regions of B pictures, in the pictures' order: `regions` [R, 4], `scores` [R, 1 + C] in
    0..1, `codes` [R, 4 (1 + C)]; `counts` int64 [B], regions of each; `image_size` int64 [2].

    Args:
        alone: the network sees each region by itself.
    """

    def __init__(self, alone: bool = False) -> None:
        self.alone = alone

    def class_scores(self, outputs: dict[str, Tensor]) -> Tensor:
        if self.alone:
            raise UsageError(
                "this detector looks at each region by itself, so no map of the whole picture explains it: "
                "take fast_rcnn, faster_rcnn, fcos or a yolo"
            )
        every, counts = answer(outputs, "scores", "counts")
        scores = every[:, 1:]
        others = every @ (1 - torch.eye(every.shape[1]).to(every))[:, 1:]  # not 1 - score: precise
        odds = scores.clamp(min=1e-30).log() - others.clamp(min=1e-30).log()
        return padded(odds.split(counts.tolist()), -inf)

    def candidate_boxes(self, outputs: dict[str, Tensor]) -> Tensor:
        regions, counts = answer(outputs, "regions", "counts")
        return padded(regions.split(counts.tolist()), 0)

    def detections(self, outputs: dict[str, Tensor], limit: int = LIMIT) -> Tensor:
        scores, codes, regions, counts, size = answer(outputs, "scores", "codes", "regions", "counts", "image_size")
        height, width = size.tolist()
        return stack_detections(*judge(scores, codes, regions.split(counts.tolist()), (height, width), limit), limit)


def judged(scores: Tensor, codes: Tensor, regions: Sequence[Tensor], size: Tensor) -> dict[str, Tensor]:
    """Outputs as `RegionCoder` reads them; `regions` are the [r, 4] of each picture."""
    counts = torch.tensor([len(one) for one in regions])
    every = torch.cat(list(regions))
    return {"regions": every, "scores": scores, "codes": codes, "counts": counts, "image_size": size}


def sample_rois(
    proposals: Tensor,
    target: Tensor,
    count: int,
    foreground: float = FOREGROUND,
    overlap: float = OVERLAP,
    background: tuple[float, float] = (0.0, OVERLAP),
) -> SampledRegions:
    """Draw regions of one picture to learn from: proposals [N, 4] and the objects themselves; target [M, 7].

    Args:
        count: at most so many; fewer where a picture has no more.
        foreground: the largest share of regions that are an object's: of IoU `overlap` or more with it.
        background: IoU of background regions, from and below; those under the first only where the others do not
            suffice (Fast R-CNN, section 2.3, draws from 0.1 to 0.5).

    Regions half of which lie on a crowd or a difficult object are neither.
    """
    boxes, labels = learnable(target)
    boxes = boxes.to(proposals.dtype)
    regions = torch.cat((proposals, boxes))
    regions = regions[(regions[:, 2:] - regions[:, :2]).amin(1) > 0]
    if len(boxes):
        best, whose = box_iou(regions, boxes).max(1)
    else:
        best, whose = (
            regions.new_zeros(len(regions)),
            torch.zeros(len(regions), dtype=torch.long, device=regions.device),
        )
    others = target[(target[:, 4] >= 0) & (target[:, 5] != PLAIN), :4].to(regions.dtype)
    good = best >= overlap
    bad = (best < background[1]) & (covered(regions, others) < 0.5)
    positive = drawn(good.nonzero()[:, 0], int(count * foreground))
    wanted = count - len(positive)
    negative = drawn((bad & (best >= background[0])).nonzero()[:, 0], wanted)
    easy = drawn((bad & (best < background[0])).nonzero()[:, 0], wanted - len(negative))
    chosen = torch.cat((positive, negative, easy))
    found = torch.zeros(len(chosen), dtype=torch.long, device=regions.device)
    if len(boxes):
        found[: len(positive)] = labels[whose[positive]] + 1
        objects = boxes[whose[chosen]]
    else:
        objects = regions[chosen]
    return SampledRegions(regions[chosen], found, objects)


def covered(regions: Tensor, others: Tensor) -> Tensor:
    """[N]: the largest part of each region [N, 4] that lies in one of `others` [K, 4]."""
    if len(others) == 0:
        return regions.new_zeros(len(regions))
    low = torch.maximum(regions[:, None, :2], others[:, :2])
    high = torch.minimum(regions[:, None, 2:], others[:, 2:])
    common = (high - low).clamp(min=0).prod(2)
    return (common / (regions[:, 2:] - regions[:, :2]).prod(1, keepdim=True)).amax(1)


def drawn(indices: Tensor, count: int) -> Tensor:
    """At most `count` of them at random."""
    return indices[torch.randperm(len(indices), device=indices.device)[: max(count, 0)]]


def region_losses(logits: Tensor, codes: Tensor, drawn: Sequence[SampledRegions]) -> dict[str, Tensor]:
    """Cross-entropy of logits [R, 1 + C], and smooth L1 of the codes [R, 4 (1 + C)] of each object's class.

    The second counts foreground regions only and is divided by all, as torchvision's.
    """
    labels = torch.cat([one.labels for one in drawn])
    classes = functional.cross_entropy(logits, labels) if len(labels) else logits.sum() * 0
    boxes = box_loss(codes, drawn)
    return {"loss": classes + boxes, "classes": classes, "boxes": boxes}


def box_loss(codes: Tensor, drawn: Sequence[SampledRegions]) -> Tensor:
    """Smooth L1 (Fast R-CNN, equation 3; beta 1/9 as in Detectron) of codes [R, 4 (1 + C)]."""
    labels = torch.cat([one.labels for one in drawn])
    at = (labels > 0).nonzero()[:, 0]
    goals = encode_boxes(torch.cat([one.objects for one in drawn])[at], torch.cat([one.boxes for one in drawn])[at])
    guesses = codes.unflatten(1, (-1, 4))[at, labels[at]]
    return functional.smooth_l1_loss(guesses, goals, beta=1 / 9, reduction="sum") / max(len(labels), 1)


def judge(
    scores: Tensor,
    codes: Tensor,
    regions: Sequence[Tensor],
    size: tuple[int, int],
    limit: int = LIMIT,
    least_score: float = LEAST_SCORE,
    nms: float = NMS,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Boxes [n, 4], scores [n] and classes [n] of each picture, best first, n at most `limit`.

    Every region gives a detection of every class (not the background) that scores above `least_score`; they are moved,
    cut at the picture's edges and thinned out class by class: torchvision's `RoIHeads.postprocess_detections`.
    """
    counts = [len(one) for one in regions]
    moved = decode_boxes(codes.unflatten(1, (-1, 4)), torch.cat(list(regions))[:, None])  # [R, 1 + C, 4]
    found: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for boxes, values in zip(moved.split(counts), scores.split(counts), strict=True):
        at, label = (values[:, 1:] > least_score).nonzero(as_tuple=True)
        box = clip_boxes_to_image(boxes[at, label + 1], size)
        score = values[at, label + 1]
        kept = remove_small_boxes(box, LEAST_BOX)
        box, score, label = box[kept], score[kept], label[kept]
        kept = batched_nms(box.float(), score.float(), label, nms)[:limit]
        for into, value in zip(found, (box, score, label), strict=True):
            into.append(value[kept])
    return found


def stage_of(backbone: str, in_chans: int, stride: int, **arguments: Any) -> FeatureList:
    """A backbone's maps at that reduction: its deepest stage whose reduction is at most `stride`; forward gives one."""
    network = create_model(backbone, in_chans=in_chans, num_classes=0, **arguments)
    assert isinstance(network, Backbone)
    reductions = [stage.reduction for stage in network.pyramid.values()]
    fitting = [index for index, reduction in enumerate(reductions) if reduction <= stride]
    return FeatureList(network, [fitting[-1] if fitting else 0])
