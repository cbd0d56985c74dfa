"""The first regions of selective search: a picture cut by graph segmentation, each region with what it looks like.

Felzenszwalb and Huttenlocher 2004 (scikit-image's) cut; histograms of colour and texture as in Uijlings et al. 2013,
section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SIGMA = 0.8  # section 3.1
COLOUR_BINS = 25  # a channel, section 3.2
TEXTURE_BINS = 10  # a channel and direction
DIRECTIONS = 8
GRADIENT_LEVELS = 10  # to either side of 0, of the two derivatives from which all directions follow


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """The first regions of one picture.

    Attributes:
        segments: int [H, W], which of the R regions a pixel is in.
        colours, textures: histograms [R, 25 C] and [R, 80 C], each row sums to 1.
        sizes: pixels, [R].
        boxes: outer edges, int [R, 4].
        neighbours: bool [R, R], which touch.
    """

    segments: Array
    colours: Array
    textures: Array
    sizes: Array
    boxes: Array
    neighbours: Array


def first_regions(values: Array, k: int) -> Regions:
    """Cut a picture, float [H, W, C] in 0..1, by graph segmentation: larger k, larger regions; none below k pixels."""
    from skimage.segmentation import felzenszwalb

    segments = felzenszwalb(values, scale=k, sigma=SIGMA, min_size=k, channel_axis=-1)  # type: ignore[arg-type]
    count = int(segments.max()) + 1
    return Regions(
        segments,
        colours_of(values, segments, count),
        textures_of(values, segments, count),
        np.bincount(segments.ravel(), minlength=count).astype(np.float32),
        boxes_of(segments),
        neighbours_of(segments, count),
    )


def colours_of(values: Array, segments: Array, count: int) -> Array:
    """float32 [count, 25 C]: how often each colour occurs in each region, summing to 1 (section 3.2)."""
    codes = np.minimum((values * COLOUR_BINS).astype(np.intp), COLOUR_BINS - 1)
    return normalised(counted(codes, COLOUR_BINS, segments, count).reshape(count, -1))


def textures_of(values: Array, segments: Array, count: int) -> Array:
    """float32 [count, 80 C]: histograms of Gaussian derivatives (sigma 1) in 8 directions (section 3.2).

    A derivative in any direction follows from those along x and y. These are rounded to 21 levels each; a table says in
    which bins the 8 derivatives of such a pair fall, so that pixels are counted once and not 8 times. Bins reach from 0
    to the strongest gradient of the channel; what falls is 0 in that direction.
    """
    from scipy.ndimage import gaussian_filter1d

    smooth = [gaussian_filter1d(values, 1.0, axis=axis, truncate=3) for axis in (0, 1)]
    along_x = gaussian_filter1d(smooth[0], 1.0, axis=1, order=1, truncate=3)
    along_y = gaussian_filter1d(smooth[1], 1.0, axis=0, order=1, truncate=3)
    longest = np.maximum(np.abs(along_x), np.abs(along_y)).max((0, 1)) + 1e-12
    levels = 2 * GRADIENT_LEVELS + 1
    rounded = [
        np.rint(one * (GRADIENT_LEVELS / longest)).astype(np.intp) + GRADIENT_LEVELS for one in (along_x, along_y)
    ]
    pairs = counted(rounded[1] * levels + rounded[0], levels**2, segments, count)  # [R, C, 21 * 21]
    return normalised((pairs @ texture_table()).reshape(count, -1))


def texture_table() -> Array:
    """float32 [21 * 21, 8 * 10]: 1 where the derivative of that pair in that direction falls in that bin."""
    steps = np.arange(-GRADIENT_LEVELS, GRADIENT_LEVELS + 1) / GRADIENT_LEVELS
    angles = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    y, x = np.meshgrid(steps, steps, indexing="ij")
    slopes = np.outer(x.ravel(), np.cos(angles)) + np.outer(y.ravel(), np.sin(angles))  # [441, 8]
    bins = np.clip((slopes * TEXTURE_BINS).astype(np.intp), 0, TEXTURE_BINS - 1)
    return np.eye(TEXTURE_BINS, dtype=np.float32)[bins].reshape(len(slopes), -1)


def counted(codes: Array, kinds: int, segments: Array, count: int) -> Array:
    """float32 [count, C, kinds] from codes int [H, W, C] in 0..kinds - 1."""
    places = segments * kinds
    channels = [np.bincount((places + one).ravel(), minlength=count * kinds) for one in np.moveaxis(codes, 2, 0)]
    return np.stack([one.reshape(count, kinds) for one in channels], axis=1).astype(np.float32)


def normalised(rows: Array) -> Array:
    return rows / rows.sum(1, keepdims=True)


def boxes_of(segments: Array) -> Array:
    """int64 [R, 4]: the outer edges of every region."""
    from scipy.ndimage import find_objects

    slices = find_objects(segments + 1)
    return np.array([(x.start, y.start, x.stop, y.stop) for y, x in slices], dtype=np.int64)


def neighbours_of(segments: Array, count: int) -> Array:
    """bool [count, count], symmetric: which regions touch, corners too, so that no region is left alone."""
    found = np.zeros((count, count), dtype=bool)
    rows, columns = slice(None, -1), slice(1, None)
    everything = slice(None)
    for one, other in (
        ((everything, rows), (everything, columns)),
        ((rows, everything), (columns, everything)),
        ((rows, rows), (columns, columns)),
        ((rows, columns), (columns, rows)),
    ):
        a, b = segments[one], segments[other]
        differ = a != b
        found[a[differ], b[differ]] = True
    return found | found.T


def hsv(image: Array) -> Array:
    from PIL import Image

    return np.asarray(Image.fromarray(image).convert("HSV")) / np.float32(255)  # scikit-image's takes 20 times as long


def lab(image: Array) -> Array:
    from skimage.color import rgb2lab

    return (rgb2lab(image.astype(np.float32) / 255) + np.array((0, 128, 128), np.float32)) / np.array(
        (100, 255, 255), np.float32
    )


def rgi(image: Array) -> Array:
    """Red and green as shares of all light, and intensity."""
    values = image.astype(np.float32) / 255
    light = values.sum(2, keepdims=True)
    shares = np.where(light > 0, values / np.maximum(light, 1e-6), np.float32(1 / 3))
    return np.concatenate((shares[:, :, :2], light / 3), axis=2)


def intensity(image: Array) -> Array:
    return image.astype(np.float32).mean(2, keepdims=True) / 255


SPACES: dict[str, Callable[[Array], Array]] = {
    "hsv": hsv,
    "lab": lab,
    "rgi": rgi,
    "hue": lambda image: hsv(image)[:, :, :1],
    "intensity": intensity,
}
