"""The pictures of a converted set: each under a name that no other has, whatever the format makes of its suffix."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from striate.data.picture_sizes import picture_sizes
from striate.data.sample import Dataset, Sample
from striate.data.targets import Objects

_ODD = re.compile(r"[^\w .()+,=@#&~-]")  # what a list of names, a CSV or another file system may stumble over


@dataclass(frozen=True, slots=True)
class Placed:
    """One picture of the new set: its path from the set's root with /, height and width, and what is on it."""

    path: str
    height: int
    width: int
    objects: Objects

    @property
    def stem(self) -> str:
        return os.path.splitext(os.path.basename(self.path))[0]


def place_pictures(dataset: Dataset, root: Path, folder: str, link: bool) -> tuple[dict[str, list[Placed]], list[str]]:
    """Copy, link or save every picture; those whose size cannot be read are left out and told."""
    taken: set[str] = set()
    placed: dict[str, list[Placed]] = {}
    lost = 0
    for split, samples in dataset.splits.items():
        inside = folder.format(split=split)
        (root / inside).mkdir(parents=True, exist_ok=True)
        rows = placed.setdefault(split, [])
        for sample, size in zip(samples, picture_sizes([sample.image for sample in samples]), strict=True):
            if size is None:
                lost += 1
                continue
            path = f"{inside}/{_free_name(sample, taken)}"
            _put(sample.image, root / path, link)
            objects = Objects.of([], []) if sample.target is None else sample.target
            rows.append(Placed(path, *size, objects))
    return placed, [f"Pictures whose size cannot be read, left out: {lost:,}."] if lost else []


def _free_name(sample: Sample, taken: set[str]) -> str:
    """Its own name, else with the folders it is in, else numbered; no two have the same stem, however written."""
    suffix = os.path.splitext(str(sample.image))[1] if not isinstance(sample.image, Tensor) else ".png"
    whole = sample.name if isinstance(sample.image, Tensor) else os.path.splitext(sample.name)[0]
    parts = [
        _ODD.sub("_", part).strip(" .") or "_"
        for part in whole.replace("\\", "/").split("/")
        if part not in ("", ".", "..")
    ]
    for stem in (parts[-1] if parts else "_", "-".join(parts)):
        if stem.casefold() not in taken:
            break
    else:
        first, number = stem, 2
        while f"{first}-{number}".casefold() in taken:
            number += 1
        stem = f"{first}-{number}"
    taken.add(stem.casefold())
    return stem + suffix.lower()


def _put(image: str | Path | Tensor, path: Path, link: bool) -> None:
    if isinstance(image, Tensor):
        from PIL import Image

        pixels = image[0] if image.shape[0] == 1 else image.permute(1, 2, 0)
        Image.fromarray(pixels.contiguous().numpy()).save(path)
    elif link:
        path.symlink_to(os.path.abspath(image))
    else:
        shutil.copyfile(image, path)
