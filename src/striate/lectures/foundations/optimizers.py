"""All go downhill; they differ in what they remember. SGD remembers nothing, momentum a velocity (`v←αv−εg; θ←θ+v`),
AdaGrad and RMSProp how large each coordinate's gradients have been, Adam both, with a correction for its cold start.

Three surfaces tell them apart: where it is steep across and flat along, where every gradient is small but the same,
and where each gradient is mostly noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from striate.lectures.foundations import optimizers_pictures as pictures
from striate.lectures.foundations.digits import accuracy, digits, fit, seeded
from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import Section, Table

PYTHON = """
import torch
from striate.train.optimizers import OPTIMIZERS

for name in ("sgd", "momentum", "adagrad", "rmsprop", "adam"):
    place = torch.tensor([-8.0, 2.0], requires_grad=True)
    optimizer = OPTIMIZERS[name]([{"params": [place]}], 0.3, 0.9, False)
    for _ in range(100):
        loss = 0.025 * place[0] ** 2 + 1.25 * place[1] ** 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{name:9} {loss.item():.2e}")
"""

NAMES = {"sgd": "SGD", "momentum": "momentum", "adagrad": "AdaGrad", "rmsprop": "RMSProp", "adam": "Adam"}
FORMULAS = {
    "sgd": "θ ← θ − εg",
    "momentum": "v ← αv − εg; θ ← θ + v",
    "adagrad": "r ← r + g²; θ ← θ − εg / (√r + δ)",
    "rmsprop": "r ← ρr + (1−ρ)g²; θ ← θ − εg / (√r + δ)",
    "adam": "s ← β₁s + (1−β₁)g; r ← β₂r + (1−β₂)g²; θ ← θ − ε·ŝ / (√r̂ + δ), ŝ = s/(1−β₁ᵗ), r̂ = r/(1−β₂ᵗ)",
}
RATES = tuple(10 ** (step / 4) for step in range(-12, 5))  # 0.001 … 10, four a decade
STEPS, RUNS = 120, 16
TURN = 0.35  # radians
LEARNING = {"sgd": 0.1, "momentum": 0.02, "adagrad": 0.02, "rmsprop": 0.002, "adam": 0.003}  # on digits


class Surface(NamedTuple):
    """A height f(x, y) of places [..., 2], where to start, what part to draw, and the gradients' noise (deviation)."""

    title: str
    height: Callable[[Tensor], Tensor]
    start: tuple[float, float]
    extent: tuple[float, float, float, float]  # left, right, bottom, top
    noise: float = 0.0


def valley(place: Tensor) -> Tensor:
    """Fifty times as steep across as along, and askew: methods that scale each coordinate shall not find it easy."""
    along = math.cos(TURN) * place[..., 0] + math.sin(TURN) * place[..., 1]
    across = math.cos(TURN) * place[..., 1] - math.sin(TURN) * place[..., 0]
    return 0.025 * along**2 + 1.25 * across**2


def slope(place: Tensor) -> Tensor:
    return 0.02 * ((place[..., 0] ** 2 + 0.5).sqrt() - 0.5**0.5) + 0.5 * place[..., 1] ** 2


def bowl(place: Tensor) -> Tensor:
    return 0.1 * place[..., 0] ** 2 + 0.5 * place[..., 1] ** 2


SURFACES = {
    "curved": Surface("high curvature", valley, (-8.0, -1.2), (-9.5, 3.5, -4.2, 2.2)),
    "gentle": Surface("small, consistent gradients", slope, (-8.0, 1.2), (-9.5, 3.5, -2.6, 2.6)),
    "noisy": Surface("noisy gradients", bowl, (-8.0, 2.0), (-9.5, 3.5, -2.6, 2.6), noise=1.2),
}


def race(surface: Surface, name: str, rate: float, steps: int = STEPS, runs: int = 1, seed: int = 0) -> Tensor:
    """Places [steps + 1, runs, 2] of one of Striate's optimisers; every run with noise of its own."""
    from striate.train.optimizers import OPTIMIZERS

    draw = torch.Generator().manual_seed(seed)
    place = torch.tensor(surface.start, dtype=torch.float64).repeat(runs, 1).requires_grad_()
    stepper = OPTIMIZERS[name]([{"params": [place]}], rate, 0.9, False)
    path = [place.detach().clone()]
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(surface.height(place).sum(), place)
        place.grad = gradient + surface.noise * torch.randn(place.shape, generator=draw, dtype=place.dtype)
        stepper.step()
        path.append(place.detach().clone())
    return torch.stack(path)


def by_hand(surface: Surface, name: str, rate: float, steps: int) -> Tensor:
    """The same places [steps + 1, 1, 2] by the formulas, written out; no noise."""
    place = torch.tensor([surface.start], dtype=torch.float64)
    first, second = torch.zeros_like(place), torch.zeros_like(place)
    path = [place]
    for step in range(1, steps + 1):
        leaf = place.clone().requires_grad_()
        (g,) = torch.autograd.grad(surface.height(leaf).sum(), leaf)
        if name == "sgd":
            place = place - rate * g
        elif name == "momentum":
            first = 0.9 * first - rate * g
            place = place + first
        elif name == "adagrad":
            second = second + g**2
            place = place - rate * g / (second.sqrt() + 1e-10)
        elif name == "rmsprop":
            second = 0.99 * second + 0.01 * g**2
            place = place - rate * g / (second.sqrt() + 1e-8)
        else:
            first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
            mean, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
            place = place - rate * mean / (square.sqrt() + 1e-8)
        path.append(place)
    return torch.stack(path)


