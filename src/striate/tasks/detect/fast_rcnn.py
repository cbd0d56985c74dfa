"""Fast R-CNN: the network sees a picture once, and regions are cut out of its features (Girshick 2015, ICCV).

What is new against R-CNN: RoI pooling, and one loss for class and box (arXiv:1504.08083).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

from striate.backbones.backbone import checked
from striate.tasks.detect.roi import RegionCoder, judged, region_losses, sample_rois, stage_of
from striate.tasks.detect.selective_search import MODES, propose
from striate.tasks.outputs import image_size

POOLED = 7  # cells a side of a region's features, section 2.1
REGIONS = 64  # a picture: 128 from 2 pictures, section 2.3
HARD = (0.1, 0.5)  # IoU of the background that is learnt, section 2.3


class FastRCNN(nn.Module):
    """Forward: images float [B, C, H, W] → see `RegionCoder`; in training with targets [B, M, 7] → losses.

    Args:
        pool: `pool`, the paper's RoI max pooling, or `align` (Mask R-CNN), which does not round.
        stride: of the features that regions are cut from; the paper's VGG has 16.
        hidden: width of the two fully connected layers; the paper's VGG has 4096.
        regions: learnt from a picture in a step.
        search: mode of selective search.
        proposals: at most so many a picture.
        arguments: of the backbone (`weights` …).

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
        pool: str = "pool",
        stride: int = 16,
        hidden: int = 1024,
        regions: int = REGIONS,
        search: str = "fast",
        proposals: int = 2000,
        **arguments: Any,
    ) -> None:
        super().__init__()
        checked("pool", pool, ("pool", "align"))
        checked("search", search, tuple(MODES))
        self.pool, self.regions, self.search, self.proposals = pool, regions, search, proposals
        self.coder = RegionCoder()
        self.backbone = stage_of(backbone, in_chans, stride, **arguments)
        self.reduction = self.backbone.reductions()[0]
        self.hidden = nn.Sequential(
            nn.Flatten(),
            nn.Linear(self.backbone.channels()[0] * POOLED**2, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
        )
        self.classes = nn.Linear(hidden, 1 + num_classes)
        self.boxes = nn.Linear(hidden, 4 * (1 + num_classes))
        for layer, spread in ((self.classes, 0.01), (self.boxes, 0.001)):  # section 2.3
            nn.init.normal_(layer.weight, std=spread)
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor, targets: Tensor | None = None) -> dict[str, Tensor]:
        proposed = propose(images, self.search, self.proposals)
        features = self.backbone(images)[0]  # [B, channels, H / stride, W / stride]
        if targets is None:
            logits, codes = self.head(features, proposed)
            return judged(logits.float().softmax(1), codes.float(), proposed, image_size(images))
        drawn = [
            sample_rois(boxes, target, self.regions, background=HARD)
            for boxes, target in zip(proposed, targets, strict=True)
        ]
        logits, codes = self.head(features, [one.boxes for one in drawn])
        return region_losses(logits.float(), codes.float(), drawn)

    def head(self, features: Tensor, regions: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [R, 1 + C] and codes [R, 4 (1 + C)] of all regions of all pictures."""
        scale = 1 / self.reduction
        if self.pool == "pool":
            cells = roi_pool(features, regions, POOLED, scale)  # [R, channels, 7, 7]
        else:
            cells = roi_align(features, regions, POOLED, scale, sampling_ratio=2, aligned=True)
        hidden = self.hidden(cells)
        return self.classes(hidden), self.boxes(hidden)
