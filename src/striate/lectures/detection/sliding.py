"""A classifier becomes a detector by looking everywhere: cut out every window, classify each, keep the sure ones. Cut out
one by one, neighbouring windows compute again what they share; written fully convolutionally, dense layers as kernels,
one pass over the whole picture gives the scores of all windows at once (OverFeat, Sermanet et al., ICLR 2014). The scores
are the same, for many times fewer operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREY, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure as Drawing
    from torch import Tensor

PYTHON = """\
import torch, striate
from striate.tasks.detect.sliding import fully_convolutional, multiply_adds, score_crops

line = "conv16k5p0-relu-pool-fc400-relu-fc400-relu"  # the lecture's network: 14 x 14 pixels, 4 classes
network, image = striate.create_model(line, num_classes=4, image_size=(14, 14)).eval(), torch.rand(1, 3, 28, 28)
crops = score_crops(network, image, window=14, stride=2)  # [8, 8, 4]
at_once = fully_convolutional(network)(image)[0].permute(1, 2, 0)
costs = multiply_adds(network, (3, 28, 28))
print(f"{costs.windows} windows, largest difference {float((crops - at_once).abs().max()):.1g}, "
      f"{costs.saving:.1f} times fewer multiply-adds")
"""

LINE = "conv16k5p0-relu-pool-fc400-relu-fc400-relu"
WEIGHTS = "squeezenet1_0-imagenet.safetensors"
PHOTO, SIDE, WINDOW = "astronaut", 448, 227
MEAN = (123.0, 117.0, 104.0)  # of SqueezeNet's pixels in 0..255
SHUTTLE = 812  # ImageNet's class of the model that stands behind the astronaut
SIDES = (227, 320, 448, 640, 896)


def show(setting: Setting) -> Shown:
    from striate.lectures.real_data import missing

    exact = lecture_network()
    weights = setting.found(WEIGHTS)
    inputs = {"weights": weights is not None, "side": SIDE, "window": WINDOW}
    photo = setting.remembered("sliding", inputs, lambda: on_photograph(weights))
    check = Check(
        "a photograph, crops against one pass",
        "many times fewer operations, and faster",
        f"{photo['crops'] / photo['one pass']:.1f} times fewer, {photo['ms crops'] / photo['ms one pass']:.1f} times "
        "faster",
        photo["crops"] > 2 * photo["one pass"] and photo["ms crops"] > photo["ms one pass"],
        f"SqueezeNet on {photo['windows']} windows of {WINDOW} pixels: {photo['crops'] / 1e9:.0f} G multiply-adds and "
        f"{photo['ms crops']:,.0f} ms against {photo['one pass'] / 1e9:.1f} G and {photo['ms one pass']:,.0f} ms, "
        "medians of turns.",
    )
    note = (
        f"SqueezeNet pads, so here the two are not equal: at its border a crop sees zeros, the pass what is there. The "
        f"best class is the same in {photo['agree']:.0%} of the windows."
    )
    rows = [
        [f"{case['side']}×{case['side']}", f"{case['places']}×{case['places']}", case["crops"], case["one pass"],
         round(case["crops"] / case["one pass"], 2), f"{case['apart']:.1g}"]
        for case in exact
    ]
    told = () if weights else (missing(WEIGHTS, "what a trained network finds; here its weights are random"),)
    return Shown(
        (*claims(exact), check),
        (
            Section(
                "The lecture's network",
                f"14×14 → convolution 5×5 → pooling → 400 → 400 → 4 classes, as a line: {LINE}. On 16×16 it gives 2×2 "
                "scores, on 28×28 8×8.",
                [
                    Figure(
                        draw_shared(),
                        "Two windows of 14 pixels on 16: all but a rim of what they compute is the same.",
                        "A grid of 16 by 16 with two overlapping windows.",
                    ),
                    Figure(
                        draw_costs(),
                        f"SqueezeNet's multiply-adds for all windows of {WINDOW} pixels, by the picture's side.",
                        "Two curves that part: crops rise much faster.",
                    ),
                ],
                [Table(("picture", "scores", "by crops", "in one pass", "times fewer", "largest difference"), rows)],
            ),
            Section(
                "On a photograph",
                note,
                [
                    Figure(
                        draw_photograph(photo),
                        "How sure each window is of a space shuttle, drawn at the window's middle." if weights else "Random weights: the maps show only that "
                        "both ways agree.",
                        "The photograph of an astronaut before a shuttle, two nearly equal maps of scores, and two bars of cost.",
                        wide=True,
                    )
                ],
            ),
        ),
        missing=told,
    )


def lecture_network() -> list[dict[str, float]]:
    """The lecture's network on pictures of 16, 28, 56 and 112: both ways, their difference, their multiply-adds."""
    import torch

    from striate.backbones import create_model
    from striate.tasks.detect.sliding import fully_convolutional, multiply_adds, score_crops

    found = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        network = create_model(LINE, num_classes=4, image_size=(14, 14)).eval()
        convolutional = fully_convolutional(network).eval()
        for side in (16, 28, 56, 112):
            image = torch.rand(1, 3, side, side)
            at_once = convolutional(image)[0].permute(1, 2, 0)
            crops = score_crops(network, image, 14, convolutional.stride)
            costs = multiply_adds(network, (3, side, side))
            found.append(
                {
                    "side": side,
                    "places": len(crops),
                    "crops": costs.crops,
                    "one pass": costs.convolutional,
                    "apart": float((crops - at_once).abs().max() / crops.std()),
                }
            )
    return found


def claims(exact: list[dict[str, float]]) -> list[Check]:
    small, large = exact[0], exact[1]
    worst = max(case["apart"] for case in exact)
    return [
        Check("scores on 16×16", "2×2", f"{small['places']}×{small['places']}", small["places"] == 2),
        Check("scores on 28×28", "8×8", f"{large['places']}×{large['places']}", large["places"] == 8),
        Check(
            "scores by crops and in one pass",
            "identical",
            f"largest difference {worst:.1g} of their deviation",
            worst < 1e-4,
            "To float32's rounding: no layer pads.",
        ),
        Check(
            "operations on 28×28, 64 windows",
            "fewer",
            f"{large['crops'] / large['one pass']:.2f} times fewer",
            large["crops"] > large["one pass"],
            "This network shares only its one convolution; each window has dense layers of its own either way. Deep "
            "networks share nearly all: see the photograph.",
        ),
    ]


def on_photograph(weights: Path | None) -> dict[str, Any]:
    """SqueezeNet on every window of a photograph, both ways: maps of how sure it is, costs, milliseconds."""
    import time
    from statistics import median

    import torch

    from striate.backbones import create_model
    from striate.lectures.real_data import photograph
    from striate.tasks.detect.sliding import fully_convolutional, multiply_adds, score_crops

    picture = photograph(PHOTO, SIDE)
    image = picture[None].float() - torch.tensor(MEAN).view(3, 1, 1)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        network = create_model("squeezenet1_0", weights=weights).eval()
        convolutional = fully_convolutional(network, WINDOW).eval()
        times: dict[str, list[float]] = {"crops": [], "one pass": []}
        scores: dict[str, Tensor] = {}
        convolutional(image)
        for _ in range(2):
            for name in times:
                start = time.perf_counter()
                if name == "crops":
                    scores[name] = score_crops(network, image, WINDOW, convolutional.stride)
                else:
                    scores[name] = convolutional(image)[0].permute(1, 2, 0)
                times[name].append(1000 * (time.perf_counter() - start))
    costs = multiply_adds(network, tuple(image.shape[1:]), WINDOW)  # type: ignore[arg-type]
    maps = {name: one.softmax(2)[..., SHUTTLE].tolist() for name, one in scores.items()}
    agree = float((scores["crops"].argmax(2) == scores["one pass"].argmax(2)).float().mean())
    return {
        "maps": maps,
        "windows": costs.windows,
        "stride": convolutional.stride,
        "crops": costs.crops,
        "one pass": costs.convolutional,
        "ms crops": median(times["crops"]),
        "ms one pass": median(times["one pass"]),
        "agree": agree,
    }


def draw_shared() -> Drawing:
    from matplotlib.patches import Rectangle

    from striate.lectures.diagrams import LETTERS, new_figure

    figure = new_figure(3.6, 3.6)
    axes = figure.add_subplot()
    for line in range(17):
        axes.plot((0, 16), (line, line), color=GREY, linewidth=0.4, alpha=0.5)
        axes.plot((line, line), (0, 16), color=GREY, linewidth=0.4, alpha=0.5)
    for left, top, colour in ((0, 0, BLUE), (2, 2, ORANGE)):
        axes.add_patch(Rectangle((left, top), 14, 14, facecolor=colour, alpha=0.2, edgecolor="none"))
        axes.add_patch(Rectangle((left, top), 14, 14, facecolor="none", edgecolor=colour, linewidth=1.6))
    axes.text(8, 8, f"shared: 12×12\nof 14×14, {12 * 12 / (14 * 14):.0%}", ha="center", va="center", fontsize=LETTERS + 1)
    axes.set(xlim=(-0.4, 16.4), ylim=(16.4, -0.4), aspect="equal")
    axes.set_axis_off()
    return figure


def draw_costs() -> Drawing:
    """SqueezeNet's cost by the side of the picture, both ways, counted on torch's meta device."""
    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes
    from striate.lectures.networks import counted
    from striate.tasks.detect.sliding import multiply_adds

    network, _ = counted("squeezenet1_0")
    costs = [multiply_adds(network, (3, side, side), WINDOW) for side in SIDES]  # type: ignore[arg-type]
    figure = new_figure(4.8, 3.6)
    axes = plain_axes(figure.add_subplot())
    for name, colour, counts in (
        ("crops", ORANGE, [cost.crops for cost in costs]),
        ("one pass", BLUE, [cost.convolutional for cost in costs]),
    ):
        axes.plot(SIDES, [count / 1e9 for count in counts], color=colour, marker="o", markersize=5, linewidth=1.6)
        axes.text(SIDES[-1] * 1.05, counts[-1] / 1e9, name, va="center", fontsize=LETTERS)
    axes.annotate(
        f"{costs[-1].saving:.0f} × fewer",
        (SIDES[-1] * 0.98, (costs[-1].crops * costs[-1].convolutional) ** 0.5 / 1e9),
        ha="right",
        fontsize=LETTERS,
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(SIDES, [str(side) for side in SIDES])
    axes.minorticks_off()
    axes.set_xlim(205, 1350)
    axes.set_xlabel("side of the picture, pixels", fontsize=LETTERS)
    axes.set_ylabel("multiply-adds (G)", fontsize=LETTERS)
    return figure


def draw_photograph(photo: dict[str, Any]) -> Drawing:
    from matplotlib.patches import Rectangle

    from striate.lectures.diagrams import LETTERS, new_figure
    from striate.lectures.real_data import photograph

    picture = photograph(PHOTO, SIDE).permute(1, 2, 0).numpy()
    figure = new_figure(11, 2.9)
    first, *maps, last = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.05))
    stride, half = photo["stride"], WINDOW / 2
    for number, colour in ((0, BLUE), (1, ORANGE), (2, BLUE)):
        corner = (40 + number * stride, 30)
        first.add_patch(Rectangle(corner, WINDOW, WINDOW, facecolor="none", edgecolor=colour, linewidth=1.3))
    first.imshow(picture)
    first.set_title(f"{photo['windows']} windows of {WINDOW}", fontsize=LETTERS + 0.5)
    top = max(max(map(max, one)) for one in photo["maps"].values())
    for axes, (name, scores) in zip(maps, photo["maps"].items(), strict=True):
        rows, columns = len(scores), len(scores[0])
        low, right, bottom = half - stride / 2, half + (columns - 0.5) * stride, half + (rows - 0.5) * stride
        axes.imshow(picture, alpha=0.35)
        shown = axes.imshow(scores, cmap="magma", vmin=0, vmax=top, extent=(low, right, bottom, low), alpha=0.85)
        axes.set(xlim=(-0.5, picture.shape[1] - 0.5), ylim=(picture.shape[0] - 0.5, -0.5))
        axes.set_title(f"{name}: {rows}×{columns} scores", fontsize=LETTERS + 0.5)
    bar = figure.colorbar(shown, ax=maps, shrink=0.75, aspect=16)
    bar.ax.tick_params(labelsize=LETTERS - 1.5)
    for axes in (first, *maps):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    giga = [photo["crops"] / 1e9, photo["one pass"] / 1e9]
    times = [photo["ms crops"], photo["ms one pass"]]
    last.barh((1, 0), giga, color=(ORANGE, BLUE), height=0.5)
    for place, value, ms in zip((1, 0), giga, times, strict=True):
        last.text(value + 0.03 * max(giga), place, f"{value:.3g} G\n{ms:,.0f} ms", va="center", fontsize=LETTERS)
    last.set_yticks((1, 0), ("crops", "one pass"), fontsize=LETTERS)
    last.set(xlim=(0, 1.5 * max(giga)), xticks=[], ylim=(-0.6, 1.6))
    last.tick_params(axis="y", length=0)
    last.spines[["top", "right", "bottom"]].set_visible(False)
    last.set_title("multiply-adds, time", fontsize=LETTERS + 0.5)
    return figure
