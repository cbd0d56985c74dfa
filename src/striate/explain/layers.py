"""The maps of any layer, by its name in the state dict, and which pixels each of their values sees."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from striate.backbones.backbone import Backbone
from striate.backbones.layer_names import layer_names
from striate.errors import UsageError, did_you_mean
from striate.layers.receptive_fields import FieldTracker, Place

Network = TypeVar("Network", bound=nn.Module)


def readable_copy(network: Network) -> Network:
    """The same network, judging, without gradients of its weights, and with no activation that works in place: what a
    layer gave is still there when the next one has run."""
    copied = deepcopy(network).eval().requires_grad_(False)
    for module in copied.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return copied


def read_maps(network: nn.Module, layer: str, images: Tensor) -> Tensor:
    """What a layer gives, as maps [B, C, h, w]; a vector is a map of 1 × 1. What comes after it is not computed.

    A layer that runs several times (a head over the levels of a pyramid) is read the first time.

    Args:
        network: a `readable_copy`.
        layer: its name in the network.
        images: float [B, C, H, W], normalised.

    Raises:
        UsageError: there is no such layer, it does not run, or it gives no maps.
    """
    return _run_until(network, layer, images)


@torch.no_grad()
def place_of(network: nn.Module, layer: str, images: Tensor) -> Place | None:
    """Which pixels each value of a layer's maps sees; None: all of them.

    Args and errors as for `read_maps`.
    """
    with FieldTracker() as tracker:
        images = images[:1].clone()
        tracker.begin(images)
        return _run_until(network, layer, images, tracker)


def backbone_in(network: nn.Module) -> Backbone | None:
    return _named_backbone(network)[1]


def _named_backbone(network: nn.Module) -> tuple[str, Backbone | None]:
    found = ((f"{name}." if name else "", one) for name, one in network.named_modules() if isinstance(one, Backbone))
    return next(found, ("", None))


def stages_of(network: nn.Module) -> dict[str, str]:
    """The stages of a network's backbone, from the picture on, and the layer that gives each; without one, none."""
    prefix, backbone = _named_backbone(network)
    if backbone is None:
        return {}
    inside = dict(backbone.named_modules())
    found: dict[str, str] = {}
    for name, layers in backbone.stage_layers.items():
        # timm's networks call a stage by the layer that gives it
        given = next((layer for layer in (f"network.{name}", *layers[-1:]) if layer in inside), None)
        if given is not None:
            found[name] = prefix + given
    return found


def layers_of(network: nn.Module) -> dict[str, str]:
    """Names that people use, stages and layers as papers call them, → modules of the network, from the picture on."""
    prefix, backbone = _named_backbone(network)
    named = {} if backbone is None else layer_names(backbone)
    found = {name: prefix + layer for name, layer in named.items()} | stages_of(network)
    order = {name: place for place, (name, _) in enumerate(network.named_modules())}
    return dict(sorted(found.items(), key=lambda pair: order[pair[1]]))


def stage_layers(network: nn.Module) -> list[str]:
    """The layers that give the stages of a network's backbone, from the picture on; of one without, its convolutions.

    Raises:
        UsageError: it has neither.
    """
    if stages := stages_of(network):
        return list(stages.values())
    found = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    if not found:
        raise UsageError("this network has no layer with maps")
    return found


def spread(names: Sequence[str], count: int) -> list[str]:
    """At most `count` of the names, two or more, evenly spread, the first and the last among them."""
    if count >= len(names):
        return list(names)
    return [names[round(at * (len(names) - 1) / (count - 1))] for at in range(count)]


def check_units(units: Sequence[int], channels: int, layer: str) -> list[int]:
    """The units asked for, if the layer has them.

    Raises:
        UsageError: it does not.
    """
    for unit in units:
        if not 0 <= unit < channels:
            raise UsageError(f"{layer} has units 0 to {channels - 1}, not {unit}")
    return list(units)


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """The module of that name, or the layer that people call so: a stage, or as papers do.

    Raises:
        UsageError: there is none; the message names those that there are, and the nearest.
    """
    modules = {key: module for key, module in network.named_modules() if key}
    known = layers_of(network)
    if name in modules or name in known:
        return modules[name] if name in modules else modules[known[name]]
    some = list(known) or stage_layers(network)
    listed = ", ".join(some if len(some) <= 24 else [*some[:23], "…"])
    near = did_you_mean(name, [*known, *modules])
    raise UsageError(f'the network has no layer "{name}"; there are {listed}, and all of its state dict.{near}')


class _Reached(Exception):
    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


def _run_until(network: nn.Module, layer: str, images: Tensor, tracker: FieldTracker | None = None) -> Any:
    def reached(module: nn.Module, inputs: Any, output: Any) -> None:
        raise _Reached(output)

    handle = find_layer(network, layer).register_forward_hook(reached)
    try:
        network(images)
    except _Reached as found:
        output = found.output
    else:
        raise UsageError(f"{layer} does not run when the network judges; name another layer")
    finally:
        handle.remove()
    if not isinstance(output, Tensor) or output.ndim not in (2, 4):
        given = f"a tensor of shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        names = ", ".join(stage_layers(network)[-4:])
        raise UsageError(f"{layer} gives {given}, not maps [B, C, h, w]; layers that do: {names}")
    if tracker is not None:
        return tracker.place(output)
    return output if output.ndim == 4 else output[:, :, None, None]