def races() -> dict[str, Any]:
    """Every optimiser on every surface, at the rate of RATES with the least mean height over all steps and runs."""
    found: dict[str, Any] = {}
    for key, surface in SURFACES.items():
        runs = RUNS if surface.noise else 1
        found[key] = {}
        for name in NAMES:
            paths = {rate: race(surface, name, rate, runs=runs) for rate in RATES}
            heights = {rate: surface.height(path).nan_to_num(1e9, 1e9, 1e9).mean(1) for rate, path in paths.items()}
            best = min(RATES, key=lambda rate: float(heights[rate].mean()))
            found[key][name] = {
                "rate": best,
                "path": [[round(float(at), 4) for at in place] for place in paths[best][:, 0]],
                "heights": heights[best].tolist(),
            }
    return found


def learnt(steps: int, seeds: int) -> dict[str, Any]:
    """A small convolutional network on 1,000 digits, by each optimiser: losses (mean over seeds) and accuracies."""
    found: dict[str, Any] = {}
    for name, rate in LEARNING.items():
        losses, right = [], []
        for seed in range(seeds):
            data = digits(1000, seed)
            network = seeded("(conv16-bn-relu)x2-pool-conv32-bn-relu-gap", seed)
            losses.append(fit(network, data, steps=steps, lr=rate, optimizer=name, seed=seed))
            right.append(accuracy(network, data.test_images, data.test_labels))
        found[name] = {"losses": torch.tensor(losses).mean(0).tolist(), "accuracy": right}
    return found


def lowest(found: dict[str, Any]) -> str:
    """Surface by surface, whose mean height of the last twenty steps is least."""

    def end(key: str, name: str) -> float:
        return sum(found[key][name]["heights"][-20:])

    winners = {key: min(NAMES, key=lambda name, key=key: end(key, name)) for key in SURFACES}
    return "; ".join(f"{SURFACES[key].title}: {NAMES[name]}" for key, name in winners.items())


def checks() -> list[Check]:
    """Each optimiser against its formula; what momentum and Adam promise."""
    made = []
    for name, title in NAMES.items():
        off = float((race(SURFACES["curved"], name, 0.05) - by_hand(SURFACES["curved"], name, 0.05, STEPS)).abs().max())
        made.append(Check(title, FORMULAS[name], f"largest difference over {STEPS} steps {off:.0e}", off < 1e-10))
    even = Surface("even slope", lambda place: place[..., 0], (0.0, 0.0), (0, 1, 0, 1))
    path = race(even, "momentum", 0.01, steps=300)
    speed = float(-(path[-1] - path[-2])[0, 0])
    made.append(
        Check(
            "Momentum's last speed on an even slope",
            "ε‖g‖ / (1−α) = 10 ε‖g‖",
            f"{speed / 0.01:.4f} ε‖g‖",
            abs(speed - 0.1) < 1e-9,
        )
    )
    first = [
        float(-race(Surface("", lambda p, s=size: s * p[..., 0], (0.0, 0.0), (0, 1, 0, 1)), "adam", 0.01, 1)[1, 0, 0])
        for size in (0.001, 1000.0)
    ]
    made.append(
        Check(
            "Adam's first step, gradient 0.001 and 1000",
            "ε, by the bias correction",
            ", ".join(f"{step / 0.01:.4f} ε" for step in first),
            all(abs(step - 0.01) < 1e-6 for step in first),
        )
    )
    return made


def show(setting: Setting) -> Shown:
    """The race on three surfaces, drawn and moving, and on a real network."""
    found = setting.remembered("A9-races", {"rates": list(RATES), "steps": STEPS}, races)
    real = setting.remembered("A9-digits", {"rates": LEARNING, "steps": 200, "seeds": 3}, lambda: learnt(200, 3))
    rows = []
    for name, title in NAMES.items():
        rows.append(
            [
                title,
                *(
                    f"{max(found[key][name]['heights'][-1], 1e-16):.2g} (ε {found[key][name]['rate']:.2g})"
                    for key in SURFACES
                ),
            ]
        )
    accuracies = [
        [
            NAMES[name],
            LEARNING[name],
            f"{100 * sum(row['accuracy']) / len(row['accuracy']):.1f} %",
            f"striate train digits --optimizer {name}",
        ]
        for name, row in real.items()
    ]
    return Shown(
        tuple(checks()),
        (
            Section(
                "The race",
                f"{STEPS} steps from the same place. Each runs at the learning rate, of {len(RATES)} between 0.001 and "
                "10, at which it is lowest on average on that surface.",
                [pictures.trajectories(SURFACES, found, NAMES), pictures.racing(SURFACES, found, NAMES)],
            ),
            Section(
                "How fast",
                "On the valley, momentum damps the swinging across and gathers speed along. On the gentle slope, who "
                "divides by the gradients' size does not care how small they are. Under noise (16 runs) it pays "
                f"to take smaller and smaller steps, as AdaGrad does. Lowest over the last 20: {lowest(found)}.",
                [pictures.heights(SURFACES, found, NAMES)],
                [
                    Table(
                        ["optimiser", *(surface.title for surface in SURFACES.values())],
                        rows,
                        "Height at the end, 1e-16 at least, and the rate",
                    )
                ],
            ),
            Section(
                "On a real network",
                "Three convolutions, 200 steps of 50 digits, at the rates of the table; mean of three seeds.",
                [pictures.learning(real, NAMES)],
                [Table(["optimiser", "learning rate", "accuracy on 797 others", "the same in Striate"], accuracies)],
            ),
        ),
    )
