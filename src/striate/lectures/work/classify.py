"""A classifier gives every class a number, softmax makes shares of them that add up to 1, and the largest is the
answer. It learns by cross-entropy, whose slope is as simple as can be: what was said minus what is true. Ten digits or
a thousand things of ImageNet are the same task; what tells how good it is are pictures that it has never seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.lectures.page import Check, Setting, Shown
from striate.lectures.seeing.real import CLASSES, PHOTOS, WEIGHTS, absent, labelled, squeezenet
from striate.results.words import percent
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure as Drawing

    from striate.data.sample import Sample
    from striate.model import Model

PYTHON = """\
import striate, tempfile

with tempfile.TemporaryDirectory() as folder:
    line = "(conv16-bn-relu)x2-pool-fc64-relu"
    model = striate.train("digits", model=line, epochs=4, out=folder, quiet=True)
judged = model.evaluate("digits:val")
print(f"{judged['accuracy']:.1%} of {len(judged.samples)} unseen digits are named rightly")
result = model.predict(judged.samples[0].image)
print(result.top(3))  # shares add up to 1 over all classes
"""

MNIST = "mnist"
MODEL, COUNT, EPOCHS = "lenet5", 20_000, 4
WORST = 24  # mistakes drawn, the surest first
DRAWN = 6  # photographs with their five likeliest names
TOP1, TOP5 = 0.621, 0.840  # of these weights on 1,000 photographs of ImageNet


def show(setting: Setting) -> Shown:
    checks, sections = [slope()], []
    source = setting.found(MNIST)
    if source is not None:
        inputs = {"model": MODEL, "count": COUNT, "epochs": EPOCHS}
        found = setting.remembered("classify-mnist", inputs, lambda: trained(source, setting))
        check, section = digits(found)
        checks.append(check)
        sections.append(section)
    model, samples = squeezenet(setting), labelled(setting)
    if model is not None and samples:
        inputs = {"weights": WEIGHTS, "photographs": [sample.name for sample in samples]}
        told = setting.remembered("classify-imagenet", inputs, lambda: named(model, samples, setting))
        more, section = photographs(told["rows"], {sample.name: sample for sample in samples})
        checks += more
        sections.append(section)
    seen = {
        MNIST: "a network that learns handwritten digits, and its mistakes",
        WEIGHTS: "what a network for a thousand things says of photographs",
        PHOTOS: "the photographs that it names",
        CLASSES: "how many of them it names rightly",
    }
    return Shown(tuple(checks), tuple(sections), (OTHERS,), absent(setting, seen))


OTHERS = (
    "CIFAR-10, Places365 and folders of one's own are the same command: `striate train cifar10 --download`, or "
    "`striate train photos/` where `photos/` has a folder a class."
)


def slope() -> Check:
    """The gradient of cross-entropy after softmax, by automatic differentiation, against p - y."""
    import torch
    from torch.nn import functional as F

    logits = torch.tensor([[2.0, 1.0, 0.1]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, torch.tensor([0])), logits)
    powers = [2.718281828459045**value for value in (2.0, 1.0, 0.1)]
    printed = [power / sum(powers) - (index == 0) for index, power in enumerate(powers)]
    one, other = (", ".join(f"{value:+.4f}" for value in values) for values in (printed, gradient[0].tolist()))
    return Check("slope of the loss at logits 2, 1, 0.1, the first is true", f"p − y = {one}", other, one == other)


def trained(source: Path, setting: Setting) -> dict[str, Any]:
    """LeNet-5 on some of MNIST, then on the digits held out: confusion [10, 10] and the surest mistakes."""
    import tempfile

    import striate
    from striate.data.reader import read_sample
    from striate.tasks.classify.metrics import ClassificationMetrics

    setting.say(f"MNIST: training {MODEL} on {COUNT:,} digits")
    with tempfile.TemporaryDirectory(prefix="striate-lecture-") as where:
        model = striate.train(str(source), model=MODEL, epochs=EPOCHS, limit=COUNT, out=where, quiet=True, seed=0)
    judged = model.evaluate(str(source), "test")
    assert isinstance(judged.metrics, ClassificationMetrics)
    shares, truth = judged.metrics.probabilities(), judged.metrics.gathered()[1]
    sure, said = shares.max(1)
    wrong = (said != truth).nonzero()[:, 0]
    worst = wrong[sure[wrong].argsort(descending=True)][:WORST].tolist()
    return {
        "accuracy": judged["accuracy"],
        "confusion": judged.metrics.confusion().tolist(),
        "worst": [
            {
                "picture": read_sample(judged.samples[index])[0].tolist(),
                "truth": int(truth[index]),
                "said": int(said[index]),
                "sure": float(sure[index]),
            }
            for index in worst
        ],
    }


def digits(found: dict[str, Any]) -> tuple[Check, Section]:
    import torch

    from striate.tasks.classify.figures import draw_confusion

    confusion = torch.tensor(found["confusion"])
    total, wrong = int(confusion.sum()), int(confusion.sum() - confusion.diagonal().sum())
    check = Check(
        "handwritten digits named rightly",
        "about 99 % (LeNet-5: 99.05 %)",
        f"{found['accuracy']:.2%}: {wrong} of {total:,} wrong",
        round(100 * found["accuracy"]) == 99,
        f"The paper's saw 60,000 digits twenty times, ours {COUNT:,} in {EPOCHS} passes, half a minute of one core; it "
        "is judged on the 5,001 test digits that are here, half of MNIST's.",
    )
    names = [str(name) for name in range(len(confusion))]
    rows = [
        [name, int(row.sum()), f"{float(row[at] / row.sum()):.1%}", f"{float(row[at] / column.sum()):.1%}"]
        for at, (name, row, column) in enumerate(zip(names, confusion, confusion.T, strict=True))
    ]
    figures = [
        Figure(draw_confusion(confusion, names), "Rows are the truth, columns what was said.", "A table of counts."),
        Figure(
            draw_worst(found["worst"]),
            "The surest mistakes: what was said, and what is true.",
            "Digits that are hard to read, with two numbers under each.",
        ),
    ]
    table = Table(("digit", "there are", "found of them", "right of those named so"), rows)
    return check, Section("Ten digits", "LeNet-5 on MNIST, trained here.", figures, [table])


def draw_worst(worst: list[dict[str, Any]]) -> Drawing:
    import numpy as np

    from striate.lectures.diagrams import LETTERS, new_figure

    columns = 6
    lines = max(1, -(-len(worst) // columns))
    figure = new_figure(4.8, 1.02 * lines + 0.2)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, one in zip(grid, worst, strict=False):
        axes.imshow(np.array(one["picture"]), cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"{one['said']}, not {one['truth']}", fontsize=LETTERS, pad=3)
    return figure


def named(model: Model, samples: list[Sample], setting: Setting) -> dict[str, Any]:
    """What the network says of each photograph: five names with shares, and the truth's place among all."""
    rows = []
    setting.say(f"ImageNet: naming {len(samples)} photographs")
    results = model.predict([sample.image for sample in samples])
    for sample, result in zip(samples, results, strict=True):
        shares = result.probabilities
        rank = 1 + int((shares > shares[sample.target]).sum())
        truth = result.classes[sample.target]
        rows.append({"name": sample.name, "truth": truth, "rank": rank, "top": result.top(5)})
    return {"rows": rows}


