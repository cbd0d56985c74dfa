"""Why are deep plain networks hard to train and residual ones easy? Draw the loss around the weights: along two random
directions whose every filter is as long as the network's own, the loss of a deep plain network is a rough mountain
range, and shortcuts make it a smooth bowl (Li, Xu, Taylor, Studer & Goldstein, NeurIPS 2018).

Without that filter normalisation the picture means nothing: multiply one layer by ten and divide the next by ten, and
the network computes the same while its surface looks ten times as sharp, or as flat.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from striate.files import write_atomic
from striate.lectures.page import Check, Setting, Shown
from striate.lectures.seeing.real import absent
from striate.tasks.section import BLUE, GREY, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from torch import nn

    from striate.explain.landscape.loss_surface import Batches, Landscape

PYTHON = """\
from striate.explain.landscape.loss_surface import measure_landscape
from striate.lectures.foundations.digits import digits, fit, seeded
from striate.tasks.classify.task import Classify

data, network = digits(1200), seeded("conv16-relu-conv32-relu-gap", seed=0)
fit(network, data, steps=300, lr=0.05)
task = Classify([str(digit) for digit in range(10)])
found = measure_landscape(network, [(data.images[:256], data.labels[:256])], task, points=9)
print(found.surface)  # losses, the network's own in the middle
print(f"{found.centre:.3f}; at distance 0.5 higher by {found.rise(0.5):.3f}; not convex: {found.bent_down:.0%}")
"""

NETWORKS = {"plain-56": "plain56_cifar", "residual-56": "resnet56_cifar"}
DATA = "cifar10-jpg"
PICTURES, EPOCHS = 1_000, 20
SEEN, POINTS = 128, 13  # pictures and places a side of the surfaces
SCALE = 10.0  # by which one layer grows and the next shrinks in the example without filter normalisation


def show(setting: Setting) -> Shown:
    """What filter normalisation is for, on digits; with the data, the surfaces of two networks of 56 layers."""
    checks, section = normalised()
    sections, source = [section], setting.found(DATA)
    if source is not None:
        more, surfaces = plain_and_residual(source, setting)
        checks, sections = [*more, *checks], [surfaces, *sections]
    seen = {DATA: "the surfaces around a plain and a residual network of 56 layers, trained for it"}
    return Shown(tuple(checks), tuple(sections), missing=absent(setting, seen))


def plain_and_residual(source: Path, setting: Setting) -> tuple[list[Check], Section]:
    """Both networks trained on few pictures, and the loss on some of these around each."""
    from striate.explain.landscape.figure import draw_contours, draw_lines, draw_reliefs
    from striate.lectures.architectures.depth import RECIPE

    training = {"pictures": PICTURES, "epochs": EPOCHS, "recipe": RECIPE}
    inputs = {**training, "networks": NETWORKS, "seen": SEEN, "points": POINTS}
    kept = setting.remembered("G4", inputs, lambda: measured(source, setting, training))
    names = list(NETWORKS)
    found = {name: restored(kept[name]["surface"]) for name in names}
    sharp = {name: kept[name]["sharpness"] for name in names}
    plain, residual = (sharp[name] for name in names)
    bends = [abs(one["smallest eigenvalue"]) / one["largest eigenvalue"] for one in (plain, residual)]
    same = all(kept[name]["same"] for name in names)
    checks = [
        Check(
            "loss of the trained networks, plain against residual",
            "shortcuts make deep networks trainable",
            f"{plain['loss']:.3g} against {residual['loss']:.3g}",
            residual["loss"] < plain["loss"],
            f"{PICTURES:,} pictures, {EPOCHS} epochs, the same recipe; on {SEEN} of these pictures.",
        ),
        Check(
            "share of the inner square that is not convex",
            "plain: chaotic; residual: convex",
            f"{plain['not convex']:.0%} against {residual['not convex']:.0%}",
            plain["not convex"] > residual["not convex"],
            "Where the smaller of the two curvatures is below zero. If it differs: in minutes plain-56 hardly learns, "
            "and the loss round it is a plateau, which bends neither way.",
        ),
        Check(
            "size of the smallest eigenvalue of the Hessian over the largest",
            "greater without shortcuts (figure 7 of the paper)",
            " against ".join(f"{ratio:.3f}" for ratio in bends),
            bends[0] > bends[1],
            "0 is convex. At the networks themselves, over all directions, not in one square.",
        ),
        Check(
            "the same seed, measured again",
            "the same surface",
            "the same, bit for bit" if same else "another",
            same,
            "The corners of the square, the middles of its sides, and its own.",
        ),
    ]
    rows = [
        ("loss of the network itself", "loss"),
        (f"mean rise at distance {plain['near']:.2g}", "rise near"),
        (f"mean rise at distance {plain['far']:.2g}", "rise far"),
        ("share that is not convex", "not convex"),
        ("rise within 1e-3 of each weight, % (Keskar)", "keskar"),
        ("largest eigenvalue of the Hessian", "largest eigenvalue"),
        ("smallest eigenvalue of the Hessian", "smallest eigenvalue"),
    ]
    surfaces = list(found.values())
    figures = [
        Figure(
            draw_contours(names, surfaces), "Level lines; the star is the network.", "Two maps of level lines", True
        ),
        Figure(draw_reliefs(names, surfaces), "The same as a relief, cut at the scale’s top.", "Two reliefs", True),
        Figure(
            draw_lines(names, surfaces), "Along five other directions; bold: their mean.", "Curves of the loss", True
        ),
    ]
    text = (
        f"Trained here on {PICTURES:,} pictures for {EPOCHS} epochs; the loss is that of {SEEN} of them. A step of 1 "
        "changes every filter by as much as it is long. The paper trains on 50,000 for 300 epochs."
    )
    table = Table(("", *names), [(title, plain[key], residual[key]) for title, key in rows], "Sharpness")
    return checks, Section("Plain-56 and residual-56", text, figures, [table])


def measured(source: Path, setting: Setting, training: dict[str, Any]) -> dict[str, Any]:
    """Train both, then measure each around its weights."""
    from striate.explain.explanation import Request
    from striate.explain.landscape.loss_surface import measure_landscape
    from striate.explain.landscape.pages import batches_of, sharpness_of
    from striate.lectures.architectures.depth import link_some
    from striate.model import load

    with tempfile.TemporaryDirectory(prefix="striate-lecture-") as where:
        folder = Path(where) / "pictures"
        link_some(source, folder, training["pictures"], training["pictures"] // 4)
        kept: dict[str, Any] = {}
        for name, file in trained(folder, setting, training).items():
            model = load(file, "cpu")
            batches, _ = batches_of(model, Request(f"{folder}:train", limit=SEEN))

            def say(line: str, name: str = name) -> None:
                setting.say(f"{name}: {line}")

            surface = measure_landscape(model.module, batches, model.task, POINTS, 0, say)
            say("sharpness")
            again = measure_landscape(model.module, batches, model.task, 3, 0)  # corners and middles of the sides
            kept[name] = {
                "surface": stored(surface),
                "sharpness": sharpness_of(model, batches[:1], surface, 0),
                "same": torch.equal(surface.surface[:: POINTS // 2, :: POINTS // 2], again.surface),
            }
    return kept


def trained(folder: Path, setting: Setting, training: dict[str, Any]) -> dict[str, Path]:
    """Model files, kept in the cache: each network one `striate train` with one thread, two side by side."""
    from striate import __version__

    key = hashlib.sha256(json.dumps([training, __version__], sort_keys=True).encode()).hexdigest()[:12]
    runs = folder.parent / "runs"

    def run(name: str) -> Path:
        done = setting.cache / "models" / f"{NETWORKS[name]}-{key}.safetensors"
        if done.is_file() and not setting.fresh:
            return done
        setting.say(f"{name}: training")
        command = [sys.executable, "-m", "striate", "train", str(folder), "--model", NETWORKS[name]]
        command += ["--epochs", str(training["epochs"]), *training["recipe"].split(), "--seed", "0"]
        command += ["--threads", "1", "--workers", "0", "--out", str(runs), "--name", name]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        setting.say(f"{name}: trained")
        # a run that was broken off leaves a model too, so only a finished one's is taken over
        return write_atomic(done, (runs / "classify" / name / "model.safetensors").read_bytes())

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as side_by_side:
        return dict(zip(NETWORKS, side_by_side.map(run, NETWORKS), strict=True))


def stored(found: Landscape) -> dict[str, Any]:
    numbers = {name: getattr(found, name).tolist() for name in ("axis", "surface", "lines")}
    return numbers | {"centre": found.centre, "centre_fp32": found.centre_fp32}


def restored(kept: dict[str, Any]) -> Landscape:
    from striate.explain.landscape.loss_surface import Landscape

    tensors = {name: torch.tensor(kept[name], dtype=torch.float64) for name in ("axis", "surface", "lines")}
    return Landscape(centre=kept["centre"], centre_fp32=kept["centre_fp32"], **tensors)


def normalised() -> tuple[list[Check], Section]:
    """One network written down twice: the same function, its layers scaled; lines through both, both ways."""
    from striate.explain.landscape.loss_surface import random_direction, weights_of
    from striate.lectures.foundations.digits import digits, fit, seeded
    from striate.tasks.classify.task import Classify

    data = digits(1_200)
    network = seeded("conv16-relu-conv32-relu-gap", 0)
    fit(network, data, steps=300, lr=0.05)
    batches = [(data.images[:256], data.labels[:256])]
    task = Classify([str(digit) for digit in range(10)])
    weights = weights_of(network)
    grown = {"conv1.weight": SCALE, "conv1.bias": SCALE, "conv2.weight": 1 / SCALE}
    other = {name: value * grown.get(name, 1) for name, value in weights.items()}
    steps = torch.linspace(-1, 1, 21, dtype=torch.float64).tolist()
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for kind, direct in (
        ("a direction as it is drawn", unscaled),
        ("each filter as long as the network’s", random_direction),
    ):
        curves[kind] = tuple(  # type: ignore[assignment]
            line(network, given, direct(given, 0, "line"), steps, batches, task) for given in (weights, other)
        )
    apart = {kind: max(abs(a - b) / a for a, b in zip(*pair, strict=True)) for kind, pair in curves.items()}
    raw, scaled = apart.values()
    direction = random_direction({"filters": torch.tensor([[6.0, 8.0], [0.0, 1.0]])}, 0, 0)["filters"]
    lengths = direction.norm(dim=1).tolist()
    centre = next(abs(one[10] - another[10]) for one, another in curves.values())
    checks = [
        Check(
            "filters (6, 8) and (0, 1): lengths of a normalised direction’s",
            "10 and 1",
            f"{lengths[0]:.6g} and {lengths[1]:.6g}",
            [f"{length:.5f}" for length in lengths] == ["10.00000", "1.00000"],
            "d ← d / ‖d‖ · ‖θ‖, filter by filter (section 4).",
        ),
        Check(
            f"one layer × {SCALE:g}, the next ÷ {SCALE:g}: the loss",
            "the same",
            f"differs by {centre:.0e}",
            centre < 1e-4,
        ),
        Check(
            "its surroundings along a plain random direction",
            "look different",
            f"up to {raw:.0f} times as high",
            raw > 0.5,
        ),
        Check(
            "along a filter-normalised one",
            "the same",
            f"apart by {scaled:.0e} of it at most",
            scaled < 1e-3,
            "What is left is float32’s rounding.",
        ),
    ]
    text = (
        f"A network for digits, and the same with its first layer {SCALE:g} times as large and its second {SCALE:g} "
        "times as small: rectifiers let both compute the same. Only along filter-normalised directions do they look it."
    )
    figure = Figure(
        draw_pairs(steps, curves), alt="Two panels of two curves: apart on the left, one on the right.", wide=True
    )
    return checks, Section("What filter normalisation is for", text, [figure])


def unscaled(weights: dict[str, Tensor], seed: int, number: str) -> dict[str, Tensor]:
    """A Gaussian direction as it is drawn, a tenth as long; 0 for biases."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.1 * torch.randn(value.shape, generator=generator) * (value.ndim > 1) for name, value in weights.items()
    }


