"""`striate predict`: say what is on pictures."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from striate.cli.terminal import err, say, wrote
from striate.errors import DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    from striate.cli.drawn import Folder, Sheet, Video
    from striate.results import Failure, Result

LABELS = 5  # told on a line, unless asked for more or fewer
TOLD_MOST = 5  # failures told one by one; all are in --out


def predict(
    model: Path,
    /,
    *sources: str,
    limit: int | None = None,
    top: int | None = None,
    json: bool = False,
    out: Path | None = None,
    draw: Path | None = None,
    batch: int | Literal["auto"] = "auto",
    device: str = "auto",
    threshold: float | None = None,
    tile: int | Literal["auto"] | None = None,
    tile_overlap: float = 0.2,
    overwrite: bool = False,
) -> int:
    """Say what is on pictures.

    Parameters
    ----------
    model
        A model file, or the folder of a run.
    sources
        Pictures: files, folders, patterns, URLs, video files, or a data set with a split (`digits:test`).
    limit
        Stop after this many pictures.
    top
        How many labels (5 by default) or objects (all by default) to give for each picture.
    json
        Print JSON Lines, one object a picture.
    out
        Write results here: a name ending in .jsonl, .csv or .parquet, or a folder.
    draw
        Draw results: a picture file for a contact sheet, a folder for one picture each; of a video a video (.mp4).
    batch
        Pictures computed at once.
    device
        auto, cpu, cuda, cuda:0 …
    threshold
        For models with several labels: from this probability on a label holds, instead of the tuned thresholds.
    tile
        Look for small objects in tiles of so many pixels a side too; auto: as large as what the network sees.
    tile_overlap
        What neighbouring tiles share, of their side.
    overwrite
        Replace files that exist.
    """
    from itertools import islice

    from striate.inference.sources import expand
    from striate.inference.writers import json_line, open_writer
    from striate.model import Model

    if not sources:
        raise UsageError("what to predict on? Name files, a folder, a pattern, a URL or digits:test")
    for name, value in (("limit", limit), ("top", top)):
        if value is not None and value < 1:
            raise UsageError(f"--{name} must be at least 1, not {value}")
    loaded = Model.load(find_model(model), device)
    found, _ = expand(sources[0] if len(sources) == 1 else sources)
    files: list[Path] = []
    counts: Counter[str] = Counter()
    begin = time.perf_counter()
    with ExitStack() as stack:
        write = None
        if out is not None:
            target = out if out.suffix else out / "results.jsonl"
            columns = loaded.task.result.columns
            write = stack.enter_context(open_writer(target, columns=columns, top=top, overwrite=overwrite))
            files.append(target)
        drawer = _drawer(draw, overwrite, str(model), sources, stack) if draw is not None else None
        pictures = islice(found, limit)
        results = loaded.predict_stream(
            pictures, batch=batch, threshold=threshold, tile=tile, tile_overlap=tile_overlap
        )
        for result in _with_progress(results):
            _count(counts, result)
            if write is not None:
                write(result)
            if drawer is not None:
                drawer.add(result)
            if json:
                print(json_line(result, top))
            else:
                _print_line(result, top, counts["unreadable"])
    seconds = time.perf_counter() - begin
    if drawer is not None and (drawn := drawer.finish()) is not None:
        files.append(drawn)
    _tell(counts, seconds)
    wrote(files, _next_command(model, sources, counts, files))
    return 0 if counts["predicted"] else DataError.exit_code


def find_model(path: Path) -> Path:
    """The model file, or that of a run's folder.

    Raises:
        DataError: there is none; the message names those under `runs/`.
    """
    if path.is_dir() and (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    if path.is_file():
        return path
    known = sorted(Path("runs").glob("*/*/model.safetensors"), key=lambda file: -file.stat().st_mtime)
    if not known:
        raise DataError(f"{path}: no such model file. Train one first: striate train DATA")
    near = did_you_mean(str(path), map(str, known)) or f" Newest: {', '.join(map(str, known[:3]))}"
    raise DataError(f"{path}: no such model file.{near}")


def _count(counts: Counter[str], result: Any) -> None:
    from striate.results import Failure

    if isinstance(result, Failure):
        counts["unreadable"] += 1
        return
    counts["predicted"] += 1
    if result.correct is not None:
        counts["judged"] += 1
        counts["correct"] += result.correct


def _print_line(result: Any, top: int | None, unreadable: int) -> None:
    from striate.results import Failure

    if not isinstance(result, Failure):
        print(result.describe(top or LABELS))
    elif unreadable <= TOLD_MOST:
        say(f"skipped {result}")


def _tell(counts: Counter[str], seconds: float) -> None:
    predicted, unreadable, judged = counts["predicted"], counts["unreadable"], counts["judged"]
    rate = (predicted + unreadable) / max(seconds, 1e-9)
    line = f"{predicted:,} picture{'' if predicted == 1 else 's'}"
    if judged:
        line += f", {counts['correct']:,} of {judged:,} right ({100 * counts['correct'] / judged:.1f} %)"
    if unreadable:
        line += f", {unreadable:,} could not be read"
    say(f"{line}; {rate:,.0f} img/s" if rate >= 10 else f"{line}; {rate:.1f} img/s")


def _next_command(model: Path, sources: tuple[str, ...], counts: Counter[str], files: list[Path]) -> str | None:
    if counts["judged"]:
        return shlex.join(["striate", "evaluate", str(model), sources[0]])
    if files or not counts["predicted"]:
        return None
    from striate.inference.video import is_video

    named = shlex.join(sources) if len(sources) <= 2 else "PICTURES"  # a shell has spelt out a pattern
    drawn = "drawn.mp4" if len(sources) == 1 and is_video(sources[0]) else "drawn.png"
    return f"{shlex.join(['striate', 'predict', str(model)])} {named} --out results.csv --draw {drawn}"


def _drawer(
    path: Path, overwrite: bool, title: str, sources: tuple[str, ...], stack: ExitStack
) -> Folder | Sheet | Video:
    """A name with an ending is one sheet or video, any other a folder."""
    from striate.cli.drawn import Folder, Sheet, Video
    from striate.inference.video import is_video

    if is_video(path):
        video = Video(path, overwrite, sources)
        stack.enter_context(video.writer)
        return video
    return Sheet(path, overwrite, title) if path.suffix else Folder(path, overwrite)


def _with_progress(results: Iterator[Result | Failure]) -> Iterator[Result | Failure]:
    """The same results, counted on stderr where a person watches and no lines scroll by on the same screen."""
    if not err.is_terminal or sys.stdout.isatty():
        yield from results
        return
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), MofNCompleteColumn(), TextColumn("pictures"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        yield from progress.track(results, total=None)
