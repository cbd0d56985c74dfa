"""Our networks against torchvision's (timm's where torchvision has none): the same layout, the same weights, in turn.

Both sides run in one process, NCHW fp32 eager, on one batch in memory: `forward` in evaluation mode without gradients,
`training` forward, backward and a step of SGD. What differs is how the network is written, nothing else. Fails when
ours is more than 2 % slower (the median of the ratios of the rounds).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from typing import Any

from bench.harness import Comparison, interleave, throughput

PAIRS = 15
SLOWER = 0.98
# one of each family: ours -> timm's where torchvision has none
NETWORKS = {
    "alexnet": "",
    "vgg11": "",
    "squeezenet1_0": "",
    "googlenet": "",
    "inception_v3": "",
    "resnet18": "",
    "resnet50": "",
    "resnext50_32x4d": "",
    "resnetv2_50": "resnetv2_50",
    "convnext_tiny": "",
    "mobilenet_v1": "mobilenetv1_100",
    "mobilenet_v2": "",
    "mobilenet_v3_large": "",
    "efficientnet_b0": "",
    "nasnetalarge": "nasnetalarge",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="+", choices=tuple(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--modes", nargs="+", choices=("forward", "training"), default=["forward", "training"])


def measure(options: argparse.Namespace) -> list[Comparison]:
    from striate.device import keep_freed_memory

    keep_freed_memory()  # for both sides: they share the process
    return [compare(name, mode, options) for name in options.models for mode in options.modes]


def compare(name: str, mode: str, options: argparse.Namespace) -> Comparison:
    import torch

    size = 299 if name == "inception_v3" else options.size
    images = torch.rand(options.batch, 3, size, size, device=options.device)
    targets = torch.randint(1000, (options.batch,), device=options.device)
    ours, theirs = pair(name)
    ours, theirs = ours.to(options.device), theirs.to(options.device)
    work = forward if mode == "forward" else training
    sides = {
        "striate": throughput(work(ours, images, targets), options.batch, 1, options.device),
        "theirs": throughput(work(theirs, images, targets), options.batch, 1, options.device),
    }
    figures = interleave(sides, options.pairs, warmup=2)
    found = Comparison("img/s", figures, case=f"{name} {mode} {size}", facts={"batch": options.batch})
    ok = median(found.ratios()["theirs"]) >= SLOWER
    return Comparison("img/s", figures, case=found.case, facts=found.facts, ok=ok)


def pair(name: str):
    """Ours and theirs with the same weights and without dropout."""
    import torchvision
    from torch import nn

    from striate.backbones import create_model

    if NETWORKS[name]:
        import timm

        theirs = timm.create_model(NETWORKS[name])
    else:
        own = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        theirs = torchvision.models.get_model(name, weights=None, **own)
    arguments: dict[str, Any] = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    ours = create_model(name, **arguments)
    ours.load_state_dict(theirs.state_dict())
    for model in (ours, theirs):
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    return ours, theirs


def forward(model, images, targets) -> Callable[[], object]:
    import torch

    model.eval()

    def step() -> None:
        with torch.inference_mode():
            model(images)

    return step


def training(model, images, targets) -> Callable[[], object]:
    import torch

    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), targets).backward()
        optimizer.step()

    return step
