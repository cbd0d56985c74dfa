"""The network by whose layers pictures are compared: a model file, a file of public weights, or a name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from striate.backbones import MODELS, Backbone, create_model
from striate.backbones.public_weights import find_weights, local_file
from striate.backbones.weights import mismatches, read_state_dict, translate
from striate.config import Preprocess
from striate.errors import DataError, UsageError
from striate.model_file import read_model

DEFAULT = "squeezenet1_0"  # 3 MB of weights, and fast


class PerceptualNetwork(NamedTuple):
    """A network with weights, and how pictures are prepared for it."""

    backbone: Backbone
    preprocess: Preprocess
    name: str


def find_network(network: str | Path | None = None, accept_license: bool = False) -> PerceptualNetwork:
    """A network whose layers tell what pictures look like.

    Args:
        network: a model file, or the folder of a run; a file of weights whose name begins with the network's
            (`vgg19-dcbb9e9d.pth`; a classifier may be missing in it); the name of a network that has public weights,
            fetched on first use. None: SqueezeNet 1.0.

    Raises:
        UsageError: neither a file nor a name, or a file that does not say which network it is for.
        DataError: weights that do not fit, or cannot be fetched.
    """
    text = str(network or DEFAULT)
    path = Path(text) / "model.safetensors" if (Path(text) / "model.safetensors").is_file() else Path(text)
    if path.is_file():
        return _of_model_file(path) if _has_card(path) else _of_weights(path)
    if text in MODELS or text.startswith("timm/"):
        published = find_weights("imagenet", text)
        try:
            file = local_file(published, accept_license)
        except DataError as error:
            raise DataError(f"{error} Or take a file of weights that is here: --network FILE") from None
        backbone = create_model(text, weights=file)
        assert isinstance(backbone, Backbone)
        return PerceptualNetwork(backbone.eval(), published.preprocess or Preprocess(), text)
    raise UsageError(
        f"--network {text}: neither a file nor the name of a network with public weights. Give a model file, a file "
        "such as vgg19-dcbb9e9d.pth, or a name (see: striate models --weights)"
    )


def _has_card(path: Path) -> bool:
    if path.suffix != ".safetensors":
        return False
    return bool(find_weights(path).architecture)


def _of_model_file(path: Path) -> PerceptualNetwork:
    """A model of ours: of a classifier its body, of a detector (`fcos/resnet18`) what stands after the slash."""
    weights, card = read_model(path)
    if card.task == "stylize":
        raise UsageError(f"--network {path}: paints pictures; here a network is needed that was trained to see them")
    head, slash, body = card.architecture.partition("/")
    name = body if slash and head != "timm" else card.architecture
    backbone = _fitted(name, weights, card.preprocess.channels, path)
    return PerceptualNetwork(backbone, card.preprocess, card.architecture)


def _of_weights(path: Path) -> PerceptualNetwork:
    """A file that somebody else wrote: its name says the network."""
    words = re.split(r"[-.]", path.name.lower())
    architecture = next((name for name in MODELS if name == words[0]), None)
    if architecture is None:
        raise UsageError(
            f"--network {path}: does not say which network it is for. Let its name begin with it "
            f"(vgg19-….pth), or make a model file: striate convert {path} --model NAME --out FILE.safetensors"
        )
    backbone = _fitted(architecture, translate(read_state_dict(path), architecture), 3, path)
    try:
        preprocess = find_weights("imagenet", architecture).preprocess or Preprocess()
    except UsageError:
        preprocess = Preprocess()
    return PerceptualNetwork(backbone, preprocess, architecture)


def _fitted(architecture: str, weights: dict[str, Tensor], channels: int, path: Path) -> Backbone:
    """The network cut behind its last map, with those of the weights that are its; under whatever prefix they stand."""
    try:
        with torch.device("meta"):  # most of a VGG is its classifier, which nobody needs here
            backbone = create_model(architecture, in_chans=channels)
    except UsageError:
        raise UsageError(f"--network {path}: has no backbone of ours inside; take a classifier") from None
    assert isinstance(backbone, Backbone)
    backbone.cut_after(list(backbone.pyramid)[-1])
    names = tuple(backbone.state_dict())
    layers = tuple(f"{layer}." for stage in backbone.stage_layers.values() for layer in stage)
    prefix = next((key.removesuffix(names[0]) for key in weights if key.endswith(names[0])), "")
    inside = {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}
    found = {name: tensor.float() for name, tensor in inside.items() if name in names or name.startswith(layers)}
    if problems := mismatches(backbone.state_dict(), found):
        raise DataError(f'{path}: these weights do not fit "{architecture}": {"; ".join(problems)}')
    backbone.load_state_dict(found, assign=True)
    return backbone.eval()
