"""`striate explain` as a stranger types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.explain.models import picture, zoo_model

from striate.cli import main
from striate.cli.explain import summarised
from striate.explain import METHODS


def striate(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["explain", *arguments])
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("run") / "pets"
    folder.mkdir()
    zoo_model().save(folder / "model.safetensors")
    return str(folder)


@pytest.fixture
def photo(tmp_path: Path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture().movedim(0, 2).numpy()).save("cat.png")
    return "cat.png"


def test_one_page_by_default_and_never_over_another(capsys, model: str, photo: str):
    code, out, err = striate(capsys, model, photo)
    page = Path("runs/explain/pets-gradcam.html")
    assert code == 0
    assert "Grad-CAM of pets" in out
    assert "cat.png: The model says:" in out
    assert f"wrote {page}" in err
    assert err.strip().splitlines()[-1] == f"next: striate explain {model} cat.png --how sanity"
    assert f"striate explain {model} cat.png --how gradcam" in page.read_text()
    code, out, err = striate(capsys, model, photo)
    assert (code, out) == (2, "")
    assert "--overwrite" in err
    assert err.count("\n") == 1
    assert striate(capsys, model, photo, "--overwrite")[0] == 0


def test_several_ways_are_several_pages_and_json_is_one_document(capsys, model: str, photo: str):
    code, out, err = striate(
        capsys, model, photo, "--how", "occlusion", "filters", "--steps", "3", "--out", "pages", "--json"
    )
    assert code == 0
    found = json.loads(out)
    assert list(found) == ["occlusion", "filters"]
    assert found["occlusion"]["values"]["maps"][0]["shape"] == [24, 32]
    assert found["occlusion"]["values"]["labels"][0] in ("left", "right")
    assert found["filters"]["values"]["weights"]["shape"] == [16, 3, 3, 3]
    assert Path("pages/pets-occlusion.html").is_file()
    assert "wrote pages/pets-filters.html" in err


def test_an_old_name_is_understood_and_told(capsys, model: str, photo: str):
    code, _, err = striate(capsys, model, photo, "--how", "epsilons", "--steps", "1")
    assert code == 0
    assert "epsilons is called robust_accuracy now" in err
    assert Path("runs/explain/pets-robust_accuracy.html").is_file()


def test_one_named_page(capsys, model: str, photo: str):
    assert striate(capsys, f"{model}/model.safetensors", photo, "--label", "right", "--out", "why.html")[0] == 0
    assert "speaks for right" in Path("why.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["MODEL", "cat.png", "--how", "gradcem"], 2, 'Did you mean "gradcam"'),
        (["MODEL"], 2, "gradcam needs pictures"),
        (["MODEL", "cat.png", "--layer", "layer9"], 2, "Did you mean"),
        (["MODEL", "cat.png", "--label", "rigth"], 2, 'Did you mean "right"'),
        (["MODEL", "cat.png", "--how", "occlusion", "--steps", "0"], 2, "steps"),
        (
            ["MODEL", "cat.png", "--epsilon", "0.5"],
            2,
            "epsilon means nothing to gradcam: it is for adversary, robust_accuracy",
        ),
        (["MODEL", "cat.png", "--how", "adversary", "--epsilon", "0.001"], 2, "no pixel"),
        (["MODEL", "digits", "--how", "gradcam", "top"], 2, "digits:test"),
        (
            ["MODEL", "cat.png", "--how", "gradcam", "top", "--layer", "nix"],
            2,
            "there are stem, layer1, layer2, layer3",
        ),
        (["MODEL", "no.png"], 4, "no.png"),
        (["MODEL", "cat.png", "--how", "gradcam", "filters", "--out", "one.html"], 2, "folder"),
        (["MODEL", "cat.png", "--out", "cat.png"], 2, "cat.png"),
        (["MODEL", "a", "b", "--how", "top"], 2, "one data set"),
        (["no.safetensors", "cat.png"], 4, "no such model file"),
        ([], 2, "which model"),
    ],
)
def test_errors_are_one_line(capsys, model: str, photo: str, arguments: list[str], status: int, said: str):
    code, out, err = striate(capsys, *(model if word == "MODEL" else word for word in arguments))
    assert (code, out) == (status, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not Path("runs").exists()


def test_an_unreadable_picture_is_skipped_and_told_once(capsys, model: str, photo: str):
    Path("bad.jpg").write_bytes(b"no")
    code, _, err = striate(capsys, model, photo, "bad.jpg", "--how", "gradcam", "occlusion", "--steps", "2")
    assert code == 0
    assert err.count("bad.jpg: ") == 1


def test_list_and_help_name_every_way(capsys):
    code, out, _ = striate(capsys, "--list")
    assert code == 0
    assert all(name in out for name in METHODS)
    code, out, _ = striate(capsys, "--help")
    assert code == 0
    assert all(name in out for name in METHODS)


def test_help_list_and_wrong_names_need_no_torch():
    code = (
        "import sys\nfrom striate.cli import main\n"
        "for words in (['--list'], ['--help'], ['m', 'x', '--how', 'nix'], ['m']):\n"
        "    try:\n        main(['explain', *words])\n    except SystemExit:\n        pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


def test_values_become_json():
    found = summarised({"a": torch.arange(4.0), "b": [torch.tensor(2), (1, "x")], "c": float("nan"), "d": b"123"})
    assert found["a"] == {"shape": [4], "min": 0.0, "mean": 1.5, "max": 3.0}
    assert found["b"] == [2, [1, "x"]]
    assert found["c"] is None
    assert json.dumps(summarised({"x": torch.tensor([float("inf"), 1.0])}))
    assert summarised(torch.zeros(0))["shape"] == [0]
