"""Commands as a stranger types them: exit codes, one-line errors, what goes to stdout and what to stderr."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from striate.cli import main


def striate(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


QUICK = ["--model", "conv8-bn-relu-pool-conv16-bn-relu-gap", "--epochs", "2", "--limit", "200", "--batch", "32"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("cli")
    with pytest.raises(SystemExit) as stop:
        main(["train", "digits", "--name", "r", "--out", str(out), *QUICK])
    assert stop.value.code == 0
    return out / "classify" / "r"


def test_unknown_command_suggests(capsys):
    code, out, err = striate(capsys, "trian", "digits")
    assert (code, out) == (2, "")
    assert err.startswith('striate: "trian" is not a command. Did you mean "train"?')
    assert err.count("\n") == 1


def test_unknown_option_is_a_usage_error(capsys):
    code, _, err = striate(capsys, "train", "digits", "--epoch", "3")
    assert code == 2
    assert "--epoch" in err
    assert "Traceback" not in err
    code, _, err = striate(capsys, "train", "digits", "--adversarial-steps", "0")
    assert code == 2
    assert "--adversarial-steps:" in err  # as it is typed, not as the field is called


@pytest.mark.parametrize("words", [("--augment.mirror=0.25",), ("--augment.mirror", "0.25"), ("--augment.hflip=0.25",)])
def test_former_names_of_options_are_understood(words: tuple[str, ...], capsys, tmp_path: Path):
    code, _, err = striate(capsys, "train", "digits", "--out", str(tmp_path), "--name", "r", *QUICK, *words)
    assert code == 0, err
    assert "hflip: 0.25" in (tmp_path / "classify" / "r" / "recipe.yaml").read_text()


def test_key_value_and_flags_and_config_and_environment(tmp_path: Path, monkeypatch):
    from striate.cli.train import options_of
    from striate.config import Recipe

    config = tmp_path / "recipe.yaml"
    config.write_text("epochs: 5\nlr: 0.5\nbatch: 16\n")
    monkeypatch.setenv("STRIATE_EPOCHS", "9")
    monkeypatch.setenv("STRIATE_SEED", "7")
    settings = options_of(Recipe(batch=64), config, ("lr=0.25",))
    assert {key: settings[key] for key in ("epochs", "lr", "batch", "seed")} == {
        "epochs": 5,  # the file beats the environment
        "lr": "0.25",  # key=value beats the file
        "batch": 64,  # a flag beats all
        "seed": "7",
    }


def test_no_data_is_exit_4_with_one_line(capsys, tmp_path: Path):
    code, out, err = striate(capsys, "train", str(tmp_path / "nowhere"))
    assert code == 4
    assert str(tmp_path / "nowhere") in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""


def test_train_ends_with_what_it_wrote_and_the_next_command(run: Path, capsys):
    code, out, err = striate(
        capsys, "train", "digits", "--name", "json", "--out", str(run.parents[1]), "--json", *QUICK
    )
    assert code == 0
    answer = json.loads(out)
    assert 0 <= answer["metrics"]["accuracy"] <= 1
    assert Path(answer["model"]).exists()
    assert "wrote" in err
    assert err.strip().splitlines()[-1].startswith("next: striate predict")


def test_taken_name_is_refused(run: Path, capsys):
    code, _, err = striate(capsys, "train", "digits", "--name", "r", "--out", str(run.parents[1]), *QUICK)
    assert code == 2
    assert "--overwrite" in err


def test_evaluate_says_what_training_said(run: Path, capsys):
    code, out, _ = striate(capsys, "evaluate", str(run / "model.safetensors"), "digits", "--json")
    assert code == 0
    said = json.loads((run / "report.json").read_text())["metrics"]["scalars"]["accuracy"]["value"]
    assert json.loads(out)["scalars"]["accuracy"]["value"] == pytest.approx(said)


def test_evaluate_writes_a_report(run: Path, capsys, tmp_path: Path):
    code, _, err = striate(
        capsys, "evaluate", str(run / "model.safetensors"), "digits:val", "--out", str(tmp_path / "e")
    )
    assert code == 0
    assert (tmp_path / "e" / "report.html").stat().st_size > 10_000
    assert "wrote" in err
    code, _, err = striate(capsys, "evaluate", str(run / "model.safetensors"), "digits", "--out", str(tmp_path / "e"))
    assert code == 2


def test_missing_model_is_told(capsys, tmp_path: Path):
    code, _, err = striate(capsys, "evaluate", str(tmp_path / "no.safetensors"), "digits")
    assert code == 4
    assert "no such model file" in err


def test_lr_find_draws_and_suggests(capsys, tmp_path: Path):
    picture = tmp_path / "rates.png"
    code, out, err = striate(
        capsys,
        "lr-find",
        "digits",
        "--picture",
        str(picture),
        "--json",
        "--model",
        "conv8-bn-relu-gap",
        "--batch",
        "32",
    )
    assert code == 0
    answer = json.loads(out)
    assert 1e-5 < answer["suggestion"] < 10
    assert answer["rates"] == sorted(answer["rates"])
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert "next: striate train digits --lr" in err


def test_doctor_speaks(capsys):
    code, out, _ = striate(capsys, "doctor", "--json")
    assert code == 0
    assert {"python", "torch", "processor", "pictures"} <= json.loads(out).keys()


def test_sigterm_exits_130_and_resume_finishes(tmp_path: Path):
    command = [sys.executable, "-m", "striate", "train", "digits", "--name", "s", "--out", str(tmp_path)]
    process = subprocess.Popen([*command, "--epochs", "200", "--limit", "300"], stderr=subprocess.PIPE, text=True)
    run = tmp_path / "classify" / "s"
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"striate train --resume {run}" in err
    assert "Traceback" not in err
    assert (run / "last" / "checkpoint.pt").exists()


def test_output_into_a_closed_pipe_is_no_traceback(run: Path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "striate", "models"], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert b"Traceback" not in done.stderr
