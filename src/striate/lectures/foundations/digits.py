"""Small real training runs for the lectures: scikit-learn's 1,797 handwritten digits, seconds a run."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Digits(NamedTuple):
    """Float images [N, 1, 8, 8], normalised by the training pictures' own mean and deviation, and labels [N]."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def digits(train: int, seed: int = 0) -> Digits:
    """`train` pictures drawn at random, and the others to be judged on."""
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)  # [N, 64] in 0..16
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    images = torch.from_numpy(values).float()[order].view(-1, 1, 8, 8)
    targets = torch.from_numpy(labels)[order].long()
    mean, std = images[:train].mean(), images[:train].std()
    images = (images - mean) / std
    return Digits(images[:train], targets[:train], images[train:], targets[train:])


def fit(
    network: nn.Module,
    data: Digits,
    *,
    steps: int,
    lr: float,
    optimizer: str = "momentum",
    batch: int = 50,
    mixup: float = 0.0,
    label_smoothing: float = 0.0,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> list[float]:
    """Train in place with Striate's own loss, mixing and optimisers at a constant rate; the loss of every step."""
    from striate.data.mixing import mix
    from striate.tasks.classify.task import Classify
    from striate.train.optimizers import make_optimizer

    task = Classify([str(digit) for digit in range(10)])
    stepper = make_optimizer(network, optimizer, lr, 0.9, weight_decay)
    draw = torch.Generator().manual_seed(seed)
    losses = []
    network.train()
    for _ in range(steps):
        chosen = torch.randint(len(data.labels), (batch,), generator=draw)
        images, targets = mix(data.images[chosen], task.soft_targets(data.labels[chosen]), mixup, 0.0, draw)
        loss = task.loss(network(images), targets, label_smoothing)["loss"]
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        losses.append(float(loss.detach()))
    network.eval()
    return losses


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.inference_mode():
        return float((network(images).argmax(1) == labels).float().mean())


def seeded(line: str, seed: int, **options: object) -> nn.Module:
    """A network from one line for 8×8 digits, its first weights drawn from a seed; the caller's stream is untouched."""
    from striate.backbones import create_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_model(line, num_classes=10, in_chans=1, image_size=(8, 8), **options)  # type: ignore[arg-type]
