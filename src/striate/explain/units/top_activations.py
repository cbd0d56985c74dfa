"""The pictures that most excite each unit of a layer, and where in them (Zeiler & Fergus 2014, section 4.1, figure 2).

A unit is one channel of a layer; in each picture only its highest activation counts. A crop shows what that value can
see: its receptive field, in the picture as the network saw it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from striate.data.transforms import Normalize, eval_transform
from striate.errors import UsageError
from striate.explain.explanation import Explanation, Request
from striate.explain.layers import check_units, find_layer, place_of, read_maps, readable_copy, stage_layers
from striate.explain.pictures import at_one_size, batches, pictures_of
from striate.explain.units.sheets import as_tile, crop_of, grid, number, webp
from striate.inference.predictor import automatic_batch
from striate.inference.sources import Source
from striate.layers.receptive_fields import Place
from striate.tasks.section import Figure, Section

if TYPE_CHECKING:
    from striate.model import Model

BEST = 9  # pictures a unit
LAYERS = 2  # the last ones, where none is named
UNITS, UNITS_EACH = 8, 4  # chosen in a layer that is named, and in each of several


@dataclass(frozen=True)
class TopActivations:
    """The k highest activations of each of C units, at most one a picture, from the highest on.

    Attributes:
        values: float32 [C, k].
        pictures: int64 [C, k]: which picture, counted from 0 in the order in which they came.
        rows, columns: int64 [C, k]: where in the layer's map.
        mean, deviation: float32 [C], of the highest activations of all pictures.
        count: of pictures.
    """

    values: Tensor
    pictures: Tensor
    rows: Tensor
    columns: Tensor
    mean: Tensor
    deviation: Tensor
    count: int

    def selective(self, count: int) -> list[int]:
        """The units whose highest activations stand out most: by how many deviations they are, on average, above the
        mean of all pictures. Units that fewer than k pictures excite at all come last."""
        above = (self.values.mean(1) - self.mean) / self.deviation.clamp(min=1e-12)
        above = above.where(self.values[:, -1] > 0, above - 1e6)
        return above.argsort(descending=True, stable=True)[:count].tolist()


def top_activations(network: nn.Module, layer: str, batches: Iterable[Tensor], k: int = BEST) -> TopActivations:
    """The pictures that most excite each channel of a layer; memory holds one batch and k places a channel.

    Args:
        network: is left as it is.
        layer: a module's name in it, whose output is [B, C, h, w], or [B, C].
        batches: float [B, 3, H, W], normalised, of one size; read once.
        k: fewer are given where there are fewer pictures.

    Raises:
        UsageError: no such layer, or no pictures.
    """
    read = readable_copy(network)
    best = torch.empty(0)  # [C, k]
    places = torch.empty(3, 0, 0, dtype=torch.int64)  # picture, row, column: [3, C, k]
    total, squares, count = torch.zeros(()), torch.zeros(()), 0
    with torch.inference_mode():
        for images in batches:
            maps = read_maps(read, layer, images).float()  # [B, C, h, w]
            values, at = maps.flatten(2).max(2)  # [B, C]
            numbers = (torch.arange(len(images), device=values.device) + count)[:, None].expand_as(at)
            found = torch.stack((numbers, at // maps.shape[3], at % maps.shape[3]))  # [3, B, C]
            if not count:
                best, places = values.new_empty(maps.shape[1], 0), found.new_empty(3, maps.shape[1], 0)
            best = torch.cat((best, values.T), 1)
            places = torch.cat((places, found.transpose(1, 2)), 2)
            best, order = best.sort(dim=1, descending=True, stable=True)  # of equals the earlier picture
            best, order = best[:, :k], order[:, :k]
            places = places.gather(2, order.expand(3, -1, -1))
            total = total + values.double().sum(0).cpu()
            squares = squares + values.double().square().sum(0).cpu()
            count += len(images)
    if not count:
        raise UsageError("no pictures to look for activations in")
    mean = total / count
    deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
    numbers, rows, columns = places.cpu().clone()
    return TopActivations(best.cpu().clone(), numbers, rows, columns, mean.float(), deviation.float(), count)


@dataclass(frozen=True)
class ExcitingCrops:
    """What several methods want of a layer: its most excited units' best places, and the pictures themselves.

    Attributes:
        layer: its name.
        top: of all its units.
        units: those to show.
        place: what a value of the layer sees.
        names: of each picture that was looked at.
        pictures: uint8 [C, H, W] as the network saw it, of those that are shown.
    """

    layer: str
    top: TopActivations
    units: list[int]
    place: Place | None
    names: list[str]
    pictures: dict[int, Tensor]

    def crops(self, unit: int) -> list[Tensor]:
        """uint8 [C, h, w] each, from the most exciting on."""
        top = self.top
        where = zip(top.pictures[unit].tolist(), top.rows[unit].tolist(), top.columns[unit].tolist(), strict=True)
        return [crop_of(self.pictures[number], self.place, row, column) for number, row, column in where]

    def captions(self, unit: int) -> list[str]:
        numbers, values = self.top.pictures[unit].tolist(), self.top.values[unit].tolist()
        return [f"{number(value)} {self.names[which]}" for which, value in zip(numbers, values, strict=True)]

    def values(self) -> dict[str, Any]:
        """In numbers: `units` to, each, `values`, `pictures` (names), `rows`, `columns`; and the layer's `field`."""
        top = self.top
        units = {
            unit: {
                "values": top.values[unit].tolist(),
                "pictures": [self.names[number] for number in top.pictures[unit].tolist()],
                "rows": top.rows[unit].tolist(),
                "columns": top.columns[unit].tolist(),
            }
            for unit in self.units
        }
        return {"field": None if self.place is None else self.place.field, "units": units}

    def field_in_words(self) -> str:
        if self.place is None:
            return "each value sees the whole picture"
        (height, width), sides = self.place.field, next(iter(self.pictures.values())).shape[1:]
        beyond = ", more than there is" if height > sides[0] and width > sides[1] else ""
        return f"each value sees {height} x {width} pixels of {sides[0]} x {sides[1]}{beyond}"


