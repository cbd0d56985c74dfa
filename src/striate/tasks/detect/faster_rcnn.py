"""Faster R-CNN: proposals and their classes from the same features (Ren et al., NeurIPS 2015, arXiv:1506.01497), on a
feature pyramid (Lin et al., CVPR 2017, arXiv:1612.03144).

Parameter names, rules and numbers are torchvision's `fasterrcnn_resnet50_fpn`'s, so its weights load
(`load_torchvision`) and give the same boxes. Within the network class 0 is background; outside classes count from 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import inf

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones.weights import mismatches
from striate.data.targets import PLAIN
from striate.errors import DataError, UsageError
from striate.tasks.detect.assignment import BETWEEN, match_anchors
from striate.tasks.detect.boxes import clip_boxes_to_image, decode_boxes, encode_boxes
from striate.tasks.detect.fpn import PyramidBackbone, reductions_of
from striate.tasks.detect.nms import nms
from striate.tasks.detect.outputs import LIMIT, SamplingCoder, answer, log_odds, padded, stack_detections
from striate.tasks.detect.roi_align import pooled
from striate.tasks.detect.rpn import BETA, PaddedObjects, Proposals, RegionProposalNetwork, balanced, rows
from striate.tasks.outputs import image_size

BINS = 7
RENAMED = (  # names before torchvision 0.13, and since
    (r"^(rpn\.head\.conv)\.(weight|bias)$", r"\1.0.0.\2"),
    (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$", r"\1.0.\2"),
)


class BoxHead(nn.Module):
    """Two layers that all regions pass through: [R, C, 7, 7] -> [R, representation]."""

    def __init__(self, channels: int, representation: int) -> None:
        super().__init__()
        self.fc6 = nn.Linear(channels * BINS * BINS, representation)
        self.fc7 = nn.Linear(representation, representation)

    def forward(self, regions: Tensor) -> Tensor:
        return F.relu(self.fc7(F.relu(self.fc6(regions.flatten(1)))))


class BoxPredictor(nn.Module):
    """Logits [R, 1 + classes] and, for each class, offsets [R, 1 + classes, 4]."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(width, outputs)
        self.bbox_pred = nn.Linear(width, outputs * 4)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(features).float(), self.bbox_pred(features).float().unflatten(1, (-1, 4))


class RoIHeads(nn.Module):
    def __init__(self, channels: int, representation: int, num_classes: int) -> None:
        super().__init__()
        self.box_head = BoxHead(channels, representation)
        self.box_predictor = BoxPredictor(representation, num_classes + 1)

    def forward(self, levels: Sequence[Tensor], strides: Sequence[int], rois: Tensor) -> tuple[Tensor, Tensor]:
        """levels, rois [R, 5] -> logits [R, 1 + classes], offsets [R, 1 + classes, 4]"""
        return self.box_predictor(self.box_head(pooled(levels, strides, rois, BINS)))


class FasterRCNNCoder(SamplingCoder):
    """Outputs in judging, of R proposals of B pictures, in the pictures' order: `regions` [R, 4], `logits`
    [R, 1 + classes], `offsets` [R, 1 + classes, 4]; `counts` int64 [B], proposals of each; `image_size` int64 [2].

    Args:
        least_score, overlap: see `FasterRCNN`.
    """

    def __init__(self, least_score: float, overlap: float) -> None:
        self.least_score, self.overlap = least_score, overlap

    def class_scores(self, outputs: dict[str, Tensor]) -> Tensor:
        logits, counts = answer(outputs, "logits", "counts")
        return padded(log_odds(logits.log_softmax(1)[:, 1:]).split(counts.tolist()), -inf)

    def candidate_boxes(self, outputs: dict[str, Tensor]) -> Tensor:
        regions, counts = answer(outputs, "regions", "counts")
        return padded(regions.split(counts.tolist()), 0)

    @torch.no_grad()
    def detections(self, outputs: dict[str, Tensor], limit: int = LIMIT) -> Tensor:
        """[B, limit, 6]; every class of every region is a candidate, and suppresses within its class."""
        regions, logits, offsets, counts, size = answer(outputs, "regions", "logits", "offsets", "counts", "image_size")
        height, width = size.tolist()
        scores = logits.softmax(1)[:, 1:]
        region, label = torch.where(scores > self.least_score)
        boxes = clip_boxes_to_image(decode_boxes(offsets[region, label + 1], regions[region]), (height, width))
        scores, picture = scores[region, label], torch.repeat_interleave(counts.to(region.device))[region]
        whole = ((boxes[:, 2:] - boxes[:, :2]) >= 0.01).all(1)
        found = []
        for index in range(len(counts)):
            row = torch.where(whole & (picture == index))[0]
            row = row[nms(boxes[row], scores[row], label[row], self.overlap, limit)]
            found.append((boxes[row], scores[row], label[row]))
        return stack_detections(*zip(*found, strict=True), limit)  # type: ignore[arg-type]


