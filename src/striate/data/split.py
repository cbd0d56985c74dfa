"""Holding out samples: seeded, stratified, and the same whatever order the file system lists files in."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Any

from striate.data.sample import Sample
from striate.data.seeds import seed_of
from striate.data.targets import Stratum, as_target

# what people call splits → what we call them
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def stratified_split(targets: Sequence[Any], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices that stay and indices held out, both ascending.

    With one label a sample, every class of n gives floor or ceil of `n * fraction`, at least 1 and never its last;
    a class with one sample stays. With several labels, the shares are approximate (Sechidis et al., 2011, "On the
    stratification of multi-label data"); of objects, the set of classes on a picture counts. Of scores, ranked from
    worst to best, one in every 1/fraction is held out. The same targets and seed give the same split.

    Args:
        targets: of each sample: a target, a plain class index or a tuple of them, or None where unlabelled.
        fraction: to hold out, 0..1.
        seed: of the choice.
    """
    strata: list[Stratum] = [
        None if target is None else target.stratum() for target in (as_target(one) for one in targets)
    ]
    order = list(range(len(strata)))
    random.Random(seed_of(seed, "split")).shuffle(order)
    if any(isinstance(stratum, float) for stratum in strata):
        held = _hold_scores(strata, order, fraction)
    elif any(isinstance(stratum, tuple) for stratum in strata):
        held = _hold_sets([set(s) if isinstance(s, tuple) else set() for s in strata], order, fraction)
    else:
        held = _hold_classes(strata, order, fraction)
    return [index for index in range(len(strata)) if index not in held], sorted(held)


def hold_out(
    splits: dict[str, list[Sample]], fraction: float, seed: int, at_most: int | None = None
) -> tuple[dict[str, list[Sample]], str | None]:
    """Splits with a `val` taken from `train` where there is none, and a sentence that says so.

    Nothing happens where there is a `val` or no `train`, where fraction is 0, or where every class has one sample.
    """
    train = splits.get("train", [])
    if "val" in splits or not train or fraction <= 0:
        return splits, None
    if at_most is not None:
        fraction = min(fraction, at_most / len(train))
    stay, held = stratified_split([sample.target for sample in train], fraction, seed)
    if not held or not stay:
        return splits, "Too few pictures to hold any out for validation."
    result = {"train": [train[index] for index in stay], "val": [train[index] for index in held]}
    result |= {name: samples for name, samples in splits.items() if name != "train"}
    return result, f"Held out {len(held):,} of {len(train):,} training pictures as val (stratified, seed {seed})."


def _hold_classes(targets: Sequence[Hashable], order: list[int], fraction: float) -> set[int]:
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index in order:
        members[targets[index]].append(index)
    exact = {label: len(indices) * fraction for label, indices in members.items() if len(indices) > 1}
    take = {label: max(1, int(share)) if fraction > 0 else 0 for label, share in exact.items()}
    # what is missing from the whole goes to the classes that lost most by rounding down
    missing = round(len(targets) * fraction) - sum(take.values())
    for label in sorted(exact, key=lambda label: take[label] - exact[label]):
        if missing <= 0 or take[label] >= exact[label]:
            break
        if take[label] < len(members[label]) - 1:
            take[label] += 1
            missing -= 1
    return {index for label, count in take.items() for index in members[label][:count]}


def _hold_scores(scores: Sequence[Stratum], order: list[int], fraction: float) -> set[int]:
    """Ranked by their means and cut into even groups, each gives the one that was shuffled to the front."""

    def mean(index: int) -> float:
        score = scores[index]
        return score if isinstance(score, float) else -1.0

    ranked = sorted(order, key=mean)
    place = {index: at for at, index in enumerate(order)}
    count = round(len(ranked) * fraction)
    bounds = [number * len(ranked) // count for number in range(count + 1)] if count else []
    return {min(ranked[start:end], key=place.__getitem__) for start, end in pairwise(bounds)}


def _hold_sets(labels: list[set[int | None]], order: list[int], fraction: float) -> set[int]:
    """The rarest label first, each of its samples goes where that label is wanted most."""
    labels = [of_one or {None} for of_one in labels]  # samples without any label are a group of their own
    left = Counter(label for of_one in labels for label in of_one)
    single = {label for label, count in left.items() if count == 1}
    wanted_held = {label: count * fraction for label, count in left.items()}
    wanted_rest = {label: count * (1 - fraction) for label, count in left.items()}
    having: dict[int | None, list[int]] = defaultdict(list)
    for index in order:
        for label in labels[index]:
            having[label].append(index)
    assigned: set[int] = set()
    held: set[int] = set()
    while left:
        rarest = min(left, key=lambda label: (left[label], -1 if label is None else label))
        for index in having[rarest]:
            if index in assigned:
                continue
            assigned.add(index)
            to_held = wanted_held[rarest] > wanted_rest[rarest] and not (labels[index] & single)
            if to_held:
                held.add(index)
            wanted = wanted_held if to_held else wanted_rest
            for label in labels[index]:
                wanted[label] -= 1
                left[label] -= 1
        left = Counter({label: count for label, count in left.items() if count > 0})
    return held
