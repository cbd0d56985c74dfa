"""YOLOv3: boxes from every cell of three maps in one pass (Redmon & Farhadi 2018, arXiv:1804.02767).

Darknet-53, and from its maps of a 32nd, a 16th and an 8th of the picture three levels, each coarser one enlarged and
laid beside the next finer. What the answers mean, and how they learn, stands in `yolov3_loss`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import inf, log, prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones import create_model
from striate.backbones.backbone import FeatureList, checked
from striate.backbones.darknet import SLOPE
from striate.errors import UsageError
from striate.layers.blocks import ConvNormAct
from striate.tasks.detect.yolov3_loss import YOLOv3Coder
from striate.tasks.outputs import image_size

# COCO's dimension clusters, pixels of pictures of 416 (section 2.3; yolov3-tiny.cfg)
ANCHORS = ((10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326))
TINY_ANCHORS = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))
ANCHOR_SIZE = 416


class Neck(NamedTuple):
    """Reductions of the maps it reads; convolutions of the coarsest level and of the finer ones; the widest 1x1."""

    reductions: tuple[int, ...]
    depths: tuple[int, int]
    widest: int


NECKS = {"full": Neck((8, 16, 32), (5, 5), 512), "tiny": Neck((16, 32), (1, 0), 256)}


class Level(nn.Module):
    """One scale: what comes from the coarser one beside the backbone's map, 1x1 and 3x3 in turn, and the answers.

    Modules stand in the order of darknet's cfg files, which is that of its files of weights.
    """

    def __init__(self, in_channels: int, coarser: int, width: int, depth: int, answers: int) -> None:
        super().__init__()
        conv = partial(ConvNormAct, activation=partial(nn.LeakyReLU, SLOPE))
        self.lateral = conv(coarser, width, 1) if coarser else None
        channels = in_channels + (width if coarser else 0)
        self.convs = nn.Sequential()
        for number in range(depth):
            out_channels = width * (1 + number % 2)
            self.convs.append(conv(channels, out_channels, 3 if number % 2 else 1))
            channels = out_channels
        self.expand = conv(channels, 2 * width, 3)
        self.answer = nn.Conv2d(2 * width, answers, 1)
        self.width = channels

    def forward(self, features: Tensor, coarser: Tensor | None) -> tuple[Tensor, Tensor]:
        """[B, in_channels, h, w], and [B, width, h / 2, w / 2] -> answers [B, answers, h, w], and [B, width, h, w]"""
        if self.lateral is not None and coarser is not None:
            enlarged = F.interpolate(self.lateral(coarser), size=features.shape[-2:])  # nearest
            features = torch.cat((enlarged, features), dim=1)
        features = self.convs(features)
        return self.answer(self.expand(features)), features


class YOLOv3(nn.Module):
    """Darknet-53 and three scales, its tiny version, or any network of the zoo in the place of the body.

    Args:
        backbone: `darknet53`, `darknet_tiny` (two scales), or any that has maps of reduction 8, 16, 32 or some of them.
        anchors: (width, height) in pixels, as many for each level; COCO's when not given. Small ones go to fine maps.
        anchor_size: side of the pictures that the anchors were measured on; they grow with the picture, whose side is
            √(height · width). None: they are pixels of any picture, as in darknet.
        neck: `full`: six convolutions a level; `tiny`: one or two, at reductions 16 and 32. The backbone's own if None.
        loss: `improved` or `paper`, which decides how boxes are coded too; darknet's weights want `paper`.
        overlap: IoU from which on the better of two boxes of a class suppresses the other.

    Raises:
        UsageError: anchors that do not fit the levels, a backbone without maps, an unknown neck or loss.
    """

    def __init__(
        self,
        backbone: str = "darknet53",
        num_classes: int = 80,
        in_chans: int = 3,
        anchors: Sequence[Sequence[float]] | None = None,
        anchor_size: int | None = ANCHOR_SIZE,
        neck: str | None = None,
        loss: str = "improved",
        overlap: float = 0.5,
        **arguments: object,
    ) -> None:
        super().__init__()
        neck = ("tiny" if backbone == "darknet_tiny" else "full") if neck is None else neck
        checked("neck", neck, tuple(NECKS))
        checked("loss", loss, ("improved", "paper"))
        self.num_classes = num_classes
        self.backbone = backbone_of(backbone, in_chans, NECKS[neck].reductions, **arguments)
        channels = self.backbone.channels()[::-1]  # coarse to fine, as the levels
        self.coder = YOLOv3Coder(_anchors(anchors, len(channels))[::-1], anchor_size, loss, overlap)
        answers = len(self.coder.anchors[0]) * (5 + num_classes)
        self.levels = nn.ModuleList()
        coarser = 0
        for number, in_channels in enumerate(channels):
            width = max(64, min(in_channels // 2 // 8 * 8, NECKS[neck].widest))
            level = Level(in_channels, coarser, width, NECKS[neck].depths[number > 0], answers)
            self.levels.append(level)
            coarser = level.width
        self._initialise()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images float [B, C, H, W], sides multiples of 32 -> see `YOLOv3Coder`"""
        maps: list[Tensor] = []
        coarser: Tensor | None = None
        for level, features in zip(self.levels, self.backbone(images)[::-1], strict=True):
            answers, coarser = level(features, coarser)
            maps.append(answers.float())
        per_level = [
            values.unflatten(1, (len(anchors), -1)).movedim(2, -1).flatten(1, 3)  # [B, A · h · w, 5 + C]
            for values, anchors in zip(maps, self.coder.anchors, strict=True)
        ]
        return {
            "logits": torch.cat(per_level, 1),
            "level_sizes": torch.tensor([[values.shape[-2], values.shape[-1]] for values in maps]),
            "image_size": image_size(images),
        }

    def _initialise(self) -> None:
        """He's normal; objectness begins near 0.01 and classes near 1 / C (Lin et al. 2017, arXiv:1708.02002, 3.3)."""
        for level in self.levels:
            for module in level.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, a=SLOPE)
            answer = level.get_submodule("answer")
            nn.init.normal_(answer.get_parameter("weight"), std=0.01)
            bias = torch.zeros(len(self.coder.anchors[0]), 5 + self.num_classes)
            bias[:, 4] = log(0.01 / 0.99)
            bias[:, 5:] = -log(max(self.num_classes - 1, 1))
            with torch.no_grad():
                answer.get_parameter("bias").copy_(bias.flatten())


