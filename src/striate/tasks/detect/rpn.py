"""Region proposal network: where something is, whatever it is (Ren et al., NeurIPS 2015, arXiv:1506.01497, section 3.1).

Names, rules and numbers are torchvision's (`rpn.head.conv.0.0`, `cls_logits`, `bbox_pred`). Pictures are handled
together: what there is of each is padded to the same count and told by a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_iou, nms

from striate.tasks.detect.coding import anchors_of, clipped, decode, encode

BETA = 1 / 9  # where the smooth L1 loss turns straight


class Truth(NamedTuple):
    """What a batch is to learn: boxes [B, M, 4], labels int64 [B, M], and where a row is one: bool [B, M]."""

    boxes: Tensor
    labels: Tensor
    there: Tensor


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
        self, levels: Sequence[Tensor], size: tuple[int, int], truth: Truth | None
    ) -> tuple[Proposals, dict[str, Tensor]]:
        """levels of pictures of `size` (height, width) -> proposals and, where there is a truth, losses."""
        logits, offsets = self.head(levels)
        anchors = anchors_of(
            [tuple(values.shape[-2:]) for values in levels], size, self.sizes, self.ratios, logits[0].device
        )
        with torch.no_grad():
            proposals = self.propose(logits, offsets, anchors, size)
        if truth is None:
            return proposals, {}
        return proposals, self.losses(torch.cat(logits, 1), torch.cat(offsets, 1), torch.cat(anchors), truth)

    def propose(
        self, logits: Sequence[Tensor], offsets: Sequence[Tensor], anchors: Sequence[Tensor], size: tuple[int, int]
    ) -> Proposals:
        """The best anchors of each level, moved, cut at the picture's edge, without doubles within a level."""
        before, after = (pair[0 if self.training else 1] for pair in (self.before, self.after))
        boxes, scores, counts = [], [], []
        for level_logits, level_offsets, level_anchors in zip(logits, offsets, anchors, strict=True):
            best, index = level_logits.topk(min(before, level_logits.shape[1]), 1)  # best first
            chosen = level_offsets.gather(1, index[:, :, None].expand(-1, -1, 4))
            boxes.append(decode(chosen, level_anchors[index]))
            scores.append(best)
            counts.append(best.shape[1])
        all_boxes = clipped(torch.cat(boxes, 1), size)
        all_scores = torch.cat(scores, 1)
        sides = all_boxes[..., 2:] - all_boxes[..., :2]
        all_scores = all_scores.masked_fill((sides < 1e-3).any(2), -torch.inf)  # nothing is left of it
        kept = torch.stack(
            [self._kept(box, score, counts) for box, score in zip(all_boxes, all_scores, strict=True)]
        )  # bool [B, P]
        best, index = all_scores.masked_fill(~kept, -torch.inf).topk(min(after, all_scores.shape[1]), 1)
        found = all_boxes.gather(1, index[:, :, None].expand(-1, -1, 4))
        return Proposals(found, best > -torch.inf)

    def _kept(self, boxes: Tensor, scores: Tensor, counts: Sequence[int]) -> Tensor:
        """bool [P]: not suppressed by a better one of the same level. `counts`: boxes of each level, in order."""
        kept = torch.zeros_like(scores, dtype=torch.bool)
        start = 0
        for count in counts:
            part = slice(start, start + count)
            kept[start + nms(boxes[part], scores[part], self.overlap)] = True
            start += count
        return kept

    def losses(self, logits: Tensor, offsets: Tensor, anchors: Tensor, truth: Truth) -> dict[str, Tensor]:
        """Equation 1 of the paper on a sample of anchors: logits [B, A], offsets [B, A, 4], anchors [A, 4]."""
        with torch.no_grad():
            matched, label = match_anchors(anchors, truth)
            objects, others = balanced(label, self.batch, 0.5)
            targets = encode(
                truth.boxes.gather(1, matched.gather(1, objects.index)[:, :, None].expand(-1, -1, 4)),
                anchors[objects.index],
            )
        total = (objects.there.sum() + others.there.sum()).clamp(min=1)
        index = torch.cat([objects.index, others.index], 1)
        there = torch.cat([objects.there, others.there], 1)
        wanted = torch.zeros_like(index, dtype=torch.float32)
        wanted[:, : objects.index.shape[1]] = 1
        error = F.binary_cross_entropy_with_logits(logits.gather(1, index), wanted, reduction="none")
        found = offsets.gather(1, objects.index[:, :, None].expand(-1, -1, 4))
        return {
            "loss_objectness": error.masked_fill(~there, 0).sum() / total,
            "loss_rpn_box_reg": F.smooth_l1_loss(found[objects.there], targets[objects.there], beta=BETA, reduction="sum")
            / total,
        }


def match_anchors(anchors: Tensor, truth: Truth, high: float = 0.7, low: float = 0.3) -> tuple[Tensor, Tensor]:
    """Which object each of the anchors [A, 4] is nearest to, int64 [B, A], and what it is to say: int64 [B, A].

    1: an object (IoU of at least `high`, or the highest that an object has with any anchor), 0: none (below `low` with
    all), -1: neither is asked of it (section 3.1.2).
    """
    overlaps = box_iou(truth.boxes, anchors).masked_fill(~truth.there[:, :, None], -1)  # [B, M, A]
    best, matched = overlaps.max(1)
    highest = overlaps.amax(2, keepdim=True).masked_fill_(~truth.there[:, :, None], 2)
    highest = torch.where(highest > 0, highest, 2)  # an object that no anchor touches claims none
    chosen = (overlaps == highest).any(1)
    label = torch.where((best >= high) | chosen, 1, torch.where(best < low, 0, -1))
    return matched, label


class Sampled(NamedTuple):
    """Rows drawn of each picture: int64 [B, K], and where one was found: bool [B, K]."""

    index: Tensor
    there: Tensor


def balanced(label: Tensor, count: int, share: float) -> tuple[Sampled, Sampled]:
    """At random `count` rows of each picture: objects (label [B, N] above 0) for at most `share` of it, and others (0).

    Others fill up where objects are few. Rows of label -1 are never drawn.
    """
    keys = torch.rand(label.shape, device=label.device)
    most = min(int(count * share), label.shape[1])
    key, index = keys.masked_fill(label < 1, -1).topk(most, 1)
    objects = Sampled(index, key >= 0)
    key, index = keys.masked_fill(label != 0, -1).topk(min(count, label.shape[1]), 1)
    left = count - objects.there.sum(1, keepdim=True)
    rank = torch.arange(index.shape[1], device=label.device)
    return objects, Sampled(index, (key >= 0) & (rank < left))
