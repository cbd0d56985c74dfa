"""`striate lectures`: lists without torch, runs one, writes pages; wrong words are one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from striate.cli import main
from striate.lectures import LECTURES


def called(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["lectures", *arguments])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STRIATE_TEST_DATA", raising=False)


def test_the_list_has_every_id_and_needs_no_torch():
    code = "import sys\nfrom striate.cli import run\nrun(['lectures'])\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == "False"
    assert [line.split()[0] for line in lines[1:-1]] == list(LECTURES)
    assert "next: striate lectures A1" in done.stderr


def test_the_list_as_json(capsys: pytest.CaptureFixture):
    code, out, _ = called(capsys, "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["id"] for row in rows] == list(LECTURES)
    assert rows[0].keys() == {"id", "title", "part", "sources", "there", "command"}


def test_one_is_run_told_and_written(capsys: pytest.CaptureFixture, tmp_path: Path):
    code, out, err = called(capsys, "a4", "--out", str(tmp_path / "site"))
    assert code == 0
    assert "34,944" in out
    assert "12 agree" in out
    assert f"wrote {tmp_path / 'site' / 'pictures' / 'A4-1.png'}" in err
    assert f"wrote {tmp_path / 'site' / 'A4.html'}" in err
    code, _, err = called(capsys, "A4", "--out", str(tmp_path / "site"))
    assert code == 2
    assert "exists already" in err
    assert called(capsys, "A4", "--out", str(tmp_path / "site"), "--overwrite")[0] == 0


def test_several_as_json(capsys: pytest.CaptureFixture, tmp_path: Path):
    code, out, _ = called(capsys, "A5", "A4", "--out", str(tmp_path), "--json")
    found = json.loads(out)
    assert code == 0
    assert [row["id"] for row in found["lectures"]] == ["A4", "A5"]
    assert all(Path(file).is_file() for row in found["lectures"] for file in row["files"])
    assert Path(found["page"]).name == "index.html"
    assert {check["what"] for check in found["lectures"][0]["checks"]} >= {"Two 3×3×3 filters: parameters"}


def test_a_failure_is_exit_code_1(capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from striate.lectures.foundations import counting

    def broken(setting: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(counting, "show", broken)
    code, out, err = called(capsys, "A4", "A5", "--out", str(tmp_path))
    assert code == 1
    assert "FAILED: RuntimeError: no" in out
    assert f"striate lectures A4 --out {tmp_path} --overwrite" in err
    assert (tmp_path / "A5.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["A111"], 'Did you mean "A1'),
        (["--all", "A1"], "leave out A1"),
        (["A1", "--data", "/nowhere/at/all"], "no such folder"),
        (["A4", "--out", "/dev/null/site"], "could not be written"),
        (["A1", "--fersh"], "fersh"),
    ],
)
def test_wrong_words_are_one_line(capsys: pytest.CaptureFixture, arguments: list[str], said: str):
    code, out, err = called(capsys, *arguments)
    assert code in (1, 2)
    assert out == ""
    assert said in err
    assert len(err.strip().splitlines()) == 1