def backbone_of(name: str, in_chans: int, reductions: Sequence[int], **arguments: Any) -> FeatureList:
    """A backbone that gives its deepest map of each of those reductions it has, fine to coarse.

    Raises:
        UsageError: it has none of them.
    """
    arguments |= {"slope": SLOPE} if name == "darknet53" else {}
    with torch.device("meta"):
        there = create_model(name, in_chans=in_chans, features_only=True).reductions()  # type: ignore[operator]
    wanted = [len(there) - 1 - there[::-1].index(reduction) for reduction in reductions if reduction in there]
    if not wanted:
        listed = ", ".join(map(str, reductions))
        raise UsageError(f'"{name}" has maps of reduction {", ".join(map(str, there))}, and none of {listed}')
    built = create_model(name, in_chans=in_chans, features_only=True, out_indices=wanted, **arguments)
    assert isinstance(built, FeatureList)
    return built


def _anchors(anchors: Sequence[Sequence[float]] | None, levels: int) -> list[list[tuple[float, ...]]]:
    """Of each level its A pairs, small to large."""
    chosen = (ANCHORS if levels == 3 else TINY_ANCHORS) if anchors is None else anchors
    sizes = [tuple(map(float, anchor)) for anchor in chosen]
    if not sizes or not all(len(size) == 2 and 0 < min(size) <= max(size) < inf for size in sizes):
        raise UsageError(f"anchors must be pairs of width and height in pixels, above 0, not {anchors!r}")
    if len(sizes) % levels:
        raise UsageError(f"anchors: {len(sizes)} cannot be shared out to {levels} levels: give a multiple of {levels}")
    ordered, count = sorted(sizes, key=prod), len(sizes) // levels
    return [ordered[level * count : (level + 1) * count] for level in range(levels)]
