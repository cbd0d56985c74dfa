"""People disagree about a photograph, so its grade is a distribution: what share of them gives it a 1, a 2, … a 10. A
network that foretells the shares knows the mean, and where people will quarrel (NIMA, Talebi & Milanfar, IEEE TIP
2018). Its loss is the earth mover's distance, the work of shifting what it said onto what was voted: unlike cross-
entropy it knows that a 9 is nearer to a 10 than a 1 is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.lectures.page import Check, Setting, Shown
from striate.lectures.seeing.real import PHOTOS, WEIGHTS, absent
from striate.tasks.section import BLUE, GREY, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

PYTHON = """\
import torch
from striate.tasks.score.task import earth_movers_distance

voted = torch.eye(10)[[9]]  # everybody gave a 10
for grade in (9, 5, 1):
    said = torch.full((1, 10), -30.0)
    said[0, grade - 1] = 30.0  # logits: sure of one grade
    moved = earth_movers_distance(said, voted)
    print(f"said {grade}, voted 10: {float(moved):.3f} = √({10 - grade} / 10)")
"""

DAMAGE = ((0.0, 95), (1.0, 60), (2.0, 35), (3.5, 20), (6.0, 10))  # blur in pixels of 320, JPEG quality
MEANS = (7.4, 6.3, 5.2, 4.0, 2.8)
SPREADS = (1.2, 1.5, 1.8, 1.5, 1.2)
VOTERS = 200
COUNT = 80  # photographs, each in five grades
HELD_OUT = 4  # one photograph in four, with all its copies


def show(setting: Setting) -> Shown:
    checks, sections = [*by_hand()], [distances()]
    weights, photos = setting.found(WEIGHTS), setting.found(PHOTOS)
    if weights is not None and photos is not None:
        inputs = {"damage": DAMAGE, "means": MEANS, "voters": VOTERS, "count": COUNT}
        found = setting.remembered("rating", inputs, lambda: judged(photos, weights, setting))
        checks += claims(found)
        sections.insert(0, graded(found, photos))
    seen = {WEIGHTS: "a network that learns grades", PHOTOS: "photographs, made worse by degrees, and their grades"}
    return Shown(tuple(checks), tuple(sections), (AVA,), absent(setting, seen))


AVA = (
    "AVA, 255,000 photographs with some 200 votes each, is not here. Its list is imitated: photographs of ImageNet are "
    "blurred and recompressed by degrees, and voters are invented whose mean falls with the damage. So this page shows "
    "that votes are learnt, not that beauty is. With AVA's own folder: `striate train ava/`."
)


def by_hand() -> list[Check]:
    """The distance of sure answers from a sure vote: all the mass moves over n of K grades, so √(n / K)."""
    import torch

    from striate.tasks.score.task import earth_movers_distance

    sure = 60 * torch.eye(10).double()
    found = earth_movers_distance(sure[[8, 4, 0]], torch.eye(10)[[9, 9, 9]]).tolist()
    one, other = (", ".join(f"{value:.3f}" for value in values) for values in ([0.1**0.5, 0.5**0.5, 0.9**0.5], found))
    return [
        Check(
            "said 9, 5, 1 where all voted 10",
            f"√(1/10), √(5/10), √(9/10) = {one}",
            other,
            one == other,
            "NIMA's equation 1 with r = 2; cross-entropy finds all three equally wrong.",
        )
    ]


def written(photos: Path, folder: Path, count: int = COUNT) -> Path:
    """AVA's layout: AVA.txt with a count a grade, images/, and the list of the pictures to be judged on."""
    import random

    from PIL import Image

    (folder / "images").mkdir(parents=True)
    (folder / "aesthetics_image_lists").mkdir()
    draw = random.Random(0)
    lines: list[str] = []
    held: list[str] = []
    for number, path in enumerate(sorted(photos.glob("*.JPEG"))[:count]):
        with Image.open(path) as opened:
            photo = opened.convert("RGB")
        for grade in range(len(DAMAGE)):
            identity = str(identity_of(number, grade))
            (folder / "images" / f"{identity}.jpg").write_bytes(damaged(photo, grade))
            mean, counts = MEANS[grade] + draw.gauss(0, 0.3), [0] * 10
            for _ in range(VOTERS):
                counts[min(max(round(draw.gauss(mean, SPREADS[grade])), 1), 10) - 1] += 1
            lines.append(f"{len(lines) + 1} {identity} {' '.join(map(str, counts))} 0 0 0")
            if number % HELD_OUT == 0:
                held.append(identity)
    (folder / "AVA.txt").write_text("\n".join(lines) + "\n")
    (folder / "aesthetics_image_lists" / "generic_test.jpgl").write_text("\n".join(held) + "\n")
    return folder


