"""The `shapes` set: pictures of flat figures drawn on the fly, whose boxes, masks, segments and points are known.

A scene is a function of (seed, index, size) alone: its numbers come from generators whose streams are fixed (Python's
`random()`, NumPy's raw PCG64), and arithmetic is element by element, so every machine draws the same bytes.
"""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.data.sample import Sample
from striate.data.seeds import seed_of
from striate.data.targets import Objects

CLASSES = ("circle", "square", "triangle", "star", "ring")
SIZE = 160  # pixels a side
COUNTS = {"train": 640, "val": 160}
SEED = 0  # the set is the same for every seed of a run, so that scores can be compared
POINTS = 5  # rows of keypoints an object; a star uses all, a circle none
MOST_OBJECTS = 6
DIAMETERS = (14.0, 70.0)  # of the circle around a figure, in a picture of SIZE
LEAST_VISIBLE = 0.6  # share of a figure's pixels; what would show less, or make another show less, is not placed
TRIES = 20  # to find room for one more figure, and a colour that stands out
STANDS_OUT = 75.0  # least distance of two colours, Euclidean, channels 0..255
INNER_RADIUS = (3 - math.sqrt(5)) / 2  # where the lines of a pentagram cross, over the radius of its tips

Array = NDArray[np.float64]
Colour = tuple[float, float, float]


class Figure(NamedTuple):
    """One figure of a scene: pixels [h, w] from row `top` and column `left`, which may lie outside the picture."""

    label: int
    top: int
    left: int
    cover: Array  # [h, w], 0..1: how much of each pixel it covers
    corners: list[tuple[float, float]]  # x, y in the picture: clockwise, from the uppermost
    centre: tuple[float, float]


def draw_scene(seed: int, index: int, size: int = SIZE) -> tuple[Tensor, Objects]:
    """One picture and what is on it: 1 to 6 figures, the later over the earlier.

    Args:
        seed: of the set.
        index: of the picture in it.
        size: pixels a side, at least 32; figures grow with it.

    Returns:
        uint8 [3, size, size], and its objects. A mask holds the pixels that a figure covers by half and that no later
        one does, as COCO's uncompressed RLE; boxes are tight around these visible masks, as in COCO, and areas count
        their pixels. Keypoints [N, 5, 3] are the corners of squares, triangles and stars, clockwise from the
        uppermost; 2 seen, 1 under another figure, 0 outside the picture or none.
    """
    picture, owners, figures = _draw(seed, index, size)
    boxes, areas, masks = [], [], []
    for number in range(1, len(figures) + 1):
        mask = owners == number
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        areas.append(np.count_nonzero(mask))
        masks.append({"size": [size, size], "counts": _runs(mask)})
    objects = Objects.of(
        np.array(boxes, np.float32),
        [figure.label for figure in figures],
        areas=areas,
        masks=tuple(masks),
        keypoints=torch.tensor([_keypoints(figure, at + 1, owners) for at, figure in enumerate(figures)]),
    )
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous(), objects


def panoptic(seed: int, index: int, size: int = SIZE) -> Tensor:
    """int64 [size, size]: 0 is background, i + 1 the visible pixels of row i of `draw_scene`'s objects."""
    return torch.from_numpy(_draw(seed, index, size)[1].astype(np.int64))


@cache
def shapes_splits() -> dict[str, tuple[Sample, ...]]:
    """The built-in set, 640 train and 160 val: drawn once a process, 60 MB."""
    splits: dict[str, tuple[Sample, ...]] = {}
    first = 0
    for split, count in COUNTS.items():
        places = range(first, first + count)
        splits[split] = tuple(Sample(*draw_scene(SEED, place), f"shapes/{place}") for place in places)
        first += count
    return splits


def _draw(seed: int, index: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[Figure]]:
    """The picture [H, W, 3], the number of the figure that owns each pixel [H, W] (0 none), and the figures."""
    chance = random.Random(seed_of(seed, "shapes", index))
    raw = np.random.PCG64(seed_of(seed, "shapes noise", index))
    canvas, taken = _background(chance, raw, size)
    owners = np.zeros((size, size), np.int64)
    figures: list[Figure] = []
    whole: list[int] = []  # pixels of each figure, were nothing over it and the picture endless
    for _ in range(1 + int(chance.random() * MOST_OBJECTS)):
        for _ in range(TRIES):
            figure = _figure(chance, size)
            inside, within = _clipped(figure, size)
            mask = figure.cover[within] >= 0.5
            over = owners[inside].copy()
            over[mask] = len(figures) + 1
            full = np.count_nonzero(figure.cover >= 0.5)
            changed = owners.copy()
            changed[inside] = over
            shown = np.bincount(changed.ravel(), minlength=len(figures) + 2)[1:]
            if all(part >= LEAST_VISIBLE * all_of for part, all_of in zip(shown, [*whole, full], strict=True)):
                owners = changed
                figures.append(figure)
                whole.append(int(full))
                colour = _colour(chance, taken)
                taken.append(colour)
                _paint(canvas, inside, figure.cover[within], colour, chance)
                break
    strength = _between(chance, 1, 10)
    canvas += strength * _noise(raw, (size, size, 1)) + 0.5 * strength * _noise(raw, (size, size, 3))
    return np.rint(canvas.clip(0, 255)).astype(np.uint8), owners, figures


