"""What every result can do, what stands for one that could not be made, and how they are written."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image
from torch import Tensor

from striate.errors import UsageError
from striate.files import refuse_overwrite, write_atomic
from striate.results.words import visible

if TYPE_CHECKING:
    from striate.inference.sources import Source


class Result(ABC):
    """What every task's result can do. Labels are indices of the task's classes."""

    __slots__ = ()

    columns: ClassVar[tuple[str, ...]]  # keys of `to_dict` that make a table
    placed: ClassVar[bool] = False  # it says where: a small picture of it has to show the places
    has_answer: ClassVar[bool] = False  # the picture as a whole is of a class, or of several: `answer` says which
    has_confidence: ClassVar[bool] = False  # a class is there or not: `confidence_of` says how surely
    has_threshold: ClassVar[bool] = False  # what is below a threshold is left out; `decode` with 0 leaves out nothing

    source: Source

    @property
    def correct(self) -> bool | None:
        """Whether it is what the source is known to have; None where that is unknown or not simply right or wrong."""
        return None

    @property
    def answer(self) -> int | tuple[int, ...] | None:
        """The class of the picture, or where several may hold those that do, as targets are written."""
        return None

    @abstractmethod
    def confidence_of(self, label: int) -> float:
        """How sure it is of a class, 0..1; 0 where it says nothing of it."""

    def strongest(self, label: int) -> Result:
        """The same with nothing but the strongest thing of a class."""
        return self

    def box_of(self, label: int) -> tuple[float, float, float, float] | None:
        """x1, y1, x2, y2 of the strongest thing of a class, in pixels of the picture; None where it has no box."""
        return None

    @abstractmethod
    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """JSON-able; of labels or objects the `top` best, by default as many as suit the kind."""

    @abstractmethod
    def describe(self, top: int = 3) -> str:
        """One line."""

    @abstractmethod
    def caption(self) -> str:
        """A few words to stand under a small picture."""

    def __str__(self) -> str:
        return self.describe()

    @abstractmethod
    def draw(self, image: Image.Image | Tensor | None = None) -> Image.Image:
        """The picture with what is said of it.

        Args:
            image: the picture, if at hand; by default it is read again from its source.

        Raises:
            ImageError: it can no longer be read.
        """

    def draw_places(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        """Only the places that it names, over an image of the picture at any scale.

        Args:
            size: (height, width) of the picture as it was read.
        """
        if not self.placed:
            return image
        return self.draw(image.resize((size[1], size[0]))).resize(image.size)  # places are in the picture's own pixels

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the drawn picture, or with a name ending in `.json` the numbers.

        Raises:
            UsageError: a file stands there, or its ending is of no known format.
        """
        path = refuse_overwrite(path, overwrite)
        if path.suffix.lower() == ".json":
            return write_atomic(path, json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False) + "\n")
        return save_picture(self.draw(), path)

    def show(self) -> None:
        """Open the drawn picture in the system's viewer."""
        self.draw().show()


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture that could not be predicted on, and why."""

    source: Source
    error: str

    def to_dict(self) -> dict[str, Any]:
        return {"source": self.source.name, "error": self.error}

    def __str__(self) -> str:
        return visible(self.error)


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
