"""`striate summary`: a network's layers, shapes, parameters and costs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from striate.cli.terminal import out, print_json, wrote
from striate.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


def summary(
    model: str,
    /,
    size: str | None = None,
    channels: int | None = None,
    classes: int | None = None,
    batch: int = 1,
    depth: int | None = None,
    json: bool = False,
) -> None:
    """Print a network's layers: output shape, parameters, multiply-adds, memory, and how much of the picture each sees.

    Parameters
    ----------
    model
        A network (`striate models`), one line such as "conv8s2-relu-fc10", a model file, or the folder of a run.
    size
        224, or 224x160 (height x width); what the network was made for when not given.
    channels
        1 for grey pictures, 3 for colour.
    classes
        How many the classifier tells apart; 0: none, the features are the result.
    batch
        Pictures at once.
    depth
        Join layers: 1 shows conv1, bn1, layer1 … as one row each.
    json
        Print JSON.
    """
    from striate.network_summary import summarize

    if batch < 1:
        raise UsageError(f"--batch must be 1 or more, not {batch}")
    network, shape = _build(model, read_size(size), channels, classes)
    found = summarize(network, (batch, *shape))
    if depth is not None:
        found = found.grouped(depth)
    if json:
        print_json({"model": model, **found.to_dict()})
        return
    out.print(str(found), markup=False)  # never folded: a narrow window scrolls or wraps
    wrote([], _next_command(model))


def _build(
    model: str, size: tuple[int, int] | None, channels: int | None, classes: int | None
) -> tuple[nn.Module, tuple[int, int, int]]:
    """The network without memory for its weights, and the (channels, height, width) it is to be shown."""
    import torch

    from striate.backbones import canonical_of, create_model

    arguments: dict[str, object] = {}
    if (file := _model_file(model)) is not None:
        from striate.model_file import read_card

        card = read_card(file)
        model, arguments = card.architecture, dict(card.arguments)
        trained_for = (card.preprocess.channels, tuple(card.preprocess.size), len(card.classes))
    else:
        trained_for = canonical_of(model)
    channels = trained_for[0] if channels is None else channels
    height, width = trained_for[1] if size is None else size
    classes = trained_for[2] if classes is None else classes
    if size is not None or file is None:
        arguments["image_size"] = (height, width)
    with torch.device("meta"):
        network = create_model(model, num_classes=classes, in_chans=channels, **arguments)  # type: ignore[arg-type]
    return network, (channels, height, width)


def _model_file(name: str) -> Path | None:
    path = Path(name)
    if path.suffix == ".safetensors":
        return path
    return path / "model.safetensors" if (path / "model.safetensors").is_file() else None


def read_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = re.fullmatch(r"([0-9]{1,5})(?:[x×]([0-9]{1,5}))?", text.strip())
    if sides is None or int(sides[1]) < 1 or int(sides[2] or 1) < 1:
        raise UsageError(f'--size "{text}" is not understood: write 224, or 224x160 (height x width)')
    return int(sides[1]), int(sides[2] or sides[1])


def _next_command(model: str) -> str:
    if _model_file(model) is not None:
        return f"striate predict {shlex.quote(model)} PICTURES"
    return f"striate train DATA --model {shlex.quote(model)}"
