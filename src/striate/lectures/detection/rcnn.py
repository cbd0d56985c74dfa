"""R-CNN, regions with CNN features, turns detection into classification: selective search proposes regions, each is cut
out and warped to the network's size, and the network, which knows ImageNet, says what it shows (Girshick et al., CVPR
2014). A linear layer on its features names the region or calls it background, another moves the box, and suppression
keeps the best of many. It is slow: every region is a pass of the whole network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.lectures.detection.blood import CELLS, NETWORK, SIZE
from striate.lectures.page import Check, Setting, Shown
from striate.lectures.seeing.real import WEIGHTS, absent
from striate.tasks.section import Figure, Section, Table

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure as Drawing
    from torch import Tensor, nn

    from striate.lectures.detection.blood import Picture
    from striate.tasks.detect.rcnn import RCNN

PYTHON = """\
import skimage.data, torch
from striate.tasks.detect.rcnn import RCNN

photo = torch.from_numpy(skimage.data.coffee()[::4, ::4].copy()).permute(2, 0, 1)[None] / 255
detector = RCNN("squeezenet1_0", 20, crop=64, proposals=50).eval()
passes = []
detector.backbone.register_forward_hook(lambda layer, given, result: passes.append(len(result)))
with torch.inference_mode():
    judged = detector(photo)
