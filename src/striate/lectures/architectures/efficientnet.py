"""A network can be made larger in three ways: deeper, wider, or by larger pictures; EfficientNet grows all three
together, by d = α^φ, w = β^φ, r = γ^φ (Tan & Le, ICML 2019). Work grows with d · w² · r², so with α·β²·γ² ≈ 2 each step
of φ doubles it. α = 1.2, β = 1.1 and γ = 1.15 were found once, on the small B0; B1 to B7 follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

PYTHON = """\
import striate
from striate.backbones.efficientnet import ALPHA, BETA, GAMMA, compound

print(f"alpha · beta² · gamma² = {ALPHA * BETA**2 * GAMMA**2:.3f}")
base = None
for phi in range(4):
    depth, width, side = compound(phi)
    cost = striate.summary(striate.create_model("efficientnet", phi=phi), (3, side, side)).multiply_adds
    base = base or cost
    print(f"phi {phi}: {side} px, {cost / 1e9:.2f} G, {cost / base:.2f} times B0; 2^phi = {2**phi}")
"""

# φ of B0 to B7 and the paper's sizes of picture, from the authors' code; G multiply-adds of the paper's table 2
PHI = {0: 0.0, 1: 0.5, 2: 1.0, 3: 2.0, 4: 3.0, 5: 4.0, 6: 5.0, 7: 6.0}
PAPER_SIZES = {0: 224, 1: 240, 2: 260, 3: 300, 4: 380, 5: 456, 6: 528, 7: 600}
PAPER = {0: 0.39, 1: 0.70, 2: 1.0, 3: 1.8, 4: 4.2, 5: 9.9, 6: 19.0, 7: 37.0}


def show(setting: Setting) -> Shown:
    from striate.backbones.efficientnet import ALPHA, BETA, EFFICIENTNETS, GAMMA
    from striate.lectures.networks import counted

    product = ALPHA * BETA**2 * GAMMA**2
    costs, parameters = {}, {}
    for number, side in PAPER_SIZES.items():
        _, summary = counted(f"efficientnet_b{number}", (side, side))
        costs[number], parameters[number] = summary.multiply_adds, summary.parameters
    factors = {number: EFFICIENTNETS[f"efficientnet_b{number}"] for number in costs}
    by_factors = {
        number: one.depth * one.width**2 * (PAPER_SIZES[number] / 224) ** 2 for number, one in factors.items()
    }
    grown = {number: cost / costs[0] for number, cost in costs.items()}
    rule = exact_rule()
    per_step = grown[7] ** (1 / PHI[7])
    checks = (
        Check("α · β² · γ²", "≈ 2", f"{product:.3f}", abs(product - 2) < 0.1, "1.2 · 1.1² · 1.15²"),
        Check(
            "B0: parameters, multiply-adds",
            "5,288,548; 0.39 G",
            f"{parameters[0]:,}; {costs[0] / 1e9:.2f} G",
            parameters[0] == 5_288_548 and f"{costs[0] / 1e9:.2f}" == "0.39",
        ),
        Check("B7: parameters", "66,347,960", f"{parameters[7]:,}", parameters[7] == 66_347_960),
        Check(
            "multiply-adds of B0 to B7 (table 2 of the paper)",
            ", ".join(f"{value:g}" for value in PAPER.values()) + " G",
            ", ".join(f"{cost / 1e9:.2g}" for cost in costs.values()) + " G",
            all(abs(costs[number] / 1e9 / PAPER[number] - 1) < 0.06 for number in PAPER),
            "At the paper's sizes of picture; within 6 %.",
        ),
        Check(
            "one step of φ, by the rule without rounding",
            "doubles the work",
            f"{rule[6.0] ** (1 / 6):.3f} times a step, over six steps",
            abs(rule[6.0] ** (1 / 6) - 2) < 0.2,
            f"Near {product:.2f}, not 2, since that is what the three factors multiply to. Depths that are rounded up "
            "add to it.",
        ),
        Check(
            "B7 over B0, by its factors d · w² · r²",
            f"{by_factors[7]:.0f} times",
            f"{grown[7]:.0f} times",
            abs(grown[7] / by_factors[7] - 1) < 0.15,
            "Widths are rounded to multiples of 8 and depths up; the paper's own table 2 says 37 / 0.39 = 95.",
        ),
        Check(
            "B7 over B0, by φ = 6",
            "2⁶ = 64 times",
            f"{grown[7]:.0f} times, {per_step:.2f} a step",
            abs(grown[7] / 64 - 1) < 0.1,
            f"The published factors are larger than φ says: B7 has d = {factors[7].depth}, w = {factors[7].width}, "
            f"600 pixels, where α⁶ = {ALPHA**6:.2f}, β⁶ = {BETA**6:.2f}, 224 · γ⁶ = {224 * GAMMA**6:.0f} pixels. Built "
            f"by the rule, the network of φ = 6 costs {rule[6.0]:.0f} times B0.",
        ),
    )
    rows = [
        [
            f"B{number}",
            PHI[number],
            factors[number].depth,
            factors[number].width,
            PAPER_SIZES[number],
            parameters[number],
            costs[number],
            round(grown[number], 2),
            round(by_factors[number], 2),
            round(2 ** PHI[number], 2),
        ]
        for number in costs
    ]
    heads = ("", "φ", "depth ×", "width ×", "pixels", "parameters", "multiply-adds", "over B0", "d·w²·r²", "2^φ")
    text = (
        "Three predictions of a network's cost beside what its layers really do. The factors d · w² · r² explain it to "
        "some percent: the rest is rounding (widths to multiples of 8, depths up) and what does not grow with "
        "depth, the stem and the last layers. 2^φ alone falls short, because the published factors were rounded up."
    )
    return Shown(
        checks,
        (
            Section(
                "Cost against φ",
                text,
                [
                    Figure(
                        draw(grown, by_factors, rule),
                        "Multiply-adds over those of B0; dots are B0 to B7 as built.",
                        "Dots of eight networks above the line 2^φ, on a logarithmic axis.",
                    ),
                    Figure(
                        draw_growth(factors),
                        "What grows: boxes as wide as the width, as high as the picture; lines are blocks.",
                        "Three boxes, B0, B3 and B7, that grow in all directions.",
                    ),
                ],
                [Table(heads, rows)],
            ),
        ),
        notes=("torchvision's B2 is meant for pictures of 288 pixels, the paper's for 260: this page counts at 260.",),
    )


def exact_rule() -> dict[float, float]:
    """φ → multiply-adds of the network by the rule alone, over B0's; its widths and depths are still whole."""
    from striate.backbones.efficientnet import compound
    from striate.lectures.networks import counted

    costs = {}
    for phi in (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0):
        side = compound(phi)[2]
        costs[phi] = counted("efficientnet", (side, side), phi=phi)[1].multiply_adds
    return {phi: cost / costs[0.0] for phi, cost in costs.items()}


