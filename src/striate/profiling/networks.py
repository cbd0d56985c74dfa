"""Networks to be compared: what is known of each without running it, and how it is built to be run.

Names, patterns, one-line networks and model files (or the folders of runs) alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from striate.backbones import FAMILIES, MODELS, canonical_of, create_model, list_models
from striate.backbones.public_weights import find_weights
from striate.backbones.timm_backbone import PREFIX
from striate.config import Preprocess
from striate.data.transforms import Normalize
from striate.errors import UsageError, did_you_mean
from striate.model_file import read_card
from striate.network_summary import summarize

# small to middling, and something of most ideas
USUAL = ("squeezenet1_1", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
USUAL += ("efficientnet_b0", "googlenet", "resnet18", "resnet34", "resnet50")
# percent on ImageNet's validation pictures, of networks that torchvision has no weights of
PAPERS = {
    "mobilenet_v1": 70.6,  # Howard et al. 2017, table 8
    "nasnetalarge": 82.7,  # Zoph et al. 2018, table 2
    "nasnetamobile": 74.0,  # Zoph et al. 2018, table 3
}


@dataclass(frozen=True)
class Network:
    """One network to measure, and what is known of it without running it.

    Attributes:
        name: as asked for; the path of a model file.
        arguments: what `create_model(architecture, …)` needs besides classes and channels.
        family: the file of the backbones it is in, `timm`, or `chain`.
        multiply_adds: for one picture.
        file_bytes: of its float32 weights as .safetensors, without the header (a few KiB).
        top1: published percent on ImageNet, at the size of picture it was published for.
        metrics: those in the card of a model file.
    """

    name: str
    architecture: str
    family: str
    channels: int
    size: tuple[int, int]
    classes: int
    arguments: dict[str, Any]
    parameters: int
    multiply_adds: int
    file_bytes: int
    top1: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)


def find_networks(names: Sequence[str], size: tuple[int, int] | None = None) -> list[Network]:
    """The networks of these names, patterns (`resnet*`), one-line networks and model files (or folders of runs).

    Args:
        size: (height, width) of the pictures; what each network was made for, or trained on, when not given.

    Raises:
        UsageError: no such network, or one that cannot take pictures of this size.
        DataError: a file that is no model file.
    """
    return [_described(name, size) for name in dict.fromkeys(found for name in names for found in _expanded(name))]


def _expanded(name: str) -> list[str]:
    if not any(sign in name for sign in "*?[") or Path(name).exists():
        return [name]
    if found := list_models(name):
        return found
    raise UsageError(
        f'no network\'s name matches "{name}".{did_you_mean(name.strip("*?"), MODELS)} See: striate models'
    )


def _described(name: str, size: tuple[int, int] | None) -> Network:
    architecture, arguments, metrics = name, {}, {}
    folder = Path(name) / "model.safetensors"
    file = folder if folder.is_file() else Path(name)
    if file.suffix == ".safetensors":
        card = read_card(file)
        architecture, arguments, metrics = card.architecture, dict(card.arguments), card.metrics
        channels, made_for, classes = card.preprocess.channels, card.preprocess.size, len(card.classes)
    else:
        channels, made_for, classes = canonical_of(name)
    shown = size or made_for
    if size is not None or file.suffix != ".safetensors":
        arguments["image_size"] = list(shown)
    with torch.device("meta"):  # counted, never filled
        module = create_model(architecture, num_classes=classes, in_chans=channels, **arguments)
    found = summarize(module, (channels, *shown))
    families = [family for family, models in FAMILIES.items() if architecture in models]
    return Network(
        name=name,
        architecture=architecture,
        family=families[0] if families else "timm" if architecture.startswith(PREFIX) else "chain",
        channels=channels,
        size=shown,
        classes=classes,
        arguments=arguments,
        parameters=found.parameters,
        multiply_adds=found.multiply_adds,
        file_bytes=sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values()),
        top1=published_top1(name),
        metrics=metrics,
    )


def published_top1(name: str) -> float | None:
    """Percent on ImageNet's validation pictures: torchvision's first weights', else the paper's; None: nobody says."""
    if name in PAPERS:
        return PAPERS[name]
    if name not in MODELS:
        return None
    try:
        return find_weights("imagenet", name).top1
    except UsageError:
        return None


def inference(network: Network) -> nn.Module:
    """uint8 [B, C, H, W] → outputs, as `Model` has it; on the processor."""
    grey_or_colour = {"mean": (0.5,), "std": (0.5,), "channels": 1} if network.channels == 1 else {}
    module = create_model(
        network.architecture, num_classes=network.classes, in_chans=network.channels, **network.arguments
    )
    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return nn.Sequential(Normalize(Preprocess(**grey_or_colour)), module).eval()


def random_pictures(network: Network, count: int) -> Tensor:
    return torch.randint(0, 256, (count, network.channels, *network.size), dtype=torch.uint8)
