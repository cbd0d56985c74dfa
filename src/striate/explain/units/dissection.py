"""Network dissection: units matched with what people call the pixels that excite them (Bau, Zhou et al. 2017,
"Network Dissection", arXiv:1704.05796, section 2).

Of each unit the threshold T is such that 0.5 % of all its activations, over all places of all pictures, are above it;
of a unit that is not even above 0 at so many, T is half of the least that is (the paper says nothing of these): at 0,
bilinear enlargement would make four times their area of them.
Its maps are enlarged to the picture, bilinearly, each value at the centre of what it sees; the pixels above T are set
against those of each concept: their intersection over their union, counted over the whole set. A unit is a detector of
its best concept where that is above 0.04.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from striate.errors import UsageError
from striate.explain.layers import place_of, read_maps, readable_copy
from striate.layers.receptive_fields import Place

QUANTILE = 0.005  # of activations, above a unit's threshold
DETECTS = 0.04  # IoU of a detector's best concept
CHUNK = 64  # units enlarged at once


class View(NamedTuple):
    """A picture as the network takes it, float [C, H, W], its concepts' pixels, bool [K, H, W], and which pixels are
    named at all, bool [H, W]."""

    image: Tensor
    masks: Tensor
    known: Tensor


@dataclass(frozen=True)
class Dissection:
    """How the U units of a layer match K concepts.

    Attributes:
        iou: float [U, K].
        thresholds: float [U].
        shares: float [K], of the named pixels.
        peaks: float [N, U], the highest activation in each picture.
        place: what a value of the layer sees.
        areas: float [U], the share of the named pixels that excites each unit. Not `QUANTILE`: that is of the maps'
            values, and enlarged a peak that stands alone is smaller than its place, a broad one larger.
        above: how many activations each unit's threshold rests on.
    """

    concepts: tuple[str, ...]
    iou: Tensor
    thresholds: Tensor
    shares: Tensor
    peaks: Tensor
    place: Place | None
    areas: Tensor
    above: int

    def possible(self) -> Tensor:
        """The highest IoU that each concept could have with a unit of these areas: float [K]."""
        areas, shares = self.areas[:, None], self.shares[None]
        return (torch.minimum(areas, shares) / torch.maximum(areas, shares).clamp(min=1e-12)).amax(0)

    def detectors(self, least: float = DETECTS) -> list[tuple[int, str, float]]:
        """(unit, concept, IoU) of the units above `least`, the best first."""
        best, concept = self.iou.max(1)
        order = best.argsort(descending=True, stable=True).tolist()
        return [
            (unit, self.concepts[int(concept[unit])], float(best[unit])) for unit in order if float(best[unit]) > least
        ]

    def counts(self, least: float = DETECTS) -> dict[str, int]:
        """How many detectors each concept has."""
        found = [concept for _, concept, _ in self.detectors(least)]
        return {concept: found.count(concept) for concept in self.concepts}

    def varied(self, count: int) -> list[int]:
        """Units to look at: the best of each concept, then each one's second, and so on; detectors before others."""
        best, concept = self.iou.max(1)
        order = best.argsort(descending=True, stable=True).tolist()
        turn: dict[int, int] = {}
        ranked = []
        for unit in order:
            own = int(concept[unit])
            turn[own] = turn.get(own, -1) + 1
            ranked.append((float(best[unit]) <= DETECTS, turn[own], -float(best[unit]), unit))
        return [unit for *_, unit in sorted(ranked)[:count]]


