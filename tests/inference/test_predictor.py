"""Predicting: the same as the literal loop, in order, with failures in their places and bounded memory."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from striate.config import ModelCard, Preprocess
from striate.data.transforms import eval_transform
from striate.errors import DataError, ImageError, UsageError
from striate.images import read_image
from striate.inference.predictor import Predictor
from striate.inference.sources import Source
from striate.model import Model, load
from striate.results import Classification, Failure

CPU = torch.device("cpu")
CLASSES = ["cat", "dog", "bird"]
PREPROCESS = Preprocess(size=(8, 8), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


def small_model(**task_arguments) -> Model:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    return Model(network, card(**task_arguments), device="cpu")


def card(architecture: str = "small", **task_arguments) -> ModelCard:
    return ModelCard(
        task="classify",
        architecture=architecture,
        classes=CLASSES,
        preprocess=PREPROCESS,
        task_arguments=task_arguments,
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six pictures of several sizes and, between them, four that cannot be read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, (width, height) in enumerate([(20, 10), (8, 8), (9, 31), (64, 48), (5, 5), (200, 100)]):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number} ü.png")
    whole = (folder / "3 ü.png").read_bytes()
    (folder / "0 empty.png").touch()
    (folder / "1 cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "2 text.jpg").write_text("no picture")
    (folder / "9 folder link.png").symlink_to(folder / "nowhere")
    return folder


def literal(model: Model, path: Path) -> Tensor:
    """What predicting means, step by step: read, fit, normalise, forward, softmax."""
    pixels = eval_transform(PREPROCESS)(read_image(path))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PREPROCESS.mean, PREPROCESS.std))
    with torch.no_grad():
        return model.module(((pixels / 255 - mean) / std)[None])[0].softmax(0)


@pytest.mark.parametrize(("batch", "workers"), [(1, 1), (3, 2), (2, 0), ("auto", "auto"), (100, 4)])
def test_results_equal_the_literal_loop_in_order(batch: int | str, workers: int | str, photos: Path) -> None:
    model = small_model()
    results = model.predict(photos, batch=batch, workers=workers)  # type: ignore[arg-type]
    names = [Path(result.source.name).name for result in results]
    assert names == ["0 empty.png", "0 ü.png", "1 cut.png", "1 ü.png", "2 text.jpg", "2 ü.png", "3 ü.png", "4 ü.png",
                     "5 ü.png", "9 folder link.png"]  # fmt: skip
    for result in results:
        if isinstance(result, Failure):
            assert Path(result.source.name).name in result.error
        else:
            assert isinstance(result, Classification)
            torch.testing.assert_close(result.probabilities, literal(model, Path(result.source.name)))
    assert sum(isinstance(result, Failure) for result in results) == 4


def test_one_in_one_out_list_in_list_out(photos: Path) -> None:
    model = small_model()
    path = photos / "0 ü.png"
    single = model.predict(path)
    assert isinstance(single, Classification)
    assert [result.label for result in model.predict([path])] == [single.label]
    assert model.predict([]) == []
    pixels = read_image(path)
    for same in (str(path), path.read_bytes(), Image.open(path), pixels, pixels.permute(1, 2, 0).numpy()):
        torch.testing.assert_close(model.predict(same).probabilities, single.probabilities)
    assert len(model.predict(torch.stack([pixels, pixels]))) == 2


def test_one_unreadable_picture_raises_and_several_do_so_on_request(photos: Path) -> None:
    model = small_model()
    with pytest.raises(ImageError, match=r"0 empty\.png"):
        model.predict(photos / "0 empty.png")
    with pytest.raises(ImageError, match=r"0 empty\.png"):
        model.predict(photos, on_error="raise")
    with pytest.raises(UsageError, match="on_error"):
        model.predict(photos, on_error="ignore")  # type: ignore[arg-type]
    for options in ({"batch": 0}, {"workers": -1}, {"batch": "many"}):
        with pytest.raises(UsageError):
            model.predict(photos, **options)  # type: ignore[arg-type]


class Mean(nn.Module):
    """uint8 [B, C, H, W] → the mean of each picture, [B, 1]; NaN for white ones."""

    def forward(self, images: Tensor) -> Tensor:
        means = images.float().mean((1, 2, 3))
        return means.where(means < 255, torch.nan)[:, None]


def mean_predictor(engine: nn.Module | None = None) -> Predictor:
    task = SimpleNamespace(
        postprocess=lambda outputs, sizes, preprocess: list(outputs.float().cpu()),
        to_result=lambda prediction, source, threshold=None: Classification(source, ("mean",), prediction),
    )
    return Predictor(engine or Mean(), task, Preprocess(fit="native"), CPU)  # type: ignore[arg-type]


def stream(sources: Iterator[Source] | list[Source], batch: int = 4, workers: int = 2, **options):
    return mean_predictor().stream(sources, batch=batch, workers=workers, **options)


def plain(value: int) -> Tensor:
    return torch.full((3, 2, 2), value, dtype=torch.uint8)


def test_ten_thousand_pictures_are_asked_for_one_window_ahead() -> None:
    asked = 0
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def sources() -> Iterator[Source]:
        nonlocal asked
        for number in range(10_000):
            asked += 1
            pixels = plain(number % 255)
            alive.add(pixels)
            yield Source(str(number), pixels)
            del pixels

    number = -1
    for number, result in enumerate(stream(sources(), batch=64, workers=2)):
        assert isinstance(result, Classification)
        assert (result.source.name, result.probabilities.item()) == (str(number), number % 255)
        assert asked - number <= 3 * 64 + 2
        if number % 2000 == 0:
            gc.collect()
            most = max(most, len(alive))
    assert number == 9_999
    assert most <= 3 * 64 + 2 + 64


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), max_size=40), st.integers(1, 9), st.integers(1, 3))
def test_order_and_failures_hold_for_any_mixture(readable: list[bool], batch: int, workers: int) -> None:
    sources = [
        Source(str(number), plain(number) if good else ImageError(f"{number}: broken"))
        for number, good in enumerate(readable)
    ]
    results = list(stream(sources, batch, workers))
    assert [result.source.name for result in results] == [str(number) for number in range(len(readable))]
    assert [isinstance(result, Classification) for result in results] == readable


def test_outputs_that_are_not_finite_are_failures_of_their_picture() -> None:
    results = list(stream([Source("a", plain(1)), Source("white", plain(255)), Source("b", plain(2))]))
    assert [isinstance(result, Failure) for result in results] == [False, True, False]
    assert "white" in str(results[1])
    with pytest.raises(ImageError, match="finite"):
        list(stream([Source("white", plain(255))], on_error="raise"))


def test_bugs_are_not_taken_for_bad_pictures() -> None:
    class Broken(Source):
        def load(self) -> Tensor:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(stream([Broken("a", None)]))


def test_stopping_early_begins_nothing_more() -> None:
    begun = 0
    gate = threading.Event()

    class Slow(Source):
        def load(self) -> Tensor:
            nonlocal begun
            begun += 1
            if begun > 4:
                gate.wait(10)
            return plain(1)

    results = stream([Slow(str(number), None) for number in range(100)], batch=2, workers=2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    stopped_at = begun
    gate.set()
    for thread in threading.enumerate():
        if thread.name.startswith("striate-read"):
            thread.join(10)
    assert begun <= stopped_at + 2  # one a worker was under way already


def test_consumers_are_not_left_in_inference_mode() -> None:
    for _ in stream([Source("a", plain(1))]):
        assert not torch.is_inference_mode_enabled()


def test_batch_too_large_for_memory_is_halved() -> None:
    sizes = []

    class Small(Mean):
        def forward(self, images: Tensor) -> Tensor:
            sizes.append(len(images))
            if len(images) > 2:
                raise torch.OutOfMemoryError
            return super().forward(images)

    outputs = mean_predictor(Small()).predict(torch.stack([plain(number) for number in range(7)]))
    assert torch.stack(outputs).flatten().tolist() == list(range(7))
    assert max(sizes) == 7


def test_threads_share_a_predictor(photos: Path) -> None:
    """Eight at once say what one says."""
    model = small_model()
    predictor = model.predictor
    pictures = [
        predictor.prepare(Source(str(n), torch.full((3, 9 + n, 12), 20 * n, dtype=torch.uint8))) for n in range(9)
    ]
    expected = [result.probabilities for result in predictor.run(pictures)]  # type: ignore[union-attr]
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: predictor.run(pictures, batch=4), range(40)):
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one.probabilities, other)  # type: ignore[union-attr]


def test_outputs_that_are_not_finite_are_failures_in_their_place() -> None:
    predictor = mean_predictor()
    pictures = [predictor.prepare(Source(name, plain(value))) for name, value in (("a", 1), ("b", 255), ("c", 3))]
    one, failed, other = predictor.run(pictures)
    assert isinstance(failed, Failure)
    assert "b: the network's outputs are not finite" in failed.error
    assert [result.probabilities.item() for result in (one, other)] == [1, 3]  # type: ignore[union-attr]


def test_dicts_of_tensors_are_outputs_and_predictions_too() -> None:
    """An engine gives a dict; shapes differ from picture to picture, and each keeps its place."""
    task = SimpleNamespace(
        postprocess=lambda outputs, sizes, preprocess: [
            {"map": one[:, : size[0]]} for one, size in zip(outputs["maps"], sizes.tolist(), strict=True)
        ],
        to_result=lambda prediction, source, threshold=None: prediction["map"],
    )
    engine = lambda images: {"maps": images[:, 0].float()}  # noqa: E731
    predictor = Predictor(engine, task, Preprocess(fit="native"), CPU)  # type: ignore[arg-type]
    shown: list[list[int]] = []
    images = [torch.full((3, height, 4), height, dtype=torch.uint8) for height in (5, 3, 5, 3, 7)]
    found = predictor.predict(images, on_outputs=lambda outputs, rows: shown.append(rows))
    assert [tuple(one["map"].shape) for one in found] == [(5, 4), (3, 3), (5, 4), (3, 3), (7, 4)]
    assert [int(one["map"][0, 0]) for one in found] == [5, 3, 5, 3, 7]
    assert shown == [[0, 2], [1, 3], [4]]


def test_several_labels(photos: Path) -> None:
    model = small_model(multi_label=True, thresholds=[0.0, 1.1, 0.0])
    result = model.predict(photos / "0 ü.png")
    assert set(result.labels) == {"cat", "bird"}
    assert model.predict(photos / "0 ü.png", threshold=1).labels == ()
    assert set(model.predict(photos / "0 ü.png", threshold=0).labels) == {"cat", "dog", "bird"}
    with pytest.raises(UsageError, match=r"0\.\.1"):
        model.predict(photos / "0 ü.png", threshold=2)


def saved_model(path: Path) -> Path:
    """A LeNet whose file was written by `Model.save`."""
    from striate.backbones import create_model

    torch.manual_seed(1)
    preprocess = Preprocess(size=(32, 32), channels=1, mean=(0.5,), std=(0.5,), crop_ratio=1.0)
    digits = [str(digit) for digit in range(10)]
    about = ModelCard(task="classify", architecture="lenet5", classes=digits, preprocess=preprocess)
    module = create_model("lenet5", num_classes=10, in_chans=1)
    return Model(module, about, device="cpu").save(path)


def test_saved_and_loaded_is_the_same_model(tmp_path: Path) -> None:
    path = saved_model(tmp_path / "runs" / "model.safetensors")
    state = torch.get_rng_state()
    model = load(path.parent, device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    again = model.save(tmp_path / "again.safetensors")
    assert again.read_bytes() == path.read_bytes()
    with pytest.raises(UsageError, match="exists"):
        model.save(path)
    with pytest.raises(UsageError, match="safetensors"):
        model.save(tmp_path / "model.pth")
    assert "lenet5" in repr(model)
    assert "10 classes" in repr(model)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = saved_model(tmp_path / "model.safetensors")
    weights = load_file(path)
    with safe_open(path, "pt") as file:
        card = file.metadata()
    name = next(iter(weights))
    save_file({other: tensor for other, tensor in weights.items() if other != name}, path, card)
    with pytest.raises(DataError, match=rf"do not fit lenet5: 1 missing \({name}\)"):
        load(path)
    save_file(weights | {name: torch.zeros(2, 3)}, path, card)
    with pytest.raises(DataError, match=rf"1 of another shape \({name} 2×3 in the file"):
        load(path)


def test_weights_without_card_say_what_to_do(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(DataError, match="without a model card"):
        load(tmp_path / "foreign.safetensors")


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "striate", "predict", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_command_line(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    from striate.cli import run as command

    monkeypatch.chdir(tmp_path)
    saved_model(tmp_path / "model.safetensors")
    arguments = ["predict", "model.safetensors", "photos", "--device", "cpu"]

    assert command([*arguments, "--json", "--out", "a.csv", "--draw", "drawn"]) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [("label" in line) for line in lines].count(True) == 6
    assert len(list((tmp_path / "drawn").iterdir())) == 6
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 11
    assert "6 pictures, 4 could not be read" in printed.err
    assert "wrote a.csv" in printed.err

    assert command([*arguments, "--limit", "2", "--top", "1", "--draw", "sheet.png", "--out", "results"]) == 0
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.out.splitlines()] == [str(Path("photos") / "0 ü.png")]
    assert Image.open("sheet.png").width >= 128
    assert (tmp_path / "results" / "results.jsonl").is_file()

    with pytest.raises(UsageError, match="exists"):
        command([*arguments, "--out", "a.csv"])
    with pytest.raises(UsageError, match="holds files"):
        command([*arguments, "--draw", "drawn"])
    with pytest.raises(UsageError, match="several labels"):
        command([*arguments, "--threshold", "0.5"])
    with pytest.raises(UsageError, match="limit"):
        command([*arguments, "--limit", "0"])
    with pytest.raises(UsageError, match="predict on"):
        command(arguments[:2])


def test_command_line_judges_where_labels_are_known(tmp_path: Path, capsys, monkeypatch) -> None:
    from striate.cli import run as command

    monkeypatch.chdir(tmp_path)
    path = saved_model(tmp_path / "model.safetensors")
    assert command(["predict", str(path), "digits:test", "--limit", "40", "--device", "cpu", "--json"]) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    right = sum(line["label"] == line["target"] for line in lines)
    assert [line["correct"] for line in lines].count(True) == right
    assert f"{right} of 40 right" in printed.err


def test_command_line_exit_codes(photos: Path, tmp_path: Path) -> None:
    saved_model(tmp_path / "runs" / "classify" / "pets" / "model.safetensors")
    none = run("runs/classify/pets", photos / "0 empty.png", photos / "2 text.jpg", cwd=tmp_path)
    assert none.returncode == 4
    assert none.stdout == ""
    assert "2 could not be read" in none.stderr
    wrong = run("runs/classify/pet/model.safetensors", photos, cwd=tmp_path)
    assert wrong.returncode == 4
    assert f'Did you mean "{Path("runs/classify/pets/model.safetensors")}"' in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