def _background(chance: random.Random, raw: np.random.PCG64, size: int) -> tuple[Array, list[Colour]]:
    """A picture [H, W, 3] between two near colours, and the colours that figures must stand out from."""
    one = (_between(chance, 20, 235), _between(chance, 20, 235), _between(chance, 20, 235))
    red, green, blue = (min(max(value + _between(chance, -70, 70), 0), 255) for value in one)
    steps = (np.arange(size) + 0.5) / size
    kind = int(chance.random() * 3)
    cosine, sine = _direction(chance)
    along = steps[None, :] * cosine + steps[:, None] * sine  # [H, W]
    if kind == 0:  # a slope
        share = (along - along.min()) / (along.max() - along.min())
    elif kind == 1:  # stripes
        share = np.abs((along * _between(chance, 2, 9)) % 2 - 1)
    else:  # clouds
        share = _clouds(raw, 3 + int(chance.random() * 8), size)
    other = (red, green, blue)
    canvas = np.array(one) + share[..., None] * (np.array(other) - np.array(one))
    middle = ((one[0] + red) / 2, (one[1] + green) / 2, (one[2] + blue) / 2)
    return canvas, [one, middle, other]


def _clouds(raw: np.random.PCG64, cells: int, size: int) -> Array:
    """[size, size] in 0..1: random values on a coarse grid, linear between them."""
    grid = (_noise(raw, (cells + 1, cells + 1, 1))[..., 0] + 1) / 2
    place = (np.arange(size) + 0.5) / size * cells
    cell = place.astype(int)
    share = place - cell
    rows = grid[cell] * (1 - share)[:, None] + grid[cell + 1] * share[:, None]  # [size, cells + 1]
    return rows[:, cell] * (1 - share) + rows[:, cell + 1] * share


def _figure(chance: random.Random, size: int) -> Figure:
    """A figure of any class, size, turn and place; at most an eighth of it is outside on each side."""
    scale = size / SIZE
    label = int(chance.random() * len(CLASSES))
    radius = _between(chance, *DIAMETERS) / 2 * scale
    x = _between(chance, 0.75 * radius, size - 0.75 * radius)
    y = _between(chance, 0.75 * radius, size - 0.75 * radius)
    cosine, sine = _direction(chance)
    left, top = math.floor(x - radius) - 1, math.floor(y - radius) - 1
    side = math.ceil(2 * radius) + 3
    across = (left + np.arange(side) + 0.5 - x)[None, :]  # pixel centres, from the figure's own
    down = (top + np.arange(side) + 0.5 - y)[:, None]
    distance, corners = FIGURES[CLASSES[label]](across * cosine + down * sine, down * cosine - across * sine, radius)
    placed = [(x + u * cosine - v * sine, y + u * sine + v * cosine) for u, v in corners]
    uppermost = min(range(len(placed)), key=lambda at: placed[at][1], default=0)
    cover = np.clip(0.5 - distance, 0, 1)  # a pixel's cover from the distance of its centre to the edge
    return Figure(label, top, left, cover, placed[uppermost:] + placed[:uppermost], (x, y))


Drawn = tuple[Array, list[tuple[float, float]]]  # signed distance to the edge, below 0 inside; corners, clockwise


def _circle(u: Array, v: Array, radius: float) -> Drawn:
    return np.sqrt(u * u + v * v) - radius, []


def _ring(u: Array, v: Array, radius: float) -> Drawn:
    return np.abs(np.sqrt(u * u + v * v) - 0.75 * radius) - 0.25 * radius, []


def _regular(u: Array, v: Array, radius: float, count: int) -> Drawn:
    inner = radius * round(math.cos(math.pi / count), 9)
    sides = [u * cosine + v * sine for cosine, sine in _turns(count, 0.5)]
    return np.max(sides, 0) - inner, [(radius * cosine, radius * sine) for cosine, sine in _turns(count)]


