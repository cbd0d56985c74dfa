"""Feature pyramid network: every level as meaningful as the deepest (Lin et al., CVPR 2017, arXiv:1612.03144).

Names are torchvision's (`body`, `fpn.inner_blocks`, `fpn.layer_blocks`, `fpn.extra_blocks`), so that its weights load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones import create_model
from striate.backbones.backbone import Backbone
from striate.errors import UsageError

Extra = Literal["pool", "p6p7", "none"]


class FeaturePyramid(nn.Module):
    """Lateral 1×1 convolutions, a way down by nearest neighbours, 3×3 convolutions against aliasing.

    Args:
        in_channels: of each map, from the finest.
        channels: of each level given.
        extra: coarser levels above: `pool` one by subsampling (Faster R-CNN), `p6p7` two by convolutions of stride 2
            on the coarsest level given (FCOS), `none`.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, extra: Extra) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(count, channels, 1)) for count in in_channels)
        self.layer_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1)) for _ in in_channels
        )
        self.extra = extra
        self.extra_blocks = Coarser(channels) if extra == "p6p7" else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """maps [B, in_channels, H/s, W/s], finest first -> levels [B, channels, H/s, W/s], the extra ones last."""
        above: Tensor | None = None
        levels: list[Tensor] = []
        for values, inner, layer in reversed(list(zip(maps, self.inner_blocks, self.layer_blocks, strict=True))):
            lateral = inner(values)
            if above is not None:
                lateral = lateral + F.interpolate(above, size=lateral.shape[-2:], mode="nearest")
            above = lateral
            levels.insert(0, layer(lateral))
        if self.extra == "pool":
            levels.append(F.max_pool2d(levels[-1], 1, 2))
        elif self.extra_blocks is not None:
            levels += self.extra_blocks(levels[-1])
        return levels


class Coarser(nn.Module):
    """Two levels above the coarsest: [B, channels, H, W] → [B, channels, ⌈H/2⌉, ⌈W/2⌉] and half of that."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(channels, channels, 3, 2, 1)
        self.p7 = nn.Conv2d(channels, channels, 3, 2, 1)

    def forward(self, values: Tensor) -> list[Tensor]:
        p6 = self.p6(values)
        return [p6, self.p7(F.relu(p6))]


class PyramidBackbone(nn.Module):
    """Any backbone of the zoo under a feature pyramid: images [B, in_chans, H, W] -> levels, finest first.

    Args:
        backbone: a name that `create_model` knows.
        channels: of every level.
        reductions: of the maps to take, such as (4, 8, 16, 32).
        extra: see `FeaturePyramid`.

    Attributes:
        strides: pixels a cell of each level stands for.

    Raises:
        UsageError: the backbone has no map of one of the reductions.
    """

    def __init__(
        self,
        backbone: str,
        in_chans: int = 3,
        channels: int = 256,
        reductions: Sequence[int] = (4, 8, 16, 32),
        extra: Extra = "pool",
        **arguments: object,
    ) -> None:
        super().__init__()
        body = create_model(backbone, num_classes=0, in_chans=in_chans, **arguments)  # type: ignore[arg-type]
        assert isinstance(body, Backbone)
        self.stages = [deepest_stage(body, reduction) for reduction in reductions]
        in_channels = [body.pyramid[stage].channels for stage in self.stages]
        body.cut_after(self.stages[-1])
        self.body = body
        self.fpn = FeaturePyramid(in_channels, channels, extra)
        above = {"pool": 1, "p6p7": 2, "none": 0}[extra]
        self.strides = (*reductions, *(reductions[-1] * 2 ** (step + 1) for step in range(above)))

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.body.feature_maps(images)
        return self.fpn([maps[stage] for stage in self.stages])


def reductions_of(backbone: str, in_chans: int, wanted: Sequence[int] = (4, 8, 16, 32)) -> tuple[int, ...]:
    """Which of those reductions a backbone has maps of; SqueezeNet, for one, ends at 16.

    Raises:
        UsageError: it has none of them.
    """
    with torch.device("meta"):  # only its shape is asked for
        body = create_model(backbone, num_classes=0, in_chans=in_chans)
    assert isinstance(body, Backbone)
    there = {stage.reduction for stage in body.pyramid.values()}
    found = tuple(reduction for reduction in wanted if reduction in there)
    if not found:
        raise _no_maps(body, " or ".join(str(reduction) for reduction in wanted))
    return found


def deepest_stage(body: Backbone, reduction: int) -> str:
    """The last stage with maps `reduction` times smaller than the picture.

    Raises:
        UsageError: there is none.
    """
    found = [name for name, stage in body.pyramid.items() if stage.reduction == reduction]
    if not found:
        raise _no_maps(body, str(reduction))
    return found[-1]


def _no_maps(body: Backbone, wanted: str) -> UsageError:
    there = ", ".join(str(stage.reduction) for stage in body.pyramid.values()) or "none"
    return UsageError(
        f'"{body.architecture}" has no feature maps {wanted} times smaller than the picture (it has: {there}): choose '
        "another backbone"
    )
