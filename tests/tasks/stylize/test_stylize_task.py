"""Networks that paint at once: shapes, statistics, training, files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.create.networks import photo, small_file
from tests.train.signals import signal_at
from torch import nn

import striate
from striate.config import Recipe
from striate.create.painted import load_painter, paint_with
from striate.create.style import stylize
from striate.errors import DataError, UsageError
from striate.results import Styled
from striate.tasks import create_task
from striate.tasks.stylize.any_style import AnyStyle, adapt, any_style_of, statistics
from striate.tasks.stylize.fast_style import FastStyle, PictureNorm
from striate.tasks.stylize.network import PerceptualNetwork, find_network
from striate.train import start
from striate.train.checkpoints import load_checkpoint
from striate.train.stopping import Interrupted

EIGHTH = "conv6-relu-pool-conv8-relu-pool-conv10-relu-pool-conv12-relu"
QUICK = {"task": "stylize", "size": 64, "batch": 2, "device": "cpu", "precision": "fp32", "threads": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("photos")
    for seed in range(8):
        Image.fromarray(photo(seed, 70 + 9 * seed, 90).permute(1, 2, 0).numpy()).save(where / f"{seed}.png")
    return where


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_file(tmp_path_factory.mktemp("network"), EIGHTH)


@pytest.fixture(scope="module")
def perceptual(network: Path) -> PerceptualNetwork:
    return find_network(network)


@pytest.fixture
def style(tmp_path: Path) -> Path:
    Image.fromarray(photo(5).permute(1, 2, 0).numpy()).save(tmp_path / "waves.png")
    return tmp_path / "waves.png"


def recipe_of(folder: Path, out: Path, style: Path, network: Path, options: dict | None = None, **more) -> Recipe:
    options = {"styles": [str(style)], "network": str(network), "width": 4, **(options or {})}
    return Recipe(data=str(folder), out=str(out), name="run", task_options=options, **{**QUICK, **more})


def as_float(seed: int, height: int = 40, width: int = 48) -> torch.Tensor:
    return photo(seed, height, width)[None].float() / 255


@pytest.mark.parametrize("size", [(64, 64), (33, 50), (47, 21), (20, 97), (3, 5)])
def test_fast_style_paints_any_size(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = FastStyle(width=4, blocks=1)(images)
    assert found.shape == images.shape
    assert found.isfinite().all()
    assert 0 <= found.min() < found.max() <= 1


def test_picture_norm_is_torchs_instance_norm() -> None:
    maps = torch.randn(2, 6, 7, 5, generator=torch.Generator().manual_seed(0))
    expected = nn.InstanceNorm2d(6, affine=True)(maps)
    for norm in (PictureNorm(6).train(), PictureNorm(6).eval()):
        torch.testing.assert_close(norm(maps), expected, atol=1e-5, rtol=1e-5)


def test_the_photo_is_painted_where_it_lies() -> None:
    """What is mirrored around it is cut off again at the right place: moving the photo moves the painting."""
    torch.manual_seed(0)
    network = FastStyle(width=4, blocks=1).eval()
    wide = as_float(0, 40, 96)
    with torch.no_grad():
        left, right = network(wide[..., :88]), network(wide[..., 8:])  # instance norm sees nearly the same
    assert (left[..., 8:] - right[..., :80]).abs().mean() < (left[..., 8:] - right[..., 4:84]).abs().mean() / 2


def test_adapted_maps_have_the_styles_statistics() -> None:
    content = torch.randn(1, 4, 9, 8, generator=torch.Generator().manual_seed(0)) * 3 + 1
    style = torch.rand(1, 4, 5, 7, generator=torch.Generator().manual_seed(1))
    found = adapt(content, style)
    for channel in range(4):
        values = style[0, channel].flatten().tolist()
        mean = sum(values) / len(values)
        deviation = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
        assert float(found[0, channel].mean()) == pytest.approx(mean, abs=1e-5)
        assert float(found[0, channel].std(correction=0)) == pytest.approx(deviation, abs=1e-5)
    torch.testing.assert_close(adapt(content, content), content, atol=1e-5, rtol=1e-5)
    assert all(torch.isfinite(value).all() for value in statistics(torch.zeros(1, 2, 3, 3)))


def test_the_decoder_is_given_the_usual_mean_and_deviation(perceptual: PerceptualNetwork) -> None:
    network = any_style_of(perceptual, width=4)
    photos = torch.cat([as_float(seed) for seed in range(4)])
    network.calibrate(photos)
    usual = (network.describe(photos) - network.usual_mean) / network.usual_deviation
    alive = usual[:, usual.std((0, 2, 3)) > 0]
    torch.testing.assert_close(alive.mean((0, 2, 3)), torch.zeros(alive.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(alive.std((0, 2, 3)), torch.ones(alive.shape[1]), atol=1e-3, rtol=0)


def test_only_the_decoder_learns(perceptual: PerceptualNetwork) -> None:
    network = any_style_of(perceptual, width=4)
    learning = {name.partition(".")[0] for name, weight in network.named_parameters() if weight.requires_grad}
    assert learning == {"decoder"}
    assert isinstance(network, AnyStyle)
    assert network.last == "stage4"


def test_batch_norms_of_what_sees_keep_what_they_have(tmp_path: Path) -> None:
    eyes = find_network(small_file(tmp_path, "conv6-bn-relu-pool-conv8-bn-relu-pool-conv10-bn-relu-pool-conv12-relu"))
    network = any_style_of(eyes, width=4).train()
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    network(as_float(0, 64, 64), as_float(1, 64, 64))["loss"].backward()
    assert any(name.endswith("running_mean") for name in before)
    assert all(torch.equal(value, before[name]) for name, value in network.encoder.state_dict().items())


def test_styles_are_found_from_another_folder(style: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(style.parent)
    assert create_task("stylize", classes=(), styles=[style.name]).arguments["styles"] == [str(style)]


def test_a_style_is_learnt_kept_and_painted(folder: Path, style: Path, network: Path, tmp_path: Path) -> None:
    run = start(recipe_of(folder, tmp_path, style, network, epochs=15), quiet=True)
    history = load_checkpoint(run)["trainer"]["state"]["history"]
    assert history[-1]["val_loss"] < 0.9 * history[0]["val_loss"]
    assert (run / "report.html").stat().st_size > 10_000
    style.unlink()  # neither the style nor what looked at it is needed any more
    model = striate.load(run)
    ours = model.predict(photo(0, 41, 37))
    assert isinstance(ours, Styled)
    assert ours.image.shape == (3, 41, 37)
    file = run / "model.safetensors"
    again = stylize(photo(0, 41, 37), file, device="cpu", precision="fp32").image
    assert (ours.image.int() - again.int()).abs().max() <= 1
    assert max(stylize(photo(0), file, size=32, device="cpu").image.shape) == 32
    assert ours.save(tmp_path / "painted.png").stat().st_size > 100
    with pytest.raises(UsageError, match="knows one style already"):
        paint_with(load_painter(file, "cpu"), as_float(0), [as_float(1)], [1.0])
    with pytest.raises(UsageError, match="steps can no longer"):
        stylize(photo(0), file, steps=3)
    with pytest.raises(UsageError, match="threshold"):
        model.predict(photo(0), threshold=0.5)


def test_the_same_seed_gives_the_same_weights(folder: Path, style: Path, network: Path, tmp_path: Path) -> None:
    def weights(seed: int) -> torch.Tensor:
        run = start(
            recipe_of(folder, tmp_path / str(seed), style, network, epochs=1, seed=seed, overwrite=True), quiet=True
        )
        return torch.cat([value.flatten() for value in striate.load(run).module.state_dict().values()])

    first = weights(1)
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2))


@pytest.mark.parametrize("architecture", ["fast_style", "any_style"])
def test_interrupted_and_resumed_it_is_the_same(
    folder: Path, style: Path, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    options = {"styles": [str(folder), str(style)]} if architecture == "any_style" else {}
    recipes = {
        name: recipe_of(folder, tmp_path / name, style, network, options, model=architecture, epochs=3, ema=0.9)
        for name in ("whole", "cut")
    }
    whole = start(recipes["whole"], quiet=True)
    with monkeypatch.context() as patch:
        signal_at(patch, 4)
        with pytest.raises(Interrupted):
            start(recipes["cut"], quiet=True)
    cut = start(Recipe(), resume=tmp_path / "cut" / "stylize" / "run", quiet=True)
    one, other = (striate.load(run).module.state_dict() for run in (whole, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_any_style_learns_through_a_trained_networks_eyes(
    folder: Path, shared_file: Callable[[str], Path], style: Path, tmp_path: Path
) -> None:
    """SqueezeNet's answers go into the hundreds: uncalibrated, the decoder's sigmoid is at its end from the start."""
    seen = shared_file("squeezenet1_0-imagenet.safetensors")
    options = {"styles": [str(folder)], "width": 8}
    run = start(recipe_of(folder, tmp_path, style, seen, options, model="any_style", epochs=25), quiet=True)
    losses = [row["train_loss"] for row in load_checkpoint(run)["trainer"]["state"]["history"]]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])  # photos and styles are drawn anew: single epochs vary
    painted = paint_with(striate.load(run), as_float(0, 64, 64), [as_float(1)], [1.0]).image
    assert ((painted > 5) & (painted < 250)).float().mean() > 0.5


def test_any_style_is_learnt_kept_and_shown(folder: Path, style: Path, network: Path, tmp_path: Path) -> None:
    options = {"styles": [str(folder)], "width": 8}
    recipe = recipe_of(folder, tmp_path, style, network, options, model="any_style", epochs=15, lr=0.002)
    run = start(recipe, quiet=True)
    losses = [row["train_loss"] for row in load_checkpoint(run)["trainer"]["state"]["history"]]
    assert losses[-1] < 0.96 * losses[0]
    path = run / "model.safetensors"
    first, second = (stylize(photo(0), [photo(seed), path], device="cpu", precision="fp32") for seed in (6, 7))
    assert not torch.equal(first.image, second.image)
    faint = stylize(photo(0), [photo(6), path], strength=0.0, device="cpu", precision="fp32")
    other = stylize(photo(0), [photo(7), path], strength=0.0, device="cpu", precision="fp32")
    assert torch.equal(faint.image, other.image)
    model = striate.load(path)
    mixed = paint_with(model, as_float(0, 41, 37), [as_float(6), as_float(7)], [0.4, 0.6])
    assert mixed.image.shape == (3, 41, 37)
    assert model.predict(photo(0, 41, 37)).image.shape == (3, 41, 37)  # in the style that it was calibrated with
    with pytest.raises(UsageError, match="name a picture"):
        paint_with(model, as_float(0))


def test_files_for_other_work_are_refused(folder: Path, style: Path, network: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="paints nothing"):
        load_painter(network)
    with pytest.raises(DataError, match="no such model file"):
        load_painter(tmp_path / "none.safetensors")
    run = start(recipe_of(folder, tmp_path, style, network, epochs=1), quiet=True)
    with pytest.raises(UsageError, match="here a network is needed"):
        find_network(run)


def test_unreadable_photos_are_passed_over_and_none_is_an_error(
    folder: Path, style: Path, network: Path, tmp_path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    with pytest.raises(DataError, match="no pictures to learn from"):
        start(recipe_of(photos, tmp_path / "a", style, network, epochs=1), quiet=True)
    for number in range(6):
        (photos / f"{number}.png").write_bytes((folder / f"{number}.png").read_bytes())
    (photos / "broken.jpg").write_bytes(b"nothing")
    assert start(recipe_of(photos, tmp_path / "b", style, network, epochs=1), quiet=True).is_dir()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"width": 2}, "width must be from 4"),
        ({"strength": -1.0}, "strength must be a number from 0"),
        ({"styles": ["a"], "shares": [1.0, 2.0]}, "2 numbers for 1 styles"),
    ],
)
def test_options_that_cannot_be(options: dict, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        create_task("stylize", classes=(), **options)
    with pytest.raises(UsageError, match="knows the networks"):
        create_task("stylize", classes=()).build("resnet18", 3)
