"""How far a score could be off by the luck of the pictures: percentile bootstrap, vectorised.

Bootstrap methods: another look at the jackknife (Efron, 1979).
"""

from __future__ import annotations

import torch
from torch import Tensor

RESAMPLES = 1000
NUMBERS_AT_ONCE = 4_000_000  # 32 MB of float64 a step


def interval(spread: Tensor, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of resampled values [R]."""
    tail = (1 - confidence) / 2
    low, high = spread.double().quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def f1_of(hits: Tensor, said: Tensor, there: Tensor) -> Tensor:
    """2 tp / (said + there): the harmonic mean of precision and recall, 0 where both are empty."""
    return 2 * hits / (said + there).clamp_min(1)


def mean_where(values: Tensor, present: Tensor) -> Tensor:
    """Mean over the last dimension of what is present."""
    return (values * present).sum(-1) / present.sum(-1).clamp_min(1)


def summarise_confusion(confusion: Tensor) -> dict[str, Tensor]:
    """Accuracy, balanced accuracy and macro F1 of [..., K, K] (rows are the truth)."""
    confusion = confusion.double()
    return summarise_counts(confusion.diagonal(dim1=-2, dim2=-1), confusion.sum(-2), confusion.sum(-1))


def summarise_counts(hits: Tensor, said: Tensor, there: Tensor) -> dict[str, Tensor]:
    """The same of the right answers, answers and truths of each class, [..., K]."""
    present = there > 0
    return {
        "accuracy": hits.sum(-1) / there.sum(-1),
        "balanced_accuracy": mean_where(hits / there.clamp_min(1), present),
        "macro_f1": mean_where(f1_of(hits, said, there), present),
    }


def bootstrap_confusion(confusion: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Scores of resampled pictures, [R] each.

    Drawing N pictures with replacement and counting them in a confusion matrix is drawing its cells from a
    multinomial, so only the cells that hold something are drawn, however many pictures there were.
    """
    classes = len(confusion)
    truth, said = confusion.nonzero(as_tuple=True)
    cells = confusion[truth, said].double()
    right = truth == said
    parts = []
    for count in chunks(RESAMPLES, max(len(cells), classes)):
        drawn = draw_counts(cells, count, generator)  # [r, cells]
        empty = torch.zeros(count, classes, dtype=torch.float64)
        parts.append(
            summarise_counts(
                empty.index_add(1, truth[right], drawn[:, right]),
                empty.index_add(1, said, drawn),
                empty.index_add(1, truth, drawn),
            )
        )
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def draw_counts(cells: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """How often each cell comes up when sum(cells) pictures are drawn: multinomial, float64 [count, cells]."""
    left = torch.full((count,), float(cells.sum()), dtype=torch.float64)
    remaining = cells.flip(0).cumsum(0).flip(0)  # of this cell and those after it
    drawn = torch.empty(count, len(cells), dtype=torch.float64)
    for i, share in enumerate((cells / remaining).tolist()):  # a multinomial is a chain of binomials
        drawn[:, i] = torch.binomial(left, torch.full_like(left, min(share, 1.0)), generator=generator)
        left = left - drawn[:, i]
    return drawn


def bootstrap_mean(values: Tensor, generator: torch.Generator) -> Tensor:
    """The mean of resampled values [N], float64 [R]."""
    values = values.double()
    parts = [
        values[torch.randint(len(values), (count, len(values)), generator=generator)].mean(1)
        for count in chunks(RESAMPLES, len(values))
    ]
    return torch.cat(parts)


def bootstrap_labels(logits: Tensor, truth: Tensor, said: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """mAP, macro F1, micro F1 and exact match of resampled pictures, [R] each; `truth` and `said` are bool [N, K].

    Every resample sorts anew per class in effect, so large sets get fewer resamples (never under 200).
    """
    samples, classes = truth.shape
    resamples = min(RESAMPLES, max(200, 400_000_000 // (samples * classes)))
    exact = (truth == said).all(1).double()
    hits_of, said_of, there_of = (part.double() for part in (truth & said, said, truth))
    parts = []
    for count in chunks(resamples, samples * 2):
        drawn = torch.randint(samples, (count, samples), generator=generator)
        weights = torch.zeros(count, samples, dtype=torch.float64)
        weights.scatter_add_(1, drawn, torch.ones_like(weights))
        hits, answers, there = weights @ hits_of, weights @ said_of, weights @ there_of  # [r, K]
        columns = zip(logits.T, truth.T, strict=True)
        precisions = torch.stack([average_precision(*column, weights) for column in columns], dim=1)
        parts.append(
            {
                "map": mean_where(precisions.nan_to_num(), there > 0),
                "macro_f1": mean_where(f1_of(hits, answers, there), there > 0),
                "micro_f1": f1_of(hits.sum(1), answers.sum(1), there.sum(1)),
                "exact_match": weights @ exact / samples,
            }
        )
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def average_precision(scores: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """Area under precision against recall as steps: the sum of (R_n - R_n-1) P_n over distinct scores, n from high.

    Args:
        scores: float [N]; only their order matters, equal ones are taken together.
        truth: bool or 0/1 [N].
        weights: how often each picture counts, float64 [R, N]; once each when not given.

    Returns:
        float64 [R] (or [1]); NaN where nothing is true.
    """
    ordered, order = scores.sort(descending=True)
    if weights is None:
        weights = torch.ones(1, len(scores), dtype=torch.float64)
    ends = torch.ones(len(scores), dtype=torch.bool)
    ends[:-1] = ordered[1:] != ordered[:-1]
    weights = weights[:, order]
    hits = (weights * truth[order].double()).cumsum(1)[:, ends]
    precision = hits / weights.cumsum(1)[:, ends].clamp_min(1)
    gained = hits.diff(dim=1, prepend=torch.zeros(len(hits), 1, dtype=torch.float64))
    return (gained * precision).sum(1) / hits[:, -1]


def chunks(total: int, width: int) -> list[int]:
    """`total` rows in portions of at most NUMBERS_AT_ONCE numbers."""
    size = min(max(1, NUMBERS_AT_ONCE // max(1, width)), total)
    return [size] * (total // size) + ([total % size] if total % size else [])