class FasterRCNN(nn.Module):
    """Pictures [B, in_chans, H, W], and in training targets [B, M, 7], to losses or what `FasterRCNNCoder` reads.

    Args:
        channels: of every level of the pyramid.
        representation: width of the head that looks at each region.
        anchor_sizes: the side of the anchors of each level in pixels; by default 8 times its stride.
        smallest_anchor: instead of these, of the finest level; each further one's is twice as large.
        reductions: of the feature maps to take; by default those of 4, 8, 16 and 32 that the backbone has.
        rpn_batch, roi_batch: anchors and regions a picture whose loss counts.
        before, after: proposals of a level before, of a picture after suppression; in training and in judging.
        least_score, overlap: of detections: what is reported, and the IoU above which the worse of two goes.
        **arguments: the backbone's.

    Raises:
        UsageError: the backbone has no such maps, or not one anchor size a level.
    """

    takes_targets = True

    def __init__(
        self,
        backbone: str = "resnet50",
        num_classes: int = 90,
        in_chans: int = 3,
        channels: int = 256,
        representation: int = 1024,
        anchor_sizes: Sequence[int] | None = None,
        smallest_anchor: int | None = None,
        reductions: Sequence[int] | None = None,
        rpn_batch: int = 256,
        roi_batch: int = 512,
        before: tuple[int, int] = (2000, 1000),
        after: tuple[int, int] = (2000, 1000),
        least_score: float = 0.05,
        overlap: float = 0.5,
        **arguments: object,
    ) -> None:
        super().__init__()
        reductions = reductions_of(backbone, in_chans) if reductions is None else reductions
        self.backbone = PyramidBackbone(backbone, in_chans, channels, reductions, "pool", **arguments)
        self.strides = self.backbone.strides
        if anchor_sizes is not None:
            sizes = tuple(anchor_sizes)
        elif smallest_anchor is not None:
            sizes = tuple(smallest_anchor * 2**level for level in range(len(self.strides)))
        else:
            sizes = tuple(8 * stride for stride in self.strides)
        if len(sizes) != len(self.strides):
            strides = ", ".join(str(stride) for stride in self.strides)
            raise UsageError(
                f"anchor_sizes: {len(sizes)} given, but {len(self.strides)} are needed, one for each level of the "
                f'pyramid (cells of {strides} px) on "{backbone}"'
            )
        self.rpn = RegionProposalNetwork(channels, sizes, batch=rpn_batch, before=before, after=after)
        self.roi_heads = RoIHeads(channels, representation, num_classes)
        self.roi_batch = roi_batch
        self.coder = FasterRCNNCoder(least_score, overlap)

    def forward(self, images: Tensor, targets: Tensor | None = None) -> dict[str, Tensor]:
        """With targets in training mode the losses; without, or in eval mode, what detections are made of."""
        size = (images.shape[-2], images.shape[-1])
        levels = self.backbone(images)
        truth = truth_of(targets) if targets is not None and self.training else None
        proposals, losses = self.rpn(levels, size, truth)
        # the coarsest level, a subsampled one, is for large anchors only
        pooling = levels[:-1], self.strides[:-1]
        if truth is None:
            rois = as_rois(proposals.boxes, proposals.there)
            logits, offsets = self.roi_heads(*pooling, rois)
            found = {"regions": rois[:, 1:], "logits": logits, "offsets": offsets}
            return found | {"counts": proposals.there.sum(1), "image_size": image_size(images)}
        with torch.no_grad():
            rois, label, wanted = sample_proposals(proposals, truth, self.roi_batch)
        logits, offsets = self.roi_heads(*pooling, rois)
        losses |= region_losses(logits, offsets, label, wanted)
        losses["loss"] = torch.stack(list(losses.values())).sum()
        return losses


