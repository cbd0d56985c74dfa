"""Some units of a network stand for things that people have words for. Network dissection finds them without looking:
where a unit is above the threshold that 0.5 % of its activations pass, its pixels are set against those of every
concept of a segmented set, and where their intersection over union passes 0.04 it is a detector of that concept (Bau,
Zhou, Khosla, Oliva & Torralba, CVPR 2017).

The same network with random weights has next to none: the concepts are learnt, though nobody taught them, for the
network was only told which class a whole photograph is of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from striate.lectures.page import Check, Setting, Shown
from striate.lectures.seeing.real import WEIGHTS, absent, squeezenet
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, Figure, Section

if TYPE_CHECKING:
    from striate.explain.units.dissection import Dissection
    from striate.model import Model

PYTHON = """\
import torch
from torch import nn
from striate.explain.units.dissection import View, dissect

image, masks = torch.zeros(1, 20, 20), torch.zeros(1, 20, 20, dtype=torch.bool)
image[0, 9, 9:11] = torch.tensor([2.0, 1.0])  # two of 400 pixels, 0.5 %, excite the unit
masks[0, 9:11, 9:11] = True                   # four pixels are of the thing
views = lambda: [View(image, masks, torch.ones(20, 20, dtype=torch.bool))]
found = dissect(nn.Sequential(nn.Identity()), "0", views, ["thing"], count=1)
print(found.iou, found.detectors())  # 2 / 4
"""

LAYER = "features.12"  # SqueezeNet's last fire module
STREETS, STREETS_SHOWN = "camvid12", 6
FIGURES = 60  # of the shapes that Striate draws


class Searched(NamedTuple):
    """One set: what is said of it, and how many pictures and units are looked at and shown."""

    name: str
    source: str
    limit: int
    shown: int
    about: str


def show(setting: Setting) -> Shown:
    """The measure worked out by hand; with the data, the units of SqueezeNet on streets and on drawn shapes."""
    checks, sections = list(worked()), [Section("Intersection over union, by hand", WORKED, [draw_worked()])]
    model, streets = squeezenet(setting), setting.found(STREETS)
    searches = [Searched("shapes", "shapes", FIGURES, 3, "Flat figures that Striate draws: nothing like a photograph.")]
    if streets is not None:
        about = "Streets seen from a car. Nobody told the network of streets: it knows 1,000 classes of photographs."
        searches.insert(0, Searched(STREETS, str(streets), 60, STREETS_SHOWN, about))
    if model is not None:
        for search in searches:
            more, section = searched(model, search, setting)
            checks.append(more)
            sections.insert(-1, section)
    seen = {WEIGHTS: "units of a real network", STREETS: "units that find bicyclists, cars and signs in streets"}
    return Shown(tuple(checks), tuple(sections), missing=absent(setting, seen))


def searched(model: Model, search: Searched, setting: Setting) -> tuple[Check, Section]:
    """How many units detect something, beside the same network with random weights; the best of them drawn."""
    from striate.explain.units.concept_masks import open_scenes
    from striate.explain.units.dissection_page import Watched, bars, concept_table

    inputs = {"weights": WEIGHTS, "set": search.name, "pictures": search.limit, "layer": LAYER}
    watched = Watched(model, open_scenes(search.source, search.limit))
    numbers = setting.remembered(f"G3-{search.name}", inputs, lambda: measured(watched, setting))
    found, control = (restored(numbers, which, watched.scenes.concepts) for which in ("trained", "random"))
    watched.good[:] = numbers["good"]
    ours, chance = found.detectors(), control.detectors()
    figures = [Figure(bars(found, control), "Detectors of each concept.", "Bars: detectors of each concept.")]
    figures += [Figure(*watched.drawn(found, LAYER, unit), wide=True) for unit in found.varied(search.shown)]
    text = (
        f"{search.about}\n\n{len(ours)} of {len(found.iou)} units of {LAYER} are detectors; with random weights "
        f"{len(chance)}. A unit’s pixels are left light, with a yellow line around them; the blue line is around the "
        "concept."
    )
    best = ", ".join(f"{concept} {iou:.2f} (unit {unit})" for unit, concept, iou in ours[:3])
    check = Check(
        f"units that detect something, {search.name}: trained against random weights",
        "many against next to none",
        f"{len(ours)} against {len(chance)} of {len(found.iou)}",
        len(ours) >= 10 and len(ours) >= 5 * len(chance),
        f"IoU above 0.04 over {len(found.peaks)} pictures. The best: {best or 'none'}.",
    )
    return check, Section(f"Units of SqueezeNet on {search.name}", text, figures, [concept_table(found, control)])


def measured(watched: Any, setting: Setting) -> dict[str, Any]:
    """Both dissections in numbers."""
    from striate.explain.units.dissection import dissect

    model, scenes = watched.model, watched.scenes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        card = model.card
        random = model.task.build(card.architecture, card.preprocess.channels, **card.arguments).eval()
    numbers: dict[str, Any] = {}
    for name, network in (("trained", model.module), ("random", random)):
        setting.say(f"dissecting {LAYER}, {name} weights, on {len(scenes)} pictures")
        found = dissect(network, LAYER, watched.views, scenes.concepts, len(scenes))
        numbers[name] = {
            "iou": rounded(found.iou),
            "thresholds": found.thresholds.tolist(),
            "shares": found.shares.tolist(),
            "peaks": rounded(found.peaks),
            "place": found.place,
            "areas": found.areas.tolist(),
            "above": found.above,
        }
    return numbers | {"good": watched.good}


def rounded(values: Tensor) -> list[list[float]]:
    """Five digits of each: half as long a file."""
    return [[float(f"{value:.5g}") for value in row] for row in values.tolist()]


def restored(numbers: dict[str, Any], which: str, concepts: tuple[str, ...]) -> Dissection:
    from striate.explain.units.dissection import Dissection
    from striate.layers.receptive_fields import Place

    kept = numbers[which]
    place = None if kept["place"] is None else Place(*(tuple(pair) for pair in kept["place"]))
    tensors = {name: torch.tensor(kept[name]) for name in ("iou", "thresholds", "shares", "peaks", "areas")}
    return Dissection(concepts, place=place, above=kept["above"], **tensors)


WORKED = (
    "A picture of 400 pixels and a unit that answers to brightness. 0.5 % of its activations, two, are above its "
    "threshold. Four pixels are of the first concept, both of the two among them: 2 / 4. Three are of the second, "
    "one of the two among them: 1 / (2 + 3 - 1)."
)
ROW, COLUMN = 9, 9  # where the two pixels lie


def example() -> tuple[Tensor, Tensor]:
    """The worked picture, float [1, 20, 20], and two concepts, bool [2, 20, 20]."""
    image, masks = torch.zeros(1, 20, 20), torch.zeros(2, 20, 20, dtype=torch.bool)
    image[0, ROW, COLUMN], image[0, ROW, COLUMN + 1] = 2, 1
    masks[0, ROW : ROW + 2, COLUMN : COLUMN + 2] = True
    masks[1, ROW, COLUMN + 1 : COLUMN + 4] = True
    return image, masks


def worked() -> tuple[Check, ...]:
    from striate.explain.units.dissection import View, dissect

    image, masks = example()
    view = View(image, masks, torch.ones(20, 20, dtype=torch.bool))
    found = dissect(nn.Sequential(nn.Identity()), "0", lambda: [view], ("square", "bar"), 1)
    square, bar = found.iou[0].tolist()
    return (
        Check("IoU of the unit with the square", "2/4 = 0.5", f"{square:g}", square == 0.5),
        Check("IoU of the unit with the bar", "1/(2 + 3 − 1) = 0.25", f"{bar:g}", bar == 0.25),
    )


def draw_worked() -> Figure:
    """The middle of the worked picture: the unit's pixels, and the two concepts around theirs."""
    from striate.lectures.cells import matrix, sheet, window, word

    image, masks = example()
    drawing, axes = sheet(15.5, 8.4)
    part = image[0, ROW - 2 : ROW + 4, COLUMN - 2 : COLUMN + 5].int()
    matrix(axes, part, 0.7, 1.2, title="activations", colour=BLUE, largest=3)
    for index, hue in enumerate((GREEN, ORANGE)):
        rows, columns = masks[index].nonzero(as_tuple=True)
        top, left = int(rows.min()) - ROW + 2, int(columns.min()) - COLUMN + 2
        size = (int(columns.max() - columns.min()) + 1, int(rows.max() - rows.min()) + 1)
        gap = 0.08 * (index + 1)
        window(axes, 0.7 + left + gap, 1.2 + top + gap, size[0] - 2 * gap, size[1] - 2 * gap, hue)
    for index, (hue, line) in enumerate(((GREEN, "square: 2 / 4 = 0.5"), (ORANGE, "bar: 1 / (2 + 3 − 1) = 0.25"))):
        window(axes, 8.6, 3.2 + 1.6 * index, 0.8, 0.8, hue)
        word(axes, 9.7, 3.6 + 1.6 * index, line, align="left")
    word(axes, 4.2, 7.8, "the middle of 20 × 20 pixels", 9, GREY)
    return Figure(drawing, "", "A grid with two bright pixels; a square of four and a bar of three pixels around them.")
