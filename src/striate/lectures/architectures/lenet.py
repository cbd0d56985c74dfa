"""LeNet-5 reads digits by turns of looking and simplifying: 5×5 convolutions find strokes, averages over 2×2 make
exact places unimportant, and three dense layers decide (LeCun, Bottou, Bengio & Haffner, Proc. IEEE 1998, II.B). Each
step makes maps smaller and more numerous, from one picture of 32×32 to 16 maps of 5×5. It is the plan of nearly every
network after it, with tanh or sigmoid where later ones have rectifiers.
"""

from __future__ import annotations

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import Figure, Section

PYTHON = """\
import striate

lenet = striate.create_model("lenet5", num_classes=10, in_chans=1)
table = striate.summary(lenet, (1, 1, 32, 32))
print(table)
print(f"{table.parameters:,} parameters")
"""

# what the paper of 1998 has and the network as taught has not, or has more of
PAPER_C3 = 6 * (3 * 25 + 1) + 9 * (4 * 25 + 1) + (6 * 25 + 1)  # table I: maps that see 3, 4 or all 6 of S2
PAPER_POOLS = 6 * 2 + 16 * 2  # S2 and S4 learn a factor and a bias a map


def show(setting: Setting) -> Shown:
    from striate.lectures.diagrams import draw_bars, draw_volumes
    from striate.lectures.networks import counted, layers_of, volumes_of

    _, summary = counted("lenet5")
    rows = {row.name: row for row in summary.rows}
    shapes = {name: tuple(row.output[1:]) for name, row in rows.items()}
    paper = rows["c1"].parameters + PAPER_C3 + PAPER_POOLS + rows["c5"].parameters + rows["f6"].parameters
    checks = (
        Check("parameters", "61,706", f"{summary.parameters:,}", summary.parameters == 61_706),
        Check(
            "parameters, as the lectures round them",
            "about 60,000",
            f"{summary.parameters:,}",
            round(summary.parameters, -4) == 60_000,
            f"The paper's 60,000 are {paper:,} by its own text: C3 sees only some maps of S2 ({PAPER_C3:,} instead of "
            f"{rows['c3'].parameters:,}), S2 and S4 learn {PAPER_POOLS}, and the output's {rows['output'].parameters} "
            "are radial basis functions that are not learnt.",
        ),
        Check(
            "six 5×5 filters on 32×32",
            "28×28×6",
            "×".join(map(str, (*shapes["c1"][1:], shapes["c1"][0]))),
            shapes["c1"] == (6, 28, 28),
        ),
        Check("trained layers", "5", str(len(_trained(rows))), len(_trained(rows)) == 5, "C1, C3, C5, F6 and output."),
    )
    learnt = _trained(rows)
    volumes = Figure(
        draw_volumes(volumes_of(summary)),
        "What each layer gives: height × width × maps, or a vector.",
        "The maps of LeNet-5 as solids, from a picture of 32×32 to ten scores.",
        wide=True,
    )
    where = Figure(
        draw_bars(
            learnt,
            {
                "parameters": [rows[name].parameters for name in learnt],
                "multiply-adds": [rows[name].multiply_adds for name in learnt],
            },
            "{:,.0f}".format,
        ),
        f"C5 holds {rows['c5'].parameters / summary.parameters:.0%} of the parameters; "
        f"C1 and C3 do {(rows['c1'].multiply_adds + rows['c3'].multiply_adds) / summary.multiply_adds:.0%} of the work.",
        "Bars of parameters and multiply-adds by layer.",
        wide=True,
    )
    return Shown(
        checks,
        (
            Section(
                "The network",
                "A picture of 28×28 is given a margin of 2, so that strokes at its border are seen whole.",
                [volumes],
                [layers_of(summary)],
            ),
            Section("Where its numbers are", "", [where]),
        ),
    )


def _trained(rows: dict[str, object]) -> list[str]:
    return [name for name, row in rows.items() if row.parameters]  # type: ignore[attr-defined]
