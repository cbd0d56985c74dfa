"""Results into files: JSON Lines, CSV, Parquet; written as they come, beside, and put in place when whole."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from striate.errors import MissingExtra, StriateError, UsageError, did_you_mean
from striate.files import refuse_overwrite, sync_folder
from striate.results import Classification, Failure, Result

FORMATS = (".jsonl", ".csv", ".parquet")
CHUNK = 4096  # rows that Parquet writes at once


Write = Callable[[Result | Failure], object]


def json_line(result: Result | Failure, top: int | None) -> str:
    """One result as one line of JSON (RFC 8259), without the line break."""
    found = result.to_dict() if isinstance(result, Failure) else result.to_dict(top)
    return json.dumps(found, ensure_ascii=False, allow_nan=False)


@contextmanager
def open_writer(
    path: str | Path,
    *,
    columns: Sequence[str] = Classification.columns,
    top: int | None = None,
    overwrite: bool = False,
) -> Iterator[Write]:
    """A function that writes one result; the ending says the format. The file appears when the block ends well.

    CSV and Parquet have these columns: `source, label, confidence, target, correct, error, top` for labels, several
    joined by `;`; what is a list or mapping is JSON in CSV, and `top` a list of (label, probability) in Parquet. Of
    boxes one row is a picture too, `source, count, label, confidence, counts, error, objects`: in Parquet `objects` is
    a list of (label, score, box), so that a query can unnest it.

    Args:
        columns: of the kind of result: `model.task.result.columns`.
        top: labels or objects listed of each picture; by default 5 labels, and all objects.
        overwrite: replace a file that stands there.

    Raises:
        UsageError: a file stands there, or its ending is of no known format.
        MissingExtra: Parquet without pyarrow.
        StriateError: the disk is full or the folder cannot be written.
    """
    path = refuse_overwrite(path, overwrite)
    opener = {".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet}.get(path.suffix.lower())
    if opener is None:
        near = did_you_mean(path.suffix, FORMATS)
        raise UsageError(f'{path}: results are written as {", ".join(FORMATS)}, not "{path.suffix}".{near}')
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with ExitStack() as stack:
            with _told(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                write = stack.enter_context(opener(beside, top, columns))

            def write_told(result: Result | Failure) -> None:
                with _told(path):
                    write(result)

            yield write_told
            with _told(path):
                stack.close()
                os.replace(beside, path)
                sync_folder(path.parent)
    finally:
        with suppress(OSError):  # put in place already, or never made
            beside.unlink()


def table_row(result: Result | Failure, top: int | None, columns: Sequence[str]) -> dict[str, Any]:
    """A result as a flat row with these keys."""
    found = result.to_dict() if isinstance(result, Failure) else result.to_dict(top)
    row = {column: found.get(column) for column in columns}
    if "labels" in found:
        row["label"] = ";".join(found["labels"])
    if isinstance(target := row.get("target"), list):
        row["target"] = ";".join(target)
    return row


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False) if value else ""
    return value


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Only errors of this file: those of the caller's own reading and printing are none of ours."""
    try:
        yield
    except OSError as error:
        raise StriateError(f"{path}: could not be written ({error.strerror or error})") from None


@contextmanager
def _json_lines(path: Path, top: int | None, columns: Sequence[str]) -> Iterator[Write]:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        yield lambda result: file.write(json_line(result, top) + "\n")
        os.fsync(file.fileno())


@contextmanager
def _csv(path: Path, top: int | None, columns: Sequence[str]) -> Iterator[Write]:
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()

        def write(result: Result | Failure) -> None:
            row = table_row(result, top, columns)
            table.writerow({key: _cell(value) for key, value in row.items()})

        yield write
        os.fsync(file.fileno())


@contextmanager
def _parquet(path: Path, top: int | None, columns: Sequence[str]) -> Iterator[Write]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("pyarrow", "parquet", "writing Parquet") from None
    text, score = pa.string(), pa.float32()
    best = pa.list_(pa.struct([("label", text), ("probability", score)]))
    objects = pa.list_(pa.struct([("label", text), ("score", score), ("box", pa.list_(score))]))
    types = {"correct": pa.bool_(), "top": best, "shares": pa.map_(text, score), "objects": objects}
    types |= {"count": pa.int32(), "counts": pa.map_(text, pa.int32())}
    types |= dict.fromkeys(("confidence", "score", "spread"), score)
    if "score" in columns:
        types["target"] = score
    schema = pa.schema([(column, types.get(column, text)) for column in columns])
    rows: list[dict[str, Any]] = []
    with parquet.ParquetWriter(path, schema) as file:

        def flush() -> None:
            file.write_table(pa.Table.from_pylist(rows, schema))
            rows.clear()

        def write(result: Result | Failure) -> None:
            rows.append(table_row(result, top, columns))
            if len(rows) == CHUNK:
                flush()

        yield write
        flush()
