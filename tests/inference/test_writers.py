"""Result files are read back by other programs' readers: csv, json, pyarrow."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from striate.errors import MissingExtra, StriateError, UsageError
from striate.inference.sources import Source
from striate.inference.writers import open_writer
from striate.results import Classification, Failure, Result

HOSTILE = ('a,"b".png', "line\nbreak.png", "ü;é\t.png", "=cmd|' /C calc'!A0.png", "emoji 🐱.png")


def results() -> list[Result | Failure]:
    found: list[Result | Failure] = [
        Classification(Source(name, None, "dog"), ("cat", 'd"o,g'), torch.tensor([0.25, 0.75])) for name in HOSTILE
    ]
    several = Classification(Source("several", None), ("cat", "dog"), torch.tensor([0.5, 0.75]), thresholds=[0.5, 0.5])
    return [*found, several, Failure(Source("bad.png", None), 'bad.png: "truncated",\nsorry')]


def write(path: Path, **options) -> Path:
    with open_writer(path, **options) as write_one:
        for result in results():
            write_one(result)
    return path


def write_and_interrupt(path: Path) -> None:
    with open_writer(path, overwrite=True) as write_one:
        write_one(results()[0])
        raise KeyboardInterrupt


def test_json_lines_round_trip(tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not in RFC 8259")

    lines = write(tmp_path / "a.jsonl").read_bytes().decode("utf-8").split("\n")
    assert lines.pop() == ""
    assert [json.loads(line, parse_constant=refuse) for line in lines] == [result.to_dict() for result in results()]


def test_csv_round_trip(tmp_path: Path) -> None:
    with open(write(tmp_path / "a.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == Classification.columns
    assert [row["source"] for row in rows] == [*HOSTILE, "several", "bad.png"]
    assert rows[0]["label"] == 'd"o,g'
    assert float(rows[0]["confidence"]) == 0.75
    assert json.loads(rows[0]["top"])[1] == {"label": "cat", "probability": 0.25}
    assert rows[0]["correct"] == "False"
    assert rows[5]["label"] == "dog;cat"
    assert (rows[6]["label"], rows[6]["error"]) == ("", 'bad.png: "truncated",\nsorry')


def test_parquet_round_trip(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(write(tmp_path / "a.parquet")).to_pylist()
    assert [row["source"] for row in rows] == [*HOSTILE, "several", "bad.png"]
    assert rows[0]["top"] == [{"label": 'd"o,g', "probability": 0.75}, {"label": "cat", "probability": 0.25}]
    assert rows[0]["correct"] is False
    assert rows[5]["label"] == "dog;cat"
    assert rows[6]["label"] is None
    assert rows[6]["error"].startswith("bad.png")


def test_parquet_in_several_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("striate.inference.writers.CHUNK", 3)
    file = parquet.ParquetFile(write(tmp_path / "a.parquet"))
    assert [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)] == [3, 3, 1]


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"striate\[parquet\]"):
        write(tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_a_broken_run_leaves_what_stood_there(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{ending}")
    before = path.read_bytes()
    with pytest.raises(UsageError, match="exists"):
        write(path)
    with pytest.raises(KeyboardInterrupt):
        write_and_interrupt(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_errors_of_the_caller_are_not_told_as_the_files(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), open_writer(tmp_path / "a.csv"):
        raise BrokenPipeError


def test_unknown_ending_and_full_disk(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'Did you mean "\.jsonl"'):
        write(tmp_path / "a.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(StriateError, match="could not be written"):
        write(tmp_path / "file" / "a.csv")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_full_while_writing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(os, "getpid", lambda: 1)
    (tmp_path / "a.csv.1.part").symlink_to("/dev/full")
    with pytest.raises(StriateError, match="No space left"):
        write(tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []
