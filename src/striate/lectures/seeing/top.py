"""What does a unit inside a network stand for? Look at the nine pictures, of many, that excite it most, and at what of
each reaches it: a DeconvNet sends the activation back to pixels through the same filters transposed, unpooling to where
each maximum came from and rectifying on the way (Zeiler & Fergus, ECCV 2014, figure 2).

Early units answer to edges and colours, later ones to textures, then to parts and whole things: what they see grows,
and what they answer to gets rarer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from striate.lectures.page import Check, Setting, Shown
from striate.lectures.seeing.real import PHOTOS, WEIGHTS, absent, squeezenet
from striate.tasks.section import Figure, Section, Table

if TYPE_CHECKING:
    from pathlib import Path

    from striate.lectures.foundations.digits import Digits
    from striate.model import Model

PYTHON = """\
from striate.explain.units.deconvnet import project
from striate.explain.units.top_activations import top_activations
from striate.lectures.foundations.digits import digits, fit, seeded

data, network = digits(1200), seeded("conv16-relu-pool-conv32-relu-gap", seed=0)
fit(network, data, steps=200, lr=0.05)
top = top_activations(network, "relu2", [data.images])
unit = top.selective(1)[0]
print(f"unit {unit} answers to", data.labels[top.pictures[unit]].tolist())  # its nine digits
print(project(network, "relu2", data.images[top.pictures[unit]], [unit] * 9, top.rows[unit], top.columns[unit]).shape)
"""

UNITS_EACH, SELECTIVE = 3, 24  # shown of each layer, of so many most selective ones
DIGITS_LAYERS = ("relu1", "relu2", "relu3")


class Specific(NamedTuple):
    """How specific the units of a layer are: the side of their receptive field, and by how many deviations their nine
    best pictures stand out from all."""

    layer: str
    field: int
    units: int
    stands_out: float


def show(setting: Setting) -> Shown:
    """Projections against loops and on digits; with the data, of twelve units of SqueezeNet."""
    checks = [against_loops()]
    more, on_few = on_digits()
    checks, sections = [*checks, *more], [on_few]
    model, photos = squeezenet(setting), setting.found(PHOTOS)
    if model is not None and photos is not None:
        more, found = on_photos(model, photos, setting)
        checks, sections = [*more, *checks], [*found, *sections]
    seen = {WEIGHTS: "what units of four layers of a real network answer to", PHOTOS: "the photographs they answer to"}
    return Shown(tuple(checks), tuple(sections), missing=absent(setting, seen))


def on_photos(model: Model, photos: Path, setting: Setting) -> tuple[list[Check], list[Section]]:
    """Nine crops and nine projections of units of four layers, and what all units of them are like."""
    from striate.explain.explanation import Request
    from striate.explain.layers import spread, stage_layers
    from striate.explain.units.deconvnet import drawn, projections_of
    from striate.explain.units.top_activations import look

    layers = spread(stage_layers(model.module), 4)
    found, _ = look(model, Request(str(photos), say=setting.say), layers, SELECTIVE)
    sections, specific, beyond = [], [], 0.0
    for seen in found:
        setting.say(f"{seen.layer}: projecting")
        assert seen.place is not None
        figures = []
        for unit in varied(seen.top.pictures, seen.units, UNITS_EACH):
            projections = projections_of(model, seen, unit)
            beyond = max(beyond, outside(projections, seen.place, seen.top.rows[unit], seen.top.columns[unit]))
            figures.append(drawn(seen, unit, projections))
        top = seen.top
        out = ((top.values.mean(1) - top.mean) / top.deviation.clamp(min=1e-12))[top.values[:, -1] > 0]
        specific.append(Specific(seen.layer, seen.place.field[0], len(top.values), float(out.mean())))
        text = (
            f"{len(top.values)} units; {seen.field_in_words()}. Left, the crops that most excite a unit; right, what "
            "of each reaches it: mid grey is nothing, and each projection has its own contrast."
        )
        sections.append(Section(f"{DESCRIPTIONS.get(seen.layer, '')}{seen.layer}", text, figures))
    rows = [(one.layer, one.units, f"{one.field}×{one.field}", one.stands_out) for one in specific]
    heads = ("layer", "units", "pixels that a value sees", "the nine best stand out by (deviations)")
    fields, outs = [one.field for one in specific], [one.stands_out for one in specific]
    checks = [
        Check(
            "deeper units see more of the picture",
            "larger things",
            " → ".join(f"{side}×{side}" for side in fields) + " of 227×227 pixels",
            fields == sorted(set(fields)),
            "Receptive fields, followed through the network.",
        ),
        Check(
            "deeper units answer to fewer pictures, and to these more",
            "more specific",
            " → ".join(f"{out:.2f}" for out in outs) + " deviations above the mean",
            outs[-1] > outs[0] and outs[-2] > outs[0],
            f"The nine best of {found[0].top.count} photographs against all, on average over all units of a layer.",
        ),
        Check("a projection, outside what its unit sees", "0", f"largest {beyond:g}", beyond == 0),
    ]
    sections.append(Section("From layer to layer", "", [], [Table(heads, rows)]))
    return checks, sections


def varied(pictures: Tensor, units: list[int], count: int) -> list[int]:
    """Units whose best pictures are not the same ones: after the first, each shares the fewest with those before it.

    Args:
        pictures: int64 [C, k], of each unit.
        units: to choose from, the preferred first.
    """
    chosen = units[:1]
    while len(chosen) < min(count, len(units)):
        taken = set(pictures[chosen].flatten().tolist())
        rest = [unit for unit in units if unit not in chosen]
        chosen.append(min(rest, key=lambda unit: len(taken & set(pictures[unit].tolist()))))
    return chosen


DESCRIPTIONS = {
    "features.1": "Colours and edges: ",
    "features.5": "Textures and corners: ",
    "features.10": "Parts: ",
    "features.12": "Things: ",
}


def outside(projections: Tensor, place: Any, rows: Tensor, columns: Tensor) -> float:
    """The largest value of projections [k, C, H, W] outside the receptive fields of their places."""
    most = 0.0
    for one, row, column in zip(projections, rows.tolist(), columns.tolist(), strict=True):
        covered = one.abs().amax(0)
        top, left = (place.first[axis] + at * place.jump[axis] for axis, at in enumerate((row, column)))
        covered[max(0, top) : max(0, top + place.field[0]), max(0, left) : max(0, left + place.field[1])] = 0
        most = max(most, float(covered.max()))
    return most


def on_digits() -> tuple[list[Check], Section]:
    """On a network that learns digits here: they have labels, so one can count what a unit answers to."""
    from striate.explain.units.top_activations import top_activations
    from striate.lectures.foundations.digits import digits, fit, seeded

    data = digits(1_200)
    network = seeded("conv16-relu-pool-conv32-relu-pool-conv64-relu-gap", 0)
    fit(network, data, steps=300, lr=0.05)
    figures, purity = [], []
    for layer in DIGITS_LAYERS:
        top = top_activations(network, layer, [data.images])
        alive = top.values[:, -1] > 0
        labels = data.labels[top.pictures[alive]]  # [units, 9]
        purity.append(float(labels.mode(1).values[:, None].eq(labels).float().mean()))
        figures.append(digits_sheet(network, layer, data))
    chance = by_chance(data.labels)
    check = Check(
        "of a unit’s nine digits, how many are one and the same",
        "more, the deeper",
        " → ".join(f"{share:.0%}" for share in purity) + f"; by chance {chance:.0%}",
        purity == sorted(purity) and purity[-1] > purity[0] + 0.1,
        "Mean over all units that answer at all: a share of one digit alone would be 100 %.",
    )
    text = (
        "Of each layer the most selective unit: its nine digits, and what of each reaches it. A network of three "
        "convolutions, trained for a second."
    )
    return [check], Section("On digits, with a network trained here", text, figures)


def by_chance(labels: Tensor) -> float:
    """The share that the commonest digit has among nine drawn at random."""
    drawn = labels[torch.randint(len(labels), (2_000, 9), generator=torch.Generator().manual_seed(0))]
    return float(drawn.mode(1).values[:, None].eq(drawn).float().mean())


def digits_sheet(network: nn.Module, layer: str, data: Digits) -> Figure:
    """Nine digits and their projections, of a layer's most selective unit."""
    from striate.explain.units.deconvnet import project
    from striate.explain.units.sheets import as_grey, as_tile, grid, webp
    from striate.explain.units.top_activations import top_activations

    top = top_activations(network, layer, [data.images])
    unit = top.selective(1)[0]
    images = data.images[top.pictures[unit]]
    projections = project(network, layer, images, [unit] * len(images), top.rows[unit], top.columns[unit])
    low, high = data.images.min(), data.images.max()
    shown = [(255 * (one - low) / (high - low)).round().to(torch.uint8) for one in images]
    names = [str(label) for label in data.labels[top.pictures[unit]].tolist()]
    side = 72
    tiles = [as_tile(one, side) for one in (*shown, *(as_grey(one) for one in projections))]
    sheet = grid(tiles, [*names, *[""] * len(names)], columns=len(names), side=side)
    said = f"Unit {unit} of {layer}: {', '.join(names)}"
    return Figure(webp(sheet), f"Layer {layer}, unit {unit}.", f"Nine digits and projections. {said}", wide=True)


