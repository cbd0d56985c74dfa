"""Maps laid over the pictures that they explain: back to the picture's own pixels, then in colours."""

from __future__ import annotations

import io

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from striate.config import Preprocess
from striate.data.geometry import preprocess_affine
from striate.data.transforms import luma
from striate.results import Result

SHOWN = 640  # pixels, the longer side on a page
UNSEEN = 0.45  # brightness of what the network was not shown
CLIPPED = (
    0.99  # of the values of a map of single pixels are within its colours; a few outliers would leave the rest dark
)


def on_picture(maps: Tensor, size: tuple[int, int], preprocess: Preprocess) -> Tensor:
    """What the network was told of each pixel of the picture as it was read; 0 for those that it was not shown.

    Args:
        maps: float [..., rows, columns] over the picture that the network saw, of whatever resolution.
        size: (height, width) of the picture as it was read.

    Returns:
        float [..., H, W], bilinear.
    """
    lead, side = maps.shape[:-2], maps.shape[-2:]
    grid = places_seen(size, preprocess).to(maps)
    flat = maps.reshape(1, -1, *side)
    found = F.grid_sample(flat, grid[None], mode="bilinear", padding_mode="border", align_corners=False)
    return (found[0] * was_seen(size, preprocess).to(maps)).reshape(*lead, *size)


def places_seen(size: tuple[int, int], preprocess: Preprocess) -> Tensor:
    """Where the middle of each pixel is in the network's picture, x and y in -1..1 from edge to edge: [H, W, 2]."""
    there = preprocess_affine(size, preprocess)
    x = ((torch.arange(size[1]) + 0.5) * there.xx + there.x0) / preprocess.size[1] * 2 - 1
    y = ((torch.arange(size[0]) + 0.5) * there.yy + there.y0) / preprocess.size[0] * 2 - 1
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def was_seen(size: tuple[int, int], preprocess: Preprocess) -> Tensor:
    """bool [H, W]: which pixels the network was shown."""
    return (places_seen(size, preprocess).abs() <= 1).all(-1)


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) on a page: large pictures made smaller, small ones larger by a whole factor."""
    longest = max(size)
    if longest > SHOWN:
        return max(1, round(size[0] * SHOWN / longest)), max(1, round(size[1] * SHOWN / longest))
    factor = max(1, SHOWN // 2 // longest)
    return size[0] * factor, size[1] * factor


def photograph(picture: Tensor) -> Tensor:
    """uint8 [1 or 3, H, W] → float [3, *shown_size] in 0..1; pixels of small pictures stay squares."""
    size = (picture.shape[-2], picture.shape[-1])
    values = picture.expand(3, -1, -1)[None].float() / 255
    if max(size) > SHOWN:
        return F.interpolate(values, shown_size(size), mode="bilinear", antialias=True)[0].clamp(0, 1)
    return F.interpolate(values, shown_size(size), mode="nearest")[0]


def heat(picture: Tensor, found: Tensor, seen: Tensor, clipped: float = 1.0) -> Tensor:
    """A map of what is at least 0 over the picture in grey: the more, the brighter and the less of the picture.

    Args:
        picture: uint8 [1 or 3, H, W].
        found: float [H, W]. seen: bool [H, W].
        clipped: the share of values within the colours.

    Returns:
        float [3, *shown_size] in 0..1.
    """
    from matplotlib import colormaps

    ground, share, shown = prepared(picture, found, seen, clipped)
    share = share.clamp(min=0)
    colours = torch.from_numpy(colormaps["inferno"](share.numpy())[..., :3]).float().movedim(-1, 0)
    cover = 0.25 + 0.65 * share
    return (ground * (1 - cover) + colours * cover) * shown


def signed(picture: Tensor, found: Tensor, seen: Tensor, clipped: float = 1.0) -> Tensor:
    """A map of both signs over the picture in pale grey: orange for, blue against, by as much as they are opaque.

    As `heat`.
    """
    ground, share, shown = prepared(picture, found, seen, clipped)
    cover = share.abs() ** 0.7  # most are small
    speaks_for, against = (torch.tensor(rgb)[:, None, None] for rgb in ((0.93, 0.36, 0.05), (0.08, 0.42, 0.95)))
    colours = torch.where(share >= 0, speaks_for, against)
    return ((0.55 + 0.4 * ground) * (1 - cover) + colours * cover) * shown


def coloured(picture: Tensor, found: Tensor, seen: Tensor, clipped: float = CLIPPED) -> Tensor:
    """A gradient of three channels [3, H, W] as a picture: grey where it is 0, each channel up and down from there."""
    _, share, shown = prepared(picture, found, seen, clipped)
    return (0.5 + share / 2).expand(3, -1, -1) * shown


def blurred(found: Tensor, share: float = 0.015) -> Tensor:
    """float [H, W] smoothed by a Gaussian of that share of its longer side; single pixels cannot be told apart."""
    sigma = max(0.5, share * max(found.shape))
    reach = round(3 * sigma)
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma).square())
    bell = bell / bell.sum()
    rows = F.conv2d(found[None, None], bell.view(1, 1, -1, 1), padding=(reach, 0))
    return F.conv2d(rows, bell.view(1, 1, 1, -1), padding=(0, reach))[0, 0]


def prepared(picture: Tensor, found: Tensor, seen: Tensor, clipped: float) -> tuple[Tensor, Tensor, Tensor]:
    """As shown: the picture in grey [1, H, W], the map in -1..1 [..., H, W], and the brightness of each pixel."""
    ground = photograph(luma(picture) if picture.shape[0] == 3 else picture)[:1]
    size = (ground.shape[-2], ground.shape[-1])
    found = found.float()
    found = found if found.ndim == 3 else found[None]
    smaller = size[0] < found.shape[-2]
    found = F.interpolate(found[None], size, mode="bilinear", antialias=smaller, align_corners=False)[0]
    shown = F.interpolate(seen[None, None].float(), size, mode="nearest")[0] * (1 - UNSEEN) + UNSEEN
    strengths = found.abs().flatten()
    count = max(1, int(clipped * strengths.numel()))
    top = strengths.kthvalue(count).values if clipped < 1 else strengths.max()
    top = top if top > 0 else strengths.max()
    share = (found / top.clamp(min=1e-30)).clamp(-1, 1)
    return ground, share[0] if len(share) == 1 else share, shown


def with_places(image: Tensor, result: Result, picture: Tensor) -> Image.Image:
    """float [3, h, w] in 0..1 as a picture, on it the boxes or points of a result, where it has them."""
    drawn = Image.fromarray((image.clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, 2).contiguous().numpy())
    return result.draw_places(drawn, (picture.shape[-2], picture.shape[-1]))


def encoded(image: Image.Image) -> bytes:
    """WebP."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=88, method=4)
    return buffer.getvalue()
