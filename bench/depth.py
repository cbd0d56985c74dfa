"""Depth without and with shortcuts: plain-20 and -56 against residual-20 and -56 (He et al. 2015, figures 1 and 6).

The paper's claim is about optimisation: the deeper plain network has the higher training error, the deeper residual one
the lower. So nothing here hides the training error: no augmentation, no dropout, no label smoothing. Momentum 0.9,
weight decay 1e-4 and the rate are section 4.2's (0.1 for 128 pictures, so 0.025 for 32); the rate rises and falls once
(onecycle). Recipe, seeds, pictures and their order are the same for all. Few pictures many times, rather than all of
them a few times: the networks must have begun to fit for their errors to say anything.

Every network is one `striate train` process with one thread, as many side by side as there are cores, on pictures of
cifar10-jpg drawn with a fixed seed, the same for all. From `metrics.jsonl` come the curves: training loss (mean over an
epoch, as it trains) and loss on held-out pictures; `--picture FILE` draws them as in figure 6. The training error is
measured afterwards through `striate evaluate` on all the pictures that were trained on, of the last epoch's weights
(not of those best on held-out pictures).

Noise is two standard errors of the difference of two errors: over the seeds, or, when there is one seed, of a share of
that many pictures, which knows nothing of other seeds. Fails when plain-56 is not above plain-20 by more than noise,
when residual-56 is above residual-20 by more than noise, or when residual-56 is not below plain-56 by more than noise.

Arithmetic: 41 and 125 million multiply-adds a picture, 200 and 65 pictures a second and core in training: some 20 core
seconds for 1,000 pictures once through a 20 and a 56, so SEEDS × EPOCHS × LIMIT / 1,000 × 20 s with two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import hypot, sqrt
from pathlib import Path
from statistics import mean
from typing import Any

from bench.accuracy import described, standard_error
from bench.harness import Comparison, run
from bench.pictures import dataset
from striate.model_file import read_card, write_model
from striate.train.checkpoints import load_checkpoint

PAIRS = 1  # seeds
# the slow ones first: on two cores two of like cost run side by side
NETWORKS = {
    "plain-56": "plain56_cifar",
    "residual-56": "resnet56_cifar",
    "plain-20": "plain20_cifar",
    "residual-20": "resnet20_cifar",
}
RECIPE = "--augment none --optimizer momentum --momentum 0.9 --weight-decay 1e-4 --batch 32 --lr 0.025"
MACHINE = ("--threads", "1", "--workers", "0")


@dataclass(frozen=True)
class Trained:
    """What became of one network."""

    history: list[dict[str, float]]  # metrics.jsonl
    error: float  # on the training pictures, in evaluation mode
    held_out_error: float
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, help="the same as --pairs")
    parser.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--limit", type=int, default=4000, help="training pictures, a tenth of each class")
    parser.add_argument("--held-out", type=int, default=500, help="pictures judged after each epoch")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="networks side by side")
    parser.add_argument("--picture", type=Path, help="draw the curves here")
    parser.add_argument("--ours", nargs=argparse.REMAINDER, default=[], help="last: more options for striate train")


def measure(options: argparse.Namespace) -> list[Comparison]:
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes: they share the cores
    seeds = range(options.seeds or options.pairs)
    jobs = [(name, seed) for seed in seeds for name in NETWORKS if name in options.networks]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="striate-bench-") as where:
        folder = Path(where) / "cifar10"
        source = dataset("cifar10-jpg")
        pictures = link_some(source / "train", folder / "train", options.limit)
        held_out = link_some(source / "test", folder / "val", options.held_out)
        with ThreadPoolExecutor(options.jobs) as side_by_side:
            results = list(side_by_side.map(lambda job: train(job[0], job[1], folder, options), jobs))
    taken = time.perf_counter() - start
    found: dict[str, list[Trained]] = {name: [] for name in NETWORKS if name in options.networks}
    for (name, _), trained in zip(jobs, results, strict=True):
        found[name].append(trained)
    if options.picture:
        draw(found, options.picture)
    print(as_table(found), file=sys.stderr)
    claims = judge(found, pictures)
    facts: dict[str, Any] = {
        "pictures": f"{pictures} to train, {held_out} held out",
        "recipe": f"{options.epochs} epochs, {' '.join((RECIPE, *options.ours))}",
        "side by side": options.jobs,
    }
    for name, runs in found.items():
        facts[f"training error of {name}"] = described([one.error for one in runs])
        facts[f"last training loss of {name}"] = described([one.history[-1]["train_loss"] for one in runs])
        facts[f"held-out error of {name}"] = described([one.held_out_error for one in runs])
        facts[f"seconds of {name}"] = [round(one.seconds) for one in runs]
    facts |= {claim: told for claim, (told, _) in claims.items()}
    return [
        Comparison("s", {"striate": [taken]}, False, facts, "cifar10-jpg", all(held for _, held in claims.values()))
    ]


def link_some(source: Path, where: Path, count: int) -> int:
    """Links `WHERE/<class>/` to `count` pictures of `source/<class>/`, as many of each class, the same every time.

    Returns how many there are: fewer than `count` where classes are small or do not divide it.
    """
    labels = sorted(path for path in source.iterdir() if path.is_dir())
    for label in labels:
        pictures = sorted(label.iterdir())
        (where / label.name).mkdir(parents=True)
        for picture in random.Random(0).sample(pictures, min(len(pictures), count // len(labels))):
            (where / label.name / picture.name).symlink_to(picture.resolve())
    return sum(1 for _ in where.glob("*/*"))


def train(name: str, seed: int, folder: Path, options: argparse.Namespace) -> Trained:
    start = time.perf_counter()
    out = folder.parent / "runs"
    command = [sys.executable, "-m", "striate", "train", str(folder), "--model", NETWORKS[name], "--seed", str(seed)]
    command += ["--epochs", str(options.epochs), "--device", options.device, *RECIPE.split(), *MACHINE]
    run([*command, "--out", str(out), "--name", f"{name}-{seed}", *options.ours])
    seconds = time.perf_counter() - start
    place = out / "classify" / f"{name}-{seed}"
    history = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    last = place / "last.safetensors"
    weights = load_checkpoint(place)["trainer"]["networks"]["model"]
    write_model(last, weights, read_card(place / "model.safetensors"))
    evaluate = [sys.executable, "-m", "striate", "evaluate", str(last), str(folder), "--split", "train", "--json"]
    said = run([*evaluate, "--device", options.device])
    error = 1 - json.loads(said)["scalars"]["accuracy"]["value"]
    print(f"{name}, seed {seed}: training error {error:.4f}, {seconds:.0f} s", file=sys.stderr, flush=True)
    return Trained(history, error, 1 - history[-1]["val_accuracy"], seconds)


def judge(found: Mapping[str, Sequence[Trained]], pictures: int) -> dict[str, tuple[str, bool]]:
    """Claim → (its figures, whether it holds), for those claims whose networks were both trained."""
    errors = {name: [one.error for one in runs] for name, runs in found.items()}
    claims: dict[str, tuple[str, bool]] = {}
    for more, less, clearly in (  # the first is to be above the second, or at least not below it
        ("plain-56", "plain-20", True),
        ("residual-20", "residual-56", False),
        ("plain-56", "residual-56", True),
    ):
        if more in errors and less in errors:
            by, noise = mean(errors[more]) - mean(errors[less]), noise_of(errors[more], errors[less], pictures)
            holds = by > noise if clearly else by >= -noise
            claims[f"training error, {more} minus {less}"] = (f"{by:+.4f}, noise {noise:.4f}", holds)
    return claims


def noise_of(first: Sequence[float], second: Sequence[float], pictures: int) -> float:
    """Two standard errors of the difference of two mean errors: over seeds, or with one seed of each over pictures."""
    if len(first) > 1:
        return 2 * hypot(standard_error(list(first)), standard_error(list(second)))
    return 2 * sqrt((first[0] * (1 - first[0]) + second[0] * (1 - second[0])) / pictures)


def as_table(found: Mapping[str, Sequence[Trained]]) -> str:
    """Means over the seeds, and the training loss at a quarter, a half, three quarters and the end."""
    lines = [f"{'':12} {'training error':>14} {'held-out error':>14}   training loss at 1/4, 1/2, 3/4 and the end"]
    for name, runs in found.items():
        last = len(runs[0].history)
        losses = [
            mean(one.history[max(0, last * part // 4 - 1)]["train_loss"] for one in runs) for part in (1, 2, 3, 4)
        ]
        errors = [
            f"{100 * mean(values):12.2f} %" for values in zip(*((r.error, r.held_out_error) for r in runs), strict=True)
        ]
        lines.append(f"{name:12} {' '.join(errors)}   {' '.join(f'{loss:6.3f}' for loss in losses)}")
    return "\n".join(lines)


def draw(found: Mapping[str, Sequence[Trained]], path: Path) -> None:
    """Figure 6: plain left, residual right; bold the training loss, thin the held-out loss, a mean over the seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind in zip(panels, ("plain", "residual"), strict=True):
        for depth, colour in (("20", "#c28a00"), ("56", "#b2182b")):
            runs = found.get(f"{kind}-{depth}", ())
            for key, width, what in (("train_loss", 2.2, "training"), ("val_loss", 0.8, "held out")):
                if runs:
                    epochs = zip(*([row[key] for row in one.history] for one in runs), strict=True)
                    heights = [mean(values) for values in epochs]
                    label = f"{kind}-{depth}, {what}"
                    axes.plot(range(1, len(heights) + 1), heights, color=colour, linewidth=width, label=label)
        axes.set(title=kind, xlabel="epoch", ylim=(0, 3))
        if axes.has_data():
            axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("cross-entropy")
    figure.savefig(path, dpi=120)
