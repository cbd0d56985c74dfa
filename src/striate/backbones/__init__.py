"""Networks by name: `create_model("resnet50")`, or from one line: `create_model("(conv32-relu)x2-pool-fc128-relu")`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from torch import nn

from striate.backbones import (
    alexnet,
    convnext,
    darknet,
    efficientnet,
    googlenet,
    inception,
    lenet,
    mini_xception,
    mlp,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    nasnet,
    preact_resnet,
    resnet,
    squeezenet,
    vgg,
)
from striate.backbones.backbone import CIFAR, Backbone, Canonical, Entry, FeatureList, Stage
from striate.backbones.chain import Chain
from striate.backbones.chain_parser import DESCRIPTIONS
from striate.backbones.public_weights import find_weights, local_file
from striate.backbones.timm_backbone import PREFIX, timm_entry
from striate.backbones.weights import load_weights
from striate.errors import UsageError, did_you_mean

__all__ = ["FAMILIES", "MODELS", "Backbone", "Canonical", "Entry", "FeatureList", "Stage"]
__all__ += ["canonical_of", "create_model", "is_chain", "list_models"]


CANONICAL_CHAIN = CIFAR

# a new family: its file, and its line here
FAMILIES: dict[str, dict[str, Entry]] = {
    "lenet": lenet.MODELS,
    "mlp": mlp.MODELS,
    "alexnet": alexnet.MODELS,
    "vgg": vgg.MODELS,
    "squeezenet": squeezenet.MODELS,
    "googlenet": googlenet.MODELS,
    "inception": inception.MODELS,
    "resnet": resnet.MODELS,
    "preact_resnet": preact_resnet.MODELS,
    "convnext": convnext.MODELS,
    "darknet": darknet.MODELS,
    "mobilenet_v1": mobilenet_v1.MODELS,
    "mobilenet_v2": mobilenet_v2.MODELS,
    "mobilenet_v3": mobilenet_v3.MODELS,
    "efficientnet": efficientnet.MODELS,
    "nasnet": nasnet.MODELS,
    "mini_xception": mini_xception.MODELS,
}
MODELS: dict[str, Entry] = {name: entry for family in FAMILIES.values() for name, entry in family.items()}


def create_model(
    name: str,
    *,
    num_classes: int = 1000,
    in_chans: int = 3,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    output_stride: int = 32,
    weights: str | Path | None = None,
    accept_license: bool = False,
    linear_head: bool = False,
    dropout: float | None = None,
    image_size: Sequence[int] | None = None,
    **arguments: Any,
) -> Backbone | FeatureList:
    """Build a network: images float [B, in_chans, H, W] -> logits [B, num_classes].

    Args:
        name: one of `list_models()`, `timm/` and a name of timm's, or a one-line network (`striate.backbones.chain`).
        num_classes: 0 gives the pooled features instead of logits.
        features_only: the forward gives a list of feature maps instead; `channels()` and `reductions()` describe it.
        out_indices: which stages those are, from 0; all when not given.
        output_stride: the smallest reduction wanted: 8 or 16 turn later strides into dilations.
        weights: `imagenet`, `hf://owner/repository`, or the path of a `.safetensors`, `.pth`, `.th` or Keras `.hdf5`;
            fetched once (`striate.backbones.public_weights`), fitted to `in_chans` and `num_classes`
            (`striate.backbones.weights`).
        accept_license: take weights whose licence forbids commercial use.
        linear_head: where the classifier is not a linear layer on pooled features (SqueezeNet's is a convolution), put
            one there instead; what transfer learning wants.
        dropout: before the classifier; the family's own when not given (AlexNet and VGG 0.5, ResNets none).
        image_size: (height, width) for networks bound to one size (mlp, lenet5, lines with fc); others ignore it.
        arguments: the family's own: `stem`, `zero_init_residual` (ResNets), `hidden`, `activation` (mlp, lenet5).

    The result knows how to be built again: `create_model(model.architecture, num_classes=…, in_chans=…,
    **model.arguments)`; `arguments` are plain values that JSON keeps.

    >>> create_model("lenet5", num_classes=10, in_chans=1)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])

    Raises:
        UsageError: an unknown name or argument, or a value that cannot be meant.
        DataError: weights that do not fit, or cannot be fetched.
    """
    _check_counts(num_classes, in_chans)
    dropout = _checked_dropout(dropout)
    if out_indices is not None and not features_only:
        raise UsageError("out_indices says which features to give: it needs features_only=True")

    build = _builder(name)
    known = list(inspect.signature(build).parameters)
    own = {key: _plain(value) for key, value in arguments.items()}
    own |= {"output_stride": output_stride} if output_stride != 32 else {}
    for key in own:
        if key not in known or key in ("num_classes", "in_chans", "line", "variant"):
            choices = [word for word in known if word not in ("num_classes", "in_chans", "line", "variant")]
            raise UsageError(f'"{name}" has no argument "{key}" ({", ".join(choices)}).{did_you_mean(key, choices)}')
    size = _checked_size(image_size)
    bound = {"image_size": size} if "image_size" in known else {}

    classes = 0 if features_only else num_classes
    own |= {} if dropout is None else {"dropout": dropout}
    backbone = build(num_classes=classes, in_chans=in_chans, **bound, **own)
    is_linear = classes == 0 or isinstance(backbone.get_submodule(backbone.last_layer), nn.Linear)
    replaced = classes > 0 and linear_head and not is_linear
    if replaced:
        backbone = build(num_classes=0, in_chans=in_chans, **bound, **own)
    backbone.architecture = name
    backbone.arguments = dict(own)
    if replaced:
        backbone.arguments |= {"linear_head": True}
    if backbone.image_size is not None:
        backbone.arguments["image_size"] = list(backbone.image_size)
    if weights is not None:
        load_weights(backbone, local_file(find_weights(weights, name), accept_license))
    if replaced:
        backbone.give_head("linear_head", nn.Linear(backbone.num_features, num_classes))
    return FeatureList(backbone, out_indices) if features_only else backbone


def list_models(pattern: str | None = None) -> list[str]:
    """Names for `create_model`; a pattern (`resnet*`) or a part of the name (`cifar`) chooses among them."""
    if pattern is None:
        return list(MODELS)
    wanted = pattern if any(letter in pattern for letter in "*?[") else f"*{pattern}*"
    return [name for name in MODELS if fnmatchcase(name, wanted.lower())]


def is_chain(name: str) -> bool:
    """Whether a name is meant as a one-line network: it has its signs, and is no misspelt name."""
    if name in MODELS or name.startswith(PREFIX):
        return False
    first = name.lstrip("(").partition("-")[0]
    starts_like_one = any(first.startswith(word) for word in DESCRIPTIONS)
    return starts_like_one or "(" in name or ("-" in name and not did_you_mean(name, MODELS))


def canonical_of(name: str) -> Canonical:
    """What a network was made for; of a one-line network, what is usual."""
    if name in MODELS:
        return MODELS[name].canonical
    return timm_entry(name).canonical if name.startswith(PREFIX) else CANONICAL_CHAIN


def _builder(name: str) -> Callable[..., Backbone]:
    if name in MODELS:
        return MODELS[name].build
    if name.startswith(PREFIX):
        return timm_entry(name).build
    if is_chain(name):
        return partial(Chain, name)
    raise UsageError(f'no network is called "{name}".{did_you_mean(name, MODELS)} See: striate models')


def _check_counts(num_classes: object, in_chans: object) -> None:
    if not isinstance(num_classes, int) or num_classes < 0:
        raise UsageError(f"num_classes must be a whole number from 0, not {num_classes!r}")
    if not isinstance(in_chans, int) or in_chans < 1:
        raise UsageError(f"in_chans must be a whole number from 1, not {in_chans!r}")


def _checked_dropout(dropout: object) -> float | None:
    if dropout is None:
        return None
    if not isinstance(dropout, Real) or not 0 <= float(dropout) < 1:
        raise UsageError(f"dropout must be a probability from 0 to below 1, not {dropout!r}")
    return float(dropout)


def _checked_size(size: Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    if not isinstance(size, Sequence) or len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
        raise UsageError(f"image_size must be (height, width) in pixels, not {size!r}")
    return size[0], size[1]


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON would give them back."""
    return list(value) if isinstance(value, tuple) else value