def photographs(rows: list[dict[str, Any]], samples: dict[str, Sample]) -> tuple[list[Check], Section]:
    checks = []
    for most, printed in ((1, TOP1), (5, TOP5)):
        right = sum(row["rank"] <= most for row in rows) / len(rows)
        error = (printed * (1 - printed) / len(rows)) ** 0.5
        checks.append(
            Check(
                "photographs named rightly" if most == 1 else "the truth is among the five likeliest",
                percent(printed),
                percent(right),
                abs(right - printed) < 2 * error,
                f"{len(rows)} photographs, one a class, against 1,000: within two standard errors, ± {2 * error:.1%}.",
            )
        )
    known = [row for row in rows if row["rank"] == 1]
    known.sort(key=lambda row: row["top"][0][1])
    missed = sorted((row for row in rows if row["rank"] > 5), key=lambda row: -row["top"][0][1])
    close = [row for row in rows if row["rank"] in (2, 3)]
    chosen = [*known[-2:], known[len(known) // 2], *close[:1], *missed[:2]][:DRAWN]
    figure = Figure(
        draw_named(chosen, samples),
        "The five likeliest of 1,000 names; green is the true one.",
        "Photographs, each with five bars: some sure and right, some wrong.",
        wide=True,
    )
    text = (
        "SqueezeNet 1.0 with ImageNet’s weights. Two that it is sure of, one it is not, one where the truth is second "
        "or third, and two mistakes: often another thing on the photograph, or the same one by another name."
    )
    return checks, Section("A thousand things", text, [figure])


def draw_named(rows: list[dict[str, Any]], samples: dict[str, Sample]) -> Drawing:
    """Photographs over the bars of their likeliest names."""
    from striate.data.reader import read_sample
    from striate.lectures.diagrams import LETTERS, new_figure

    columns = min(3, len(rows))
    lines = -(-len(rows) // columns)
    figure = new_figure(9.5, 3.9 * lines)
    grid = figure.subplots(2 * lines, columns, squeeze=False, height_ratios=(2.1, 1) * lines)
    for axes in grid.ravel():
        axes.set_axis_off()
    for at, row in enumerate(rows):
        line, column = divmod(at, columns)
        photo, bars = grid[2 * line][column], grid[2 * line + 1][column]
        photo.imshow(square(read_sample(samples[row["name"]])))
        right = [name == row["truth"] for name, _ in row["top"]]
        photo.set_title(row["truth"], fontsize=LETTERS + 1)
        draw_shares(
            bars, row["top"], [GREEN if one else (ORANGE if not place else GREY) for place, one in enumerate(right)]
        )
    return figure


def draw_shares(axes: Any, shares: list[tuple[str, float]], colours: list[str] | None = None) -> None:
    """Bars with their names over them, best first."""
    from striate.lectures.diagrams import LETTERS

    for place, (name, share) in enumerate(shares):
        colour = (colours or [BLUE] * len(shares))[place]
        axes.barh(place, 1, color=GREY, alpha=0.16, height=0.86)
        axes.barh(place, share, color=colour, alpha=0.62, height=0.86)
        axes.text(0.015, place, short(name), va="center", fontsize=LETTERS)
        axes.text(0.985, place, percent(share), va="center", ha="right", fontsize=LETTERS)
    axes.set(xlim=(0, 1), ylim=(len(shares) - 0.4, -0.6))


def short(name: str) -> str:
    """The first of several names of a thing."""
    return name.partition(",")[0]


def square(picture: Any, side: int = 260) -> Any:
    """uint8 [3, H, W] → its middle square, [side, side, 3] as NumPy."""
    from torchvision.transforms.v2.functional import center_crop, resize

    return center_crop(resize(picture, [side], antialias=True), [side, side]).permute(1, 2, 0).numpy()
