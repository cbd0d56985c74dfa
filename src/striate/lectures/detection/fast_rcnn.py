"""R-CNN computes the same pixels again for every region that holds them; Fast R-CNN sends the photograph through the
network once and cuts the regions out of its maps (Girshick, ICCV 2015). RoI pooling makes every region the same size:
its part of the map is cut into 7×7 bins, and the largest value of each stays. Two dense layers then name the region and
move its box, and one loss teaches both.
"""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING, Any

from striate.lectures.detection.blood import CELLS, NETWORK, SIZE
from striate.lectures.detection.fast_rcnn_pictures import MAP, POOLED, REGION, STRIDE, draw_maps, draw_pooling
from striate.lectures.page import Check, Setting, Shown
from striate.lectures.seeing.real import WEIGHTS, absent
from striate.tasks.section import Figure, Section, Table

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from striate.lectures.detection.blood import Picture
    from striate.tasks.detect.fast_rcnn import FastRCNN

PYTHON = """\
import torch
from torchvision.ops import roi_pool

maps = torch.arange(64.0).view(1, 1, 8, 8)  # one map of 8 × 8
region = torch.tensor([[0, 1.0, 2, 6, 5]])  # picture, columns 1 to 6, rows 2 to 5
print("whole region:", maps[0, 0, 2:6, 1:7].int().tolist())
print("2 × 2 bins of 2 rows and 3 columns:", roi_pool(maps, region, 2)[0, 0].int().tolist())
"""

REGIONS = 250  # a photograph
LEARN, JUDGE, STEPS, HIDDEN = 40, 12, 160, 128
CROP = 96  # of the R-CNN that it is timed against
SCORE = 0.6


def show(setting: Setting) -> Shown:
    checks = [by_hand()]
    sections = [pooling()]
    source, weights = setting.found(CELLS), setting.found(WEIGHTS)
    if source is not None and weights is not None:
        from striate.lectures.detection.blood import pictures

        inputs = {"regions": REGIONS, "learn": [LEARN, STEPS, HIDDEN], "judge": JUDGE, "size": SIZE, "crop": CROP}
        found = setting.remembered("fast-rcnn", inputs, lambda: trained(source, weights, setting))
        names, seen = pictures(source, weights, "test", JUDGE)
        checks += claims(found)
        sections += steps(found, names, seen, weights)
    needed = {CELLS: "regions of blood cells cut out of maps", WEIGHTS: "a network that makes the maps"}
    return Shown(tuple(checks), tuple(sections), (PAPER,), absent(setting, needed))


PAPER = (
    "Against the paper the body does not learn here, so that a minute is enough; `striate train DATA --model "
    "fast_rcnn` trains all of it. The same machine races all four detectors on the page D7."
)


TAUGHT = (
    f"{LEARN} photographs and {STEPS} steps taught the dense layers, the body does not move. The paper: 66.9 % "
    "on PASCAL VOC 2007, another task, with all of the network taught."
)


def by_hand() -> Check:
    import torch
    from torchvision.ops import roi_pool

    from striate.lectures.cells import rows_of

    ours = roi_pool(torch.tensor(MAP).float()[None, None], torch.tensor([[0, *REGION]]).float(), 2)[0, 0]
    printed, said = rows_of(POOLED), rows_of(ours.int())
    return Check("RoI pooling of 4 rows × 6 columns to 2×2", printed, said, printed == said, "torchvision's roi_pool.")


def literally(maps: Tensor, box: list[float], bins: int) -> Tensor:
    """RoI pooling [C, bins, bins] of maps [C, h, w] in plain loops; the box x1 y1 x2 y2 in cells, ends included.

    Bin i of n goes from ⌊i·side/n⌋ to ⌈(i+1)·side/n⌉, so that neighbours share a row where it does not come out even.
    """
    import torch

    x1, y1, x2, y2 = (floor(value + 0.5) for value in box)
    wide, high = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
    pooled = torch.zeros(maps.shape[0], bins, bins)
    for row in range(bins):
        top, bottom = (
            min(max(y1 + edge, 0), maps.shape[1]) for edge in (floor(row * high / bins), ceil((row + 1) * high / bins))
        )
        for column in range(bins):
            left, right = (
                min(max(x1 + edge, 0), maps.shape[2])
                for edge in (floor(column * wide / bins), ceil((column + 1) * wide / bins))
            )
            if bottom > top and right > left:
                pooled[:, row, column] = maps[:, top:bottom, left:right].amax((1, 2))
    return pooled


