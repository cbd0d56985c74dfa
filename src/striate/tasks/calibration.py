"""Making confidences mean what they say: temperature, thresholds, and how far off they are.

On Calibration of Modern Neural Networks (Guo et al., 2017, arXiv:1706.04599).
"""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 15  # section 4 of the paper: M = 15
COLDEST, HOTTEST = 0.05, 20.0
ROWS_AT_ONCE = 8192  # so that ImageNet's 50,000 x 1,000 logits are not held in float64 at once


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The temperature T in 0.05..20 that makes `logits / T` most likely (section 4.2 of the paper).

    The negative log-likelihood is convex in 1/T, so its slope is followed to zero by Newton steps kept inside a
    bracket. Where no finite optimum exists T stays 1: no pictures, constant logits, or every picture right
    (then any sharpening lowers the loss, which says that the set is too easy, not that the network is sure).

    Args:
        logits: float [N, K].
        targets: int64 [N] (one label each: softmax) or 0/1 [N, K] (several labels: a sigmoid each).
    """
    if not len(logits) or all_right(logits, targets):
        return 1.0
    sharpness, low, high = 1.0, 1 / HOTTEST, 1 / COLDEST  # sharpness = 1 / T
    for _ in range(60):
        slope, curvature = slope_and_curvature(logits, targets, sharpness)
        if slope == 0.0 or curvature == 0.0:
            break
        low, high = (low, sharpness) if slope > 0 else (sharpness, high)
        step = sharpness - slope / curvature
        following = step if low < step < high else (low + high) / 2
        if abs(following - sharpness) <= 1e-9 * sharpness:
            break
        sharpness = following
    return min(max(1 / sharpness, COLDEST), HOTTEST)


def all_right(logits: Tensor, targets: Tensor) -> bool:
    if targets.ndim == 1:
        return bool((logits.argmax(1) == targets).all())
    return bool(((logits > 0) == (targets > 0.5)).all())


def slope_and_curvature(logits: Tensor, targets: Tensor, sharpness: float) -> tuple[float, float]:
    """First and second derivative of the summed negative log-likelihood of `sharpness * logits` by sharpness."""
    slope = curvature = 0.0
    for part, target in zip(logits.split(ROWS_AT_ONCE), targets.split(ROWS_AT_ONCE), strict=True):
        part = part.double()
        if targets.ndim == 1:  # mean and variance of the logits under softmax
            part = part - part.gather(1, target[:, None])
            p = (part * sharpness).softmax(1)
            mean = (p * part).sum(1, keepdim=True)
            slope += mean.sum().item()
            curvature += (p * (part - mean).square()).sum().item()
        else:
            p = (part * sharpness).sigmoid()
            slope += (part * (p - target)).sum().item()
            curvature += (part.square() * p * (1 - p)).sum().item()
    return slope, curvature


def tune_thresholds(logits: Tensor, targets: Tensor) -> list[float]:
    """Per class the threshold on `sigmoid(logits)` with the highest F1; a label is said from its threshold on.

    Every distinct score is tried; the threshold lies half-way to the next lower score, and of equals the highest
    is taken (fewest false alarms). A class without positives gets 0.5. Divide logits by the temperature first
    where there is one. On the pictures it was tuned on, F1 is flattering: judge on others.

    Args:
        logits: float [N, K].
        targets: 0/1 [N, K].
    """
    thresholds = []
    for scores, truth in zip(logits.float().sigmoid().T, targets.T > 0.5, strict=True):
        if not truth.any():
            thresholds.append(0.5)
            continue
        ordered, order = scores.sort(descending=True)
        last = last_of_equals(ordered)
        hits = truth[order].cumsum(0)[last].double()
        f1 = 2 * hits / (last + 1 + truth.sum())  # 2 tp / (said + true)
        best = int(f1.argmax())
        upper = ordered[last[best]]
        lower = ordered[last[best] + 1] if best + 1 < len(last) else torch.zeros(())
        middle = (upper + lower) / 2
        thresholds.append(float(middle if middle > lower else upper))  # neighbours in float32 have no middle
    return thresholds


def last_of_equals(ordered: Tensor) -> Tensor:
    """Where each run of equal values ends: [N] sorted → int64 indices."""
    ends = torch.ones(len(ordered), dtype=torch.bool)
    ends[:-1] = ordered[1:] != ordered[:-1]
    return ends.nonzero().squeeze(1)


def reliability_bins(probabilities: Tensor, targets: Tensor, bins: int = BINS) -> list[dict[str, float | int | None]]:
    """Confidence against accuracy in equal-width bins (low, high], as in Figure 1 of the paper.

    Args:
        probabilities: [N, K].
        targets: int64 [N]: the confidence is the largest probability and its outcome whether it was right; or
            0/1 [N, K]: every probability counts, and its outcome is whether the label was there.
        bins: how many.

    Returns:
        `{low, high, count, confidence, accuracy}` a bin; the means are None where the bin is empty.
    """
    count, confidence, accuracy = bin_means(*confidence_and_outcome(probabilities, targets), bins)
    return [
        {
            "low": i / bins,
            "high": (i + 1) / bins,
            "count": int(count[i]),
            "confidence": float(confidence[i]) if count[i] else None,
            "accuracy": float(accuracy[i]) if count[i] else None,
        }
        for i in range(bins)
    ]


def expected_calibration_error(probabilities: Tensor, targets: Tensor, bins: int = BINS) -> float:
    """The mean gap between confidence and accuracy over bins, weighted by their counts (equation 3); 0 is best."""
    count, confidence, accuracy = bin_means(*confidence_and_outcome(probabilities, targets), bins)
    return float((count * (confidence - accuracy).abs()).sum() / count.sum().clamp_min(1))


def maximum_calibration_error(probabilities: Tensor, targets: Tensor, bins: int = BINS) -> float:
    """The largest gap of any bin that holds something (equation 5)."""
    _, confidence, accuracy = bin_means(*confidence_and_outcome(probabilities, targets), bins)
    return float((confidence - accuracy).abs().max())


def confidence_and_outcome(probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    if targets.ndim == 1:
        confidence, said = probabilities.max(1)
        return confidence, (said == targets).double()
    return probabilities.flatten(), targets.flatten().double()


def bin_means(confidence: Tensor, outcome: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean confidence and mean outcome of each bin, float64 [bins]; the means of an empty bin are 0."""
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    place = torch.bucketize(confidence.double(), edges[1:-1])  # right edges belong to the bin: (low, high]
    count = torch.bincount(place, minlength=bins).double()
    sums = [torch.bincount(place, weights=values.double(), minlength=bins) for values in (confidence, outcome)]
    return count, sums[0] / count.clamp_min(1), sums[1] / count.clamp_min(1)
