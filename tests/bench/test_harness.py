"""The measuring itself, with clocks and sides made up, so that every figure is known beforehand."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from bench import BENCHMARKS, harness
from bench.__main__ import main
from bench.harness import Comparison


def scripted(figures: list[float], name: str, calls: list[str]):
    """A side that returns one figure after another and notes that it was called."""
    left = iter(figures)

    def side() -> float:
        calls.append(name)
        return next(left)

    return side


def test_sides_take_turns_and_warm_up_is_not_counted():
    calls: list[str] = []
    sides = {"a": scripted([99, 1, 2, 3], "a", calls), "b": scripted([77, 4, 5, 6], "b", calls)}
    figures = harness.interleave(sides, rounds=3, warmup=1)
    assert "".join(calls) == "abababab"
    assert figures == {"a": [1, 2, 3], "b": [4, 5, 6]}


def test_three_sides_take_turns():
    calls: list[str] = []
    harness.interleave({name: scripted([1, 1], name, calls) for name in "abc"}, rounds=2)
    assert "".join(calls) == "abcabc"


@pytest.mark.parametrize(("sides", "rounds"), [({}, 1), ({"a": lambda: 1.0}, 0)])
def test_nothing_to_measure_is_refused(sides, rounds):
    with pytest.raises(ValueError, match="at least one"):
        harness.interleave(sides, rounds)


def test_ratio_is_taken_pair_by_pair():
    # The machine halves its speed after the first pair. Pair by pair ours is 3, 3 and 2 times as fast: median 3;
    # a ratio of the medians would say 60 / 25 = 2.4.
    found = Comparison("img/s", {"ours": [120, 60, 50], "theirs": [40, 20, 25]})
    assert found.ratios() == {"theirs": [3, 3, 2]}
    assert harness.spread(found.ratios()["theirs"])["median"] == 3


def test_of_times_the_smaller_is_better():
    found = Comparison("s", {"ours": [2.0, 4.0], "b": [6.0, 4.0], "c": [1.0, 2.0]}, higher_is_better=False)
    assert found.ratios() == {"b": [3.0, 1.0], "c": [0.5, 0.5]}


def test_sides_of_different_length_are_no_pairs():
    with pytest.raises(ValueError, match="zip"):
        Comparison("s", {"ours": [1.0, 2.0], "theirs": [1.0]}).ratios()


def test_spread():
    assert harness.spread([3.0, 1.0, 10.0]) == {"median": 3.0, "min": 1.0, "max": 10.0, "all": [3.0, 1.0, 10.0]}
    assert harness.spread([1.0, 2.0])["median"] == 1.5


def test_throughput_counts_items_of_all_steps():
    steps: list[int] = []
    ticks = iter([10.0, 14.0])  # 4 seconds
    side = harness.throughput(lambda: steps.append(1), items=8, steps=3, clock=lambda: next(ticks))
    assert side() == 8 * 3 / 4
    assert len(steps) == 3


def test_wall_seconds_of_a_process():
    ticks = iter([1.0, 3.5])
    assert harness.wall_seconds([sys.executable, "-c", "pass"], clock=lambda: next(ticks))() == 2.5


def test_figure_reported_by_a_process():
    script = "import json; print('noise'); print(json.dumps({'speed': 12.5, 'torch': '2'})); print()"
    facts: dict[str, object] = {}
    assert harness.reported([sys.executable, "-c", script], "speed", facts)() == 12.5
    assert facts == {"torch": "2"}


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="ended with 3:\nno such folder"):
        harness.run([sys.executable, "-c", "import sys; sys.stderr.write('no such folder'); sys.exit(3)"])


def test_row_says_where_when_and_what():
    found = Comparison("img/s", {"ours": [30.0, 10.0], "theirs": [10.0, 5.0]}, facts={"batch": 16}, case="small")
    command = ["python", "-m", "bench", "train_step", "--ours", "a b"]
    row = harness.row("train_step", found, "cpu", command)
    assert row["benchmark"] == "train_step"
    assert row["case"] == "small"
    assert row["device"] == harness.processor_name() != ""
    assert row["threads"] >= 1
    assert {"date", "commit", "torch", "isa", "python", "load"} <= row.keys()
    assert shlex.split(row["command"]) == command
    assert row["figures"]["ours"] == {"median": 20.0, "min": 10.0, "max": 30.0, "all": [30.0, 10.0]}
    assert row["ratio"]["theirs"]["median"] == 2.5
    assert (row["ratio"]["theirs"]["min"], row["ratio"]["theirs"]["max"]) == (2.0, 3.0)
    assert row["facts"] == {"batch": 16}
    assert row["ok"] is True


def test_rows_are_appended(tmp_path: Path):
    rows = [{"benchmark": "predict", "n": n, "device": "Ålesund"} for n in range(2)]
    paths = {harness.append(row, tmp_path / "results") for row in rows}
    path = tmp_path / "results" / "predict.jsonl"
    assert paths == {path}
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows


def test_table_names_medians_and_ratios():
    found = Comparison("img/s", {"ours": [30.0], "theirs": [12.0]}, facts={"batch": 16})
    text = harness.table(harness.row("train_step", found, "cpu", ["bench"]))
    ours, theirs, batch = text.splitlines()[1:]
    assert "30 img/s" in ours
    assert "12 img/s" in theirs
    assert "2.5 ×" in theirs
    assert batch.strip() == "batch: 16"


def test_list_of_benchmarks(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in BENCHMARKS)
    assert main(["trian_step"]) == 2
    assert "trian_step" in capsys.readouterr().err


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "--pairs" in printed
    assert "--record" in printed


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
def test_a_missed_target_is_an_exit_code_and_a_row(ok, code, monkeypatch, tmp_path, capsys):
    import bench.startup

    found = [Comparison("s", {"striate": [0.1]}, ok=ok)]
    monkeypatch.setattr(bench.startup, "measure", lambda options: found)
    monkeypatch.setattr(harness, "append", lambda row: (tmp_path / "row").write_text(json.dumps(row)))
    assert main(["startup"]) == code
    assert not (tmp_path / "row").exists()  # not without --record
    assert main(["startup", "--record"]) == code
    assert json.loads((tmp_path / "row").read_text())["ok"] is ok


def test_repeated_folder_links_round_and_round(tmp_path: Path):
    from bench.pictures import repeated

    for name in ("ants/1.jpg", "ants/2.JPG", "bees/1.jpeg", "bees/notes.txt"):
        (tmp_path / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / name).write_text(name)
    links = sorted(repeated(tmp_path / "from", 5, tmp_path / "to").glob("*/*"))
    assert len(links) == 6  # whole rounds of three
    assert {link.read_text() for link in links} == {"ants/1.jpg", "ants/2.JPG", "bees/1.jpeg"}