def detector_of(names: int, weights: Path) -> FastRCNN:
    from striate.lectures.detection.blood import give_weights
    from striate.tasks.detect.fast_rcnn import FastRCNN

    detector = FastRCNN(NETWORK, names, stride=STRIDE, hidden=HIDDEN, proposals=REGIONS)
    give_weights(detector.backbone, weights)
    return detector.eval()


def trained(source: Path, weights: Path, setting: Setting) -> dict[str, Any]:
    """The dense layers taught on maps computed once; photographs held out judged; pooling and cropping timed."""
    import torch

    from striate.lectures.detection.blood import average_precision, pictures
    from striate.tasks.detect.fast_rcnn import HARD
    from striate.tasks.detect.fast_rcnn import REGIONS as EACH
    from striate.tasks.detect.roi import region_losses, sample_rois
    from striate.tasks.detect.selective_search import propose

    names, learn = pictures(source, weights, "train", LEARN)
    _, judge = pictures(source, weights, "test", JUDGE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = detector_of(len(names), weights)
        setting.say(f"Fast R-CNN: maps and regions of {LEARN} photographs")
        with torch.inference_mode():
            maps = torch.cat([detector.backbone(one.image)[0] for one in learn]).clone()
        regions = [propose(one.image, "fast", 1000)[0] for one in learn]
        parameters = [parameter for parameter in detector.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, 3e-4, weight_decay=0.05)
        for step in range(STEPS):
            chosen = torch.randint(0, LEARN, (2,)).tolist()
            drawn = [sample_rois(regions[at], learn[at].target, EACH, background=HARD) for at in chosen]
            logits, codes = detector.head(maps[chosen], [one.boxes for one in drawn])
            losses = region_losses(logits, codes, drawn)
            optimizer.zero_grad()
            losses["loss"].backward()
            optimizer.step()
            if step % 40 == 0:
                setting.say(f"Fast R-CNN: step {step} of {STEPS}, loss {float(losses['loss'].detach()):.2f}")
        with torch.inference_mode():
            judged = [detector(one.image) for one in judge]
            detections = [detector.coder.detections(one)[0] for one in judged]
        timed = against_crops(detector, judge, weights)
        worst = against_loops(detector, judge[0], judged[0]["regions"])
    return {
        **timed,
        "worst": worst,
        "proposed": judged[0]["regions"].tolist(),
        "scores": judged[0]["scores"].tolist(),
        "found": [rows[(rows[:, 5] >= 0) & (rows[:, 4] >= SCORE)].tolist() for rows in detections],
        "ap": average_precision(names, detections, judge),
    }


def against_loops(detector: FastRCNN, picture: Picture, regions: Tensor, count: int = 40) -> float:
    """The largest difference of torchvision's pooling and of plain loops, on the maps of a photograph."""
    import torch
    from torchvision.ops import roi_pool

    from striate.tasks.detect.fast_rcnn import POOLED as BINS

    with torch.inference_mode():
        maps = detector.backbone(picture.image)[0]
        pooled = roi_pool(maps, [regions[:count]], BINS, 1 / detector.reduction)
    boxes = (regions[:count] / detector.reduction).tolist()
    return max(float((literally(maps[0], box, BINS) - one).abs().max()) for box, one in zip(boxes, pooled, strict=True))


def against_crops(detector: FastRCNN, judge: list[Picture], weights: Path) -> dict[str, Any]:
    """Seconds of one photograph's regions, pooled from maps and cropped from pixels; and how alike both see a region.

    A region that is the whole photograph is the same either way, exactly; another sees its surroundings on the maps.
    """
    import time
    from statistics import median

    import torch
    from torch.nn import functional as F
    from torchvision.ops import roi_pool

    from striate.lectures.detection.blood import give_weights
    from striate.tasks.detect.fast_rcnn import POOLED as BINS
    from striate.tasks.detect.rcnn import RCNN
    from striate.tasks.detect.selective_search import propose

    other = RCNN(NETWORK, 3, crop=CROP, proposals=REGIONS)
    give_weights(other.backbone, weights)
    other.eval()
    seconds: dict[str, list[float]] = {"pooled": [], "cropped": []}
    count = 0
    with torch.inference_mode():
        for one in judge[:3]:
            count = len(propose(one.image, "fast", REGIONS)[0])  # remembered: the search is left out of both
            for name, network in (("pooled", detector), ("cropped", other)):
                start = time.perf_counter()
                network(one.image)
                seconds[name].append(time.perf_counter() - start)
        maps = detector.backbone(judge[0].image)[0]
        height, width = maps.shape[2:]
        whole = torch.tensor([[0.0, 0, width - 1, height - 1]])
        same = float((roi_pool(maps, [whole], BINS) - F.adaptive_max_pool2d(maps, BINS)).abs().max())
    return {
        "seconds": {name: median(values) for name, values in seconds.items()},
        "regions": count,
        "whole": same,
    }


def claims(found: dict[str, Any]) -> list[Check]:
    seconds = found["seconds"]
    ratio = seconds["cropped"] / seconds["pooled"]
    return [
        Check(
            "pooling of 40 regions of a photograph's maps, against plain loops",
            "the same",
            f"largest difference {found['worst']:g}",
            found["worst"] == 0,
            "512 maps, 7×7 bins; bins share a row or column where the region does not divide evenly.",
        ),
        Check(
            "a region that is the whole photograph",
            "as if the photograph were cropped to it",
            f"largest difference {found['whole']:g}",
            found["whole"] == 0,
            "Smaller regions differ, for on the maps they see what is around them.",
        ),
        Check(
            f"{found['regions']} regions: a pass each, or pooled from one pass",
            "146 times faster (2,000 regions, VGG-16)",
            f"{seconds['cropped']:.2f} s against {seconds['pooled']:.2f} s: {ratio:.0f} times",
            ratio > 5,
            f"Both without the search, on one machine. Fewer regions and crops of {CROP} pixels instead of 224 make "
            "the ratio smaller here; agrees when above five.",
        ),
    ]


def pooling() -> Section:
    figure = Figure(
        draw_pooling(),
        "A region of 4 rows and 6 columns in four bins; the largest number of each stays.",
        "A map of 8×8 numbers with a region of four coloured bins, and the 2×2 result.",
        wide=True,
    )
    return Section("RoI pooling", "", [figure])


def steps(found: dict[str, Any], names: list[str], seen: list[Picture], weights: Path) -> list[Section]:
    import torch

    from striate.explain.units.sheets import beside, webp
    from striate.lectures.detection.blood import draw_found

    with torch.random.fork_rng(devices=[]):
        detector = detector_of(1, weights)
    sheet = beside([draw_found(seen[at].pixels, found["found"][at], names) for at in (0, 1)], gap=12)
    rows = [[name, value] for name, value in found["ap"].items()]
    return [
        Section(
            "Once through the network",
            "The maps of SqueezeNet’s last stage: a region is its part of them, rounded to cells.",
            [
                Figure(
                    draw_maps(found, seen[0], detector),
                    "Three regions on the photograph, on the mean of the maps, and pooled to 7×7.",
                    "A photograph with three boxes, a coarse map with the same, and three small maps.",
                    wide=True,
                )
            ],
        ),
        Section(
            "What it finds",
            f"Scores of {SCORE} or more, suppressed at 0.5. Platelets are hardly larger than a cell, {STRIDE} pixels.",
            [Figure(webp(sheet), "Two photographs not learnt from.", "Photographs with named boxes.", wide=True)],
            [Table(("class", "AP at IoU 0.5"), rows, f"{JUDGE} photographs held out; {TAUGHT}")],
        ),
    ]
