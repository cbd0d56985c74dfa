"""Small models whose reasons are known."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.config import ModelCard, Preprocess
from striate.model import Model
from striate.tasks import create_task

CLASSES = ["left", "right"]


class Sides(nn.Module):
    """Left where the left half is brighter, by ten times the difference of their means."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 2, 1)
        with torch.no_grad():
            self.body.weight.fill_(1 / 3)
            self.body.bias.zero_()  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> Tensor:
        grey = self.body(images)[:, 0]  # [B, h, w]
        half = grey.shape[-1] // 2
        difference = 10 * (grey[..., :half].mean((1, 2)) - grey[..., half:].mean((1, 2)))
        return torch.stack((difference, -difference), 1)


class Residual(nn.Module):
    """In-place activations, one of them a function, an addition in place, and a layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.shared = nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 2)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.stem(images))
        y = self.norm(self.shared(x))
        y += x
        y = F.relu(y, inplace=True)
        z = self.shared(F.max_pool2d(y, 2))
        return self.fc(F.relu(z).mean((2, 3)))


def model_of(module: nn.Module, size: tuple[int, int] = (16, 16), fit: str = "squash", task: str = "classify") -> Model:
    preprocess = Preprocess(size=size, fit=fit, mean=(0.5,) * 3, std=(0.25,) * 3, fill=128)  # type: ignore[arg-type]
    card = ModelCard(task=task, architecture="small", classes=CLASSES, preprocess=preprocess)
    return Model(module, card, device="cpu")


def zoo_model(task: str = "classify", architecture: str = "resnet20_cifar", size: int = 32, seed: int = 0) -> Model:
    """Untrained."""
    torch.manual_seed(seed)
    module = create_task(task, classes=CLASSES).build(architecture, 3)
    preprocess = Preprocess(size=(size, size), fit="pad", mean=(0.5,) * 3, std=(0.25,) * 3, fill=128)
    card = ModelCard(task=task, architecture=architecture, classes=CLASSES, preprocess=preprocess)
    return Model(module, card, device="cpu")


def picture(height: int = 24, width: int = 32, seed: int = 0) -> Tensor:
    """uint8 [3, height, width], smooth, bright on the left."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 4, generator=generator) * 0.4
    coarse[..., :2] += 0.6
    return (F.interpolate(coarse, (height, width), mode="bilinear")[0] * 255).to(torch.uint8)