def truth_of(targets: Tensor) -> PaddedObjects:
    """The rows of targets [B, M, 7] that are learnt: plain objects that have an area."""
    boxes, label = targets[..., :4].float(), targets[..., 4]
    there = (label >= 0) & (targets[..., 5] == PLAIN) & (boxes[..., 2:] > boxes[..., :2]).all(2)
    return PaddedObjects(boxes, label.long(), there)


def as_rois(boxes: Tensor, there: Tensor) -> Tensor:
    """[R, 5]: index of the picture and box, of the rows of [B, P, 4] that are there."""
    picture = torch.arange(len(boxes), device=boxes.device).to(boxes)[:, None, None].expand(-1, boxes.shape[1], 1)
    return torch.cat([picture, boxes], 2)[there]


def sample_proposals(
    proposals: Proposals, truth: PaddedObjects, count: int, share: float = 0.25, least: float = 0.5
) -> tuple[Tensor, Tensor, Tensor]:
    """Regions to learn from, up to `count` a picture: rois [R, 5], classes int64 [R] (0: background), offsets [R, 4].

    The true boxes are among the proposals. Objects, at most `share`, are those of an IoU of at least `least`
    (Fast R-CNN, section 2.3).
    """
    boxes = torch.cat([proposals.boxes, truth.boxes], 1)
    there = torch.cat([proposals.there, truth.there], 1)
    matched = match_anchors(truth.overlap(boxes), least, least).masked_fill(~there, BETWEEN)  # [B, P + M]
    objects, others = balanced(matched, count, share)
    index = torch.cat([objects.place, others.place], 1)
    drawn = torch.cat([objects.there, others.there], 1)

    matched, boxes = matched.gather(1, index), rows(boxes, index)
    nearest = matched.clamp(min=0)
    label = torch.where(matched >= 0, truth.labels.gather(1, nearest) + 1, 0)
    wanted = encode_boxes(rows(truth.boxes, nearest), boxes)
    return as_rois(boxes, drawn), label[drawn], wanted[drawn]


def region_losses(logits: Tensor, offsets: Tensor, label: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Cross-entropy of all regions; smooth L1 of the offsets of the true class of those on objects (equation 1)."""
    total = max(len(label), 1)
    objects = torch.where(label > 0)[0]
    return {
        "loss_classifier": F.cross_entropy(logits, label, reduction="sum") / total,
        "loss_box_reg": F.smooth_l1_loss(offsets[objects, label[objects]], wanted[objects], beta=BETA, reduction="sum")
        / total,
    }


def load_torchvision(model: FasterRCNN, weights: Mapping[str, Tensor], eps: float | None = None) -> None:
    """Load a state dict of torchvision's Faster R-CNN on an FPN (`fasterrcnn_resnet50_fpn`) into ours.

    Its label l is our class l - 1. Names of files before torchvision 0.13 are translated; counters of batch norms may
    be missing.

    Args:
        eps: what its batch norms add to the variance. None: 0 for weights with names from before 0.13, as the published
            COCO weights are, which torchvision runs so, and 1e-5 for others. Ours add 1e-5: the variance takes up the
            difference.

    Raises:
        DataError: other parameters, or of another shape; says which.
    """
    if eps is None:
        eps = 0.0 if "rpn.head.conv.weight" in weights else 1e-5
    expected = model.state_dict()
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        for old, new in RENAMED:
            name = re.sub(old, new, name)
        found[name] = tensor + (eps - 1e-5) if name.endswith("running_var") else tensor
    found |= {
        name: tensor for name, tensor in expected.items() if name.endswith("num_batches_tracked") and name not in found
    }
    if problems := mismatches(expected, found):
        raise DataError(f"these weights are not of this Faster R-CNN: {'; '.join(problems)}")
    model.load_state_dict(found)
