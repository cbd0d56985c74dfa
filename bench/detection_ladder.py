"""The lectures' speed ladder: seconds a picture of R-CNN, Fast R-CNN, Faster R-CNN and YOLO, on one machine.

ResNet-18 is under each, and each is built as `striate train --model NAME/resnet18` builds it, but R-CNN, whose crops
are the paper's 224 pixels; the weights are random, since time hardly depends on them. Photographs of coco128 (nothing
of them is kept) at one size are detected one at a time, from normalised pixels to boxes
after suppression; detectors take turns. Selective search is part of R-CNN's and Fast R-CNN's time, as in the papers.
`--picture FILE` draws the ladder. Fails when a step of the ladder does not hold.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.harness import Comparison
from bench.pictures import dataset

PAIRS = 1  # rounds
CLASSES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=3, help="photographs; R-CNN takes a minute or more for one")
    parser.add_argument("--size", type=int, default=320, help="side of the square they are fitted into")
    parser.add_argument("--picture", type=Path, help="draw the ladder here")


def measure(options: argparse.Namespace) -> list[Comparison]:
    import torch

    from striate.config import Preprocess
    from striate.data.spatial import eval_pair
    from striate.data.transforms import Normalize
    from striate.images import read_image
    from striate.tasks.detect.selective_search import forget

    preprocess = Preprocess(size=(options.size, options.size), fit="pad", fill=114)
    normalize = Normalize(preprocess)
    files = sorted((dataset("coco128-train") / "images").rglob("*.jpg"))[: options.count]
    pictures = [normalize(eval_pair(read_image(file), None, preprocess)[0][None]) for file in files]
    networks = detectors()
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    regions: list[int] = []
    with torch.inference_mode():
        for name, network in networks.items():
            if name != "R-CNN":  # a minute or more, to which the first time's milliseconds are nothing
                network.coder.detections(network(pictures[-1]))
        for _ in range(options.pairs):
            for picture in pictures:
                for name, network in networks.items():
                    forget()  # selective search remembers pictures
                    start = time.perf_counter()
                    outputs = network(picture)
                    network.coder.detections(outputs)
                    seconds[name].append(time.perf_counter() - start)
                    if name == "R-CNN":
                        regions.append(len(outputs["regions"]))
    middle = {name: median(values) for name, values in seconds.items()}
    for name, value in middle.items():
        print(f"{name:13} {value:8.3f} s a picture  {value / middle['YOLOv3']:7.1f} x YOLO", file=sys.stderr)
    order = list(middle.values())
    facts: dict[str, Any] = {"seconds a picture": {name: round(value, 4) for name, value in middle.items()}}
    facts |= {"regions a picture": median(regions), "size": options.size}
    if options.picture:
        draw(middle, options.picture)
    falls = order[0] > order[1] > order[2] > order[3]
    ours = {name: seconds[name] for name in ("YOLOv3", "Faster R-CNN", "Fast R-CNN", "R-CNN")}
    return [Comparison("s", ours, False, facts, "ladder", falls)]


def detectors() -> dict[str, Any]:
    from striate.tasks.detect.rcnn import RCNN
    from striate.tasks.detect.task import Detect

    names = {"Fast R-CNN": "fast_rcnn", "Faster R-CNN": "faster_rcnn", "YOLOv3": "yolov3"}
    task = Detect([f"class {number}" for number in range(CLASSES)])
    networks = {"R-CNN": RCNN("resnet18", CLASSES, crop=224)}
    networks |= {shown: task.build(f"{name}/resnet18", 3) for shown, name in names.items()}
    return {name: network.eval() for name, network in networks.items()}


def draw(middle: dict[str, float], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained", dpi=130)
    axes = figure.subplots()
    names = list(middle)[::-1]
    bars = axes.barh(names, [middle[name] for name in names], color="#3b82f6")
    axes.bar_label(bars, [f"{middle[name]:.3g} s" for name in names], padding=4)
    axes.set(xscale="log", xlabel="seconds a picture, this machine (log)", title="The ladder: R-CNN to YOLO, ResNet-18")
    axes.margins(x=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