print(len(judged["regions"]), "regions,", sum(passes), "passes of the network")
"""

CROP = 96  # pixels; 227 in the paper
REGIONS = 250  # a photograph; 2,000 in the paper
LEARN, JUDGE, EACH = 36, 6, 80  # photographs, and regions learnt of one
STEPS = 400  # of the linear layers
SCORE = 0.85  # from which a box is drawn
CROPS = 16  # drawn
GREY_LEVEL = 118  # of ImageNet, on average: what is beyond the picture


def show(setting: Setting) -> Shown:
    checks: list[Check] = []
    sections: list[Section] = []
    source, weights = setting.found(CELLS), setting.found(WEIGHTS)
    if source is not None and weights is not None:
        from striate.lectures.detection.blood import pictures

        inputs = {"crop": CROP, "regions": REGIONS, "learn": [LEARN, EACH, STEPS], "judge": JUDGE, "size": SIZE}
        found = setting.remembered("rcnn", inputs, lambda: trained(source, weights, setting))
        names, seen = pictures(source, weights, "test", JUDGE)
        checks += claims(found, seen)
        sections += steps(found, names, seen)
    needed = {CELLS: "the steps on photographs of blood cells", WEIGHTS: "a network that looks at the regions"}
    return Shown(tuple(checks), tuple(sections), (PAPER,), absent(setting, needed))


PAPER = (
    "Against the paper: a softmax layer instead of support vector machines (`striate train DATA --model rcnn "
    "--classifier svm` has them), and no fine-tuning of the body, so that a minute is enough. "
    "`striate train DATA --model rcnn` trains all of it."
)


TAUGHT = (
    f"{LEARN} photographs taught linear layers on a body that does not move. The paper: 58.5 % on PASCAL VOC 2007, "
    "another task, with all of the network taught."
)


def detector_of(names: int, weights: Path) -> RCNN:
    from striate.lectures.detection.blood import give_weights
    from striate.tasks.detect.rcnn import RCNN

    detector = RCNN(NETWORK, names, crop=CROP, proposals=REGIONS)
    give_weights(detector.backbone, weights)
    return detector.eval()


def trained(source: Path, weights: Path, setting: Setting) -> dict[str, Any]:
    """Features of regions computed once, linear layers learnt on them, then whole photographs judged."""
    import time

    import torch

    from striate.lectures.detection.blood import average_precision, pictures
    from striate.tasks.detect.roi import region_losses, sample_rois
    from striate.tasks.detect.selective_search import forget, propose

    names, learn = pictures(source, weights, "train", LEARN)
    _, judge = pictures(source, weights, "test", JUDGE)
    passes: list[int] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = detector_of(len(names), weights)
        detector.backbone.register_forward_hook(lambda layer, given, result: passes.append(len(result)))
        drawn, features = [], []
        for number, one in enumerate(learn):
            if number % 12 == 0:
                setting.say(f"R-CNN: regions of photograph {number + 1} of {LEARN}")
            drawn.append(sample_rois(propose(one.image, "fast", 1000)[0], one.target, EACH))
            features.append(features_of(detector, one, drawn[-1].boxes))
        setting.say("R-CNN: two linear layers")
        fit(detector, torch.cat(features), lambda logits, codes: region_losses(logits, codes, drawn)["loss"])
        passes.clear()
        forget()
        with torch.inference_mode():
            start = time.perf_counter()
            proposed = [propose(one.image, "fast", REGIONS)[0] for one in judge]
            searched = time.perf_counter() - start
            judged = [detector(one.image) for one in judge]
            seconds = time.perf_counter() - start
            detections = [detector.coder.detections(one)[0] for one in judged]
    scores = judged[0]["scores"]
    best = scores[:, 1:].amax(1)
    return {
        "passes": sum(passes),
        "regions": [len(boxes) for boxes in proposed],
        "seconds": [searched / JUDGE, (seconds - searched) / JUDGE],
        "proposed": proposed[0].tolist(),
        "scores": scores.tolist(),
        "shown": best.argsort(descending=True)[:: max(1, len(best) // CROPS)][:CROPS].tolist(),
        "before": int((best >= SCORE).sum()),
        "found": [rows[(rows[:, 5] >= 0) & (rows[:, 4] >= SCORE)].tolist() for rows in detections],
        "ap": average_precision(names, detections, judge),
    }


def features_of(detector: RCNN, picture: Picture, boxes: Tensor) -> Tensor:
    """What the body says of each region, [R, features]."""
    import torch

    rows = torch.cat((boxes.new_zeros(len(boxes), 1), boxes), 1)
    with torch.inference_mode():
        return detector.backbone(detector.warp(picture.image, rows)).clone()


def fit(detector: RCNN, features: Tensor, loss: Any) -> None:
    """Teach the two linear layers alone; features are brought to unit spread, which the layers then undo."""
    import torch

    features = features.clone()
    mean, spread = features.mean(0), features.std(0) + 1e-3
    layers: list[nn.Linear] = [detector.classes, detector.boxes]
    values = (features - mean) / spread
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    optimizer = torch.optim.AdamW(parameters, 3e-3, weight_decay=0.1)
    for _ in range(STEPS):
        total = loss(layers[0](values), layers[1](values))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    with torch.no_grad():
        for layer in layers:
            layer.weight.div_(spread)
            layer.bias.sub_(layer.weight @ mean)


def claims(found: dict[str, Any], seen: list[Picture]) -> list[Check]:
    regions = sum(found["regions"])
    return [
        Check(
            "passes of the whole network",
            "one a region: about 2,000 a photograph",
            f"{found['passes']:,} for {regions:,} regions of {JUDGE} photographs",
            found["passes"] == regions,
            f"We take {REGIONS} regions a photograph. Search takes {found['seconds'][0]:.1f} s a photograph, "
            f"the passes {found['seconds'][1]:.1f} s; 2,000 of 227 pixels would be "
            f"{2000 * JUDGE / regions * (227 / CROP) ** 2:.0f} times as much.",
        ),
        warped(seen[0], found["proposed"]),
        suppressed(found),
    ]


def warped(picture: Picture, proposed: list[list[float]]) -> Check:
    """A crop as the network gets it against Pillow's: cut out with its surroundings, and resized."""
    import torch
    from PIL import Image

    from striate.tasks.detect.rcnn import CONTEXT, RCNN

    inside = [(box, edges) for box in proposed if is_inside(edges := surrounded(box, CONTEXT))]
    box, edges = max(inside, key=lambda pair: min(pair[0][2] - pair[0][0], pair[0][3] - pair[0][1]))
    image = Image.fromarray(picture.pixels.permute(1, 2, 0).contiguous().numpy())
    pillow = torch.tensor(
        list(image.resize((CROP, CROP), Image.Resampling.BILINEAR, box=edges).tobytes()), dtype=torch.float32
    ).view(CROP, CROP, 3)
    detector = RCNN(NETWORK, 1, crop=CROP)
    ours = detector.warp(picture.pixels[None].float(), torch.tensor([[0, *box]]))[0].permute(1, 2, 0)
    difference = float((ours - pillow).abs().mean())
    return Check(
        "a region cut out and warped, against Pillow's resize",
        "the same picture",
        f"{difference:.1f} grey levels of 255 apart, on average",
        difference < 4,
        f"A region of {box[2] - box[0]:.0f}×{box[3] - box[1]:.0f} pixels to {CROP}×{CROP}, 16/227 of it around the "
        "region, as in the paper's appendix A.",
    )


def surrounded(box: list[float], context: float) -> tuple[float, float, float, float]:
    """x1 y1 x2 y2 of a box with what is around it: `context` of the whole at each side."""
    middle = [(box[axis] + box[axis + 2]) / 2 for axis in (0, 1)]
    half = [(box[axis + 2] - box[axis]) / 2 / (1 - 2 * context) for axis in (0, 1)]
    return middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1]


