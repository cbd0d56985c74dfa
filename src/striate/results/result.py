"""What every result can do, what stands for one that could not be made, and how they are written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from PIL import Image
from torch import Tensor

from striate.errors import UsageError
from striate.files import refuse_overwrite, write_atomic
from striate.results.words import visible

if TYPE_CHECKING:
    from striate.inference.sources import Source


class Result(Protocol):
    """What every task's result can do."""

    columns: ClassVar[tuple[str, ...]]  # keys of `to_dict` that make a table
    placed: ClassVar[bool]  # it says where: a small picture of it has to show the places

    @property
    def source(self) -> Source: ...
    @property
    def correct(self) -> bool | None: ...
    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """JSON-able; of labels or objects the `top` best, by default as many as suit the kind."""
        ...

    def describe(self, top: int = 3) -> str: ...
    def caption(self) -> str: ...
    def draw(self, image: Image.Image | Tensor | None = None) -> Image.Image: ...
    def save(self, path: str | Path, overwrite: bool = False) -> Path: ...
    def show(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture that could not be predicted on, and why."""

    source: Source
    error: str

    def to_dict(self) -> dict[str, Any]:
        return {"source": self.source.name, "error": self.error}

    def __str__(self) -> str:
        return visible(self.error)


def save_result(result: Result, path: str | Path, overwrite: bool = False) -> Path:
    path = refuse_overwrite(path, overwrite)
    if path.suffix.lower() == ".json":
        return write_atomic(path, json.dumps(result.to_dict(), ensure_ascii=False, allow_nan=False) + "\n")
    return save_picture(result.draw(), path)


def save_picture(picture: Image.Image, path: str | Path) -> Path:
    """Write a picture in the format its ending asks for, whole or not at all.

    Raises:
        UsageError: no such format.
    """
    buffer = BytesIO()
    picture.save(buffer, format=picture_format(path), quality=92)
    return write_atomic(path, buffer.getvalue())


def picture_format(path: str | Path) -> str:
    """The format that a file's ending asks for, as Pillow calls it.

    Raises:
        UsageError: no such format.
    """
    ending = Path(path).suffix
    format = Image.registered_extensions().get(ending.lower())
    if format not in Image.SAVE:
        raise UsageError(f'{path}: "{ending}" is not a picture format; use .png, .jpg or .webp')
    return format


def as_pillow(image: Image.Image | Tensor) -> Image.Image:
    """uint8 [1 or 3, H, W] as a PIL image; a PIL image as RGB."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    return Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).contiguous().cpu().numpy())