def identity_of(number: int, grade: int) -> int:
    return 1000 + number * len(DAMAGE) + grade


def damaged(photo: Any, grade: int) -> bytes:
    """A photograph (PIL) blurred and recompressed, as a JPEG file."""
    import io

    from PIL import ImageFilter

    blur, quality = DAMAGE[grade]
    photo = photo.copy()
    photo.thumbnail((320, 320))
    content = io.BytesIO()
    photo.filter(ImageFilter.GaussianBlur(blur)).save(content, "JPEG", quality=quality)
    return content.getvalue()


def judged(photos: Path, weights: Path, setting: Setting) -> dict[str, Any]:
    """Train on SqueezeNet's features; shares said and voted for every picture held out."""
    import tempfile
    from pathlib import Path

    import torch

    import striate
    from striate.tasks.score.metrics import ScoreMetrics

    with tempfile.TemporaryDirectory(prefix="striate-lecture-") as where:
        folder = written(photos, Path(where) / "ava")
        setting.say(f"grades: learning from {COUNT - -(-COUNT // HELD_OUT)} photographs, {len(DAMAGE)} copies each")
        model = striate.train(
            str(folder), weights=str(weights), transfer="features", out=where, name="rating", quiet=True, seed=0
        )
        result = model.evaluate(str(folder))
        assert isinstance(result.metrics, ScoreMetrics)
        logits, voted = zip(*result.metrics.parts, strict=True)
        return {
            "values": {name: float(value) for name, value in result.values.items()},
            "names": [Path(sample.name).stem for sample in result.samples],
            "said": torch.cat(logits).softmax(1).tolist(),
            "voted": torch.cat(voted).tolist(),
        }


def claims(found: dict[str, Any]) -> list[Check]:
    from scipy.stats import spearmanr, wasserstein_distance

    grades = list(range(1, 11))
    means = [[expected(shares) for shares in found[name]] for name in ("said", "voted")]
    ranks = float(spearmanr(*means).statistic)  # type: ignore[attr-defined]
    pairs = list(zip(found["said"], found["voted"], strict=True))
    everybody = [sum(column) / len(pairs) for column in zip(*found["voted"], strict=True)]
    moved = float(sum(wasserstein_distance(grades, grades, said, voted) for said, voted in pairs)) / len(pairs)
    idle = float(sum(wasserstein_distance(grades, grades, everybody, voted) for _, voted in pairs)) / len(pairs)
    return [
        Check(
            "rank correlation of said and voted means",
            "0.612 on AVA (NIMA, Inception v2)",
            f"{ranks:.3f} on {len(pairs)} pictures held out",
            ranks > 0.612,
            "Blur is easier to see than beauty; SciPy's spearmanr. Photographs are held out with all their copies.",
        ),
        Check(
            "earth mover's distance of said and voted",
            "smaller than of the same answer to all",
            f"{moved:.2f} against {idle:.2f} grades",
            moved < idle / 2,
            "SciPy's wasserstein_distance; the same answer to all is what all votes together are.",
        ),
    ]


def expected(shares: list[float]) -> float:
    """The mean grade, Σ grade · share."""
    return sum(grade * share for grade, share in enumerate(shares, start=1))


def spread(shares: list[float]) -> float:
    mean = expected(shares)
    return sum(share * (grade - mean) ** 2 for grade, share in enumerate(shares, start=1)) ** 0.5


def graded(found: dict[str, Any], photos: Path) -> Section:
    rows = [[about, found["values"][name]] for name, about in NAMES.items()]
    figures = [
        Figure(
            draw_graded(found, photos),
            "Grey: what the voters gave; blue: what the network says. Over each: mean ± spread, said (voted).",
            "A photograph five times, worse and worse, over five histograms that move to the left.",
            wide=True,
        ),
        Figure(draw_means(found), "Every picture held out, by its damage.", "Dots along the diagonal."),
    ]
    text = (
        f"{len(found['said'])} pictures were held out; SqueezeNet's features of the others taught a linear layer. "
        "Shown is one photograph in its five grades: the mean falls, and the histogram is widest in the middle, where "
        "the voters quarrel most."
    )
    return Section("Grades of photographs", text, figures, [Table(("held out", ""), rows)])


NAMES = {
    "spearman": "rank correlation of the means",
    "pearson": "linear correlation of the means",
    "mae": "mean off by, in grades",
    "emd": "earth mover's distance of the shares (mean over grades)",
    "spread_spearman": "rank correlation of the spreads",
}


