"""`striate data check PATH` and `striate data show PATH`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import App

if TYPE_CHECKING:
    from torch import Tensor

    from striate.config import Augment, Preprocess
    from striate.data.inspect.check import DataReport
    from striate.data.sample import Dataset, Sample
    from striate.data.targets import Target
    from striate.tasks import Task

app = App(name="data", help="Check, show and convert a data set.")
app.command("striate.cli.data_anchors:anchors", name="anchors", help="Cluster the boxes of a data set by shape.")
app.command("striate.cli.data_convert:convert", name="convert", help="Write data of boxes in another format.")


@app.command
def check(
    path: str, *, json: bool = False, sheet: Path | None = None, near: bool = False, overwrite: bool = False
) -> int:
    """Read every picture and say what is there, what is broken and what to do.

    Parameters
    ----------
    path
        A folder, a CSV file, a folder of IDX files, or the name of a set.
    json
        Print the whole report as one JSON document.
    sheet
        Where the contact sheet goes (PNG); runs/data/NAME/contact-sheet.png when not given.
    near
        Also look for pictures that are nearly the same.
    overwrite
        Replace a file that stands at --sheet.
    """
    from striate.cli.terminal import print_json, say, wrote
    from striate.data import open_dataset
    from striate.data.inspect.contact_sheet import dataset_sheet, png_bytes
    from striate.errors import DataError
    from striate.files import refuse_overwrite, write_atomic

    target = refuse_overwrite(sheet, overwrite) if sheet else own_folder(path) / "contact-sheet.png"
    dataset = open_dataset(path)
    report = _checked(dataset, near)
    if json:
        print_json(report.to_dict())
    else:
        _print(report)
    if report.readable == 0:
        say(f"striate: {path}: no picture can be read. Check the path, and that the files are pictures")
        return DataError.exit_code
    write_atomic(target, png_bytes(dataset_sheet(dataset)))
    wrote([target], f"striate train {path}")
    return 0


@app.command
def show(
    path: str,
    *,
    split: str = "train",
    count: int = 32,
    out: Path | None = None,
    augment: Literal["auto", "none", "light", "standard", "strong"] = "auto",
    size: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> int:
    """Draw a batch as the network will see it: augmented for train, only fitted for the other splits.

    Parameters
    ----------
    path
        A folder, a CSV file, a folder of IDX files, or the name of a set.
    split
        train, val or test.
    count
        How many pictures.
    out
        Where the picture goes (PNG); runs/data/NAME/SPLIT.png when not given.
    augment
        How strongly training pictures are changed.
    size
        Side of the square the network sees; chosen as `striate train` would when not given.
    seed
        Another number, other pictures.
    overwrite
        Replace a file that stands at --out.
    """
    import random
    from dataclasses import replace

    import torch

    from striate.cli.terminal import say, wrote
    from striate.config import Recipe
    from striate.data import open_dataset
    from striate.data.inspect.contact_sheet import MARKED_TILE, TILE, contact_sheet, marked, png_bytes, readable
    from striate.errors import DataError, UsageError, did_you_mean
    from striate.files import refuse_overwrite, write_atomic
    from striate.tasks import create_task
    from striate.train.recipes import resolve

    if count < 1:
        raise UsageError(f"--count {count}: at least one picture has to be drawn")
    target = refuse_overwrite(out, overwrite) if out else own_folder(path) / f"{Path(split).name}.png"
    dataset = open_dataset(path)
    if split not in dataset.splits:
        known = ", ".join(dataset.splits)
        raise UsageError(f'{path} has no split "{split}", only {known}.{did_you_mean(split, dataset.splits)}')
    # the recipe's own choice of size and channels, from the split that training would look at
    judged = replace(dataset, splits={"train": dataset.splits.get("train", dataset.splits[split])})
    recipe = Recipe(data=path, augment=augment, size=size, normalize="none")
    task = create_task(judged.task, classes=judged.classes, **judged.task_arguments)
    settled, preprocess, notes = resolve(recipe, judged, task, torch.device("cpu"))
    for note in notes[:1]:
        say(note)
    samples = dataset.splits[split]
    drawn = readable(random.Random(seed).sample(samples, len(samples)), count)
    if not drawn:
        raise DataError(f"{path}: no picture of {split} can be read. See: striate data check {path}")
    training = split == "train"
    seen = _seen(drawn, task, settled.augment if training else None, preprocess, seed)  # type: ignore[arg-type]
    captions = [_caption(sample, target, dataset) for (_, sample), (_, target) in zip(drawn, seen, strict=True)]
    tile = MARKED_TILE if task.spatial else TILE
    pictures = [marked(picture, target, dataset.classes, tile) for picture, target in seen]
    height, width = preprocess.size
    how = f"augment {augment}" if training else f"fit {preprocess.fit}"
    title = f"{dataset.source}\n{split}, as the network sees it: {height} × {width}, {how}"
    write_atomic(target, png_bytes(contact_sheet(pictures, captions, title=title, tile=tile)))
    wrote([target], f"striate train {path}" if training else f"striate data show {path}")
    return 0


def own_folder(path: str) -> Path:
    """`runs/data/NAME`: where what is drawn of a data set goes; ours to overwrite."""
    source = Path(path)
    name = (source.resolve() if source.exists() else source).name.removesuffix(".csv")
    return Path("runs") / "data" / (name or "data")


def _checked(dataset: Dataset, near: bool) -> DataReport:
    from rich.progress import MofNCompleteColumn, Progress

    from striate.cli.terminal import err
    from striate.data.inspect.check import check_dataset

    total = sum(len(samples) for samples in dataset.splits.values())
    with Progress(
        *Progress.get_default_columns(), MofNCompleteColumn(), console=err, transient=True, disable=not err.is_terminal
    ) as bar:
        reading = bar.add_task("reading", total=total)
        return check_dataset(dataset, near=near, progress=lambda count: bar.update(reading, completed=count))


def _print(report: DataReport) -> None:
    from striate.cli.terminal import out, print_table, say

    for note in report.notes:
        say(note)
    labels = " (several labels a picture)" * report.multi_label
    out.print(f"{report.source}: {report.format}, task {report.task}{labels}", markup=False)
    out.print()
    splits = list(report.pictures)
    rows: list[list[object]] = [
        [key, *(report.pictures[split][key] for split in splits)] for key in ("pictures", "readable", "unlabelled")
    ]
    print_table(["", *splits], rows)
    out.print()
    names = list(report.classes)
    if len(names) > 40:
        names = sorted(names, key=lambda name: sum(report.classes[name].values()))
        names = names[:10] + names[-10:]
        say(f"{len(report.classes):,} classes: the ten smallest and the ten largest are shown; --json has all")
    print_table(
        ["mean near" if report.graded else "class", *splits],
        [[name, *(report.classes[name][split] for split in splits)] for name in names],
    )
    if report.sizes:
        out.print()
        sides = [[side, *(int(value) for value in values.values())] for side, values in report.sizes.items()]
        print_table(["pixels", "min", "median", "max"], sides)
        out.print()
    _print_findings(report)


def _print_findings(report: DataReport) -> None:
    from striate.cli.terminal import out, print_table, say

    rows: list[list[object]] = [[mode, count] for mode, count in report.modes.items()]
    rows += [
        ["unreadable", len(report.unreadable)],
        ["duplicates within a split", len(report.duplicates)],
        ["duplicates across splits", len(report.leaks)],
        ["same pixels, other label", len(report.conflicts)],
    ]
    if (boxes := report.boxes) is not None:
        rows += [
            ["objects", boxes.count],
            ["objects a picture, median", int(boxes.per_picture["median"])],
            ["objects a picture, most", int(boxes.per_picture["max"])],
            ["pictures without objects", boxes.without],
            ["crowds and difficult ones", boxes.ignored],
            ["tiny boxes", boxes.tiny],
            ["pictures with a box twice", len(boxes.twice)],
        ]
    print_table(["", "found"], rows)
    uneven = "" if report.graded else f"largest class / smallest: {report.imbalance:.3g}    "
    out.print(f"\n{uneven}fingerprint: {report.fingerprint}", markup=False)
    for place in report.unreadable[:10]:
        say(f"unreadable: {place['reason']}")
    if len(report.unreadable) > 10:
        say(f"… and {len(report.unreadable) - 10:,} more; --json has all")
    out.print()
    for suggestion in report.suggestions or ["Nothing to mend."]:
        out.print(f"• {suggestion}", markup=False)


def _seen(
    drawn: list[tuple[Tensor, Sample]], task: Task, augment: Augment | None, preprocess: Preprocess, seed: int
) -> list[tuple[Tensor, Target | None]]:
    """Pictures as `data.reader` gives them to the network, and their targets, moved with them where they are places.

    Args:
        augment: None: fitted only.
    """
    import torch

    from striate.data.spatial import TrainPair, eval_pair
    from striate.data.transforms import train_transform

    pairs = [(picture, task.target_transform(sample.target)) for picture, sample in drawn]
    pairs = [
        (picture, None if target is None else target.load((picture.shape[-2], picture.shape[-1])))
        for picture, target in pairs
    ]
    if augment is None:
        return [eval_pair(picture, target, preprocess) for picture, target in pairs]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if not any(target is not None and target.spatial for _, target in pairs):
            transform = train_transform(augment, preprocess)
            return [(transform(picture), target) for picture, target in pairs]
        place = TrainPair(augment, preprocess, task.pairs)
        return [place(picture, target, lambda: pairs[int(torch.randint(len(pairs), ()))]) for picture, target in pairs]


def _caption(sample: Sample, target: Target | None, dataset: Dataset) -> str:
    told = "" if target is None else target.describe(dataset.classes)
    return told or Path(sample.name).name
