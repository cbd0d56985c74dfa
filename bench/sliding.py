"""Every window of one picture scored by one classifier: in a fully convolutional pass, and by crops.

lecture:   the worked example of lecture 4, windows of 14 in a picture of 28: 8 × 8 scores. No padding.
unpadded:  the sliding-window detector's network (windows of 48, stride 4) on a drawn scene of 160; random weights, and
           batch norms that have seen such windows.
padded:    SqueezeNet 1.0 with its ImageNet weights (windows of 224, stride 16) on a photograph of 288 × 384; where the
           weights or the photographs are missing, random weights on noise, and it says so.

Both ways see the same pixels, in fp32, crops in batches of 64. Reported are the milliseconds, the multiply-adds, the
largest difference of two scores (logits) in units of their standard deviation, and how often both ways name the same
class. Fails where a network without padding differs by more than 1e-4, or where one pass needs more multiply-adds.
`--picture FILE.png` draws the score maps of both ways (unpadded and padded) beside what they cost.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.harness import Comparison, interleave, synchronize
from bench.pictures import SHARED, dataset
from striate.backbones import create_model
from striate.backbones.backbone import Backbone
from striate.data.shapes import draw_scene
from striate.images import read_image
from striate.tasks.detect.sliding import Costs, fully_convolutional, multiply_adds, score_crops
from striate.tasks.detect.task import WINDOW

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAIRS = 3
EXACT = 1e-4  # of the scores' standard deviation: rounding in fp32
WEIGHTS = "squeezenet1_0-imagenet.safetensors"
MEAN, STD = (123.0, 117.0, 104.0), 1.0  # of SqueezeNet's pixels in 0..255


@dataclass(frozen=True)
class Case:
    """One network on one picture."""

    name: str
    network: Backbone
    image: Tensor  # [1, C, H, W] as the network sees it
    picture: Tensor  # uint8 [3, H, W]
    window: int
    is_padded: bool
    weights: str


@dataclass(frozen=True)
class Scores:
    """Of both ways, [rows, columns, K]."""

    crops: Tensor
    one_pass: Tensor
    costs: Costs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--picture", help="draw the score maps and the costs into this file")


@torch.inference_mode()
def measure(options: argparse.Namespace) -> list[Comparison]:
    found: list[Comparison] = []
    drawn: list[tuple[Case, Scores, Comparison]] = []
    for name in options.cases:
        torch.manual_seed(0)
        case = CASES[name]()
        network, image = case.network.eval().to(options.device), case.image.to(options.device)
        convolutional = fully_convolutional(network, case.window).eval()
        stride = convolutional.stride

        def crops(network: nn.Module = network, image: Tensor = image, case: Case = case, step: int = stride) -> Tensor:
            return score_crops(network, image, case.window, step)

        def one_pass(convolutional: nn.Module = convolutional, image: Tensor = image) -> Tensor:
            return convolutional(image)[0].permute(1, 2, 0)

        costs = multiply_adds(network, tuple(image.shape[1:]), case.window)  # type: ignore[arg-type]
        scores = Scores(crops().cpu(), one_pass().cpu(), costs)
        away = float((scores.crops - scores.one_pass).abs().max() / scores.crops.std())
        agree = float((scores.crops.argmax(2) == scores.one_pass.argmax(2)).float().mean())
        sides = {
            "fully convolutional": lambda: milliseconds(one_pass, options.device),
            "crops": lambda: milliseconds(crops, options.device),
        }
        figures = interleave(sides, options.pairs, warmup=1)
        facts = {
            "network": network.architecture,
            "weights": case.weights,
            "picture": "×".join(str(side) for side in image.shape[1:]),
            "windows": f"{scores.crops.shape[0]} × {scores.crops.shape[1]} of {case.window}, stride {stride}",
            "multiply-adds, crops": costs.crops,
            "multiply-adds, fully convolutional": costs.convolutional,
            "multiply-adds saved": f"{costs.saving:.2f} ×",
            "largest score difference, of their deviation": float(f"{away:.3g}"),
            "same best class": f"{agree:.1%} of windows",
        }
        ok = costs.saving > 1 and (case.is_padded or away <= EXACT)
        found.append(Comparison("ms", figures, higher_is_better=False, facts=facts, case=name, ok=ok))
        drawn.append((case, scores, found[-1]))
    if options.picture:
        figure_of([one for one in drawn if one[0].name != "lecture"]).savefig(Path(options.picture), dpi=110)
    return found


def milliseconds(work: object, device: str) -> float:
    assert callable(work)
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return 1000 * (time.perf_counter() - start)


def lecture() -> Case:
    """14 × 14 → conv 5 × 5 → pool → 400 → 400 → 4, in a picture of 28 × 28."""
    network = classifier("conv16k5p0-relu-pool-fc400-relu-fc400-relu", num_classes=4, image_size=(14, 14))
    picture = draw_scene(0, 0, 32)[0][:, :28, :28]
    return Case("lecture", network, picture[None].float() / 128 - 1, picture, 14, is_padded=False, weights="random")


def unpadded() -> Case:
    """The detector's own network; its batch norms take their statistics from windows of other scenes."""
    network = classifier(WINDOW, num_classes=6, image_size=(48, 48))
    windows = torch.stack([draw_scene(0, index)[0][:, 40:88, 40:88] for index in range(1, 65)]).float() / 64 - 2
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # a plain mean
    network.train()(windows)
    picture = draw_scene(0, 9)[0]
    return Case("unpadded", network, picture[None].float() / 64 - 2, picture, 48, is_padded=False, weights="random")


