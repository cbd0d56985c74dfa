"""Plain against residual depth: four networks trained on few real pictures, as in figures 1 and 6 of He et al. 2016.

The claim is about the training error, so nothing hides it: no augmentation, no dropout. Each network is one
`striate train` process with one thread, two side by side; what it is judged on after each epoch are pictures it was
trained on, in evaluation mode, so that the run's own validation error is the training error.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.lectures.page import Check, Setting
from striate.tasks.section import BLUE, GREY, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

# the slow ones first, so that two of like cost run side by side
NETWORKS = {
    "plain-56": "plain56_cifar",
    "residual-56": "resnet56_cifar",
    "plain-20": "plain20_cifar",
    "residual-20": "resnet20_cifar",
}
PICTURES, JUDGED, EPOCHS = 2_000, 500, 15
RECIPE = "--augment none --optimizer momentum --momentum 0.9 --weight-decay 1e-4 --batch 32 --lr 0.025"


def plain_against_residual(
    setting: Setting, pictures: int = PICTURES, epochs: int = EPOCHS
) -> tuple[list[Check], Section, tuple[str, ...]]:
    """What was claimed, how it came out, and what is missing for it."""
    from striate.lectures.real_data import missing

    title = "Plain against residual, on real pictures"
    source = setting.found("cifar10-jpg")
    if source is None:
        told = missing("cifar10-jpg", "plain and residual networks of 20 and 56 layers being trained")
        return [], Section(title, "Needs pictures; see what is missing."), (told,)
    inputs = {"pictures": pictures, "judged": min(JUDGED, pictures), "epochs": epochs, "recipe": RECIPE}
    found = setting.remembered("depth", inputs, lambda: trained(source, setting, **inputs))
    errors = {name: curve["error"][-1] for name, curve in found.items()}
    checks = [
        Check(
            "training error of plain networks, 56 layers against 20",
            "higher",
            f"{errors['plain-56']:.1%} against {errors['plain-20']:.1%}",
            errors["plain-56"] > errors["plain-20"] + 0.05,
            f"cifar10-jpg, {pictures:,} pictures, {epochs} epochs, the same recipe, order and seed for all.",
        ),
        Check(
            "training error with 56 layers, residual against plain",
            "shortcuts mend it",
            f"{errors['residual-56']:.1%} against {errors['plain-56']:.1%}",
            errors["residual-56"] < errors["plain-56"] - 0.05,
        ),
    ]
    rows = [
        [name, NETWORKS[name], f"{curve['error'][-1]:.1%}", curve["loss"][-1], round(curve["seconds"])]
        for name, curve in sorted(found.items())
    ]
    heads = ("", "network", "training error", "training loss", "seconds")
    figure = Figure(
        draw(found),
        "Error on pictures that were trained on, after each epoch.",
        "Two panels of falling curves: plain networks, where 56 layers end above 20, and residual ones, where they do "
        "not.",
        wide=True,
    )
    text = (
        f"{pictures:,} pictures of CIFAR-10 (as JPEG), {epochs} epochs. The paper trains on 50,000 for 164 epochs; "
        "what takes hours there shows within minutes, since it is the start that fails: a signal through 56 plain "
        "layers reaches the first ones too weak, or too tangled, to teach them."
    )
    command = f"striate train PICTURES --model plain56_cifar --epochs {epochs} {RECIPE}"
    return checks, Section(title, f"{text}\n\n{command}", [figure], [Table(heads, rows)]), ()


def trained(
    source: Path, setting: Setting, pictures: int, judged: int, epochs: int, recipe: str
) -> dict[str, dict[str, Any]]:
    """Each network's curve: error and loss after every epoch, and its seconds; two processes side by side."""
    with tempfile.TemporaryDirectory(prefix="striate-lecture-") as where:
        folder = Path(where) / "pictures"
        link_some(source, folder, pictures, judged)

        def run(name: str) -> dict[str, Any]:
            setting.say(f"{name}: training")
            command = [sys.executable, "-m", "striate", "train", str(folder), "--model", NETWORKS[name]]
            command += ["--epochs", str(epochs), *recipe.split(), "--threads", "1", "--workers", "0", "--seed", "0"]
            command += ["--out", where, "--name", name]
            subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            rows = [
                json.loads(line)
                for line in (Path(where) / "classify" / name / "metrics.jsonl").read_text().splitlines()
            ]
            error = [1 - row["val_accuracy"] for row in rows]
            setting.say(f"{name}: training error {error[-1]:.1%}")
            loss, seconds = [row["train_loss"] for row in rows], sum(row["seconds"] for row in rows)
            return {"error": error, "loss": loss, "seconds": seconds}

        with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as side_by_side:
            return dict(zip(NETWORKS, side_by_side.map(run, NETWORKS), strict=True))


def link_some(source: Path, where: Path, pictures: int, judged: int) -> None:
    """`WHERE/train/<class>/` with links to some pictures of the source, as many of each class; `val` has part of them.

    Which ones is fixed, and the same on every machine.
    """
    from striate.lectures.real_data import inside

    labels = sorted(path for path in inside(source, "train").iterdir() if path.is_dir())
    for label in labels:
        chosen = random.Random(0).sample(sorted(label.iterdir()), pictures // len(labels))
        for split, count in (("train", pictures), ("val", judged)):
            (where / split / label.name).mkdir(parents=True)
            for picture in chosen[: count // len(labels)]:
                (where / split / label.name / picture.name).symlink_to(picture.resolve())


def draw(found: dict[str, dict[str, Any]]) -> Drawing:
    """Figure 6 of the paper: plain left, residual right."""
    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes

    figure = new_figure(9, 3.6)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind in zip(panels, ("plain", "residual"), strict=True):
        for depth, colour in (("20", BLUE), ("56", ORANGE)):
            error = [100 * value for value in found[f"{kind}-{depth}"]["error"]]
            epochs = range(1, len(error) + 1)
            axes.plot(epochs, error, color=colour, linewidth=2.2 if depth == "56" else 1.4)
            axes.text(len(error) + 0.25, error[-1], f"{depth} layers\n{error[-1]:.0f} %", va="center", fontsize=LETTERS)
        axes.axhline(90, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_title(kind, fontsize=LETTERS + 2, loc="left")
        axes.set_xlabel("epoch", fontsize=LETTERS)
        axes.set(ylim=(0, 100), xlim=(0.5, len(error) * 1.2 + 1))
        plain_axes(axes)
    panels[0].set_ylabel("training error (%)", fontsize=LETTERS)
    panels[0].text(1, 91, "guessing", fontsize=LETTERS - 1, va="bottom")
    return figure
