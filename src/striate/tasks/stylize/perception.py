"""What a trained network sees in a picture: the answers of chosen layers, by name.

Layers are named as papers do (`conv4_2` of a VGG, `fire5` of a SqueezeNet), by a stage of the backbone (`layer3`), or
by any module's name in the state dict (`features.3`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones import Backbone
from striate.backbones.layer_names import layer_names
from striate.backbones.squeezenet import SqueezeNet
from striate.backbones.vgg import VGG
from striate.config import Preprocess
from striate.errors import UsageError, did_you_mean

Pooling = Literal["auto", "average", "max"]
BORDER = 16  # pixels mirrored around a picture, so that the zeros that layers pad with stay away from it


class Layers(NamedTuple):
    """Where style is compared, each layer with its weight, and where content is."""

    style: dict[str, float]
    content: tuple[str, ...]


# the paper's choice; the weights w_l are a fifth each
OF_VGG = Layers(dict.fromkeys(("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"), 0.2), ("conv4_2",))
# found by looking: without fire5 to fire7 there are strokes but no swirls
FIRES = tuple(f"fire{number}" for number in range(2, 8))
OF_SQUEEZENET = Layers(dict.fromkeys(("conv1", *FIRES), 1 / 7), ("fire5",))


class Perception(nn.Module):
    """Pictures [B, 3, H, W], RGB in 0..1 -> the answers of some layers by name, each [B, N, h, w].

    It works on a copy: in the network itself nothing changes. Rectifiers of the copy do not work in place, so that a
    convolution can be read as well as what follows it.

    Args:
        backbone: with weights.
        preprocess: how pictures were prepared for it.
        layers: names, as above.
        pooling: `average` puts mean pooling where the network takes the largest, "slightly more appealing" with VGG
            (Gatys et al. 2016, section 2); `max` leaves it: averages let a SqueezeNet draw grids. `auto`: so for each.

    Raises:
        UsageError: no such layer, or a network that is not for colour pictures.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: Backbone, preprocess: Preprocess, layers: Iterable[str], pooling: Pooling = "auto"
    ) -> None:
        super().__init__()
        if preprocess.channels != 3:
            raise UsageError(f"{backbone.architecture} sees grey pictures; style needs a network for colour")
        if backbone.image_size is not None:
            raise UsageError(f"{backbone.architecture} is bound to one size of picture; take a convolutional network")
        self.names = {name: module_of(backbone, name) for name in dict.fromkeys(layers)}
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).view(3, 1, 1))
        steps = [step for layers_of_stage in backbone.stage_layers.values() for step in layers_of_stage]
        deepest = max(_position(steps, module) for module in self.names.values())
        average = isinstance(backbone, VGG) if pooling == "auto" else pooling == "average"
        self.steps = nn.ModuleDict()
        for step in steps[: deepest + 1]:
            module = _read_only(copy.deepcopy(backbone.get_submodule(step)), average)
            self.steps[step.replace(".", "/")] = module  # a name with dots is no key of a ModuleDict
        self._found: dict[str, Tensor] = {}
        for name, module in self.names.items():
            self._inside(module).register_forward_hook(partial(self._keep, name))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """`names`: of these layers only, so that deeper ones need not be computed."""
        wanted = list(names or self.names)
        self._found = {}
        values = (images - self.mean) / self.std
        border = min(BORDER, *(side - 1 for side in images.shape[-2:]))
        values = F.pad(values, (border,) * 4, mode="reflect").contiguous(memory_format=torch.channels_last)
        for step in self.steps.values():
            values = step(values)
            if all(name in self._found for name in wanted):
                break
        found, self._found = self._found, {}
        return {name: found[name] for name in wanted}

    def _keep(self, name: str, module: nn.Module, inputs: object, answer: Tensor) -> None:
        self._found[name] = answer

    def _inside(self, module: str) -> nn.Module:
        """The copy of a module, by the name that it has in the backbone."""
        for step, layer in self.steps.items():
            there = step.replace("/", ".")
            if module == there or module.startswith(f"{there}."):
                return layer.get_submodule(module.removeprefix(there).removeprefix("."))
        raise KeyError(module)


def default_layers(backbone: Backbone) -> Layers:
    """Where style and content of this network are compared when nobody says: the paper's for a VGG, layers that were
    found by looking for a SqueezeNet, and of others all stages."""
    if isinstance(backbone, VGG):
        return OF_VGG
    if isinstance(backbone, SqueezeNet):
        return OF_SQUEEZENET
    stages = [name for name, stage in backbone.pyramid.items() if stage.reduction <= 16]
    half = [name for name in stages if backbone.pyramid[name].reduction <= 8]
    return Layers({name: 1 / len(stages) for name in stages}, (half[-1],))


def module_of(backbone: Backbone, name: str) -> str:
    """The module that a layer's name means.

    Raises:
        UsageError: none, or one behind the feature maps.
    """
    known = layer_names(backbone)
    module = known.get(name, name)
    steps = [step for layers in backbone.stage_layers.values() for step in layers]
    inside = any(module == step or module.startswith(f"{step}.") for step in steps)
    if not inside or module not in dict(backbone.named_modules()):
        told = ", ".join(known)
        raise UsageError(f'"{name}" is no layer of {backbone.architecture} ({told}).{did_you_mean(name, known)}')
    return module


def _position(steps: Sequence[str], module: str) -> int:
    return next(index for index, step in enumerate(steps) if module == step or module.startswith(f"{step}."))


def _read_only(module: nn.Module, average: bool) -> nn.Module:
    """The module with nothing that works in place, and averages in place of maxima if wanted."""
    for layer in module.modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False  # type: ignore[assignment]
    if not average:
        return module
    if isinstance(module, nn.MaxPool2d):
        return _average(module)
    for layer in list(module.modules()):
        for name, child in layer.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(layer, name, _average(child))
    return module


def _average(layer: nn.MaxPool2d) -> nn.Module:
    if layer.dilation not in (1, (1, 1)):  # an average with holes does not exist
        return layer
    return nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode, count_include_pad=False)