def padded() -> Case:
    if not (SHARED / WEIGHTS).exists() or not (SHARED / "imagenet-samples.zip").exists():
        network = classifier("squeezenet1_0", num_classes=1000)
        picture = torch.randint(0, 256, (3, 288, 384), dtype=torch.uint8)
        return Case("padded", network, picture[None].float() / 64 - 2, picture, 224, True, "random, on noise")
    network = classifier("squeezenet1_0", num_classes=1000, weights=SHARED / WEIGHTS)
    photo = read_image(sorted(dataset("imagenet-samples").glob("*.JPEG"))[PHOTO])
    scaled = F.interpolate(photo[None].float(), (288, 384), mode="bilinear", antialias=True)
    inputs = (scaled - torch.tensor(MEAN).view(3, 1, 1)) / STD
    return Case("padded", network, inputs, scaled[0].round().byte(), 224, True, "ImageNet")


def classifier(name: str, **arguments: object) -> Backbone:
    network = create_model(name, **arguments)  # type: ignore[arg-type]
    assert isinstance(network, Backbone)
    return network


PHOTO = 0
CASES = {"lecture": lecture, "unpadded": unpadded, "padded": padded}


def figure_of(cases: list[tuple[Case, Scores, Comparison]]) -> Figure:
    """A row a case: the picture, the score map of both ways, their difference, and bars of what they cost."""
    from statistics import median

    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3.5 * len(cases)), layout="constrained")
    axes = figure.subplots(len(cases), 5, squeeze=False, width_ratios=(1.1, 1, 1, 1, 1))
    for row, (case, scores, comparison) in zip(axes, cases, strict=True):
        best = int(scores.crops.flatten(0, 1).amax(0).argmax())  # the class that some window is surest of
        maps = [one.softmax(2)[..., best] for one in (scores.crops, scores.one_pass)]
        row[0].imshow(case.picture.permute(1, 2, 0))
        row[0].set_title(f"{case.name}: windows of {case.window}", fontsize=10)
        top = float(max(one.max() for one in maps))
        for place, one, title in zip(row[1:3], maps, ("by crops", "in one pass"), strict=True):
            place.imshow(one, cmap="inferno", vmin=0, vmax=top)
            place.set_title(f"{title}: {one.shape[0]} × {one.shape[1]} scores", fontsize=10)
        figure.colorbar(row[2].images[0], ax=row[2], shrink=0.7)
        apart = (maps[0] - maps[1]).abs()
        shown = row[3].imshow(apart, cmap="viridis", vmin=0, vmax=max(float(apart.max()), 1e-12))
        row[3].set_title(f"difference, at most {float(apart.max()):.1g}", fontsize=10)
        figure.colorbar(shown, ax=row[3], shrink=0.7)
        for place in row[:4]:
            place.set(xticks=[], yticks=[])
        work = [scores.costs.crops / 1e9, scores.costs.convolutional / 1e9]
        times = [median(comparison.figures[side]) for side in ("crops", "fully convolutional")]
        bars = row[4].barh([1, 0], work, color=["#8a919e", "#3b82f6"])
        labels = [f"{giga:.3g} G, {ms:.0f} ms" for giga, ms in zip(work, times, strict=True)]
        row[4].bar_label(bars, labels, padding=3, fontsize=9)
        row[4].set_yticks([1, 0], ["crops", "one pass"])
        row[4].set(xlim=(0, 1.55 * max(work)), title=f"multiply-adds: {scores.costs.saving:.1f} × fewer")
        row[4].title.set_fontsize(10)
        row[4].spines[["top", "right"]].set_visible(False)
    return figure
