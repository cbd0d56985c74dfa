"""What a network's layers are tuned to and what they answer: its first filters, and feature maps of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from striate.errors import UsageError
from striate.explain.explained import ExplainedImage, ExplainedModel, is_map, layer_outputs, look_at
from striate.explain.explanation import Explanation, Request
from striate.explain.layers import find_layer, stages_of
from striate.explain.units.sheets import sheet
from striate.tasks.section import BLUE, GREY, ORANGE, Figure, PictureCard, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from striate.model import Model

SHOWN = 256  # filters on a page
CHANNELS = 27  # feature maps of a layer, the strongest: three rows
PICTURES = 2
GREYISH = 0.5  # of a filter's energy: above, it sees brightness more than colour


def explain_filters(model: Model, request: Request) -> Explanation:
    """The filters of the first convolution, or of the one that the request names.

    `values["weights"]`: float [filters, channels, rows, columns]; `values["brightness"]` and `values["separable"]`:
    float [filters], see `brightness_share` and `separable_share`.

    Raises:
        UsageError: that layer is no convolution, or has no such unit.
    """
    name, layer = convolution_of(model, request.layer)
    weights = layer.weight.detach().float().cpu()
    units = checked_units(request.units, len(weights), name)
    weights = weights[units]
    brightness, separable = brightness_share(weights), separable_share(weights)
    order = brightness.argsort(descending=True, stable=True).tolist() if weights.shape[1] == 3 else range(len(weights))
    shown = [*order][:SHOWN]
    grid = sheet([painted(weights[index]) for index in shown], [str(units[index]) for index in shown])
    rows, columns = weights.shape[2:]
    text = (
        f"{name}: {len(layer.weight)} filters of {weights.shape[1]} × {rows} × {columns}. Each is shown by itself: mid "
        "grey is 0, and its largest weight is black or white, or a channel full on."
    )
    if weights.shape[1] == 3:
        text += " Those that see brightness come first, then those that compare colours."
    elif weights.shape[1] > 1:
        text += " Over so many channels, what is shown is the spatial pattern that explains most of each filter."
    hidden = f" The first {SHOWN} of {len(weights)}." if len(weights) > SHOWN else ""
    sections = [
        Section("Filters", text, [Figure(grid, f"The number of each below it.{hidden}", f"Filters of {name}", True)])
    ]
    facts = {"layer": name, "filters": f"{len(weights)} of {weights.shape[1]} × {rows} × {columns}"}
    values = {"weights": weights, "brightness": brightness, "separable": separable}
    if rows * columns > 1:
        drawings = [Figure(spread(separable, "share of the first singular value", ORANGE), SEPARABLE, "Histogram")]
        counts = [("separable (above 0.9)", int((separable > 0.9).sum()), float((separable > 0.9).float().mean()))]
        if weights.shape[1] == 3:
            drawings.insert(0, Figure(spread(brightness, "share of brightness", BLUE), BRIGHTNESS, "Histogram"))
            is_grey = brightness > GREYISH
            counts = [
                ("mostly brightness", int(is_grey.sum()), float(is_grey.float().mean())),
                ("mostly colour", int((~is_grey).sum()), float((~is_grey).float().mean())),
                *counts,
            ]
        sections.append(Section("What they are like", "", drawings, [Table(("kind", "filters", "share"), counts)]))
    return Explanation(f"Filters of {model.name}", sections, values, facts)


BRIGHTNESS = (
    "How much of a filter's energy is the same in red, green and blue: at 1 it sees brightness, at 0 colours only."
)
SEPARABLE = (
    "How much of a filter's strongest pattern is a row times a column: at 1 two one-dimensional passes would do."
)


def brightness_share(weights: Tensor) -> Tensor:
    """How much of each filter's energy lies in what all channels have in common: [filters] in 0..1.

    Args:
        weights: float [filters, channels, rows, columns].
    """
    common = weights.mean(1, keepdim=True).expand_as(weights)  # the projection on (1, 1, 1)
    return common.square().sum((1, 2, 3)) / weights.square().sum((1, 2, 3)).clamp(min=1e-30)


def strongest_pattern(weights: Tensor) -> Tensor:
    """The spatial pattern [filters, rows, columns] that, times one number a channel, comes nearest to each filter."""
    _, strengths, patterns = torch.linalg.svd(weights.flatten(2), full_matrices=False)
    found = patterns[:, 0] * strengths[:, :1]
    along = torch.einsum("fcp,fp->fc", weights.flatten(2), found)
    sign = along.sum(1).sign()  # a pattern and its negative are as near: the one that most channels have
    return (found * torch.where(sign == 0, 1.0, sign)[:, None]).unflatten(1, weights.shape[2:])


def separable_share(weights: Tensor) -> Tensor:
    """Of each filter's strongest pattern, how much is one column times one row: [filters] in 0..1, by energy."""
    strengths = torch.linalg.svdvals(strongest_pattern(weights))
    return strengths[:, 0].square() / strengths.square().sum(1).clamp(min=1e-30)


def painted(weights: Tensor) -> Tensor:
    """One filter [channels, rows, columns] as uint8 [3, rows, columns], 0 mid grey, by its own largest weight."""
    pattern = weights if len(weights) in (1, 3) else strongest_pattern(weights[None])
    share = pattern / pattern.abs().max().clamp(min=1e-30)
    return ((share + 1) * 127.5).round().to(torch.uint8).expand(3, -1, -1)