def against_loops() -> Check:
    """`project` against loops that do what the paper says, one number at a time."""
    from striate.explain.units.deconvnet import project

    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(3, 1, 3, 3, generator=generator), torch.randn(2, 3, 2, 2, generator=generator)
    one, other = nn.Conv2d(1, 3, 3, bias=False), nn.Conv2d(3, 2, 2, bias=False)
    network = nn.Sequential(one, nn.ReLU(), nn.MaxPool2d(2), other, nn.ReLU())
    one.weight.data, other.weight.data = first, second
    images = torch.randn(20, 1, 8, 8, generator=generator)
    difference, alive = 0.0, 0
    for image in images:
        projection, value = by_loops(image[0], first, second, 1, 0, 1)
        found = project(network, "4", image[None], [1], [0], [1])[0, 0]
        largest = float(projection.abs().max()) or 1.0
        difference, alive = max(difference, float((found - projection).abs().max()) / largest), alive + (value > 0)
    return Check(
        "DeconvNet, against loops of the paper’s four steps",
        "the same to 1e-6 of the largest",
        f"largest difference {difference:.0e}",
        difference < 1e-6 and alive > 3,
        f"Convolution, rectifier, pooling, convolution; {len(images)} pictures, {alive} of which excite the unit.",
    )


def by_loops(image: Tensor, first: Tensor, second: Tensor, unit: int, row: int, column: int) -> tuple[Tensor, float]:
    """Convolution, rectifier, 2×2 maxima with their switches, convolution; then unpool, rectify, transposed filters.

    Args:
        image: [H, W].
        first: filters [M, 1, 3, 3].
        second: filters [N, M, 2, 2].
        unit, row, column: which activation.

    Returns:
        Its projection, [H, W], and the activation itself.
    """
    height, width, maps = image.shape[0] - 2, image.shape[1] - 2, len(first)
    rectified = torch.zeros(maps, height, width, dtype=image.dtype)
    for m in range(maps):
        for y in range(height):
            for x in range(width):
                rectified[m, y, x] = max(0.0, float((first[m, 0] * image[y : y + 3, x : x + 3]).sum()))
    switches: dict[tuple[int, int, int], tuple[int, int]] = {}
    pooled = torch.zeros(maps, height // 2, width // 2, dtype=image.dtype)
    for m in range(maps):
        for y in range(height // 2):
            for x in range(width // 2):
                places = [(2 * y + u, 2 * x + v) for u in (0, 1) for v in (0, 1)]
                best = max(places, key=lambda place: float(rectified[m, place[0], place[1]]))
                switches[m, y, x], pooled[m, y, x] = best, rectified[m, best[0], best[1]]
    value = max(0.0, float((second[unit] * pooled[:, row : row + 2, column : column + 2]).sum()))
    # and back
    unpooled = torch.zeros_like(rectified)
    for m in range(maps):
        for u in (0, 1):
            for v in (0, 1):
                place = switches[m, row + u, column + v]
                unpooled[m, place[0], place[1]] += value * second[unit, m, u, v]
    projection = torch.zeros_like(image)
    for m in range(maps):
        for y in range(height):
            for x in range(width):
                projection[y : y + 3, x : x + 3] += max(0.0, float(unpooled[m, y, x])) * first[m, 0]
    return projection, value
