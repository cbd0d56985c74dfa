"""Weights from Keras files: the public mini-Xceptions (github.com/oarriaga/face_classification).

Keras names its layers by kind and a running number (`conv2d_3`) that goes on from network to network within a session.
So only the order within a kind counts: a layer here is the first, second, … of its kind there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from striate.errors import DataError, MissingExtra

if TYPE_CHECKING:
    import h5py

MODULES = ("module1", "module2", "module3", "module4")

# kind of Keras's layer -> ours, in the order in which the authors' code makes them: a module begins with its shortcut
LAYERS = {
    "conv2d": ("conv1", "conv2", *(f"{module}.shortcut.conv" for module in MODULES), "class_maps"),
    "separable_conv2d": tuple(f"{module}.{layer}" for module in MODULES for layer in ("separable1", "separable2")),
    "batch_normalization": (
        "bn1",
        "bn2",
        *(f"{module}.{layer}" for module in MODULES for layer in ("shortcut.bn", "bn1", "bn2")),
    ),
}

# Keras's parameter -> ours, and which of its axes come first; a kernel there is [height, width, in, out]
PARAMETERS = {
    "kernel": ("weight", (3, 2, 0, 1)),
    "depthwise_kernel": ("depthwise.weight", (2, 3, 0, 1)),  # [height, width, channels, 1]
    "pointwise_kernel": ("pointwise.weight", (3, 2, 0, 1)),
    "bias": ("bias", (0,)),
    "gamma": ("weight", (0,)),
    "beta": ("bias", (0,)),
    "moving_mean": ("running_mean", (0,)),
    "moving_variance": ("running_var", (0,)),
}


def read_keras_weights(path: str | Path) -> dict[str, Tensor]:
    """A mini-Xception's parameters by our names, from a Keras `.hdf5` or `.h5`; nothing in the file is run.

    Raises:
        MissingExtra: without h5py.
        DataError: no such file, no HDF5, or another network's weights.
    """
    try:
        import h5py
    except ImportError:
        raise MissingExtra("h5py", "keras", "reading a Keras file") from None
    try:
        with h5py.File(path) as file:
            return _renamed(Path(path), _layers(file))
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: not a file of Keras weights ({reason})") from None


def _layers(file: h5py.File) -> dict[str, dict[str, Tensor]]:
    """Keras's layers that have parameters, each with its parameters by name."""
    import h5py

    found: dict[str, dict[str, Tensor]] = {}

    def collect(path: str, item: object) -> None:  # [model_weights/]conv2d_1/conv2d_1_1/kernel:0
        if isinstance(item, h5py.Dataset) and not path.startswith("optimizer_weights/"):
            parts = path.removeprefix("model_weights/").split("/")
            found.setdefault(parts[0], {})[parts[-1].partition(":")[0]] = torch.from_numpy(item[()])

    file.visititems(collect)
    return found


def _renamed(path: Path, layers: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    ranked = sorted(layers, key=_kind_and_number)
    weights: dict[str, Tensor] = {}
    for kind, ours in LAYERS.items():
        theirs = [layer for layer in ranked if _kind_and_number(layer)[0] == kind]
        if len(theirs) != len(ours):
            raise DataError(f"{path}: {len(theirs)} layers of kind {kind}, a mini-Xception has {len(ours)}")
        for layer, name in zip(theirs, ours, strict=True):
            for parameter, values in layers[layer].items():
                if parameter not in PARAMETERS or values.ndim != len(PARAMETERS[parameter][1]):
                    raise DataError(f"{path}: {layer} has a {parameter} that a mini-Xception has not")
                new, axes = PARAMETERS[parameter]
                weights[f"{name}.{new}"] = values.permute(axes).contiguous()
    return weights


def _kind_and_number(layer: str) -> tuple[str, int]:
    """`conv2d_12` -> conv2d, 12; the first of a kind may go without a number."""
    kind, _, number = layer.rpartition("_")
    return (kind, int(number)) if number.isdigit() else (layer, 0)
