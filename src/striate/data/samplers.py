"""Which samples make up each batch of an epoch: values, that give the same batches for the same (epoch, rank, world).

Every random number comes from (seed, epoch), so that a resumed run draws what it would have drawn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from striate.data.seeds import seed_of
from striate.errors import DataError

Rows = list[list[int]]  # of each batch, the indices into the split


class Sampler(Protocol):
    """A batch of all processes together is shared out by rank; what belongs together stays on one rank."""

    def batches(self, epoch: int, rank: int = 0, world: int = 1) -> Rows: ...


@dataclass(frozen=True, slots=True)
class Shuffled:
    """All of `count` samples once, in a new order each epoch.

    A last batch smaller than `batch` is left out, unless it is all there is.
    """

    count: int
    batch: int
    seed: int = 0

    def batches(self, epoch: int, rank: int = 0, world: int = 1) -> Rows:
        return batch_rows(epoch_order(self.count, self.seed, epoch), self.batch, rank, world)


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """As many draws as there are samples, with replacement, in proportion to `weights`, float [N]."""

    weights: Tensor
    batch: int
    seed: int = 0

    def batches(self, epoch: int, rank: int = 0, world: int = 1) -> Rows:
        order = epoch_order(len(self.weights), self.seed, epoch, self.weights)
        return batch_rows(order, self.batch, rank, world)


@dataclass(frozen=True, slots=True)
class InOrder:
    """Every sample once, in order, the last batch as small as it is: for evaluation.

    Args:
        every: only the first of each so many.
    """

    count: int
    batch: int
    every: int = 1

    def batches(self, epoch: int = 0, rank: int = 0, world: int = 1) -> Rows:
        rows = batch_rows(torch.arange(0, self.count, self.every), self.batch, rank, world, keep_rest=True)
        return [row for row in rows if row]


@dataclass(frozen=True, slots=True)
class Groups:
    """`groups` identities a batch, `each` pictures of every one (P × K; Hermans et al. 2017, arXiv:1703.07737).

    Every identity with at least two pictures comes up once an epoch, as long as whole batches can be filled; one with
    fewer than `each` pictures repeats some. A rank takes whole identities.

    Args:
        labels: which identity each sample is of.

    Raises:
        DataError: too few identities with two pictures, when batches are asked for.
    """

    labels: Sequence[int]
    groups: int
    each: int
    seed: int = 0

    def batches(self, epoch: int, rank: int = 0, world: int = 1) -> Rows:
        members: dict[int, list[int]] = defaultdict(list)
        for index, label in enumerate(self.labels):
            members[label].append(index)
        of_many = [label for label, indices in members.items() if len(indices) > 1]
        if len(of_many) < self.groups or self.groups % world:
            raise DataError(
                f"{self.groups} identities a batch, shared by {world} processes, cannot be drawn from the "
                f"{len(of_many)} that have two pictures or more"
            )
        generator = torch.Generator().manual_seed(seed_of(self.seed, "order", epoch))
        order = [of_many[at] for at in torch.randperm(len(of_many), generator=generator).tolist()]
        whole = len(order) // self.groups * self.groups
        rows: Rows = []
        for start in range(0, whole, self.groups):
            drawn = [self._some(members[label], generator) for label in order[start : start + self.groups]]
            rows.append([index for some in drawn[rank::world] for index in some])
        return rows

    def _some(self, indices: list[int], generator: torch.Generator) -> list[int]:
        order = torch.randperm(len(indices), generator=generator).tolist()
        return [indices[order[at % len(order)]] for at in range(self.each)]


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Two sets that have nothing to do with each other, A and B: `batch` of each a batch, A's first.

    An epoch is as long as the larger set; the smaller one begins anew, in another order, as often as it must. A rank
    takes as many of A as of B.

    Args:
        domains: of each sample, False where it is of A, True where of B.
    """

    domains: Sequence[bool]
    batch: int
    seed: int = 0

    def batches(self, epoch: int, rank: int = 0, world: int = 1) -> Rows:
        sides = [[index for index, side in enumerate(self.domains) if side == which] for which in (False, True)]
        if not all(sides):
            raise DataError("unpaired pictures come in two sets; one of them is empty")
        longest = max(map(len, sides))
        endless = [self._drawn(side, longest, epoch, name) for side, name in zip(sides, "AB", strict=True)]
        rows = []
        for start in range(0, longest - longest % self.batch or longest, self.batch):
            parts = [side[start : start + self.batch][rank::world] for side in endless]
            rows.append([*parts[0], *parts[1]])
        return rows

    def _drawn(self, side: list[int], count: int, epoch: int, name: str) -> list[int]:
        found: list[int] = []
        for turn in range(-(-count // len(side))):
            generator = torch.Generator().manual_seed(seed_of(self.seed, "order", name, epoch, turn))
            found += [side[at] for at in torch.randperm(len(side), generator=generator).tolist()]
        return found[:count]


def epoch_order(count: int, seed: int, epoch: int, weights: Tensor | None = None) -> Tensor:
    """int64 [count]: a shuffle; or, with weights [count], drawn with replacement in proportion to them."""
    generator = torch.Generator().manual_seed(seed_of(seed, "order", epoch))
    if weights is not None:
        return torch.multinomial(weights, count, replacement=True, generator=generator)
    return torch.randperm(count, generator=generator)


def batch_rows(order: Tensor, batch: int, rank: int = 0, world: int = 1, keep_rest: bool = False) -> Rows:
    """The indices of each batch that this process takes: every `world`-th of the global batch.

    A last batch smaller than `batch` is left out unless `keep_rest`, or unless it is all there is.
    """
    rows = [order[start : start + batch] for start in range(0, len(order), batch)]
    if not keep_rest and len(rows) > 1 and len(rows[-1]) < batch:
        rows.pop()
    return [row[rank::world].tolist() for row in rows]
