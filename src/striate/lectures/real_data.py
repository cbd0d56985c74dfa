"""What lectures look at: real data where the user has it, photographs that scikit-image brings, and what to say of data
that are not there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def missing(name: str, seen: str) -> str:
    """One line: which file is not there, what to do, what would then be seen."""
    file = name if Path(name).suffix else f"{name}.zip"
    return f"{file} is not among the data: put it into the folder that --data names, and this page also shows {seen}."


def inside(folder: Path, part: str) -> Path:
    """The folder called `part` somewhere in an unpacked archive, the outermost first.

    Raises:
        DataError: there is none.
    """
    from striate.errors import DataError

    found = sorted((path for path in folder.rglob(part) if path.is_dir()), key=lambda path: (len(path.parts), path))
    if not found:
        raise DataError(f"{folder}: holds no folder {part}; unpack the archive again")
    return found[0]


def photograph(name: str, height: int | None = None) -> Tensor:
    """One of scikit-image's photographs (`chelsea`, `coffee`, `astronaut`, `rocket`), uint8 [3, H, W].

    Args:
        height: scaled to this many rows; as it is when not given.
    """
    import skimage.data
    import torch
    from torchvision.transforms.v2.functional import resize

    picture = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1).contiguous()
    if height is None:
        return picture
    width = round(picture.shape[2] * height / picture.shape[1])
    return resize(picture, [height, width], antialias=True)
