"""Pictures whose pixels are named: of data sets with objects' masks, and of folders of pictures and index masks.

What the dissection of a network needs of a segmentation data set is a `Scenes`: names, and picture by picture which
pixels are which. A folder holds pairs of folders: `train` and `trainannot` (SegNet's layout), or `images` and `masks`
(`labels`, `annotations`); a picture and its mask share their name up to the ending. A mask is a picture of one channel
whose values are indices; `classes.txt` beside the folders, or above, names them, a line each; the lines `void`,
`unlabelled` and `ignore`, indices without a name and 255 are pixels that nobody named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from striate.config import Preprocess
from striate.data import Dataset, open_dataset
from striate.data.loaders import read_sample
from striate.data.masks import rasterize
from striate.data.sample import Sample
from striate.data.seeds import seed_of
from striate.data.transforms import eval_transform
from striate.errors import DataError, ImageError
from striate.images import PICTURE_SUFFIXES, read_image
from striate.inference.sources import natural_key

UNNAMED = 255
NOBODY = ("void", "unlabelled", "unlabeled", "ignore")
# the eleven of SegNet's CamVid (Badrinarayanan et al. 2017), which comes without a list of them
CAMVID = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),
    "void",
)
MASK_FOLDERS = ("masks", "labels", "annotations")


class Scene(NamedTuple):
    """One picture and the names of its pixels.

    Attributes:
        picture: uint8 [3, H, W].
        masks: concept → bool [H, W]; those that are not there may be left out.
        known: bool [H, W]: pixels that somebody named, or said to be nothing; None: all.
        name: of the picture.
    """

    picture: Tensor
    masks: dict[str, Tensor]
    known: Tensor | None
    name: str


@dataclass(frozen=True)
class Scenes:
    """The concepts' names, and scenes that are read when they are asked for, as often as they are."""

    concepts: tuple[str, ...]
    readers: list[Callable[[], Scene]]

    def __len__(self) -> int:
        return len(self.readers)

    def __iter__(self) -> Iterator[Scene]:
        return (read() for read in self.readers)


def open_scenes(source: Any, limit: int, seed: int = 0) -> Scenes:
    """The pictures with named pixels in a folder of pictures and index masks, or of a data set whose objects have
    masks (`shapes`, COCO, YOLO's polygons; every split, or the one named: `shapes:val`). More than `limit` are drawn
    from at random.

    Raises:
        DataError: nothing is there, or no masks.
    """
    pairs = _pairs(Path(source)) if isinstance(source, str | Path) and Path(source).is_dir() else []
    found = _of_pairs(pairs) if pairs else _of_objects(open_dataset(source, val_fraction=0))
    if len(found) <= limit:
        return found
    generator = torch.Generator().manual_seed(seed_of(seed, "limit"))
    chosen = torch.randperm(len(found), generator=generator)[:limit].sort().values.tolist()
    return Scenes(found.concepts, [found.readers[row] for row in chosen])


def fitted(scene: Scene, concepts: tuple[str, ...], preprocess: Preprocess) -> tuple[Tensor, Tensor, Tensor]:
    """A scene as the network sees it: uint8 [C, H, W], bool [K, H, W] a concept each, and bool [H, W] of what is named.

    What padding adds is unnamed.
    """
    nearest = eval_transform(preprocess.model_copy(update={"interpolation": "nearest", "fill": 0, "channels": 1}))
    nothing = torch.zeros(scene.picture.shape[1:], dtype=torch.bool)

    def fit(mask: Tensor) -> Tensor:
        return nearest(mask[None].to(torch.uint8))[0] > 0

    masks = torch.stack([fit(scene.masks.get(concept, nothing)) for concept in concepts])
    return eval_transform(preprocess)(scene.picture), masks, fit(~nothing if scene.known is None else scene.known)


def _pairs(folder: Path, depth: int = 3) -> list[tuple[Path, Path]]:
    """Every picture under a folder that has a mask, with it."""
    folders = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: natural_key(path.name))
    found = []
    for pictures in folders:
        beside = [pictures.with_name(pictures.name + "annot")]
        beside += [folder / name for name in MASK_FOLDERS if pictures.name == "images"]
        masks = next((path for path in beside if path.is_dir()), None)
        if masks is not None:
            by_stem = {path.stem: path for path in masks.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES}
            named = sorted(pictures.iterdir(), key=lambda path: natural_key(path.name))
            found += [
                (path, by_stem[path.stem])
                for path in named
                if path.suffix.lower() in PICTURE_SUFFIXES and path.stem in by_stem
            ]
        elif depth > 1:
            found += _pairs(pictures, depth - 1)
    return found