def draw_graded(found: dict[str, Any], photos: Path) -> Drawing:
    import io

    import numpy as np
    from PIL import Image

    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes

    number = shown_number(found)
    with Image.open(sorted(photos.glob("*.JPEG"))[number]) as opened:
        photo = opened.convert("RGB")
    figure = new_figure(10, 3.6)
    grid = figure.subplots(2, len(DAMAGE), height_ratios=(1.5, 1), sharex="row", sharey="row")
    for grade, (above, below) in enumerate(zip(*grid, strict=True)):
        with Image.open(io.BytesIO(damaged(photo, grade))) as worse:
            above.imshow(np.asarray(worse))
        above.set_axis_off()
        at = found["names"].index(str(identity_of(number, grade)))
        said, voted = found["said"][at], found["voted"][at]
        plain_axes(below)
        below.bar(range(1, 11), voted, color=GREY, alpha=0.5, width=0.9)
        below.bar(range(1, 11), said, color=BLUE, alpha=0.75, width=0.45)
        below.set_title(f"{expected(said):.1f} ± {spread(said):.1f} ({expected(voted):.1f})", fontsize=LETTERS + 0.5)
        below.set_xticks((1, 4, 7, 10))
    grid[1][0].set_ylabel("share", fontsize=LETTERS)
    grid[1][2].set_xlabel("grade", fontsize=LETTERS)
    return figure


def shown_number(found: dict[str, Any]) -> int:
    """The photograph of those held out whose means are the median off, so neither the best nor the worst."""
    off: dict[int, float] = {}
    for name, said, voted in zip(found["names"], found["said"], found["voted"], strict=True):
        number = (int(name) - 1000) // len(DAMAGE)
        off[number] = off.get(number, 0) + abs(expected(said) - expected(voted))
    return sorted(off, key=off.__getitem__)[len(off) // 2]


def draw_means(found: dict[str, Any]) -> Drawing:
    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes

    figure = new_figure(4.6, 4)
    axes = plain_axes(figure.add_subplot())
    axes.plot((1, 10), (1, 10), color=GREY, linewidth=0.9, linestyle=":")
    x, y = ([expected(shares) for shares in found[name]] for name in ("voted", "said"))
    damage = [(int(name) - 1000) % len(DAMAGE) for name in found["names"]]
    dots = axes.scatter(x, y, c=damage, cmap="viridis_r", s=22, alpha=0.8, linewidths=0)
    axes.set(xlim=(1.5, 9), ylim=(1.5, 9), aspect="equal")
    axes.set_xlabel("voted mean", fontsize=LETTERS)
    axes.set_ylabel("said mean", fontsize=LETTERS)
    names = ("as it is", "1", "2", "3", "most")
    axes.legend(dots.legend_elements()[0], names, title="damage", fontsize=LETTERS, frameon=False)
    return figure


def distances() -> Section:
    figure = Figure(
        draw_distances(),
        "All voted 10. Cross-entropy only sees how much was said of the 10; the earth mover how far off the rest is.",
        "Three histograms with one bar each, nearer and nearer to 10, and their losses.",
        wide=True,
    )
    return Section("Why not cross-entropy", "", [figure])


def draw_distances() -> Drawing:
    import torch
    from torch.nn import functional as F

    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes
    from striate.tasks.score.task import earth_movers_distance

    figure = new_figure(9, 2.2)
    panels: list[Axes] = list(figure.subplots(1, 3, sharey=True))
    voted = torch.eye(10)[[9]]
    for axes, grade in zip(panels, (1, 5, 9), strict=True):
        shares = torch.full((1, 10), 1e-9)
        shares[0, grade - 1], shares[0, 9] = 0.9, 0.1
        logits = shares.log()
        plain_axes(axes)
        axes.bar(range(1, 11), voted[0].tolist(), color=GREY, alpha=0.4, width=0.9)
        axes.bar(range(1, 11), shares[0].tolist(), color=ORANGE, alpha=0.8, width=0.45)
        axes.set_xticks(range(1, 11))
        moved, entropy = float(earth_movers_distance(logits, voted)), float(F.cross_entropy(logits, voted))
        axes.set_title(f"earth mover {moved:.2f}, cross-entropy {entropy:.2f}", fontsize=LETTERS + 0.5)
    panels[0].set_ylabel("share", fontsize=LETTERS)
    panels[1].set_xlabel("grade", fontsize=LETTERS)
    return figure
