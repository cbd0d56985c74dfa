"""A network that has seen a million photographs already knows edges, textures and parts; few pictures are enough to teach
it something new. Feature extraction freezes its body, computes what it sees of each picture once, and learns only a
classifier; fine-tuning then lets the body move too, at a lower rate (Yosinski et al., NIPS 2014). On small sets both
beat the same network trained from scratch, which has too little to learn its filters from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure as Drawing

PYTHON = """\
import striate, tempfile

with tempfile.TemporaryDirectory() as folder:  # a network that knows digits, then 40 pictures to learn from
    options = {"out": folder, "quiet": True, "overwrite": True}
    striate.train("digits", model="(conv32-bn-relu)x2-pool-conv64-bn-relu-gap", epochs=4, name="body", **options)
    weights = f"{folder}/classify/body/model.safetensors"
    known = striate.train("digits", weights=weights, transfer="features", limit=40, name="features", **options)
    scratch = striate.train("digits", model=known.card.architecture, limit=40, epochs=4, name="scratch", **options)
    print("accuracy, features:", known.card.metrics["accuracy"], "scratch:", scratch.card.metrics["accuracy"])
"""

WEIGHTS = "squeezenet1_0-imagenet.safetensors"
WAYS = {
    "features": "body frozen, its activations computed once",
    "finetune": "head first, then the body at a lower rate",
    "scratch": "no weights to start from",
}
COLOURS = {"features": BLUE, "finetune": GREEN, "scratch": ORANGE}
COUNTS = (10, 48)  # training pictures a class
EPOCHS = 8


def show(setting: Setting) -> Shown:
    from striate.lectures.real_data import missing

    needed = {
        "hymenoptera": "transfer against scratch on ants and bees",
        WEIGHTS: "transfer against scratch, from ImageNet's weights",
    }
    places = {name: setting.found(name) for name in needed}
    source, weights = places.values()
    if source is None or weights is None:
        told = tuple(missing(name, seen) for name, seen in needed.items() if places[name] is None)
        return Shown(sections=(_ways(),), missing=told)
    inputs = {"counts": COUNTS, "epochs": EPOCHS}
    found = setting.remembered("transfer", inputs, lambda: trained(source, weights, setting, COUNTS, EPOCHS))
    return Shown(claims(found), (_ways(), results(found)), notes=(NOTE,))


NOTE = (
    "With 40 pictures to judge on, one picture is 2.5 points: `python -m bench transfer` repeats all of it over five seeds."
)


def _ways() -> Section:
    rows = [[way, about] for way, about in WAYS.items()]
    return Section("Three ways", "", [], [Table(("", "what is learnt"), rows)])


def trained(source: Path, weights: Path, setting: Setting, counts: tuple[int, ...], epochs: int) -> dict[str, Any]:
    """Accuracy after each epoch and seconds, for each number of pictures a class and each way."""
    import json
    import tempfile
    import time
    from pathlib import Path

    import striate

    ways: dict[str, dict[str, Any]] = {
        "features": {"weights": str(weights), "transfer": "features"},
        "finetune": {"weights": str(weights), "transfer": "finetune", "epochs": epochs},
        "scratch": {"model": "squeezenet1_0", "size": 227, "epochs": epochs},
    }
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="striate-lecture-") as where:
        for count in counts:
            folder = some_pictures(source, Path(where) / str(count), count)
            for way, options in ways.items():
                setting.say(f"{count} pictures a class: {way}")
                start = time.perf_counter()
                name = f"{way}-{count}"
                striate.train(str(folder), quiet=True, out=where, name=name, seed=0, **options)
                seconds = time.perf_counter() - start
                lines = (Path(where) / "classify" / name / "metrics.jsonl").read_text().splitlines()
                curve = [json.loads(line)["val_accuracy"] for line in lines]
                found[name] = {"curve": curve, "seconds": seconds}
    return found


def some_pictures(source: Path, where: Path, count: int) -> Path:
    """Links `WHERE/train/<class>/` to `count` pictures of each class, or all there are, and `val` to all of its own."""
    import random

    from striate.lectures.real_data import inside

    train = inside(source, "train")
    for split, most in (("train", count), ("val", None)):
        for label in sorted(path for path in (train.parent / split).iterdir() if path.is_dir()):
            pictures = sorted(label.iterdir())
            chosen = pictures if most is None else random.Random(0).sample(pictures, min(most, len(pictures)))
            (where / split / label.name).mkdir(parents=True)
            for picture in chosen:
                (where / split / label.name / picture.name).symlink_to(picture.resolve())
    return where


def claims(found: dict[str, Any]) -> tuple[Check, ...]:
    counts = sorted({int(name.rpartition("-")[2]) for name in found})
    last = {name: one["curve"][-1] for name, one in found.items()}
    checks = []
    for count in counts:
        checks += [
            Check(
                f"{count} pictures a class: {way} against scratch",
                "transfer is better",
                f"{last[f'{way}-{count}']:.1%} against {last[f'scratch-{count}']:.1%}",
                last[f"{way}-{count}"] > last[f"scratch-{count}"],
                "SqueezeNet, ImageNet's weights; ants and bees, 40 pictures to judge on.",
            )
            for way in ("features", "finetune")
        ]
    seconds = {way: found[f"{way}-{counts[-1]}"]["seconds"] for way in WAYS}
    checks.append(
        Check(
            "activations computed once",
            "features is the fastest way",
            ", ".join(f"{way} {value:.0f} s" for way, value in seconds.items()),
            seconds["features"] < min(seconds["finetune"], seconds["scratch"]),
            f"With {counts[-1]} pictures a class, the whole of `striate train`.",
        )
    )
    return tuple(checks)


def results(found: dict[str, Any]) -> Section:
    rows = [
        [name.rpartition("-")[0], int(name.rpartition("-")[2]), one["curve"][-1], round(one["seconds"], 1)]
        for name, one in found.items()
    ]
    return Section(
        "Ants and bees",
        "The same 40 pictures judge all. Features has no epochs: its classifier is fitted at once.",
        [
            Figure(
                draw(found),
                "Accuracy on pictures not trained on, after each epoch; dotted: guessing.",
                "Panels by number of pictures: transfer near the top, scratch at half.",
                wide=True,
            )
        ],
        [Table(("way", "pictures a class", "accuracy", "seconds"), rows)],
    )


def draw(found: dict[str, Any]) -> Drawing:
    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes

    counts = sorted({int(name.rpartition("-")[2]) for name in found})
    figure = new_figure(9, 3.3)
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axes, count in zip(panels, counts, strict=True):
        plain_axes(axes)
        epochs = max(len(found[f"{way}-{count}"]["curve"]) for way in WAYS)
        ends = {way: 100 * found[f"{way}-{count}"]["curve"][-1] for way in WAYS}
        for way in WAYS:
            curve = [100 * value for value in found[f"{way}-{count}"]["curve"]]
            if len(curve) == 1:
                axes.plot((1, epochs), curve * 2, color=COLOURS[way], linewidth=1.6, linestyle="--")
            else:
                axes.plot(range(1, len(curve) + 1), curve, color=COLOURS[way], marker="o", markersize=4, linewidth=1.6)
        for way, place in apart(ends, 5.0).items():
            axes.text(epochs + 0.25, place, f"{way} {ends[way]:.0f} %", va="center", fontsize=LETTERS)
        axes.axhline(50, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_title(f"{count} pictures a class", fontsize=LETTERS + 1, loc="left")
        axes.set_xlabel("epoch", fontsize=LETTERS)
        axes.set(ylim=(30, 102), xlim=(0.6, epochs * 1.42))
        axes.set_xticks(range(1, epochs + 1))
    panels[0].set_ylabel("accuracy (%)", fontsize=LETTERS)
    return figure


def apart(values: dict[str, float], least: float) -> dict[str, float]:
    """Places of labels beside the ends of lines: at least so far apart, the highest where it is."""
    places: dict[str, float] = {}
    above = float("inf")
    for name, value in sorted(values.items(), key=lambda pair: -pair[1]):
        above = min(value, above - least)
        places[name] = above
    return places
