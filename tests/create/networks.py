"""A small network with weights, as a model file; and small pictures."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from striate.backbones import Backbone, create_model
from striate.config import ModelCard, Preprocess
from striate.model_file import write_model

LINE = "conv8-relu-pool-conv12-relu-pool-conv16-relu"  # stages 1 to 3
PREPROCESS = Preprocess(size=(32, 32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def small_backbone(line: str = LINE, channels: int = 3) -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = create_model(line, num_classes=4, in_chans=channels)
    assert isinstance(made, Backbone)
    return made.eval()


def small_file(folder: Path, line: str = LINE, channels: int = 3) -> Path:
    backbone = small_backbone(line, channels)
    numbers = (0.5, 0.4, 0.3)[:channels]
    preprocess = Preprocess(size=(32, 32), channels=channels, mean=numbers, std=numbers)  # type: ignore[arg-type]
    card = ModelCard(
        task="classify",
        architecture=line,
        arguments=backbone.arguments,
        classes=["a", "b", "c", "d"],
        preprocess=preprocess,
    )
    return write_model(folder / "seeing.safetensors", backbone.state_dict(), card)


def photo(seed: int = 0, height: int = 40, width: int = 48) -> Tensor:
    """uint8 [3, H, W]: coloured waves, which are neither flat nor noise."""
    generator = torch.Generator().manual_seed(seed)
    frequency, phase = torch.rand(3, 2, generator=generator), torch.rand(3, generator=generator)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    waves = [torch.sin(f[0] * rows + f[1] * columns + 6 * p) for f, p in zip(frequency, phase, strict=True)]
    return ((torch.stack(waves) * 0.4 + 0.5) * 255).round().to(torch.uint8)


def without_classifier(name: str) -> Backbone:
    """A network of the zoo cut behind its last map, with random weights: most of a VGG is its classifier."""
    with torch.device("meta"):
        backbone = create_model(name)
    assert isinstance(backbone, Backbone)
    backbone.cut_after(list(backbone.pyramid)[-1])
    backbone.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in backbone.parameters():
        with torch.no_grad():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2 / fan_in) ** 0.5)
    for name, buffer in backbone.named_buffers():
        buffer.fill_(1 if name.endswith("running_var") else 0)
    return backbone.eval()
