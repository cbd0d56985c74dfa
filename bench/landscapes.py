"""The loss around plain-56 and residual-56, filter-normalised (Li et al. 2018, arXiv:1712.09913, figure 5).

The paper's claim: without shortcuts a deep network lies in a ravine, with them in a wide bowl. Both networks are
trained by `striate train` on the same pictures of cifar10-jpg with depth's recipe (He et al. 2015, section 4.2, no
augmentation), side by side, one thread each; or taken from `--plain FILE --residual FILE`. Then `explain_landscape`
computes the loss on a fixed part of the training pictures over a square of two random directions, and along five
others, batch norms with their running statistics; `--picture FILE` draws both on one logarithmic scale.

Figures: seconds; facts: each network's sharpness. Fails when the plain network is not the less convex one by both of:
the share of the drawn square, to half its span, that bends downwards; and |smallest| over largest eigenvalue of the
Hessian (the paper's figure 7). The rise of the loss is told, not judged: plain-56 learns so little
(`python -m bench depth`) that it stays on a high plateau, from which the loss rises less than from the bottom of the
residual one's bowl.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from bench.depth import MACHINE, RECIPE, link_some
from bench.harness import Comparison, run
from bench.pictures import dataset

PAIRS = 1
NETWORKS = {"plain": "plain56_cifar", "residual": "resnet56_cifar"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plain", type=Path, help="this model instead of training plain56_cifar")
    parser.add_argument("--residual", type=Path, help="this model instead of training resnet56_cifar")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--limit", type=int, default=2000, help="training pictures, a tenth of each class")
    parser.add_argument("--pictures", type=int, default=256, help="of them, those on which the loss is drawn")
    parser.add_argument("--points", type=int, default=21, help="of each axis")
    parser.add_argument("--picture", type=Path, help="draw both surfaces here")
    parser.add_argument("--page", type=Path, help="write the whole explanation here, as HTML")


def measure(options: argparse.Namespace) -> list[Comparison]:
    import striate
    from striate.explain import explain

    with tempfile.TemporaryDirectory(prefix="striate-bench-") as where:
        folder = Path(where) / "cifar10"
        source = dataset("cifar10-jpg")
        count = link_some(source / "train", folder / "train", options.limit)
        link_some(source / "test", folder / "val", 500)
        start = time.perf_counter()
        threads = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"  # of the two that train side by side
        with ThreadPoolExecutor(2) as side_by_side:
            files = list(side_by_side.map(partial(trained, folder, options), NETWORKS))
        os.environ["OMP_NUM_THREADS"] = threads or ""
        trained_after = time.perf_counter() - start
        model = striate.load(files[0], device=options.device)
        found = explain(
            model,
            f"{folder}:train",
            "landscape",
            other=str(files[1]),
            limit=options.pictures,
            steps=options.points,
            say=partial(print, file=sys.stderr, flush=True),
        )
    drawn_after = time.perf_counter() - start - trained_after
    if options.picture:
        draw(found.values["names"], found.values["landscapes"], options.picture)
    if options.page:
        found.save(options.page, overwrite=True)
    facts: dict[str, Any] = {
        "pictures": f"{count} to train, {options.pictures} of them to draw, {options.points} points an axis",
        "recipe": f"{options.epochs} epochs, {RECIPE}",
        "seconds of training": round(trained_after),
    }
    for name, figures in zip(NETWORKS, found.values["sharpness"], strict=True):
        facts |= {f"{what} of {name}": float(f"{value:.4g}") for what, value in figures.items()}
    plain, residual = found.values["sharpness"]
    held = all(plain[what] > residual[what] for what in ("not convex", "eigenvalue ratio"))
    return [Comparison("s", {"striate": [drawn_after]}, False, facts, "cifar10-jpg", held)]


def trained(folder: Path, options: argparse.Namespace, kind: str) -> Path:
    """The file of the model: the one given, or one trained here, its best epoch on held-out pictures."""
    given: Path | None = getattr(options, kind)
    if given is not None:
        return given
    place = folder.parent / "runs"
    command = [sys.executable, "-m", "striate", "train", folder, "--model", NETWORKS[kind], *RECIPE.split(), *MACHINE]
    command += ["--epochs", str(options.epochs), "--out", str(place), "--name", kind, "--device", options.device]
    run(command)
    return place / "classify" / kind / "model.safetensors"


def draw(names: list[str], landscapes: list[Any], path: Path) -> None:
    """Level lines above reliefs, in one picture."""
    from PIL import Image

    from striate.explain.landscape.figure import draw_contours, draw_reliefs

    pictures = []
    for figure in (draw_contours(names, landscapes), draw_reliefs(names, landscapes)):
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=120)
        pictures.append(Image.open(content).convert("RGB"))
    sheet = Image.new("RGB", (max(one.width for one in pictures), sum(one.height for one in pictures)), "white")
    top = 0
    for one in pictures:
        sheet.paste(one, (0, top))
        top += one.height
    sheet.save(path)
