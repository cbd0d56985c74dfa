"""Networks that say where K points are: by regression with a cascade, or by a heat map a point.

Regression: DeepPose (Toshev & Szegedy, CVPR 2014, arXiv:1312.4659): coordinates come straight from the whole picture;
later stages look at a crop around each point where the stage before put it, and correct it.
Heat maps: a map a point on an upsampled feature map, as Xiao et al. (ECCV 2018, arXiv:1804.06208) with their three
deconvolutions replaced by a feature pyramid's steps (Lin et al. 2017), which keep what fine maps know. Either their
peak is taken, or (Nibali et al. 2018, arXiv:1801.07372) their centre of mass, which coordinates themselves can teach.

Coordinates are 0..1 of the network's picture, from its left and upper edge: of w columns, column i is at (i + 0.5) / w.

What they give for pictures [B, C, H, W], tensors by name:
    points: float [B, S, K, 2], x and y after each of S stages, the last is the answer; without them, the maps' peaks.
    maps: float [B, K, h, w]: logits of a distribution over cells, or where there are no points heat, about 0..1.
    image_size: int64 [2].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones import FeatureList, create_model
from striate.layers.blocks import ConvNormAct
from striate.tasks.outputs import image_size

WIDTH = 128  # channels of the heads; 256 in Xiao et al., for 118,000 pictures
POOLED = 5  # regression reads the deepest map as 5 x 5 cells: one mean over all forgets where things are
CROP = 24  # pixels, side of the crops that later stages look at
REACH = 0.3  # their side, as a share of the longer side of the box around all points
JITTER = 0.03  # of that box: what training adds to where a stage begins, for it will begin at worse places in use
FINEST = 4  # reduction of the heat maps (Xiao et al., section 2)
NEAR = 2  # cells around an answer whose share of the map is how sure it is


class Regression(nn.Module):
    """Coordinates from the whole picture, then `stages - 1` corrections from crops around them."""

    def __init__(self, architecture: str, points: int, in_chans: int = 3, stages: int = 1, **arguments: Any) -> None:
        super().__init__()
        self.backbone = _features(architecture, in_chans, arguments)
        self.squeeze = ConvNormAct(self.backbone.channels()[-1], WIDTH, 1)
        self.coordinates = nn.Linear(WIDTH * POOLED**2, 2 * points)
        nn.init.normal_(self.coordinates.weight, std=1e-3)
        nn.init.constant_(self.coordinates.bias, 0.5)  # the middle of the picture
        self.corrections = nn.ModuleList(Correction(points, in_chans) for _ in range(stages - 1))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        cells = F.adaptive_avg_pool2d(self.squeeze(self.backbone(images)[-1]), POOLED)  # [B, WIDTH, 5, 5]
        found = [self.coordinates(cells.flatten(1)).float().unflatten(1, (-1, 2))]  # [B, K, 2]
        for correction in self.corrections:
            found.append(correction(images, found[-1].detach()))
        return {"points": torch.stack(found, 1), "image_size": image_size(images)}


class Correction(nn.Module):
    """One stage of the cascade (section 3.2): a crop around each point, and how far the point lies from its middle.

    As in the paper every point has its own regressor; unlike there its convolutions are shared by all points, for
    K networks a stage are too many for 68 points.
    """

    def __init__(self, points: int, in_chans: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNormAct(in_chans, 32, stride=2), ConvNormAct(32, 64, stride=2), ConvNormAct(64, 64, stride=2)
        )
        self.weight = nn.Parameter(torch.zeros(points, 64 * (CROP // 8) ** 2, 2))  # begins with no correction
        self.bias = nn.Parameter(torch.zeros(points, 2))

    def forward(self, images: Tensor, points: Tensor) -> Tensor:
        """Better points [B, K, 2] from images [B, C, H, W] and points [B, K, 2]."""
        size = points.new_tensor([images.shape[-1], images.shape[-2]])
        pixels = points * size
        extent = (pixels.amax(1) - pixels.amin(1)).amax(1).clamp(min=8)[:, None, None]  # [B, 1, 1]
        if self.training:
            points = points + torch.randn_like(points) * JITTER * extent / size
        half = REACH / 2 * extent / size  # [B, 1, 2]
        crops = cropped(images, points, half)  # [B, K, C, CROP, CROP]
        batch, count = crops.shape[:2]
        features = self.body(crops.flatten(0, 1)).flatten(1).unflatten(0, (batch, count))  # [B, K, F]
        return points + half * (torch.einsum("bkf,kfd->bkd", features.float(), self.weight) + self.bias)


def cropped(images: Tensor, middles: Tensor, half: Tensor) -> Tensor:
    """[B, K, C, CROP, CROP]: a square around each of the middles [B, K, 2], `half` [B, 1, 2] to each side."""
    offsets = (torch.arange(CROP, device=images.device, dtype=middles.dtype) + 0.5) / CROP * 2 - 1
    grid = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), -1)  # [CROP, CROP, 2], x and y
    places = middles[:, :, None, None] + grid * half[:, :, None, None]  # [B, K, CROP, CROP, 2]
    flat = (places * 2 - 1).flatten(1, 2).to(images.dtype)  # grid_sample's -1..1 also goes from edge to edge
    crops = F.grid_sample(images, flat, align_corners=False)  # [B, C, K CROP, CROP]
    return crops.unflatten(2, (-1, CROP)).transpose(1, 2)


class Heatmaps(nn.Module):
    """A map a point, a quarter of the picture's size: `soft` for centres of mass, else for peaks."""

    def __init__(self, architecture: str, points: int, in_chans: int = 3, soft: bool = True, **arguments: Any) -> None:
        super().__init__()
        self.soft = soft
        self.backbone = _features(architecture, in_chans, arguments)
        # normalised, for maps of networks without norms differ in scale by hundreds and would drown one another
        self.lateral = nn.ModuleList(
            ConvNormAct(channels, WIDTH, 1, activation=None) for channels in self.backbone.channels()
        )
        self.smooth = nn.ModuleList(ConvNormAct(WIDTH, WIDTH) for _ in self.lateral)
        self.maps = nn.Conv2d(WIDTH, points, 1)
        nn.init.normal_(self.maps.weight, std=1e-3)  # as Xiao et al.: begins with even maps
        nn.init.zeros_(self.maps.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        finer = self.backbone(images)
        values: Tensor | None = None
        for features, lateral, smooth in zip(finer[::-1], self.lateral[::-1], self.smooth[::-1], strict=True):
            here = lateral(features)
            if values is not None:
                here = here + F.interpolate(values, here.shape[-2:], mode="bilinear")
            values = smooth(here)
        maps = self.maps(values).float()  # [B, K, H / 4, W / 4]
        points = {"points": centres(maps)[:, None]} if self.soft else {}
        return {**points, "maps": maps, "image_size": image_size(images)}


def _features(architecture: str, in_chans: int, arguments: dict[str, Any]) -> FeatureList:
    """The last stage of each reduction from 4 on; the deepest alone where the network reduces less."""
    whole = create_model(architecture, in_chans=in_chans, features_only=True, **arguments)
    assert isinstance(whole, FeatureList)
    last = {reduction: index for index, reduction in enumerate(whole.reductions())}
    chosen = [index for reduction, index in last.items() if reduction >= FINEST]
    return FeatureList(whole.backbone, chosen or [len(whole.names) - 1])


def centres(maps: Tensor) -> Tensor:
    """The centre of mass of softmax maps [B, K, h, w], [B, K, 2] (Nibali et al., equation 4)."""
    shares = maps.flatten(2).softmax(2).unflatten(2, maps.shape[2:])
    columns, rows = _places(maps)
    return torch.stack(((shares.sum(2) * columns).sum(2), (shares.sum(3) * rows).sum(2)), 2)


def peaks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The highest place of each map [B, K, h, w], between cells too: [B, K, 2], and its height there, [B, K].

    The logarithm of a map around its highest cell is taken as a paraboloid, as that of a Gaussian is (Zhang et al.,
    CVPR 2020, arXiv:1910.06278, equation 9), and moved to its top by at most a cell; a flat one stays.
    """
    height, width = maps.shape[2:]
    value, index = maps.flatten(2).max(2)
    row, column = index // width, index % width
    log = F.pad(maps.clamp(min=1e-6).log(), (1, 1, 1, 1), mode="replicate").flatten(2)

    def at(dy: int, dx: int) -> Tensor:
        return log.gather(2, ((row + 1 + dy) * (width + 2) + column + 1 + dx)[..., None])[..., 0]

    middle, left, right, up, down = at(0, 0), at(0, -1), at(0, 1), at(-1, 0), at(1, 0)
    gx, gy = (right - left) / 2, (down - up) / 2
    xx, yy = right - 2 * middle + left, down - 2 * middle + up
    xy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    determinant = xx * yy - xy * xy
    is_top = (determinant > 1e-9) & (xx < 0)
    safe = determinant.where(is_top, torch.ones_like(determinant))
    inside = (column > 0) & (column < width - 1) & (row > 0) & (row < height - 1)
    usable = is_top & inside
    dx = ((xy * gy - yy * gx) / safe).clamp(-1, 1) * usable
    dy = ((xy * gx - xx * gy) / safe).clamp(-1, 1) * usable
    return torch.stack(((column + 0.5 + dx) / width, (row + 0.5 + dy) / height), 2), value


def nearby(maps: Tensor, points: Tensor) -> Tensor:
    """What share of the softmax maps [B, K, h, w] lies within two cells of the points [B, K, 2]: [B, K] in 0..1."""
    shares = maps.flatten(2).softmax(2).unflatten(2, maps.shape[2:])
    columns, rows = _places(maps)
    width, height = maps.shape[3], maps.shape[2]
    near_x = ((columns - points[..., :1]).abs() * width <= NEAR).to(maps.dtype)  # [B, K, w]
    near_y = ((rows - points[..., 1:]).abs() * height <= NEAR).to(maps.dtype)  # [B, K, h]
    return torch.einsum("bkhw,bkh,bkw->bk", shares, near_y, near_x)


def gaussians(points: Tensor, height: int, width: int, sigma: float) -> Tensor:
    """Maps [B, K, h, w] with height 1 at the points [B, K, 2], `sigma` in cells."""
    columns = torch.arange(width, device=points.device) + 0.5 - points[..., :1] * width  # [B, K, w]
    rows = torch.arange(height, device=points.device) + 0.5 - points[..., 1:] * height
    x, y = (torch.exp(-0.5 * (distance / sigma).square()) for distance in (columns, rows))
    return y[..., None] * x[..., None, :]


def _places(maps: Tensor) -> tuple[Tensor, Tensor]:
    """x of the columns [w] and y of the rows [h], 0..1."""
    columns, rows = (
        (torch.arange(count, device=maps.device, dtype=maps.dtype) + 0.5) / count for count in reversed(maps.shape[2:])
    )
    return columns, rows