def dissect(
    network: nn.Module,
    layer: str,
    views: Callable[[], Iterable[View]],
    concepts: Sequence[str],
    count: int,
    quantile: float = QUANTILE,
) -> Dissection:
    """Match the units of a layer with concepts.

    Memory holds one picture, and of each unit the share `quantile` of its activations.

    Args:
        network: is left as it is.
        layer: a module's name in it, whose output is [B, C, h, w].
        views: gives the pictures; called twice, and must give the same.
        concepts: K names.
        count: at most so many pictures will come.

    Raises:
        UsageError: no such layer, or no pictures.
    """
    read = readable_copy(network)
    with torch.inference_mode():
        thresholds, peaks, above = _thresholds(read, layer, views(), count, quantile)
        place: Place | None = None
        both, one = torch.zeros(()), torch.zeros(())  # pixels of units and concepts, [U, K]; of units, [U, 1]
        of_concept, named = torch.zeros(len(concepts)), 0
        for number, view in enumerate(views()):
            if not number:
                place = place_of(read, layer, view.image[None])
            maps = read_maps(read, layer, view.image[None])[0].float()
            masks = view.masks.to(maps.device)[:, view.known].float()  # [K, P], P the named pixels
            excited = [
                active(part, threshold, view.image.shape[1:], place)[:, view.known].float()  # [CHUNK, P]
                for part, threshold in zip(maps.split(CHUNK), thresholds.split(CHUNK), strict=True)
            ]
            both = both + torch.cat([part @ masks.T for part in excited]).double().cpu()
            one = one + torch.cat([part.sum(1, keepdim=True) for part in excited]).double().cpu()
            of_concept = of_concept + masks.sum(1).double().cpu()
            named += int(view.known.sum())
    union = one + of_concept - both
    iou = (both / union.clamp(min=1)).float()
    shares = (of_concept / max(1, named)).float()
    areas = (one[:, 0] / max(1, named)).float()
    return Dissection(tuple(concepts), iou, thresholds.cpu(), shares, peaks, place, areas, above)


def active(maps: Tensor, thresholds: Tensor, size: Sequence[int], place: Place | None) -> Tensor:
    """Where units are above their thresholds, in pixels.

    Args:
        maps: float [U, h, w].
        thresholds: float [U].
        size: height and width of the picture.
        place: where the maps' values look; None: they are spread evenly.

    Returns:
        bool [U, height, width].
    """
    across = [_enlarging(side, maps.shape[axis + 1], place, axis).to(maps) for axis, side in enumerate(size)]
    return across[0] @ maps @ across[1].T > thresholds[:, None, None]


def _enlarging(side: int, count: int, place: Place | None, axis: int) -> Tensor:
    """Bilinear weights [side, count] of a map's values, each at the centre of its field, for each pixel's centre; what
    is beyond the outermost takes their values."""
    if place is None:
        jump, centre = side / count, side / count / 2
    else:
        jump, centre = float(place.jump[axis]), place.first[axis] + place.field[axis] / 2
    at = ((torch.arange(side) + 0.5 - centre) / jump).clamp(0, count - 1)
    low = at.floor().long().clamp(max=max(0, count - 2))
    share = at - low
    weights = torch.zeros(side, count)
    rows = torch.arange(side)
    weights[rows, low] = 1 - share
    weights[rows, (low + 1).clamp(max=count - 1)] += share
    return weights


def _thresholds(
    read: nn.Module, layer: str, views: Iterable[View], count: int, quantile: float
) -> tuple[Tensor, Tensor, int]:
    """Of each unit the activation that the share `quantile` is above, [U]; its highest in each picture, [N, U]; and how
    many activations that share is."""
    highest = torch.empty(0)  # [U, up to the number of activations above the threshold, and that one]
    peaks, seen = [], 0
    for view in views:
        values = read_maps(read, layer, view.image[None])[0].flatten(1).float()  # [U, h w]
        peaks.append(values.amax(1).cpu())
        most = int(quantile * count * values.shape[1]) + 1
        highest = torch.cat((highest, values), 1) if seen else values
        highest = highest.topk(min(most, highest.shape[1]), sorted=False).values
        seen += values.shape[1]
    if not peaks:
        raise UsageError("no pictures to dissect with")
    ordered = highest.sort(dim=1, descending=True).values
    above = min(int(quantile * seen), ordered.shape[1] - 1)
    thresholds = ordered[:, above]
    if above:  # of the seldom active ones the threshold is the value that they have where they are not
        least = ordered.where(ordered > thresholds[:, None], torch.inf).amin(1)
        is_seldom = (ordered[:, above - 1] == thresholds) & least.isfinite()
        thresholds = thresholds.where(~is_seldom, (thresholds + least) / 2)
    return thresholds, torch.stack(peaks), above
