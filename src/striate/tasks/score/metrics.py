"""Judging scores: do pictures come in the order in which people would put them, and are the numbers right?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from striate.errors import UsageError
from striate.tasks.bootstrap import RESAMPLES, chunks, interval
from striate.tasks.metrics import Predictions, RowMetrics, as_rows

DESCRIPTIONS = {  # what each scalar means, for people
    "spearman": "rank correlation of said and voted mean: are better pictures put before worse ones?",
    "pearson": "linear correlation of said and voted mean",
    "mae": "how far the said mean is from the voted one, in grades, on average; lower is better",
    "emd": "earth mover's distance of the said and voted shares, the mean over grades (L1); lower is better",
    "side": "pictures put on the right side of the middle grade (AVA's good or bad)",
    "spread_spearman": "rank correlation of said and voted spread: does it know what people quarrel about?",
}


def mean_and_spread(shares: Tensor, grades: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of grades, [N] each.

    Args:
        shares: float [N, K], rows add to 1.
        grades: float [K].
    """
    mean = shares @ grades
    return mean, (shares * (grades - mean[:, None]).square()).sum(1).sqrt()


def ranks(values: Tensor) -> Tensor:
    """Ranks from 1, equal values share the mean of theirs, float64 [N]."""
    _, place, count = values.unique(return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    return (last - (count - 1) / 2)[place]


def correlation(x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """Pearson's correlation, float64 [R] or []; 0 where one of them does not vary.

    Args:
        x, y: float [N].
        weights: how often each pair counts, float64 [R, N]; once each when not given.
    """
    x, y = x.double(), y.double()
    w = torch.ones_like(x) if weights is None else weights
    total = w.sum(-1, keepdim=True)
    dx = x - (w * x).sum(-1, keepdim=True) / total
    dy = y - (w * y).sum(-1, keepdim=True) / total
    spread = ((w * dx * dx).sum(-1) * (w * dy * dy).sum(-1)).sqrt()
    flat = spread <= 1e-12 * (x.abs().max() * y.abs().max() * total.squeeze(-1) + 1e-300)
    return ((w * dx * dy).sum(-1) / spread.where(~flat, torch.ones_like(spread))).where(~flat, torch.zeros_like(spread))


class ScoreMetrics(RowMetrics):
    """Logits and shares of votes of each picture, and what follows from them.

    Attributes:
        best: the metric that decides; higher is better.
    """

    best = "spearman"

    def __init__(self, grades: Tensor) -> None:
        super().__init__()
        self.grades = grades

    def update(self, predictions: Predictions, targets: Tensor) -> None:
        """Take a batch.

        Args:
            predictions: B times logits, float [K].
            targets: float [B, K], shares of votes.
        """
        logits = as_rows(predictions)
        if logits.ndim != 2 or logits.shape[1] != len(self.grades) or targets.shape != logits.shape:
            raise UsageError(
                f"logits are {list(logits.shape)} and targets {list(targets.shape)}, expected [B, {len(self.grades)}]"
            )
        self.keep(logits, targets)

    def checked(self, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Said and voted shares, float64 [N, K]."""
        return rows.double().softmax(1), targets.double()

    def summaries(self) -> dict[str, Tensor]:
        """Mean and spread, said and voted, float64 [N] each."""
        said, voted = self.gathered()
        grades = self.grades.double()
        (said_mean, said_spread), (voted_mean, voted_spread) = (
            mean_and_spread(shares, grades) for shares in (said, voted)
        )
        return {
            "said_mean": said_mean,
            "said_spread": said_spread,
            "voted_mean": voted_mean,
            "voted_spread": voted_spread,
        }

    @property
    def have_spread(self) -> bool:
        """Whether people's votes are known, or only one number a picture (then no more than two grades share it)."""
        return bool((self.gathered()[1] > 0).sum(1).max() > 2)

    def measures(self) -> dict[str, Callable[[Tensor | None], Tensor]]:
        """Each scalar as a function of how often each picture counts (weights [R, N], or None: once each)."""
        said, voted = self.gathered()
        of = self.summaries()
        middle = float(self.grades[0] + self.grades[-1]) / 2
        step = float(self.grades[1] - self.grades[0])
        error = (of["said_mean"] - of["voted_mean"]).abs()
        moved = (said.cumsum(1) - voted.cumsum(1)).abs().sum(1) * step
        side = ((of["said_mean"] > middle) == (of["voted_mean"] > middle)).double()

        def mean_of(values: Tensor) -> Callable[[Tensor | None], Tensor]:
            return lambda w: values.mean() if w is None else (w @ values) / w.sum(-1)

        def likeness(x: Tensor, y: Tensor) -> Callable[[Tensor | None], Tensor]:
            return lambda w: correlation(x, y, w)

        made = {
            "spearman": likeness(ranks(of["said_mean"]), ranks(of["voted_mean"])),
            "pearson": likeness(of["said_mean"], of["voted_mean"]),
            "mae": mean_of(error),
            "emd": mean_of(moved),
            "side": mean_of(side),
        }
        if self.have_spread:
            made["spread_spearman"] = likeness(ranks(of["said_spread"]), ranks(of["voted_spread"]))
        return made

    def compute(self) -> dict[str, float]:
        """The scalars; a correlation with something that does not vary is 0.

        Raises:
            DataError: nothing to judge.
        """
        return {name: float(measure(None)) for name, measure in self.measures().items()}

    def full(self, seed: int = 0) -> dict[str, Any]:
        """Everything, ready for JSON: scalars with 95 % intervals (percentile bootstrap over pictures).

        Resampled rank correlations keep the ranks of the whole set.
        """
        measures = self.measures()
        samples = len(self.gathered()[0])
        generator = torch.Generator().manual_seed(seed)
        spreads: dict[str, list[Tensor]] = {name: [] for name in measures}
        for count in chunks(RESAMPLES, samples * 4):
            drawn = torch.randint(samples, (count, samples), generator=generator)
            weights = torch.zeros(count, samples, dtype=torch.float64)
            weights.scatter_add_(1, drawn, torch.ones_like(weights))
            for name, measure in measures.items():
                spreads[name].append(measure(weights))
        scalars: dict[str, Any] = {}
        for name, measure in measures.items():
            low, high = interval(torch.cat(spreads[name]))
            value = float(measure(None))
            scalars[name] = {
                "value": value,
                "low": low,
                "high": high,
                "meaning": DESCRIPTIONS[name],
                "share": name == "side",
            }
        best = scalars[self.best]
        return {
            "samples": samples,
            "grades": self.grades.tolist(),
            "best": self.best,
            "sentence": (
                f"Rank correlation with people's mean scores is {best['value']:.3f} on {samples:,} pictures "
                f"(95 % interval {best['low']:.3f} to {best['high']:.3f}); "
                f"the mean is off by {scalars['mae']['value']:.2f} grades."
            ),
            "scalars": scalars,
            "resamples": RESAMPLES,
        }
