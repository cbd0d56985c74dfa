"""R-CNN: a classifier looks at every region by itself (Girshick et al. 2014, CVPR; arXiv:1311.2524).

Regions from selective search are cut out of the picture, warped to one size and go through the whole network one by
one; a linear classifier says what each shows, a linear regression how the box should move.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import box_iou, roi_align

from striate.backbones import Backbone, create_model
from striate.backbones.backbone import checked
from striate.tasks.detect.outputs import learnable
from striate.tasks.detect.roi import RegionCoder, SampledRegions, judged, region_losses, sample_rois
from striate.tasks.detect.selective_search import MODES, propose
from striate.tasks.outputs import image_size

CROPS = 128  # learnt in a step, section 2.3
CONTEXT = 16 / 227  # of the warped crop that shows what is around the box, at each side (appendix A)
EMPTY = 0.3  # IoU below which a region is background to the support vector machines (section 2.3)
ITSELF = 0.7  # IoU from which a region counts as the object itself to them, of which a step draws too few
HARDEST = 3  # background regions that a machine learns from, for each object
SHARPNESS = 4.6  # of the sigmoid that makes scores of margins: -1 and 1, the margins' edges, become 0.01 and 0.99
CHUNK = 128  # crops judged at once


class RCNN(nn.Module):
    """Forward: images float [B, C, H, W] → see `RegionCoder`; in training with targets [B, M, 7] → losses.

    Args:
        classifier: `softmax`, or `svm`: the network learns by softmax all the same, and linear support vector machines,
            one a class, learn from its features what they show.
        crop: side in pixels of a warped region; the paper's AlexNet has 227.
        context: the share of it, at each side, that shows what is around the region.
        crops: learnt in a step, from all its pictures together.
        search: mode of selective search.
        proposals: at most so many a picture.
        arguments: of the backbone (`weights` …).

    Against the paper, all parts learn at once, by gradient: the box regression has Fast R-CNN's loss instead of ridge
    regression, and the machines mine the hardest background of each step instead of passes over all pictures.

    Raises:
        UsageError: an argument outside its choices, or no such backbone.
    """

    takes_targets = True

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        in_chans: int = 3,
        *,
        classifier: str = "softmax",
        crop: int = 96,
        context: float = CONTEXT,
        crops: int = CROPS,
        search: str = "fast",
        proposals: int = 2000,
        **arguments: Any,
    ) -> None:
        super().__init__()
        checked("classifier", classifier, ("softmax", "svm"))
        checked("search", search, tuple(MODES))
        self.crop, self.context, self.crops = crop, context, crops
        self.search, self.proposals = search, proposals
        self.coder = RegionCoder(alone=True)
        network = create_model(backbone, in_chans=in_chans, num_classes=0, image_size=(crop, crop), **arguments)
        assert isinstance(network, Backbone)
        self.backbone = network
        self.classes = nn.Linear(network.num_features, 1 + num_classes)
        self.boxes = nn.Linear(network.num_features, 4 * (1 + num_classes))
        self.machines = nn.Linear(network.num_features, num_classes) if classifier == "svm" else None
        nn.init.normal_(self.boxes.weight, std=0.001)
        nn.init.zeros_(self.boxes.bias)

    def forward(self, images: Tensor, targets: Tensor | None = None) -> dict[str, Tensor]:
        proposed = propose(images, self.search, self.proposals)
        if targets is not None:
            return self.learn(images, proposed, targets)
        warped = torch.cat([boxes.new_full((len(boxes), 1), index) for index, boxes in enumerate(proposed)])
        rows = torch.cat((warped, torch.cat(proposed)), 1)  # [R, 5]: the picture's index and the box
        if len(rows) == 0:
            empty = images.new_zeros(0, self.classes.out_features)
            return judged(empty, images.new_zeros(0, self.boxes.out_features), proposed, image_size(images))
        found = [self.scored(self.backbone(self.warp(images, part))) for part in rows.split(CHUNK)]
        scores, codes = (torch.cat(parts) for parts in zip(*found, strict=True))
        return judged(scores, codes, proposed, image_size(images))

    def scored(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [R, 1 + C] and codes [R, 4 (1 + C)]."""
        if self.machines is None:
            return self.classes(features).float().softmax(1), self.boxes(features).float()
        scores = (SHARPNESS * self.machines(features).float()).sigmoid()
        return functional.pad(scores, (1, 0)), self.boxes(features).float()

    def learn(self, images: Tensor, proposed: list[Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Losses of regions drawn from every picture."""
        each = max(self.crops // len(images), 1)
        drawn = [sample_rois(boxes, target, each) for boxes, target in zip(proposed, targets, strict=True)]
        index = torch.cat([one.boxes.new_full((len(one.boxes), 1), number) for number, one in enumerate(drawn)])
        rows = torch.cat((index, torch.cat([one.boxes for one in drawn])), 1)
        if len(rows) < 2:  # normalisation over a batch wants two
            nothing = sum(parameter.sum() * 0 for parameter in self.parameters())
            return {"loss": torch.as_tensor(nothing)}
        features = self.backbone(self.warp(images, rows))
        losses = region_losses(self.classes(features).float(), self.boxes(features).float(), drawn)
        if self.machines is not None:
            margins = self.machines(features.detach()).float()
            losses["svm"] = hinge(margins, drawn, targets)
            losses["loss"] = losses["loss"] + losses["svm"]
        return losses

    def warp(self, images: Tensor, rows: Tensor) -> Tensor:
        """Crops [R, C, crop, crop] of regions [R, 5] with what is around them; 0, the mean, beyond the picture.

        Every pixel is the mean of the pixels it stands for, so that large regions do not flicker.
        """
        middle, half = (rows[:, 3:] + rows[:, 1:3]) / 2, (rows[:, 3:] - rows[:, 1:3]) / 2
        half = half / (1 - 2 * self.context)
        rows = torch.cat((rows[:, :1], middle - half, middle + half), 1).to(images.dtype)
        return roi_align(images, rows, self.crop, sampling_ratio=-1, aligned=True)


def hinge(margins: Tensor, drawn: list[SampledRegions], targets: Tensor) -> Tensor:
    """Squared hinge loss of margins [R, C], a machine a class (what LinearSVC minimises).

    A machine's positives are the objects of its class, or as good as they, its negatives what overlaps none of them by
    `EMPTY` (section 2.3, appendix B); of these only the hardest count, `HARDEST` for each positive or for one.
    """
    total = margins.sum() * 0
    start = 0
    for one, target in zip(drawn, targets, strict=True):
        rows = margins[start : start + len(one.boxes)]
        start += len(one.boxes)
        boxes, labels = learnable(target)
        overlap = box_iou(one.boxes, boxes.to(one.boxes.dtype))  # [r, M]
        for index in range(margins.shape[1]):
            same = overlap[:, labels == index]
            best = same.amax(1) if same.shape[1] else overlap.new_zeros(len(overlap))
            positive, negative = rows[best > ITSELF, index], rows[best < EMPTY, index]
            hard = negative.topk(min(len(negative), HARDEST * max(len(positive), 1))).values
            total = total + (1 - positive).clamp(min=0).square().sum() + (1 + hard).clamp(min=0).square().sum()
    return total / max(start, 1)