def draw(grown: dict[int, float], by_factors: dict[int, float], rule: dict[float, float]) -> Drawing:
    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes

    figure = new_figure(5.2, 4.0)
    axes = plain_axes(figure.add_subplot())
    axes.set_yscale("log", base=2)
    axes.plot(list(rule), [2**phi for phi in rule], color=GREY, linewidth=1.2, linestyle="--", label="2^φ")
    axes.plot(list(rule), list(rule.values()), color=GREEN, linewidth=1.4, label="the rule's network, as built")
    phis = [PHI[number] for number in grown]
    axes.plot(phis, list(by_factors.values()), color=ORANGE, linewidth=1.4, label="d · w² · r² of B0 to B7")
    axes.plot(phis, list(grown.values()), "o", color=BLUE, markersize=6, label="B0 to B7, as built")
    for number, phi in zip(grown, phis, strict=True):
        axes.annotate(
            f"B{number}", (phi, grown[number]), (-6, 6), textcoords="offset points", ha="right", fontsize=LETTERS
        )
    axes.set_yticks([1, 2, 4, 8, 16, 32, 64, 128], ["1", "2", "4", "8", "16", "32", "64", "128"])
    axes.set_xlabel("φ", fontsize=LETTERS)
    axes.set_ylabel("multiply-adds over B0's", fontsize=LETTERS)
    axes.set(xlim=(-0.6, 6.4))
    axes.legend(frameon=False, fontsize=LETTERS, loc="lower right")
    return figure


def draw_growth(factors: dict) -> Drawing:
    """B0, B3 and B7 as boxes: width is width, height the picture's side, lines the blocks."""
    from math import ceil

    from matplotlib.patches import Rectangle

    from striate.backbones.efficientnet import STAGES
    from striate.lectures.diagrams import LETTERS, WASH, new_figure

    figure = new_figure(4.6, 4.0)
    axes = figure.add_subplot()
    left = 0.0
    for number in (0, 3, 7):
        one = factors[number]
        wide, high = one.width, PAPER_SIZES[number] / 224
        blocks = sum(ceil(repeats * one.depth) for *_, repeats, _ in STAGES)
        axes.add_patch(Rectangle((left, 0), wide, high, facecolor=BLUE, alpha=WASH, edgecolor="none"))
        axes.add_patch(Rectangle((left, 0), wide, high, facecolor="none", edgecolor=BLUE, linewidth=1))
        for line in range(1, blocks):
            y = high * line / blocks
            axes.plot((left, left + wide), (y, y), color=BLUE, linewidth=0.5, alpha=0.7)
        told = f"B{number}\n{blocks} blocks\nwidth × {one.width:g}\n{PAPER_SIZES[number]} px"
        axes.text(left + wide / 2, -0.08, told, ha="center", va="top", fontsize=LETTERS, linespacing=1.3)
        left += wide + 0.45
    axes.set(xlim=(-0.1, left - 0.35), ylim=(-0.95, 2.8))
    axes.set_axis_off()
    return figure
