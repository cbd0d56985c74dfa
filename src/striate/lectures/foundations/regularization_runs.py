"""What regularisation does to a small network on few pictures: several seeds, and what lies within noise is said to."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from striate.lectures.foundations.digits import accuracy, digits, fit, seeded

LINE = "conv16-bn-relu-pool-conv32-bn-relu-flatten-fc64-relu"
PICTURES, STEPS, SEEDS = 150, 250, 6
CONFIGURATIONS: dict[str, dict[str, float]] = {
    "nothing": {},
    "mixup 0.4": {"mixup": 0.4},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "L2 0.01": {"weight_decay": 0.01},
    "dropout 0.5": {"dropout": 0.5},
}
# two-sided 95 % point of Student's t with SEEDS - 1 = 5 degrees of freedom
T_95 = 2.571


def effects() -> dict[str, Any]:
    """Configuration → one number a seed: accuracy, negative log-likelihood and mean confidence on held-out digits."""
    found: dict[str, Any] = {}
    for name, options in CONFIGURATIONS.items():
        settings = dict(options)
        dropout = settings.pop("dropout", None)
        rows: dict[str, list[float]] = {"accuracy": [], "nll": [], "confidence": []}
        for seed in range(SEEDS):
            data = digits(PICTURES, seed)
            network = seeded(LINE, seed, dropout=dropout)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)  # dropout's masks
                fit(network, data, steps=STEPS, lr=0.02, seed=seed, **settings)
            with torch.inference_mode():
                logits = network(data.test_images)
            rows["accuracy"].append(accuracy(network, data.test_images, data.test_labels))
            rows["nll"].append(float(F.cross_entropy(logits, data.test_labels)))
            rows["confidence"].append(float(logits.softmax(1).amax(1).mean()))
        found[name] = rows
    return found


def difference(ours: list[float], base: list[float]) -> tuple[float, float]:
    """Mean of the differences seed by seed, and half of its 95 % interval (Student's t)."""
    differences = torch.tensor(ours, dtype=torch.float64) - torch.tensor(base, dtype=torch.float64)
    return float(differences.mean()), T_95 * float(differences.std()) / len(ours) ** 0.5


def verdicts(found: dict[str, Any]) -> tuple[list[str], list[list[str]], list[str]]:
    """Heads and rows of a table, and a sentence on mixup's and on label smoothing's effect."""
    base = found["nothing"]
    rows, sentences = [], []
    for name, row in found.items():
        mean = {key: sum(values) / len(values) for key, values in row.items()}
        gain, half = difference(row["accuracy"], base["accuracy"])
        better = "–" if name == "nothing" else f"{100 * gain:+.1f} ± {100 * half:.1f}"
        verdict = (
            "" if name == "nothing" else "within noise" if abs(gain) <= half else "better" if gain > 0 else "worse"
        )
        rows.append(
            [name, f"{mean['accuracy']:.1%}", better, verdict, f"{mean['nll']:.3f}", f"{mean['confidence']:.1%}"]
        )
        if name.startswith(("mixup", "label")):
            means = f"{name}: {100 * gain:+.1f} ± {100 * half:.1f} points of accuracy"
            sentences.append(f"{means} ({verdict}), confidence {mean['confidence']:.0%}.")
    heads = ["with", "accuracy", "against nothing, points", "verdict", "log-likelihood (negative)", "mean confidence"]
    return heads, rows, sentences
