"""Region proposal network: where something is, whatever it is (Ren et al. 2015, arXiv:1506.01497, section 3.1).

Names, rules and numbers are torchvision's (`rpn.head.conv.0.0`, `cls_logits`, `bbox_pred`). Pictures are handled
together: what there is of each is padded to the same count and told by a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, nms

from striate.tasks.detect.anchors import grid_anchors
from striate.tasks.detect.assignment import BELOW, match_anchors
from striate.tasks.detect.boxes import clip_boxes_to_image, decode_boxes, encode_boxes, iou

BETA = 1 / 9  # where the smooth L1 loss turns straight
UNSCALED = (1.0, 1.0, 1.0, 1.0)


class PaddedObjects(NamedTuple):
    """What a batch is to learn: boxes [B, M, 4], labels int64 [B, M], and where a row is one: bool [B, M]."""

    boxes: Tensor
    labels: Tensor
    there: Tensor

    def overlap(self, boxes: Tensor) -> Tensor:
        """IoU [B, M, N] with boxes [N, 4] or [B, N, 4]; -1 in rows that only fill up."""
        return iou(self.boxes, boxes).masked_fill_(~self.there[:, :, None], -1)


class Proposals(NamedTuple):
    """Boxes [B, P, 4] in pixels, best first, and where a row is one: bool [B, P]."""

    boxes: Tensor
    there: Tensor


class RPNHead(nn.Module):
    """A 3×3 convolution, then for each anchor of each cell: is it an object, and how far off is it (figure 3)."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True)))
        self.cls_logits = nn.Conv2d(channels, anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, anchors * 4, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Of each level [B, C, H, W]: logits [B, H W anchors] and offsets [B, H W anchors, 4]."""
        logits, offsets = [], []
        for values in levels:
            values = self.conv(values)
            logits.append(self.cls_logits(values).permute(0, 2, 3, 1).flatten(1).float())
            offsets.append(self.bbox_pred(values).permute(0, 2, 3, 1).reshape(len(values), -1, 4).float())
        return logits, offsets


class RegionProposalNetwork(nn.Module):
    """Levels of a pyramid to proposals, and to the loss of proposing.

    Args:
        channels: of every level.
        sizes: the side of the anchors of each level, in pixels.
        ratios: their heights over their widths.
        batch: anchors a picture whose loss counts, half of them on objects where there are so many.
        before, after: proposals kept of a level before, of a picture after suppression; in training, in judging.
        overlap: the IoU above which the worse of two proposals goes.
    """

    def __init__(
        self,
        channels: int,
        sizes: Sequence[int],
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        batch: int = 256,
        before: tuple[int, int] = (2000, 1000),
        after: tuple[int, int] = (2000, 1000),
        overlap: float = 0.7,
    ) -> None:
        super().__init__()
        self.head = RPNHead(channels, len(ratios))
        self.sizes, self.ratios = tuple(sizes), tuple(ratios)
        self.batch, self.before, self.after, self.overlap = batch, before, after, overlap

    def forward(
        self, levels: Sequence[Tensor], size: tuple[int, int], truth: PaddedObjects | None
    ) -> tuple[Proposals, dict[str, Tensor]]:
        """levels of pictures of `size` (height, width) -> proposals and, where there is a truth, losses."""
        logits, offsets = self.head(levels)
        anchors = self.anchors([(values.shape[-2], values.shape[-1]) for values in levels], size, logits[0].device)
        with torch.no_grad():
            proposals = self.propose(logits, offsets, anchors, size)
        if truth is None:
            return proposals, {}
        return proposals, self.losses(torch.cat(logits, 1), torch.cat(offsets, 1), torch.cat(anchors), truth)

    def anchors(
        self, shapes: Sequence[tuple[int, int]], size: tuple[int, int], device: torch.device | str = "cpu"
    ) -> list[Tensor]:
        """Of each level the anchors [A, 4]; a cell is ⌊pixels / cells⌋ wide, as torchvision has it."""
        strides = [(size[0] // height, size[1] // width) for height, width in shapes]
        count = len(shapes)
        return grid_anchors(shapes, strides, [[side] for side in self.sizes], [self.ratios] * count, device)

    def propose(
        self, logits: Sequence[Tensor], offsets: Sequence[Tensor], anchors: Sequence[Tensor], size: tuple[int, int]
    ) -> Proposals:
        """The best anchors of each level, moved, cut at the picture's edge, without doubles within a level."""
        before, after = (pair[0 if self.training else 1] for pair in (self.before, self.after))
        boxes, scores, counts = [], [], []
        for level_logits, level_offsets, level_anchors in zip(logits, offsets, anchors, strict=True):
            best, index = level_logits.topk(min(before, level_logits.shape[1]), 1)  # best first
            boxes.append(decode_boxes(rows(level_offsets, index), level_anchors[index], UNSCALED))
            scores.append(best)
            counts.append(best.shape[1])
        all_boxes = clip_boxes_to_image(torch.cat(boxes, 1), size)
        all_scores = torch.cat(scores, 1)
        sides = all_boxes[..., 2:] - all_boxes[..., :2]
        all_scores = all_scores.masked_fill((sides < 1e-3).any(2), -torch.inf)  # nothing is left of it
        kept = torch.stack(
            [self._kept(box, score, counts) for box, score in zip(all_boxes, all_scores, strict=True)]
        )  # bool [B, P]
        best, index = all_scores.masked_fill(~kept, -torch.inf).topk(min(after, all_scores.shape[1]), 1)
        return Proposals(rows(all_boxes, index), best > -torch.inf)

    def _kept(self, boxes: Tensor, scores: Tensor, counts: Sequence[int]) -> Tensor:
        """bool [P]: not suppressed by a better one of the same level. `counts`: boxes of each level, in order."""
        kept = torch.zeros_like(scores, dtype=torch.bool)
        if scores.device.type != "cpu":  # one call, which waits for the device once
            level = torch.repeat_interleave(torch.tensor(counts)).to(scores.device)
            kept[batched_nms(boxes, scores, level, self.overlap)] = True
            return kept
        start = 0  # on a processor what suppression costs grows with the square of the count
        for count in counts:
            part = slice(start, start + count)
            kept[start + nms(boxes[part], scores[part], self.overlap)] = True
            start += count
        return kept

    def losses(self, logits: Tensor, offsets: Tensor, anchors: Tensor, truth: PaddedObjects) -> dict[str, Tensor]:
        """Equation 1 of the paper on a sample of anchors: logits [B, A], offsets [B, A, 4], anchors [A, 4]."""
        with torch.no_grad():
            matched = match_anchors(truth.overlap(anchors), 0.7, 0.3, keep_best=True)  # [B, A]
            objects, others = balanced(matched, self.batch, 0.5)
            nearest = rows(truth.boxes, matched.gather(1, objects.place).clamp(min=0))
            targets = encode_boxes(nearest, anchors[objects.place], UNSCALED)
        total = (objects.there.sum() + others.there.sum()).clamp(min=1)
        index = torch.cat([objects.place, others.place], 1)
        there = torch.cat([objects.there, others.there], 1)
        wanted = torch.zeros_like(index, dtype=torch.float32)
        wanted[:, : objects.place.shape[1]] = 1
        error = F.binary_cross_entropy_with_logits(logits.gather(1, index), wanted, reduction="none")
        found = rows(offsets, objects.place)
        return {
            "loss_objectness": error.masked_fill(~there, 0).sum() / total,
            "loss_rpn_box_reg": F.smooth_l1_loss(
                found[objects.there], targets[objects.there], beta=BETA, reduction="sum"
            )
            / total,
        }


def rows(values: Tensor, index: Tensor) -> Tensor:
    """Of each picture the rows [B, K, 4] of [B, N, 4] that `index` [B, K] names."""
    return values.gather(1, index[:, :, None].expand(-1, -1, values.shape[2]))


class Sampled(NamedTuple):
    """Rows drawn of each picture: int64 [B, K], and where one was found: bool [B, K]."""

    place: Tensor
    there: Tensor


def balanced(matched: Tensor, count: int, share: float) -> tuple[Sampled, Sampled]:
    """At random `count` rows of each picture: those with an object for at most `share` of it, and others.

    Others fill up where objects are few.

    Args:
        matched: int64 [B, N]: index of the object, BELOW (background), or BETWEEN, which is never drawn.
    """
    keys = torch.rand(matched.shape, device=matched.device)
    key, index = keys.masked_fill(matched < 0, -1).topk(min(int(count * share), matched.shape[1]), 1)
    objects = Sampled(index, key >= 0)
    key, index = keys.masked_fill(matched != BELOW, -1).topk(min(count, matched.shape[1]), 1)
    left = count - objects.there.sum(1, keepdim=True)
    rank = torch.arange(index.shape[1], device=matched.device)
    return objects, Sampled(index, (key >= 0) & (rank < left))
