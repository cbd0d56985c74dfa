"""Noise that nobody sees, added to a photograph, changes what a network says, and it says the wrong thing with more
confidence than the right one. One step finds it: every pixel goes up or down by ε, whichever makes the loss larger, x +
ε·sign(∇ₓJ) (the fast gradient sign method; Goodfellow, Shlens & Szegedy, ICLR 2015: a panda becomes a gibbon).

The more pixels there are, the less each has to change: small steps add up over 150,000 of them. Several smaller steps
(projected gradient descent, Madry et al. 2018) leave next to nothing of an undefended network's accuracy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from striate.lectures.page import Check, Setting, Shown
from striate.lectures.seeing.real import CLASSES, PHOTOS, WEIGHTS, absent, labelled, photos, squeezenet
from striate.results.words import percent
from striate.tasks.section import Figure, Section, Table

if TYPE_CHECKING:
    from striate.explain.attacks.adversary import Adversary
    from striate.model import Model

PYTHON = """\
import torch
from torch.nn.functional import cross_entropy
from striate.explain.attacks.gradient import fgsm
from striate.lectures.seeing.adversary import learnt_digits

network, images, labels = learnt_digits()  # pixels in 0..1, of scikit-learn's digits
for epsilon in (0, 0.05, 0.1, 0.2):
    noisy = fgsm(network, images, labels, epsilon, loss=cross_entropy)
    right = (network(noisy).argmax(1) == labels).float().mean()
    print(f"ε = {epsilon}: {right:.1%} right")
"""

SHOWN, EPSILON = 3, 2 / 255  # photographs drawn; the strength nearest to the panda's 0.007 in whole grey levels
STEPS = 10  # of projected gradient descent
DIGITS_EPSILONS = tuple(levels / 255 for levels in (0, 8, 16, 24, 32, 48, 72))


def show(setting: Setting) -> Shown:
    """The fall of a network for digits; with the data, flips of photographs and the fall of SqueezeNet."""
    checks, sections = on_digits()
    model, found = squeezenet(setting), photos(setting)
    if model is not None and found:
        more, flips = flipped(model, found, setting)
        checks, sections = [*more, *checks], [flips, *sections]
        if samples := labelled(setting):
            more, fall = fallen(model, samples, setting)
            checks, sections = [*checks[:2], *more, *checks[2:]], [flips, fall, *sections[1:]]
    seen = {
        WEIGHTS: "a real network misled by noise that nobody sees",
        PHOTOS: "the photographs that it is misled on",
        CLASSES: "its accuracy on them under attack",
    }
    return Shown(tuple(checks), tuple(sections), missing=absent(setting, seen))


def flipped(model: Model, found: list[Path], setting: Setting) -> tuple[list[Check], Section]:
    """Every photograph attacked, the most confident of the new mistakes drawn."""
    from striate.explain.attacks.adversary_figure import draw_adversary, in_255

    inputs = {"weights": WEIGHTS, "photographs": [path.name for path in found], "epsilon": EPSILON}
    told = setting.remembered("G5-flips", inputs, lambda: {"rows": attacked(model, found, setting)})["rows"]
    flips = [row for row in told if row["succeeded"]]
    flips.sort(key=lambda row: row["after"]["confidence"] * (row["before"]["confidence"] > SURE), reverse=True)
    by_name = {path.name: path for path in found}
    drawn = [attack(model, by_name[row["source"]]) for row in flips[:SHOWN]]
    first = drawn[0]
    surer = sum(row["after"]["confidence"] > row["before"]["confidence"] for row in flips)
    before, after = (f"{each.label} {percent(each.confidence)}" for each in (first.before, first.after))
    checks = [
        Check(
            "a photograph, before and after one step of the gradient’s sign",
            "panda 57.7 % → gibbon 99.3 %",
            f"{before} → {after}",
            first.succeeded and first.after.confidence > 0.9,
            f"The paper: GoogLeNet, ε = 0.007. Ours: SqueezeNet, ε = {in_255(EPSILON)} = {EPSILON:.4f}: whole grey "
            "levels, as a file holds them.",
        ),
        Check(
            "photographs whose answer it changes",
            "most",
            f"{len(flips)} of {len(found)}",
            len(flips) > len(found) / 2,
            f"In {surer} of them the new answer is given with more confidence than the old one was.",
        ),
    ]
    figures = [Figure(draw_adversary(one), alt=said(one), wide=True) for one in drawn]
    text = (
        f"Of {len(found)} photographs, those of which the network becomes surest of a mistake. The noise in the middle "
        "is shown as strong as it can be; on the right it is added as it is."
    )
    return checks, Section("Noise that changes the answer", text, figures)


SURE = 0.5  # of its first answer: a photograph that is known, as the panda was


def attack(model: Model, path: Path) -> Adversary:
    """FGSM on one photograph, away from the network's own answer."""
    from striate.data.transforms import eval_transform
    from striate.explain.attacks.adversary import attack_picture
    from striate.explain.explanation import Request
    from striate.images import read_image
    from striate.inference.sources import Source

    picture = eval_transform(model.card.preprocess)(read_image(path))
    return attack_picture(model, Source(path.name, path), picture, Request(epsilon=EPSILON), None)


def attacked(model: Model, found: list[Path], setting: Setting) -> list[dict[str, Any]]:
    """What became of each photograph."""
    rows = []
    for number, path in enumerate(found, start=1):
        rows.append(attack(model, path).to_dict())
        if number % 20 == 0:
            setting.say(f"FGSM: {number} of {len(found)} photographs")
    return rows


def said(one: Adversary) -> str:
    before, after = (f"{each.label} {percent(each.confidence)}" for each in (one.before, one.after))
    return f"A photograph, {before}; noise; their sum, {after}."


