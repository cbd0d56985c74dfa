"""What models are called on a page: as their runs or files are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from striate.model import Model


def names_of(models: Sequence[Model]) -> list[str]:
    """One name each; of two that are called the same, the first and the second."""
    names = [model.name for model in models]
    if len(set(names)) == len(names):
        return names
    return [f"{name}, {which}" for name, which in zip(names, ("first", "second"), strict=True)]
