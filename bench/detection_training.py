"""One training step of Faster R-CNN on a feature pyramid: pictures in memory, normalised within the step, 5 boxes each.

striate:     `FasterRCNN` as the training loop runs it: uint8 pictures to floats and channels_last, forward, backward,
             SGD with momentum and weight decay.
torchvision: its `FasterRCNN` on the same backbone in the step of its reference detection loop: a list of float
             pictures and of dictionaries, `GeneralizedRCNNTransform` told to keep the size, forward, backward, the
             same SGD; NCHW.

Both start from the same weights and see the same pictures, boxes, anchors and numbers of proposals, regions and
channels, in fp32. Every layer is trained. Sides run in turn in one process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

from bench.harness import Comparison, interleave, throughput

PAIRS = 5
TARGET = 1.0  # times as fast
CLASSES, OBJECTS = 5, 5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="resnet18", help="of torchvision's and our ResNets")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=2, help="as many as torchvision's reference takes on a GPU")
    parser.add_argument("--channels", type=int, default=256, help="of the pyramid")
    parser.add_argument("--representation", type=int, default=1024, help="width of the head")
    parser.add_argument("--steps", type=int, default=2, help="timed together")


def measure(options: argparse.Namespace) -> list[Comparison]:
    import torch

    generator = torch.Generator().manual_seed(0)
    shape = (options.batch, 3, options.size, options.size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    places = torch.rand(options.batch, OBJECTS, 4, generator=generator)
    boxes = torch.cat([places[..., :2] * 0.6, places[..., :2] * 0.6 + 0.05 + places[..., 2:] * 0.35], 2) * options.size
    labels = torch.randint(0, CLASSES, (options.batch, OBJECTS), generator=generator)

    torch.manual_seed(0)
    peer = their_network(options).to(options.device).train()
    sides = {
        "striate": our_step(options, peer, images, boxes, labels),
        "torchvision": their_step(options, peer, images, boxes, labels),
    }
    timed = {name: throughput(step, options.batch, options.steps, options.device) for name, step in sides.items()}
    figures = interleave(timed, options.pairs, warmup=1)
    facts = {"channels": options.channels, "representation": options.representation, "objects a picture": OBJECTS}
    case = f"{options.model} {options.size} batch {options.batch}"
    found = Comparison("img/s", figures, facts=facts, case=case)
    return [replace(found, ok=median(found.ratios()["torchvision"]) >= TARGET)]


def our_step(options: argparse.Namespace, peer: Any, images: Any, boxes: Any, labels: Any) -> Callable[[], object]:
    import torch

    from striate.tasks.detect.faster_rcnn import FasterRCNN, load_torchvision

    network = FasterRCNN(options.model, CLASSES, channels=options.channels, representation=options.representation)
    load_torchvision(network, peer.state_dict())
    network = network.to(options.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = sgd(network)
    targets = torch.zeros(*labels.shape, 7)
    targets[..., :4], targets[..., 4] = boxes, labels
    mean, std = (torch.tensor(values, device=options.device).view(3, 1, 1) * 255 for values in (MEAN, STD))

    def step() -> None:
        batch = images.to(options.device).contiguous(memory_format=torch.channels_last)
        there = targets.to(options.device)
        losses = network((batch - mean) / std, there)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()

    return step


def their_network(options: argparse.Namespace) -> Any:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.resnet import __dict__ as resnets

    body = resnets[options.model](weights=None)
    width = body.fc.in_features
    layers = {f"layer{number + 1}": str(number) for number in range(4)}
    backbone = BackboneWithFPN(body, layers, [width // 8, width // 4, width // 2, width], options.channels)
    return FasterRCNN(
        backbone,
        min_size=options.size,
        max_size=options.size,
        rpn_anchor_generator=AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5),
        box_head=TwoMLPHead(options.channels * 49, options.representation),
        box_predictor=FastRCNNPredictor(options.representation, CLASSES + 1),
        _skip_resize=True,
    )


def their_step(options: argparse.Namespace, network: Any, images: Any, boxes: Any, labels: Any) -> Callable[[], object]:
    optimizer = sgd(network)
    pictures = images / 255

    def step() -> None:
        # as references/detection/engine.py of torchvision
        batch = [picture.to(options.device) for picture in pictures]
        targets = [
            {"boxes": box.to(options.device), "labels": label.to(options.device)}
            for box, label in zip(boxes, labels + 1, strict=True)
        ]
        losses = network(batch, targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimizer.step()

    return step


def sgd(network: Any) -> Any:
    import torch

    return torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