def fallen(model: Model, samples: list[Any], setting: Setting) -> tuple[list[Check], Section]:
    """Accuracy on the labelled photographs for ε = 0 … 8/255."""
    from striate.explain.attacks.adversary_figure import draw_robust_accuracy, in_255

    inputs = {"weights": WEIGHTS, "photographs": [sample.name for sample in samples], "steps": STEPS}
    numbers = setting.remembered("G5-epsilons", inputs, lambda: swept(model, samples, setting))
    epsilons, fast, slow = (numbers[name] for name in ("epsilons", "fgsm", "pgd"))
    known = fast[0]
    half = next((in_255(epsilon) for epsilon, share in zip(epsilons, fast, strict=True) if share < known / 2), "none")
    checks = [
        Check(
            "accuracy on the photographs, undisturbed (1,000 of ImageNet: 62.1 %)",
            "62.1 %",
            percent(known),
            abs(known - 0.621) < 2 * (0.621 * 0.379 / len(samples)) ** 0.5,
            f"{len(samples)} photographs: within two standard errors.",
        ),
        Check(
            "accuracy under FGSM",
            "falls with the smallest noise",
            f"ε = 1/255: {percent(fast[1])}; 8/255: {percent(fast[-1])}",
            fast[1] < known / 2,
            f"Halved at ε = {half}.",
        ),
        Check(
            f"{STEPS} smaller steps against one",
            "stronger at every ε",
            f"ε = 1/255: {percent(slow[1])} against {percent(fast[1])}",
            all(many <= one for many, one in zip(slow, fast, strict=True)),
        ),
    ]
    curves = {"FGSM": fast, f"PGD, {STEPS} steps": slow}
    heads = ("attack", *(in_255(epsilon) if epsilon else "0" for epsilon in epsilons))
    rows = [(name, *(percent(share) for share in shares)) for name, shares in curves.items()]
    curve = Figure(
        draw_robust_accuracy(epsilons, curves),
        "Right answers against ε. A picture that falls to PGD counts as fallen at every greater ε.",
        "Two curves that fall to next to nothing at 1/255.",
    )
    text = f"SqueezeNet on {len(samples)} photographs of ImageNet, one a class; the labels are the truth."
    return checks, Section("Accuracy under attack", text, [curve], [Table(heads, rows)])


def swept(model: Model, samples: list[Any], setting: Setting) -> dict[str, Any]:
    setting.say("FGSM and PGD for ε = 0 … 8/255")
    values = model.explain(samples, "robust_accuracy", steps=STEPS, limit=len(samples), say=setting.say).values
    return {name: values[name] for name in ("epsilons", "fgsm", "pgd")}


class Scaled(nn.Module):
    """x · scale + shift: from pixels in 0..1 to what a network was trained on."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def learnt_digits() -> tuple[nn.Module, Tensor, Tensor]:
    """A network that has learnt scikit-learn's digits, as a function of pixels in 0..1; and digits it has not seen,
    float [597, 1, 8, 8] in 0..1, with labels [597]."""
    from striate.lectures.foundations.digits import digits, fit, seeded

    data = digits(1_200)
    network = seeded("conv32-relu-pool-conv64-relu-gap", 0)
    fit(network, data, steps=300, lr=0.05)
    low, high = float(data.images.min()), float(data.images.max())  # of pixels 0 and 16
    pixels = ((data.test_images - low) / (high - low)).clamp(0, 1)
    return nn.Sequential(Scaled(high - low, low), network).eval(), pixels, data.test_labels


def on_digits() -> tuple[list[Check], list[Section]]:
    """The fall of a small network: what a photograph's noise hides is plain to see on 64 pixels."""
    from striate.explain.attacks.adversary_figure import draw_robust_accuracy, in_255
    from striate.explain.attacks.gradient import fgsm
    from striate.explain.units.sheets import as_tile, grid, webp

    network, images, labels = learnt_digits()
    shares, rows = [], []
    for epsilon in DIGITS_EPSILONS:
        noisy = fgsm(network, images, labels, epsilon)
        with torch.inference_mode():
            answers = network(noisy).argmax(1)
        shares.append(float((answers == labels).float().mean()))
        if epsilon in DIGITS_EPSILONS[::2]:
            rows.append((noisy[:9], answers[:9].tolist()))
    side = 72
    tiles = [as_tile((255 * one).round().to(torch.uint8), side) for noisy, _ in rows for one in noisy]
    sheet = grid(tiles, [str(answer) for _, answers in rows for answer in answers], columns=9, side=side)
    told = ", ".join(in_255(epsilon) for epsilon in DIGITS_EPSILONS[::2])
    figures = [
        Figure(
            webp(sheet), f"Nine digits at ε = {told}, and the answers.", "Rows of digits with more and more noise", True
        ),
        Figure(draw_robust_accuracy(DIGITS_EPSILONS, {"FGSM": shares}), "Right answers against ε.", "A falling curve."),
    ]
    check = Check(
        "digits right, undisturbed and under FGSM",
        "falls",
        f"{shares[0]:.1%}; ε = 24/255: {shares[3]:.1%}; 72/255: {shares[-1]:.1%}",
        shares[0] > 0.9 and shares[-1] < 0.5 and shares == sorted(shares, reverse=True),
        f"{len(labels)} unseen digits of 64 pixels: with so few, each has to change a lot.",
    )
    text = (
        "scikit-learn’s digits, a network of two convolutions. Noise that misleads it can be seen: over 64 pixels "
        "small changes do not add up to as much as over the 150,000 of a photograph."
    )
    return [check], [Section("On digits, with a network trained here", text, figures)]