def look(
    model: Model, request: Request, layers: Sequence[str], units_each: int
) -> tuple[list[ExcitingCrops], list[str]]:
    """The most exciting pictures of the units of some layers, and a message for each picture that could not be read.

    Raises:
        DataError: no pictures.
        UsageError: no such layer or unit.
    """
    network, preprocess = readable_copy(model.module), at_one_size(model.card.preprocess)
    for layer in layers:
        find_layer(network, layer)
    normalize = Normalize(preprocess).to(model.device)
    prepare = eval_transform(preprocess)
    sources = pictures_of(request)
    found: list[ExcitingCrops] = []
    rows: list[int] = []  # of the pictures that could be read
    skipped: list[str] = []

    def normalized() -> Iterator[Tensor]:
        rows.clear()
        skipped.clear()
        for numbers, images in batches(sources, preprocess, automatic_batch(preprocess.size, model.device), skipped):
            rows.extend(numbers)
            yield normalize(images.to(model.device, memory_format=torch.channels_last))

    for layer in layers:
        request.say(f"{layer}: looking at {len(sources):,} pictures")
        top = top_activations(network, layer, normalized())
        units = check_units(request.units or top.selective(units_each), len(top.values), layer)
        shown = sorted(set(top.pictures[units].flatten().tolist()))
        pictures = {number: prepare(sources[rows[number]].load()) for number in shown}
        place = place_of(network, layer, normalize(pictures[shown[0]][None].to(model.device)))
        found.append(ExcitingCrops(layer, top, units, place, [short_name(sources[row]) for row in rows], pictures))
    return found, skipped


def short_name(source: Source) -> str:
    """A file's name without its folder, its ending, and the WordNet id that ImageNet's files begin with."""
    return re.sub(r"^n\d{8}_", "", Path(source.name).stem) if isinstance(source.picture, Path) else source.name


def explain_top(model: Model, request: Request) -> Explanation:
    """Crops of the nine pictures that most excite each unit. Layers: `request.layer`, or the last two stages; units:
    `request.units`, or the most selective.

    `values`: by layer, as `ExcitingCrops.values` says.

    Raises:
        DataError: no pictures.
        UsageError: no such layer or unit.
    """
    layers = [request.layer] if request.layer else stage_layers(model.module)[-LAYERS:]
    found, skipped = look(model, request, layers, UNITS if len(layers) == 1 else UNITS_EACH)
    sections = []
    for exciting in found:
        figures = [
            Figure(
                webp(grid([as_tile(crop) for crop in exciting.crops(unit)], exciting.captions(unit))),
                unit_caption(exciting, unit),
                f"Nine crops that most excite unit {unit} of {exciting.layer}: {', '.join(exciting.captions(unit))}",
            )
            for unit in exciting.units
        ]
        text = f"{len(exciting.top.values):,} units; {exciting.field_in_words()}. Grey is outside the picture."
        sections.append(Section(exciting.layer, text, figures))
    return Explanation(
        f"What excites {model.name}",
        sections,
        {exciting.layer: exciting.values() for exciting in found},
        facts_of(model, found),
        notes_of(request, skipped),
    )


def unit_caption(exciting: ExcitingCrops, unit: int) -> str:
    """How far the best pictures of a unit are above the others."""
    top = exciting.top
    if top.values[unit, 0] <= 0:
        return f"Unit {unit}: nothing in these pictures excites it."
    return (
        f"Unit {unit}: {number(float(top.values[unit, -1]))} to {number(float(top.values[unit, 0]))}; "
        f"the highest of an average picture is {number(float(top.mean[unit]))}."
    )


def facts_of(model: Model, found: Sequence[ExcitingCrops]) -> dict[str, str]:
    return {
        "model": f"{model.card.architecture}, {model.task.name}",
        "pictures": f"{found[0].top.count:,}",
        "layers": ", ".join(exciting.layer for exciting in found),
    }


def notes_of(request: Request, skipped: Sequence[str]) -> list[str]:
    notes = [] if request.units else ["Units shown are the most selective: their best pictures stand out from all."]
    notes += [f"Skipped: {message}" for message in skipped[:5]]
    return notes + ([f"Skipped: {len(skipped) - 5} more."] if len(skipped) > 5 else [])
