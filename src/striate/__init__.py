"""Striate: CNNs, from pixels to product.

>>> import striate
>>> model = striate.train("photos/", epochs=10)  # doctest: +SKIP
>>> print(model.predict("cat.jpg"))  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.backbones import create_model, list_models
    from striate.config import ModelCard, Preprocess, Recipe
    from striate.create import Styled, stylize
    from striate.data import Dataset, Sample, open_dataset
    from striate.data.inspect.check import check_dataset
    from striate.errors import DataError, ImageError, MissingExtra, StriateError, UsageError
    from striate.images import read_image
    from striate.model import Model, load
    from striate.network_summary import summarize as summary
    from striate.results import Classification, Detections, Failure, Rating
    from striate.train import train

# public name -> module, or module:name where it has another name there; imported on first use, which keeps this cheap
_PUBLIC = {
    "Classification": "striate.results",
    "DataError": "striate.errors",
    "Dataset": "striate.data",
    "Detections": "striate.results",
    "Failure": "striate.results",
    "ImageError": "striate.errors",
    "MissingExtra": "striate.errors",
    "Model": "striate.model",
    "ModelCard": "striate.config",
    "Preprocess": "striate.config",
    "Rating": "striate.results",
    "Recipe": "striate.config",
    "Sample": "striate.data",
    "StriateError": "striate.errors",
    "Styled": "striate.create",
    "UsageError": "striate.errors",
    "check_dataset": "striate.data.inspect.check",
    "create_model": "striate.backbones",
    "list_models": "striate.backbones",
    "load": "striate.model",
    "open_dataset": "striate.data",
    "read_image": "striate.images",
    "stylize": "striate.create",
    "summary": "striate.network_summary:summarize",
    "train": "striate.train",
}

__all__ = [
    "Classification",
    "DataError",
    "Dataset",
    "Detections",
    "Failure",
    "ImageError",
    "MissingExtra",
    "Model",
    "ModelCard",
    "Preprocess",
    "Rating",
    "Recipe",
    "Sample",
    "StriateError",
    "Styled",
    "UsageError",
    "check_dataset",
    "create_model",
    "list_models",
    "load",
    "open_dataset",
    "read_image",
    "stylize",
    "summary",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("striate")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'striate' has no attribute {name!r}")
    place, _, attribute = _PUBLIC[name].partition(":")
    module = importlib.import_module(place)
    if name == "train":
        return module  # the package of that name, which can be called
    return getattr(module, attribute or name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
