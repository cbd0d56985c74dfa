"""The page of a network dissection: which units detect which concepts, beside the same network with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.data.transforms import Normalize
from striate.errors import ImageError
from striate.explain.explanation import Explanation, Request
from striate.explain.layers import check_units, read_maps, readable_copy, stage_layers
from striate.explain.pictures import MOST, at_one_size
from striate.explain.units.concept_masks import Scene, Scenes, fitted, open_scenes
from striate.explain.units.dissection import DETECTS, QUANTILE, Dissection, View, active, dissect
from striate.explain.units.sheets import as_tile, grid, webp
from striate.tasks.section import BLUE, GREY, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from striate.model import Model

BEST_UNITS, PICTURES_EACH = 8, 3  # drawn
TILE = 224  # pixels
FINE = 100  # values of a map
FEW = 40  # places above a unit's threshold: with 10 random weights make four detectors on streets, with 50 one
ROWS = 60  # of the table of units
UNIT_LINE, CONCEPT_LINE = (255, 196, 0), (0, 200, 255)


def explain_dissect(model: Model, request: Request) -> Explanation:
    """Match the units of `request.layer` with the concepts of a segmented set; where none is named, of the last stage
    whose maps have a hundred places or more.

    `values`: `layer`, `concepts`, `iou` float [U, K], `thresholds` [U], `shares` [K], `detectors` (unit, concept, IoU),
    and of random weights `random_iou`, `random_detectors`.

    Raises:
        DataError: no pictures, or no masks.
        UsageError: no such layer or unit.
    """
    layer = request.layer or layer_to_dissect(model)
    scenes = open_scenes(request.sources, request.limit or MOST, request.seed)
    card = model.card
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed)
        random = model.task.build(card.architecture, card.preprocess.channels, **card.arguments).eval()
    watched = Watched(model, scenes)
    request.say(f"{layer}: {len(scenes):,} pictures, {len(scenes.concepts)} concepts")
    found = dissect(model.module, layer, watched.views, scenes.concepts, len(scenes))
    request.say("and with random weights")
    control = dissect(random.to(model.device), layer, watched.views, scenes.concepts, len(scenes))
    detectors, by_chance = found.detectors(), control.detectors()
    units = check_units(request.units or found.varied(BEST_UNITS), len(found.iou), layer)
    text = (
        f"{len(detectors)} of {len(found.iou)} units detect a concept: where they are above the threshold that "
        f"{100 * QUANTILE:g} % of their activations are above, IoU with it is over {DETECTS}. "
        f"With random weights, {len(by_chance)} of {len(control.iou)} do."
    )
    sections = [
        Section(
            f"Units of {layer}",
            text,
            [Figure(bars(found, control), "Detectors of each concept.", _said(found, control))],
            [concept_table(found, control)],
        ),
        Section("Unit by unit", "", [], [unit_table(found)]),
        Section(
            "What excites them",
            "The pictures that excite a unit most: its pixels are left light, with a yellow line around them; the blue "
            "line is around its concept.",
            [Figure(*watched.drawn(found, layer, unit), wide=True) for unit in units],
        ),
    ]
    return Explanation(
        f"Units of {model.name} and concepts",
        sections,
        {
            "layer": layer,
            "concepts": found.concepts,
            "iou": found.iou,
            "thresholds": found.thresholds,
            "shares": found.shares,
            "detectors": detectors,
            "random_iou": control.iou,
            "random_detectors": by_chance,
        },
        {
            "model": f"{card.architecture}, {card.task}",
            "layer": layer,
            "pictures": f"{len(found.peaks):,}",
            "detectors": f"{len(detectors)} of {len(found.iou)}; random weights: {len(by_chance)}",
        },
        ["Network dissection (Bau, Zhou et al. 2017): threshold, enlargement and IoU > 0.04 as there.", *too_few(found)]
        + [f"Skipped: {message}" for message in watched.skipped[:5]],
    )


def too_few(found: Dissection) -> list[str]:
    """A remark where a match may be chance."""
    if found.above >= FEW:
        return []
    pictures = "1 picture" if len(found.peaks) == 1 else f"{len(found.peaks)} pictures"
    return [f"{pictures} are few: a unit is judged by its {found.above} strongest places, and may match by chance"]


def layer_to_dissect(model: Model) -> str:
    """The last stage whose maps are fine enough for a two-hundredth of their values to say where."""
    network, preprocess = readable_copy(model.module), at_one_size(model.card.preprocess)
    probe = torch.zeros(1, preprocess.channels, *preprocess.size, device=model.device)
    names = stage_layers(network)
    with torch.inference_mode():
        fine = [name for name in names if read_maps(network, name, probe)[0, 0].numel() >= FINE]
    return fine[-1] if fine else names[-1]


class Watched:
    """Scenes as a model takes them; what cannot be read is left out, with a message in `skipped`."""

    def __init__(self, model: Model, scenes: Scenes) -> None:
        self.model, self.scenes = model, scenes
        self.normalize = Normalize(model.card.preprocess).to(model.device)
        self.skipped: list[str] = []
        self.good: list[int] = []  # those that could be read

    def views(self) -> Iterator[View]:
        self.skipped.clear()
        self.good.clear()
        for number, read in enumerate(self.scenes.readers):
            try:
                scene = read()
            except ImageError as error:
                self.skipped.append(str(error))
                continue
            self.good.append(number)
            yield self.view(scene)[1]

    def view(self, scene: Scene) -> tuple[Tensor, View]:
        """uint8 [C, H, W] as the network sees it, and the same as it takes it."""
        picture, masks, known = fitted(scene, self.scenes.concepts, at_one_size(self.model.card.preprocess))
        image = self.normalize(picture[None].to(self.model.device))[0]
        return picture, View(image, masks, known)

    def drawn(self, found: Dissection, layer: str, unit: int) -> tuple[bytes, str, str]:
        """A sheet of the pictures that most excite a unit, its caption, and what it shows."""
        network = readable_copy(self.model.module)
        best, concept = found.iou[unit].max(0)
        tiles = []
        for number in found.peaks[:, unit].argsort(descending=True, stable=True)[:PICTURES_EACH].tolist():
            picture, view = self.view(self.scenes.readers[self.good[number]]())
            with torch.inference_mode():
                maps = read_maps(network, layer, view.image[None])[0, unit : unit + 1].float().cpu()
            pixels = active(maps, found.thresholds[unit : unit + 1], picture.shape[1:], found.place)[0]
            tiles.append(as_tile(outlined(picture, pixels, view.masks[int(concept)]), TILE))
        caption = f"Unit {unit}: {found.concepts[int(concept)]}, IoU {best:.3f}"
        return (
            webp(grid(tiles, side=TILE)),
            caption,
            f"The {len(tiles)} pictures that most excite unit {unit}. {caption}",
        )


def outlined(picture: Tensor, excited: Tensor, concept: Tensor) -> Tensor:
    """uint8 [C, H, W] made dark where a unit is not excited, with lines around its pixels and the concept's, bool
    [H, W] each; enlarged where it is small, for lines to be thin. uint8 [3, h, w]."""
    factor = max(1, round(256 / max(picture.shape[1:])))
    shown, inside, named = (
        F.interpolate(values[None].float(), scale_factor=factor, mode="nearest")[0]
        for values in (picture.expand(3, -1, -1), excited[None], concept[None])
    )
    shown = shown * (0.5 + 0.5 * inside)
    for mask, colour in ((named, CONCEPT_LINE), (inside, UNIT_LINE)):
        eroded = -F.max_pool2d(-F.pad(mask, (2, 2, 2, 2), value=1.0), 5, 1)
        shown = shown.where(mask <= eroded, torch.tensor(colour, dtype=torch.float32).view(3, 1, 1))
    return shown.round().to(torch.uint8)


def bars(found: Dissection, control: Dissection) -> Drawing:
    """How many detectors each concept has, and by chance."""
    from matplotlib.figure import Figure as Drawing
    from matplotlib.ticker import MaxNLocator

    counts, chance = found.counts(), control.counts()
    names = sorted(found.concepts, key=lambda concept: -counts[concept])[:20]
    drawing = Drawing(figsize=(6, 0.8 + 0.3 * len(names)), layout="constrained")
    axes = drawing.add_subplot()
    places = range(len(names), 0, -1)
    axes.barh([at + 0.2 for at in places], [counts[name] for name in names], 0.4, color=BLUE, label="trained")
    axes.barh([at - 0.2 for at in places], [chance[name] for name in names], 0.4, color=GREY, label="random weights")
    axes.set_yticks(list(places), names)
    axes.set(xlabel="detectors", xlim=(0, max(1, *counts.values(), *chance.values()) * 1.05))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="lower right")
    return drawing


def concept_table(found: Dissection, control: Dissection) -> Table:
    counts, chance = found.counts(), control.counts()
    rows = []
    for at, concept in enumerate(found.concepts):
        share = float(found.shares[at])
        best = float(found.iou[:, at].max())
        possible = max(float(found.possible()[at]), float(control.possible()[at])) if share else None
        rows.append((concept, counts[concept], chance[concept], best, float(control.iou[:, at].max()), share, possible))
    columns = ("concept", "detectors", "random", "best IoU", "random's best", "share of pixels", "possible")
    return Table(
        columns,
        rows,
        f"A unit is excited by {100 * float(found.areas.median()):.2f} % of all pixels (the median; at most "
        f"{100 * float(found.areas.max()):.2f} %). With a concept of another size its IoU is at most the smaller share "
        "over the larger: the best of these, of random weights too, is what is possible.",
    )


def unit_table(found: Dissection) -> Table:
    best, order = found.iou.sort(dim=1, descending=True)
    units = best[:, 0].argsort(descending=True, stable=True)[:ROWS].tolist()
    several = len(found.concepts) > 1
    rows = [
        (
            unit,
            found.concepts[int(order[unit, 0])],
            float(best[unit, 0]),
            "yes" if float(best[unit, 0]) > DETECTS else "no",
            *((found.concepts[int(order[unit, 1])], float(best[unit, 1])) if several else ()),
        )
        for unit in units
    ]
    columns = ("unit", "concept", "IoU", "detector", *(("next", "its IoU") if several else ()))
    return Table(columns, rows, f"The best {len(rows)} of {len(found.iou)} units.")


def _said(found: Dissection, control: Dissection) -> str:
    told = ", ".join(f"{concept} {count}" for concept, count in found.counts().items() if count) or "none"
    return f"Bars: detectors of each concept: {told}; with random weights {len(control.detectors())} in all."