def is_inside(edges: tuple[float, float, float, float]) -> bool:
    return min(edges[:2]) >= 0 and edges[2] <= SIZE[1] and edges[3] <= SIZE[0]


def suppressed(found: dict[str, Any]) -> Check:
    """No two boxes of a class that are left overlap by more than half: compared pair by pair in plain Python."""
    worst = 0.0
    for rows in found["found"]:
        for at, one in enumerate(rows):
            for other in rows[:at]:
                if one[5] == other[5]:
                    worst = max(worst, overlap(one, other))
    total = sum(len(rows) for rows in found["found"])
    return Check(
        "boxes of a class that are left",
        "overlap by at most 0.5",
        f"at most {worst:.2f}, {total} boxes",
        worst <= 0.5,
        f"In the photograph drawn {found['before']} regions score {SCORE} or more; {len(found['found'][0])} stay.",
    )


def overlap(one: list[float], other: list[float]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(wide, 0) * max(high, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared)


def steps(found: dict[str, Any], names: list[str], seen: list[Picture]) -> list[Section]:
    from striate.explain.units.sheets import beside, webp
    from striate.lectures.detection.blood import draw_found

    sheet = beside([draw_found(seen[at].pixels, found["found"][at], names) for at in (0, 1)], gap=12)
    rows = [[name, value] for name, value in found["ap"].items()]
    return [
        Section(
            "Propose, cut out, name",
            f"A photograph of blood cells that was not learnt from: {found['regions'][0]} regions, each warped to "
            f"{CROP}×{CROP} pixels, each named.",
            [
                Figure(
                    draw_proposed(found, seen[0]),
                    "The photograph, and all its regions.",
                    "A photograph of blood cells, and the same under many boxes.",
                    wide=True,
                ),
                Figure(
                    draw_crops(found, seen[0], names),
                    "Some of the crops as the network gets them, from the surest object to the surest background; "
                    "grey is beyond the photograph.",
                    "Sixteen small square pictures of cells with a name and a score each.",
                    wide=True,
                ),
            ],
        ),
        Section(
            "Move, suppress",
            f"Boxes moved by the regression, scores of {SCORE} or more, suppression at 0.5 done.",
            [Figure(webp(sheet), "Two photographs not learnt from.", "Photographs with named boxes.", wide=True)],
            [Table(("class", "AP at IoU 0.5"), rows, f"{JUDGE} photographs held out; {TAUGHT}")],
        ),
    ]


def draw_proposed(found: dict[str, Any], picture: Picture) -> Drawing:
    from matplotlib.patches import Rectangle

    from striate.lectures.diagrams import LETTERS, new_figure
    from striate.tasks.section import BLUE

    figure = new_figure(9.6, 3.8)
    panels = figure.subplots(1, 2)
    for axes in panels:
        axes.imshow(picture.pixels.permute(1, 2, 0).numpy())
        axes.set_axis_off()
    for x1, y1, x2, y2 in found["proposed"]:
        panels[1].add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=BLUE, linewidth=0.7, alpha=0.55)
        )
    panels[0].set_title("1. a photograph", fontsize=LETTERS + 1)
    panels[1].set_title(f"2. {len(found['proposed'])} regions of selective search", fontsize=LETTERS + 1)
    return figure


def draw_crops(found: dict[str, Any], picture: Picture, names: list[str]) -> Drawing:
    import torch

    from striate.lectures.diagrams import LETTERS, new_figure
    from striate.tasks.detect.rcnn import RCNN

    boxes, scores = torch.tensor(found["proposed"])[found["shown"]], torch.tensor(found["scores"])[found["shown"]]
    rows = torch.cat((torch.zeros(len(boxes), 1), boxes), 1)
    crops = RCNN(NETWORK, 1, crop=CROP).warp(picture.pixels[None].float() - GREY_LEVEL, rows) + GREY_LEVEL
    figure = new_figure(9.6, 3.1)
    grid = figure.subplots(2, -(-len(crops) // 2)).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, crop, score in zip(grid, crops, scores, strict=False):
        axes.imshow(crop.permute(1, 2, 0).round().clamp(0, 255).byte().numpy())
        best = int(score.argmax())
        name = "background" if best == 0 else names[best - 1]
        axes.set_title(f"{name}\n{float(score[best]):.2f}", fontsize=LETTERS - 1, pad=2)
    return figure