def line(
    network: nn.Module,
    weights: dict[str, Tensor],
    direction: dict[str, Tensor],
    steps: Sequence[float],
    batches: Batches,
    task: Any,
) -> list[float]:
    from striate.explain.landscape.loss_surface import loss_at, moved

    with torch.inference_mode():
        return [float(loss_at(network, moved(weights, (direction,), (step,)), batches, task)) for step in steps]


def draw_pairs(steps: Sequence[float], curves: dict[str, tuple[list[float], list[float]]]) -> Drawing:
    from matplotlib.figure import Figure as Canvas

    drawing = Canvas(figsize=(8.4, 3.2), layout="constrained")
    panels = drawing.subplots(1, 2, sharey=True)
    for axes, (kind, (one, other)) in zip(panels, curves.items(), strict=True):
        axes.plot(steps, one, color=BLUE, linewidth=3.5, alpha=0.6, label="the network")
        axes.plot(steps, other, "--", color=ORANGE, linewidth=1.6, label=f"× {SCALE:g}, ÷ {SCALE:g}")
        axes.set(yscale="log", xlabel="step", xticks=(-1, -0.5, 0, 0.5, 1), title=kind)
        axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    panels[0].set_ylabel("loss")
    panels[0].legend(frameon=False)
    return drawing
