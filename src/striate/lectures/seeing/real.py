"""The network and the photographs that this part looks at, where they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from striate.lectures.page import Setting
from striate.lectures.real_data import missing

if TYPE_CHECKING:
    from striate.data.sample import Sample
    from striate.model import Model

WEIGHTS, PHOTOS, CLASSES = "squeezenet1_0-imagenet.safetensors", "imagenet-samples", "imagenet-classes.txt"


def squeezenet(setting: Setting) -> Model | None:
    """SqueezeNet 1.0 with ImageNet's weights, on the CPU, so that every machine says the same."""
    from striate.model import load

    path = setting.found(WEIGHTS)
    return None if path is None else load(path, "cpu")


def photos(setting: Setting) -> list[Path]:
    """The photographs of ImageNet, by name; none where they are not."""
    folder = setting.found(PHOTOS)
    return [] if folder is None else sorted(folder.glob("*.JPEG"))


def labelled(setting: Setting) -> list[Sample]:
    """The photographs with their classes; none without the list of classes, which says which code is which."""
    from striate.data.sample import Sample

    codes = setting.found(CLASSES)
    if codes is None:
        return []
    order = {line.split()[0]: index for index, line in enumerate(codes.read_text("utf-8").splitlines()) if line.strip()}
    return [
        Sample(path, order[code], path.name)
        for path in photos(setting)
        if (code := path.name.partition("_")[0]) in order
    ]


def absent(setting: Setting, seen: dict[str, str]) -> tuple[str, ...]:
    """A line for each of the data that are not there, and what they would show."""
    return tuple(missing(name, what) for name, what in seen.items() if setting.found(name) is None)
