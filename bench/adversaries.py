"""Adversaries (Goodfellow et al. 2015; Madry et al. 2018): what they do to a trained network, and training on them.

`photos`: SqueezeNet's ImageNet weights on the 116 photos of imagenet-samples, whose names say what they show: the share
of right answers under FGSM and PGD (10 steps, random start) of ε = 0, 1/255 … 8/255, through `explain_epsilons`.
`--picture FILE` draws one photo before and after, with both confidences, as the lecture's panda: of those that are
named rightly and fall to FGSM of 1/255, the one where the network is most sure both times. Fails when FGSM of 1/255
leaves more than half of the right answers, or PGD more than FGSM.

`mnist`: `striate train mnist-idx --adversarial …`, the command in RECIPE, one process; then the 5,000 test digits as
they are, under FGSM of ε = 0.2, and under PGD (20 steps of ε/8, random start) of the same, which tells whether the
network is robust or only hides its gradient. Fails below 98.5 % undisturbed or 90 % under FGSM.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench.harness import Comparison, run
from bench.pictures import SHARED, dataset

PAIRS = 1
WEIGHTS = "squeezenet1_0-imagenet.safetensors"
CASES = ("photos", "mnist")
RECIPE = "--adversarial 0.25"
CLEAN, UNDER_FGSM, EPSILON = 0.985, 0.90, 0.2  # the targets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--picture", type=Path, help="draw one photo before and after here")
    parser.add_argument("--curves", type=Path, help="draw the accuracy against ε here")
    parser.add_argument("--model", type=Path, help="judge this MNIST model instead of training one")
    parser.add_argument("--ours", nargs=argparse.REMAINDER, default=[], help="last: more options for striate train")


def measure(options: argparse.Namespace) -> list[Comparison]:
    return [{"photos": photos, "mnist": mnist}[case](options) for case in options.cases]


def photos(options: argparse.Namespace) -> Comparison:
    import striate
    from striate.explain import explain
    from striate.explain.attacks.adversary_figure import draw_robust_accuracy, in_255

    model = striate.load(SHARED / WEIGHTS, device=options.device)
    samples = labelled_photos()
    start = time.perf_counter()
    found = explain(model, samples, "robust_accuracy", say=partial(print, file=sys.stderr)).values
    taken = time.perf_counter() - start
    facts: dict[str, Any] = {"pictures": found["count"], "undisturbed": round(found["fgsm"][0], 4)}
    for column, epsilon in enumerate(found["epsilons"][1:], start=1):
        facts[in_255(epsilon)] = f"FGSM {found['fgsm'][column]:.4f}, PGD {found['pgd'][column]:.4f}"
    if options.curves:
        drawing = draw_robust_accuracy(found["epsilons"], {"FGSM": found["fgsm"], "PGD, 10 steps": found["pgd"]})
        drawing.savefig(options.curves, dpi=120)
    if options.picture:
        facts["picture"] = draw_clearest(model, samples, options.picture)
    weaker = all(slow <= fast for fast, slow in zip(found["fgsm"], found["pgd"], strict=True))
    held = found["fgsm"][1] <= found["fgsm"][0] / 2 and weaker
    return Comparison("s", {"striate": [taken]}, False, facts, "photos", held)


def labelled_photos() -> list[Any]:
    """The photos as Samples whose targets are ImageNet's indices: the synset in the file's name says which."""
    from striate.data.sample import Sample

    index = {
        line.split()[0]: row for row, line in enumerate((SHARED / "imagenet-classes.txt").read_text().splitlines())
    }
    files = sorted(dataset("imagenet-samples").rglob("*.JPEG"))
    return [Sample(file, index[file.name.partition("_")[0]], file.name) for file in files]


def draw_clearest(model: Any, samples: list[Any], path: Path) -> str:
    """Draw the photo that shows it best; returns what is said of it before and after."""
    from striate.explain import explain
    from striate.explain.attacks.adversary import told
    from striate.explain.attacks.adversary_figure import draw_adversary

    attacked = explain(model, samples, "adversary", epsilon=1 / 255, limit=len(samples)).values["adversaries"]
    names = [model.classes[sample.target] for sample in samples]
    fallen = [one for one, name in zip(attacked, names, strict=True) if one.succeeded and one.before.label == name]
    clearest = max(fallen, key=lambda one: min(one.before.confidence, one.after.confidence))
    draw_adversary(clearest).savefig(path, dpi=150)
    return told(clearest)


def mnist(options: argparse.Namespace) -> Comparison:
    import torch

    import striate
    from striate.data import open_dataset
    from striate.data.reader import read_sample
    from striate.explain.attacks.gradient import fgsm, in_pixels, pgd

    folder, recipe = dataset("mnist"), [*RECIPE.split(), *options.ours]
    with tempfile.TemporaryDirectory(prefix="striate-bench-") as out:
        start = time.perf_counter()
        place = options.model
        if place is None:
            where = ["--out", out, "--name", "robust", "--device", options.device]
            run([sys.executable, "-m", "striate", "train", folder, *recipe, *where])
            place = Path(out) / "classify" / "robust"
        taken = time.perf_counter() - start
        model = striate.load(place, device=options.device)
    samples = open_dataset(folder).splits["test"]
    images = torch.stack([read_sample(sample) for sample in samples]).to(model.device) / 255
    targets = torch.tensor([sample.target for sample in samples], device=model.device)
    network = in_pixels(model.module, model.card.preprocess, model.device)
    generator = torch.Generator().manual_seed(0)
    right: dict[str, int] = dict.fromkeys(("undisturbed", "FGSM", "PGD"), 0)
    for pixels, truth in zip(images.split(500), targets.split(500), strict=True):
        seen = {
            "undisturbed": pixels,
            "FGSM": fgsm(network, pixels, truth, EPSILON),
            "PGD": pgd(network, pixels, truth, EPSILON, steps=20, step=EPSILON / 8, generator=generator),
        }
        for name, adversaries in seen.items():
            with torch.inference_mode():
                right[name] += int((network(adversaries).argmax(1) == truth).sum())
    accuracy = {name: count / len(samples) for name, count in right.items()}
    facts = {name: round(value, 4) for name, value in accuracy.items()} | {"ε": EPSILON, "test digits": len(samples)}
    facts["command"] = f"striate train mnist-idx {' '.join(recipe)}" if options.model is None else str(options.model)
    held = accuracy["undisturbed"] >= CLEAN and accuracy["FGSM"] >= UNDER_FGSM
    return Comparison("s", {"striate train": [taken]}, False, facts, "mnist", held)