def _star(u: Array, v: Array, radius: float) -> Drawn:
    """A pentagram: the points on the inner side of at least four of its five lines."""
    inner = radius * INNER_RADIUS * round(math.cos(math.pi / 5), 9)
    lines = np.sort([u * cosine + v * sine for cosine, sine in _turns(5, 0.5)], axis=0)
    return lines[-2] - inner, [(radius * cosine, radius * sine) for cosine, sine in _turns(5)]


FIGURES: dict[str, Callable[[Array, Array, float], Drawn]] = {
    "circle": _circle,
    "square": lambda u, v, radius: _regular(u, v, radius, 4),
    "triangle": lambda u, v, radius: _regular(u, v, radius, 3),
    "star": _star,
    "ring": _ring,
}


@cache
def _turns(count: int, offset: float = 0.0) -> list[tuple[float, float]]:
    """`count` directions around, clockwise on the screen; rounded, since libraries differ in a sine's last bit."""
    angles = [2 * math.pi * (at + offset) / count for at in range(count)]
    return [(round(math.cos(angle), 9), round(math.sin(angle), 9)) for angle in angles]


def _direction(chance: random.Random) -> tuple[float, float]:
    angle = 2 * math.pi * chance.random()
    return round(math.cos(angle), 9), round(math.sin(angle), 9)


def _clipped(figure: Figure, size: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a figure's pixels go in the picture, and which of its pixels go there."""
    inside, within = [], []
    for first, count in zip((figure.top, figure.left), figure.cover.shape, strict=True):
        start, end = max(first, 0), min(first + count, size)
        inside.append(slice(start, end))
        within.append(slice(start - first, end - first))
    return (inside[0], inside[1]), (within[0], within[1])


def _paint(canvas: Array, inside: tuple[slice, slice], cover: Array, colour: Colour, chance: random.Random) -> None:
    """Over what is there, a little lighter towards one side."""
    cosine, sine = _direction(chance)
    height, width = cover.shape
    slope = np.linspace(-1, 1, width)[None, :] * cosine + np.linspace(-1, 1, height)[:, None] * sine
    shaded = np.array(colour) + _between(chance, 0, 20) * slope[..., None]
    canvas[inside] += cover[..., None] * (shaded - canvas[inside])


def _colour(chance: random.Random, taken: list[Colour]) -> Colour:
    """One that stands out from those taken, or the best of some tries."""
    best: Colour = (0.0, 0.0, 0.0)
    furthest = -1.0
    for _ in range(TRIES):
        rgb = colorsys.hsv_to_rgb(chance.random(), _between(chance, 0.3, 1), _between(chance, 0.35, 1))
        colour = (255 * rgb[0], 255 * rgb[1], 255 * rgb[2])
        nearest = min(math.dist(colour, other) for other in taken)
        if nearest > furthest:
            best, furthest = colour, nearest
        if nearest >= STANDS_OUT:
            break
    return best


def _between(chance: random.Random, low: float, high: float) -> float:
    return low + (high - low) * chance.random()  # only `random()` has a stream that Python promises to keep


def _noise(raw: np.random.PCG64, shape: tuple[int, int, int]) -> Array:
    """Numbers in -1..1, most near 0: the mean of two even ones."""
    count = math.prod(shape)
    words = np.asarray(raw.random_raw(-(-count // 4)), dtype="<u8")
    pairs = words.view(np.uint8).reshape(-1, 2)[:count].astype(np.float64)
    return ((pairs[:, 0] + pairs[:, 1]) / 255 - 1).reshape(shape)


def _keypoints(figure: Figure, number: int, owners: NDArray[np.int64]) -> list[list[float]]:
    height, width = owners.shape
    rows = [[0.0, 0.0, 0.0] for _ in range(POINTS)]
    for row, (x, y) in zip(rows, figure.corners, strict=False):
        if 0 <= x < width and 0 <= y < height:
            distance = math.dist((x, y), figure.centre)
            inwards = min(1.0, 2.0 / distance)  # the very tip covers no pixel by half: look two pixels further in
            column = int(x + (figure.centre[0] - x) * inwards)
            line = int(y + (figure.centre[1] - y) * inwards)
            row[:] = [x, y, 2.0 if owners[line, column] == number else 1.0]
    return rows


def _runs(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed run lengths: columns first, beginning with the zeros."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate(([0], changes, [flat.size]))
    runs = np.diff(edges).tolist()
    return [0, *runs] if flat[0] else runs
