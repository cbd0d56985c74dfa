"""Pictures with a style of their own, drawn here so that they may be shown anywhere: strokes, glass, engraving."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Field = NDArray[np.float64]
NIGHT = ((16, 24, 72), (28, 58, 138), (58, 108, 178), (120, 170, 200), (236, 196, 64), (250, 232, 150))
GLASS = ((176, 40, 32), (224, 112, 36), (240, 190, 70), (28, 104, 110), (40, 70, 140), (236, 222, 190), (96, 140, 70))


def strokes(size: int = 512, seed: int = 0) -> Image.Image:
    """Oil in short curved strokes that follow a current, night blue and gold."""
    random = np.random.default_rng(seed)
    angle = 2 * np.pi * smooth_noise(size, 5, random)
    light = smooth_noise(size, 6, random)
    picture = Image.new("RGB", (size, size), NIGHT[0])
    pen = ImageDraw.Draw(picture)
    for width, length, count in ((14, 46, 1500), (8, 34, 4000), (4, 22, 7000)):
        for x, y in random.uniform(-length, size + length, (count, 2)):
            row, column = (int(np.clip(place, 0, size - 1)) for place in (y, x))
            tone = 0.85 * light[row, column] + random.normal(0, 0.07)  # gold where it is lightest, elsewhere blues
            colour = NIGHT[int(np.clip(tone * len(NIGHT), 0, len(NIGHT) - 1))]
            colour = tuple(int(np.clip(value + random.normal(0, 14), 0, 255)) for value in colour)
            points = [(x, y)]
            for _ in range(length // 4):
                px, py = points[-1]
                turn = angle[int(np.clip(py, 0, size - 1)), int(np.clip(px, 0, size - 1))]
                points.append((px + 4 * np.cos(turn), py + 4 * np.sin(turn)))
            pen.line(points, fill=colour, width=width, joint="curve")
    return picture.filter(ImageFilter.GaussianBlur(0.7))


def glass(size: int = 512, seed: int = 0, panes: int = 260) -> Image.Image:
    """Stained glass: panes of clear colours between dark leads, each a little lighter in the middle."""
    random = np.random.default_rng(seed)
    side = round(panes**0.5)
    grid = np.mgrid[:side, :side].reshape(2, -1).T + 0.5
    centres = (grid + random.uniform(-0.48, 0.48, grid.shape)) * size / side
    panes = len(centres)
    rows, columns = np.mgrid[:size, :size]
    distance = np.hypot(rows[..., None] - centres[:, 0], columns[..., None] - centres[:, 1])  # [H, W, panes]
    nearest = np.sort(distance, axis=2)[..., :2]
    pane = distance.argmin(2)
    colours = np.array(GLASS)[random.integers(len(GLASS), size=panes)] + random.normal(0, 16, (panes, 3))
    shade = 1.15 - nearest[..., 0] / (size / panes**0.5) * 0.5 + 0.12 * (smooth_noise(size, 40, random) - 0.5)
    lead = np.clip((nearest[..., 1] - nearest[..., 0]) / 5 - 0.4, 0, 1)
    pixels = (colours[pane] * shade[..., None]) * lead[..., None] + 18 * (1 - lead[..., None])
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))


def engraving(size: int = 512, seed: int = 0) -> Image.Image:
    """Brown ink on cream: lines that swell where it is dark, crossed where it is darkest."""
    random = np.random.default_rng(seed)
    tone = smooth_noise(size, 4, random)
    bend = 60 * smooth_noise(size, 3, random)
    rows, columns = np.mgrid[:size, :size]
    ink = np.zeros((size, size))
    for turn, from_tone in ((0.35, 0.05), (-0.9, 0.45), (1.6, 0.68)):
        phase = (columns * np.sin(turn) + rows * np.cos(turn) + bend) * 2 * np.pi / 8.5
        wanted = np.clip((tone - from_tone) * 1.5, 0, 0.85)  # the share of a period that is inked
        ink = np.maximum(ink, np.clip((np.cos(phase) - np.cos(np.pi * wanted)) * 4, 0, 1))
    ink *= 0.85 + 0.3 * (smooth_noise(size, 90, random) - 0.5)
    paper, brown = np.array((240, 228, 200)), np.array((58, 34, 22))
    pixels = paper * (1 - ink[..., None]) + brown * ink[..., None] + random.normal(0, 4, (size, size, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def smooth_noise(size: int, cells: int, random: np.random.Generator) -> Field:
    """Clouds in 0..1, about so many across."""
    coarse = Image.fromarray(random.uniform(0, 255, (cells + 2, cells + 2)).astype(np.float32))
    fine = Image.fromarray(random.uniform(0, 255, (3 * cells, 3 * cells)).astype(np.float32))
    clouds = sum(
        share * np.asarray(noise.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)
        for share, noise in ((0.75, coarse), (0.25, fine))
    )
    assert isinstance(clouds, np.ndarray)
    return (clouds - clouds.min()) / (clouds.max() - clouds.min())


DRAWN = {"strokes": strokes, "glass": glass, "engraving": engraving}