def _of_pairs(pairs: list[tuple[Path, Path]]) -> Scenes:
    names = _names_beside(pairs[0][1].parent)
    if names is None:  # count them
        values = sorted(set().union(*(np.unique(read_indices(mask)).tolist() for _, mask in pairs)))
        if values in ([0, 255], [0, 1]):  # a binary mask; white is the thing itself
            names = ("background", "foreground")
        else:
            names = tuple(f"label {index}" for index in range(max(value for value in values if value != UNNAMED) + 1))
    binary = names == ("background", "foreground")
    concepts = tuple(name for name in names if name.lower() not in NOBODY)
    nobody = [index for index, name in enumerate(names) if name.lower() in NOBODY]

    def reader(picture: Path, mask: Path) -> Callable[[], Scene]:
        def read() -> Scene:
            pixels, indices = read_image(picture), torch.from_numpy(read_indices(mask).astype(np.int64))
            if binary:
                indices = (indices > 0).long()
            if indices.shape != pixels.shape[1:]:  # some sets keep masks smaller than their photos
                floats = indices[None, None].float()
                indices = torch.nn.functional.interpolate(floats, list(pixels.shape[1:]), mode="nearest")[0, 0].long()
            known = indices < len(names)
            for index in nobody:
                known &= indices != index
            masks = {name: indices == at for at, name in enumerate(names) if name in concepts}
            return Scene(pixels, masks, known, picture.name)

        return read

    return Scenes(concepts, [reader(*pair) for pair in pairs])


def read_indices(path: Path) -> np.ndarray:
    """The values of a picture of one channel, [H, W]; of one with a palette the indices into it.

    Raises:
        ImageError: it cannot be read, or has several channels.
    """
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except OSError as error:
        raise ImageError(f"{path}: could not be read ({error})") from None
    if values.ndim != 2:
        raise ImageError(f"{path}: a mask has one channel of indices, this has {values.shape[2]}")
    return values.astype(np.uint8) if values.dtype == bool else values


def _names_beside(folder: Path) -> tuple[str, ...] | None:
    for above in (folder.parent, folder.parent.parent):
        file = above / "classes.txt"
        if file.is_file():
            return tuple(line.strip() for line in file.read_text("utf-8").splitlines() if line.strip())
    return CAMVID if any("camvid" in part.lower() for part in folder.resolve().parts) else None


def _of_objects(dataset: Dataset) -> Scenes:
    samples = [
        sample
        for rows in dataset.splits.values()
        for sample in rows
        if sample.target is not None and sample.target.objects() is not None
    ]
    if not any(sample.target.masks for sample in samples):
        raise DataError(
            f"{dataset.source}: no masks here. A dissection needs objects with masks (COCO, YOLO's polygons, shapes), "
            "or folders of pictures and index masks: train/ and trainannot/, or images/ and masks/"
        )

    def reader(sample: Sample) -> Callable[[], Scene]:
        return lambda: _scene(sample, dataset.classes)

    return Scenes(dataset.classes, [reader(sample) for sample in samples])


def _scene(sample: Sample, classes: tuple[str, ...]) -> Scene:
    """Of each class the union of its objects' masks; what is in the box of an object without a mask is not known."""
    picture, target = read_sample(sample), sample.target
    size = (picture.shape[1], picture.shape[2])
    masks: dict[str, Tensor] = {}
    known = torch.ones(size, dtype=torch.bool)
    outlines = target.masks or [None] * len(target)
    for label, box, mask in zip(target.labels.tolist(), target.boxes, outlines, strict=True):
        if mask is None:
            x1, y1, x2, y2 = box.round().long().clamp(min=0).tolist()
            known[y1:y2, x1:x2] = False
        else:
            drawn = rasterize(mask, size)
            masks[classes[label]] = masks[classes[label]] | drawn if classes[label] in masks else drawn
    return Scene(picture, masks, known, sample.name)
