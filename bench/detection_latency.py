"""From a picture's file to drawn boxes: the same network and weights, ours end to end against torchvision's own way.

ours:        `model.predict(FILE).draw()`, the file of a model with torchvision's FCOS ResNet-50 FPN, at its defaults.
torchvision: decode with Pillow, its FCOS with its own transform at the same size, `draw_bounding_boxes`.

One picture at a time, in turn, one process; weights are random, scaled so that boxes are found. Two cases: pictures of
one size, 640 x 480; and pictures of any size. Either way both sides see each picture's own rectangle, in multiples of
32.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from bench.harness import Comparison, interleave, throughput
from bench.pictures import dataset

PAIRS = 5
CLASSES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--count", type=int, default=6, help="pictures a round")


def measure(options: argparse.Namespace) -> list[Comparison]:
    import torch
    from PIL import Image
    from torchvision.models.detection import fcos_resnet50_fpn
    from torchvision.models.detection.transform import GeneralizedRCNNTransform
    from torchvision.transforms.functional import pil_to_tensor, to_pil_image
    from torchvision.utils import draw_bounding_boxes

    import striate
    from striate.config import ModelCard, Preprocess
    from striate.model_file import write_model

    torch.manual_seed(0)
    network: Any = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=CLASSES).eval()
    with torch.no_grad():
        network.head.classification_head.cls_logits.weight.mul_(30)
        network.head.regression_head.bbox_reg.bias.fill_(2)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    network.transform = GeneralizedRCNNTransform(options.size, options.size, list(mean), list(std))
    every = sorted((dataset("coco128-train") / "images").rglob("*.jpg"))
    sizes: dict[Path, tuple[int, int]] = {}
    for path in every:
        with Image.open(path) as opened:
            sizes[path] = opened.size
    side = options.size
    cases = {  # pictures, and the height and width that our model sees at most
        "one size": ([path for path in every if sizes[path] == (640, 480)], (-(-side * 3 // 4 // 32) * 32, side)),
        "any size": (every, (side, side)),
    }
    classes = [f"class {number}" for number in range(CLASSES)]

    def ours(model: striate.Model, files: list[Path]) -> None:
        for path in files:
            model.predict(path, threshold=0.3).draw()

    @torch.inference_mode()
    def theirs(files: list[Path]) -> None:
        for path in files:
            with Image.open(path) as opened:
                picture = pil_to_tensor(opened.convert("RGB"))
            found = network([picture.float() / 255])[0]
            kept = found["scores"] > 0.3
            labels = [classes[int(label)] for label in found["labels"][kept]]
            to_pil_image(draw_bounding_boxes(picture, found["boxes"][kept], labels))

    found: list[Comparison] = []
    for case, (files, seen) in cases.items():
        with tempfile.TemporaryDirectory(prefix="striate-bench-") as where:
            file = Path(where) / "model.safetensors"
            preprocess = Preprocess(size=seen, fit="pad", pad_multiple=32, mean=mean, std=std)
            card = ModelCard(task="detect", architecture="fcos_resnet50_fpn", classes=classes, preprocess=preprocess)
            write_model(file, network.state_dict(), card)
            model = striate.load(file, device=options.device)
        sides = {
            "striate": throughput(partial(ours, model, files[: options.count]), options.count, 1, options.device),
            "torchvision": throughput(partial(theirs, files[: options.count]), options.count, 1, options.device),
        }
        figures = interleave(sides, options.pairs, warmup=1)
        found.append(Comparison("img/s", figures, facts={"seen": seen}, case=f"fcos_resnet50_fpn, {case}"))
    return found
