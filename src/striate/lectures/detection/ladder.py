"""R-CNN runs a whole network on each of two thousand regions; Fast R-CNN runs it once and pools each region from its
maps; Faster R-CNN lets the network propose the regions itself; YOLO asks for no regions at all and answers in one pass
(Girshick et al. 2014; Girshick 2015; Ren et al. 2015; Redmon et al. 2016). Each step removes what was slowest: the
crops, then the search, then the second look.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

PYTHON = """\
import time, torch
from striate.tasks.detect.faster_rcnn import FasterRCNN
from striate.tasks.detect.yolov3 import YOLOv3

for detector in (FasterRCNN("resnet18", 20), YOLOv3("resnet18", 20)):
    with torch.inference_mode():
        detector.eval()(torch.rand(1, 3, 256, 256))  # once, to warm up
        start = time.perf_counter()
        detector.coder.detections(detector(torch.rand(1, 3, 256, 256)))
    print(f"{type(detector).__name__}: {1000 * (time.perf_counter() - start):.0f} ms")
"""

SIDE, CROP, CLASSES = 256, 128, 20
PICTURES = ("astronaut", "coffee")
LIMIT = 1000  # regions a picture
PROPOSALS = 300  # of Faster R-CNN, as in its paper's section 4


def show(setting: Setting) -> Shown:
    inputs = {"side": SIDE, "crop": CROP, "pictures": PICTURES, "regions": [LIMIT, PROPOSALS]}
    found = setting.remembered("ladder", inputs, lambda: measured(setting))
    seconds = {name: median(values) for name, values in found["seconds"].items()}
    names = list(seconds)
    last = seconds["YOLOv3"]
    parts = found["search"]
    checks = [
        Check(
            f"{slow} against {fast}",
            printed,
            f"{seconds[slow]:.3g} s against {seconds[fast]:.3g} s a picture: {seconds[slow] / seconds[fast]:.1f} times",
            seconds[slow] > seconds[fast] * factor,
            why,
        )
        for slow, fast, printed, factor, why in (
            (
                "R-CNN",
                "Fast R-CNN",
                "orders of magnitude slower",
                10,
                f"{found['regions']:.0f} regions a picture, each through the network; with the search, "
                f"{parts:.2g} s, left out of both, {(seconds['R-CNN'] - parts) / (seconds['Fast R-CNN'] - parts):.0f} "
                "times. The paper's 2,000 regions of 227 pixels are "
                f"{2000 / found['regions'] * (227 / CROP) ** 2:.0f} times as much work as these.",
            ),
            (
                "Fast R-CNN",
                "Faster R-CNN",
                "slower",
                1.3,
                f"{parts / seconds['Fast R-CNN']:.0%} of Fast R-CNN's time is selective search, which ours does in "
                f"{parts:.2g} s; the paper's took 2 s.",
            ),
            ("Faster R-CNN", "YOLOv3", "slower", 1, ""),
        )
    ]
    rows = [[name, f"{seconds[name]:.3f}", f"{seconds[name] / last:.1f}", WORK[name]] for name in names]
    return Shown(
        tuple(checks),
        (
            Section(
                "Four detectors on one machine",
                f"ResNet-18 is under each, photographs are {SIDE}×{SIDE}, R-CNN's crops {CROP}×{CROP}, at most "
                f"{LIMIT:,} regions, Faster R-CNN's proposals {PROPOSALS}; detectors take turns, medians count. The "
                "weights are random: time hardly depends on them.",
                [
                    Figure(
                        draw(seconds),
                        "Seconds from picture to boxes, suppression included; each step of the scale is ten times.",
                        "Four bars on a logarithmic scale, each shorter than the one above.",
                        wide=True,
                    )
                ],
                [Table(("detector", "seconds a picture", "over YOLO", "what it runs"), rows)],
            ),
        ),
        notes=("`python -m bench detection_ladder` measures the same at 320 pixels, with crops of 224.",),
    )


WORK = {
    "R-CNN": "selective search; the whole network on every region",
    "Fast R-CNN": "selective search; the network once, a small head on every region",
    "Faster R-CNN": "the network once, its own proposals, a small head on each",
    "YOLOv3": "the network once",
}


def measured(setting: Setting) -> dict[str, Any]:
    """Seconds a picture of each detector, of selective search alone, and how many regions it found."""
    import time

    import torch

    from striate.config import Preprocess
    from striate.data.spatial import eval_pair
    from striate.data.transforms import Normalize
    from striate.lectures.real_data import photograph
    from striate.tasks.detect.selective_search import forget, propose

    preprocess = Preprocess(size=(SIDE, SIDE), fit="pad", fill=114)
    normalize = Normalize(preprocess)
    pictures = [normalize(eval_pair(photograph(name), None, preprocess)[0][None]) for name in PICTURES]
    seconds: dict[str, list[float]] = {}
    searches, regions = [], []

    def timed(work: Any) -> tuple[float, Any]:
        forget()  # selective search remembers pictures
        start = time.perf_counter()
        result = work()
        return time.perf_counter() - start, result

    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = detectors()
        for name, network in networks.items():
            if name != "R-CNN":  # seconds, to which the first time's milliseconds are nothing
                network.coder.detections(network(pictures[0]))
        for turn in range(3):
            for picture in pictures:
                taken, proposed = timed(lambda at=picture: propose(at, "fast", LIMIT))
                searches.append(taken)
                regions.append(len(proposed[0]))
                for name, network in networks.items():
                    if name == "R-CNN" and turn:
                        continue
                    setting.say(f"{name}: timing")
                    taken, _ = timed(lambda at=picture, run=network: run.coder.detections(run(at)))
                    seconds.setdefault(name, []).append(taken)
    return {"seconds": seconds, "search": median(searches), "regions": sum(regions) / len(regions)}


def detectors() -> dict[str, Any]:
    from striate.tasks.detect.fast_rcnn import FastRCNN
    from striate.tasks.detect.faster_rcnn import FasterRCNN
    from striate.tasks.detect.rcnn import RCNN
    from striate.tasks.detect.yolov3 import YOLOv3

    networks = {
        "R-CNN": RCNN("resnet18", CLASSES, crop=CROP, proposals=LIMIT),
        "Fast R-CNN": FastRCNN("resnet18", CLASSES, proposals=LIMIT),
        "Faster R-CNN": FasterRCNN("resnet18", CLASSES, after=(2000, PROPOSALS)),
        "YOLOv3": YOLOv3("resnet18", CLASSES),
    }
    return {name: network.eval() for name, network in networks.items()}


def draw(seconds: dict[str, float]) -> Drawing:
    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes

    figure = new_figure(9, 2.4)
    axes = plain_axes(figure.add_subplot())
    names = list(seconds)
    colours = [ORANGE, ORANGE, BLUE, BLUE]
    axes.set_xscale("log")
    left = min(seconds.values()) / 4
    bars = axes.barh(names, [seconds[name] - left for name in names], left=left, color=colours, height=0.62)
    labels = [f"{value:.3g} s, {value / seconds['YOLOv3']:.3g} × YOLO" for value in seconds.values()]
    axes.bar_label(bars, labels, padding=4, fontsize=LETTERS)
    axes.set_xlim(left, max(seconds.values()) * 8)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelsize=LETTERS + 0.5)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("seconds a picture", fontsize=LETTERS)
    return figure