def convolution_of(model: Model, name: str | None) -> tuple[str, nn.Conv2d]:
    """The convolution of that name, or the first.

    Raises:
        UsageError: there is none.
    """
    found = {key: layer for key, layer in model.module.named_modules() if isinstance(layer, nn.Conv2d)}
    if name is None:
        if not found:
            raise UsageError(f"{model.name} has no convolution, so no filters to show")
        return next(iter(found.items()))
    if name not in found:
        kind = type(find_layer(model.module, name)).__name__
        raise UsageError(f'"{name}" is {kind}, not a convolution; there are {", ".join([*found][:6])} …')
    return name, found[name]


def explain_features(model: Model, request: Request) -> Explanation:
    """Feature maps of each picture, stage by stage, or of one layer; the strongest channels first.

    `values["maps"]`: for each picture, by stage, float [channels shown, rows, columns]; `values["channels"]`: their
    numbers.

    Raises:
        UsageError: no such layer or unit, or it gives no maps.
    """
    explained = ExplainedModel.of(model)
    pictures, notes = look_at(explained, request, PICTURES)
    layers = (
        {name: explained.network.get_submodule(layer) for name, layer in stages_of(explained.network).items()}
        if request.layer is None
        else {request.layer: find_layer(explained.network, request.layer)}
    )
    if not layers:
        raise UsageError(f"{explained.name} names no stages: name a layer with --layer")
    sections: list[Section] = []
    values: dict[str, list[dict[str, object]]] = {"maps": [], "channels": []}
    for one in pictures:
        with torch.no_grad(), layer_outputs([*layers.values()]) as given:
            explained.network(one.images)
        found = {
            name: given[layer][0] for name, layer in layers.items() if given.get(layer) and is_map(given[layer][0])
        }
        if not found:
            raise UsageError(f"{', '.join(layers)}: gives no maps [B, channels, rows, columns]; name another layer")
        chosen = {name: chosen_channels(maps[0], request.units, name) for name, maps in found.items()}
        values["maps"].append({name: found[name][0, numbers].cpu() for name, numbers in chosen.items()})
        values["channels"].append(dict(chosen))
        sections.append(section_of(one, found, chosen))
    facts = {"order": "channels by their root mean square", "brightness": "each map by its own largest value"}
    return Explanation(f"Feature maps of {explained.name}", sections, values, facts, notes)


def chosen_channels(maps: Tensor, units: Sequence[int] | None, name: str) -> list[int]:
    """Those asked for, else the strongest, by the root of the mean square of their map [channels, rows, columns]."""
    if units is not None:
        return checked_units(units, len(maps), name)
    strengths = maps.float().square().mean((1, 2))
    return strengths.argsort(descending=True, stable=True)[:CHANNELS].tolist()


def checked_units(units: Sequence[int] | None, count: int, name: str) -> list[int]:
    """Raises:
    UsageError: one of them is not there."""
    wrong = next((unit for unit in units or () if not 0 <= unit < count), None)
    if wrong is not None:
        raise UsageError(f"{name} has no unit {wrong}; they are numbered 0 to {count - 1}")
    return [*range(count)] if units is None else [*units]


def section_of(one: ExplainedImage, found: dict[str, Tensor], chosen: dict[str, list[int]]) -> Section:
    """One picture, and a sheet of maps a stage."""
    figures: list[Figure] = []
    for stage, maps in found.items():
        tiles = [shaded(maps[0, channel]) for channel in chosen[stage]]
        grid = sheet(tiles, [str(channel) for channel in chosen[stage]], side=104)
        silent = int((maps[0].flatten(1).abs().amax(1) == 0).sum())
        dead = f", {silent} of them silent on this picture" if silent else ""
        caption = f"{stage}: {maps.shape[1]} channels of {maps.shape[2]} × {maps.shape[3]}{dead}."
        figures.append(Figure(grid, caption, f"Feature maps of {stage}, {one.name}", True))
    text = f"{one.said} Channels in the order of their strength, each by its own largest value, its number below it."
    return Section(one.name, text, figures, pictures=[PictureCard(one.picture, one.name)])


def shaded(found: Tensor) -> Tensor:
    """One map [rows, columns] as uint8 [3, rows, columns]: 0 is dark; where it is negative too, mid grey."""
    from matplotlib import colormaps

    values = found.float().cpu()
    top = values.abs().max().clamp(min=1e-30)
    if values.min() < 0:
        return ((values / top + 1) * 127.5).round().to(torch.uint8).expand(3, -1, -1)
    colours = colormaps["inferno"]((values / top).numpy())[..., :3]
    return (torch.from_numpy(colours) * 255).round().to(torch.uint8).movedim(-1, 0)


def spread(shares: Tensor, label: str, colour: str) -> Drawing:
    """A histogram of shares 0..1."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(4.6, 2.6), layout="constrained")
    axes = drawing.add_subplot()
    axes.hist(shares.numpy(), bins=20, range=(0, 1), color=colour, rwidth=0.9)
    axes.set(xlabel=label, ylabel="filters", xlim=(0, 1))
    axes.grid(axis="y", color=GREY, alpha=0.2, linewidth=0.6)
    return drawing
