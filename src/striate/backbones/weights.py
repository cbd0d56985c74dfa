"""Weights from files, ours and others': which key is which parameter, and what does not fit.

The key map, in order:

1. a checkpoint that holds its weights under `state_dict` or `model` is opened;
2. the prefixes `module.` (DataParallel) and `_orig_mod.` (torch.compile) are taken off when every key has them;
3. whole-layer names of well-known files are translated: `RENAMED`; those of timm's files go behind `network.`;
4. auxiliary classifiers, which only training uses, are ignored where the network was built without them;
5. the first convolution is adapted to another number of channels (`adapt_channels`);
6. the classifier is left as it was born, with a warning, where the file's has another number of classes;
   networks without one (num_classes=0, features_only) ignore the file's;
7. `num_batches_tracked`, which files before torch 0.4.1 lack, may be missing.

Everything else must fit exactly.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from striate.backbones.backbone import Backbone
from striate.errors import DataError, StriateError

WRAPPERS = ("state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")

# architecture's beginning -> {layer in a public file: layer here}
RENAMED = {
    "resnet": {"linear.": "fc."},  # akamaster/pytorch_resnet_cifar10
    "plain": {"linear.": "fc."},
}


def load_weights(backbone: Backbone, path: Path, same_classes: bool = False) -> None:
    """Read a `.safetensors`, `.pth`, `.pt`, `.th` or Keras `.hdf5` file into a backbone; pickled code is never run.

    Raises:
        DataError: the file cannot be read, or its parameters are not the backbone's; says which.
    """
    found = translate(read_state_dict(path), backbone.architecture)
    expected = backbone.state_dict()
    classifiers = [f"{name}." for name in (backbone.last_layer, *backbone.auxiliary)]

    absent = [name for name in backbone.auxiliary if not hasattr(backbone, name)]
    if isinstance(backbone.get_submodule(backbone.last_layer), nn.Identity):
        absent.append(backbone.last_layer)
    found = {name: tensor for name, tensor in found.items() if not name.startswith(tuple(f"{a}." for a in absent))}
    adapt_channels(expected, found)
    if classes := classes_differ(expected, found, f"{backbone.last_layer}."):
        ours, theirs = classes
        if same_classes:
            raise DataError(f"{path}: its classifier knows {theirs} classes, not {ours}")
        warnings.warn(
            f"{path}: its classifier knows {theirs} classes, this network {ours}: the classifier starts untrained",
            stacklevel=3,
        )
        for name, tensor in expected.items():
            if name.startswith(tuple(classifiers)) and name in found and found[name].shape != tensor.shape:
                found[name] = tensor

    found |= {
        name: tensor for name, tensor in expected.items() if name.endswith("num_batches_tracked") and name not in found
    }
    if problems := mismatches(expected, found):
        raise DataError(f'{path}: these weights do not fit "{backbone.architecture}": {"; ".join(problems)}')
    backbone.load_state_dict(found)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Parameters by name, on the CPU.

    Raises:
        DataError: the file is damaged, holds more than tensors, or holds none.
    """
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        elif path.suffix in (".hdf5", ".h5", ".keras"):
            from striate.backbones.keras_weights import read_keras_weights

            content = read_keras_weights(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except StriateError:
        raise
    except Exception as error:  # damaged bytes make the unpicklers raise anything: IndexError, struct.error, …
        reason = str(error).strip().partition("\n")[0][:200]
        raise DataError(f"{path}: not a file of weights, or more than weights ({reason})") from None
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"{path}: holds no weights by name")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise DataError(f"{path}: {name!r} is not a tensor but a {type(value).__name__}: expected weights by name")
    return dict(content)


def translate(weights: Mapping[str, Tensor], architecture: str) -> dict[str, Tensor]:
    """Names as this library writes them: steps 2 and 3 of the key map."""
    names = {name: name for name in weights}
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in names.values()):
            names = {theirs: name.removeprefix(prefix) for theirs, name in names.items()}
    for family, renamed in RENAMED.items():
        if architecture.startswith(family):
            for old, new in renamed.items():
                names = {
                    theirs: new + name.removeprefix(old) if name.startswith(old) else name
                    for theirs, name in names.items()
                }
    if architecture.startswith("timm/"):
        inner = not all(name.startswith("network.") for name in names.values())
        names = {theirs: f"network.{name}" if inner else name for theirs, name in names.items()}
    return {name: weights[theirs] for theirs, name in names.items()}


def adapt_channels(expected: Mapping[str, Tensor], found: dict[str, Tensor]) -> None:
    """Fit a first convolution that was trained on another number of channels; nothing where it fits already.

    To one channel the weights are summed: a grey picture answers as the same picture with three equal channels would
    under one normalisation. To others they are repeated in turn and scaled by theirs / ours, so that activations keep
    their size (as timm does).
    """
    first = next((name for name, tensor in expected.items() if tensor.ndim == 4), None)
    if first is None or first not in found or found[first].ndim != 4:
        return
    weight, ours = found[first], expected[first].shape[1]
    theirs = weight.shape[1]
    if theirs == ours or weight.shape[0] != expected[first].shape[0] or weight.shape[2:] != expected[first].shape[2:]:
        return
    if ours == 1:
        found[first] = weight.sum(1, keepdim=True)
    else:
        found[first] = weight[:, [channel % theirs for channel in range(ours)]] * (theirs / ours)


def classes_differ(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], classifier: str
) -> tuple[int, int] | None:
    """How many classes two classifiers know that read the same features but answer with another number of classes."""
    ours, theirs = expected.get(f"{classifier}weight"), found.get(f"{classifier}weight")
    if ours is None or theirs is None or ours.shape[1:] != theirs.shape[1:] or len(ours) == len(theirs):
        return None
    return len(ours), len(theirs)


def mismatches(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """What does not fit, a few words each: missing and unknown names, other shapes."""
    problems = []
    if missing := [name for name in expected if name not in found]:
        problems.append(f"{len(missing)} missing ({_some(missing)})")
    if unknown := [name for name in found if name not in expected]:
        problems.append(f"{len(unknown)} unknown ({_some(unknown)})")
    shapes = [
        f"{name} {_shape(found[name])} in the file, {_shape(tensor)} here"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if shapes:
        problems.append(f"{len(shapes)} of another shape ({_some(shapes)})")
    return problems


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _shape(tensor: Tensor) -> str:
    return "×".join(str(side) for side in tensor.shape) or "a number"
