"""One picture, whatever it is given as."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from striate.errors import UsageError
from striate.inference.sources import expand
from striate.tasks.stylize.pictures import as_float


def one_picture(source: Any) -> Tensor:
    """The pixels of one picture as float [1, 3, H, W] in 0..1.

    Args:
        source: path, URL, bytes, PIL image, array or tensor.

    Raises:
        ImageError: it cannot be read.
        UsageError: a folder or pattern, which names several.
    """
    found, is_single = expand(source)
    if not is_single:
        raise UsageError(f"{source}: one picture is needed here")
    return as_float(next(iter(found)).load())
