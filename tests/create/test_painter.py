"""Networks that paint at once: shapes, statistics, training, files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.create.networks import photo, small_file
from torch import nn

from striate.create.any_style import AnyStyle, adapt, any_style_of, statistics
from striate.create.fast_style import FastStyle, PictureNorm
from striate.create.network import Seeing, find_network
from striate.create.painter import Painter, load_painter, teach_any_style, teach_style
from striate.create.practice import Practice, Squares
from striate.create.style import stylize
from striate.errors import DataError, UsageError

EIGHTH = "conv6-relu-pool-conv8-relu-pool-conv10-relu-pool-conv12-relu"
SHORT = {"steps": 3, "size": 64, "batch": 2, "device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("photos")
    for seed in range(4):
        Image.fromarray(photo(seed, 70 + 9 * seed, 90).permute(1, 2, 0).numpy()).save(where / f"{seed}.png")
    return where


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Seeing:
    return find_network(small_file(tmp_path_factory.mktemp("network"), EIGHTH))


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


def test_squares_come_from_the_photos(folder: Path) -> None:
    squares = Squares(folder, 64, seed=0)
    drawn = squares.draw(3)
    assert drawn.shape == (3, 3, 64, 64)
    assert torch.equal(drawn, Squares(folder, 64, seed=0).draw(3))
    assert not torch.equal(drawn, squares.draw(3))


def test_unreadable_photos_are_passed_over(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no photos to learn from"):
        Squares(tmp_path, 64, 0)
    (tmp_path / "fine.png").write_bytes((folder / "0.png").read_bytes())
    assert Squares(tmp_path, 64, 0).unread == 1


def test_a_style_is_learnt_kept_and_painted(folder: Path, seeing: Seeing, tmp_path: Path) -> None:
    losses: list[float] = []
    how = Practice(**{**SHORT, "steps": 40}, watch=lambda lesson: losses.append(lesson.loss))  # type: ignore[arg-type]
    painter = teach_style([as_float(5)], [1.0], folder, seeing, how, width=4, about="waves")
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert painter.card.recipe["style"] == "waves"
    path = painter.save(tmp_path / "waves.safetensors")
    again = load_painter(path, "cpu", "fp32")
    ours, theirs = (which.paint(as_float(0, 41, 37)).image for which in (painter, again))
    assert ours.shape == (3, 41, 37)
    assert torch.equal(ours, theirs)
    assert torch.equal(ours, stylize(photo(0, 41, 37), path, device="cpu", precision="fp32").image)
    assert max(stylize(photo(0), path, size=32, device="cpu").image.shape) == 32
    assert again.name == "waves"
    with pytest.raises(UsageError, match="exists already"):
        painter.save(path)
    with pytest.raises(UsageError, match="knows one style already"):
        again.paint(as_float(0), [as_float(1)], [1.0])
    with pytest.raises(UsageError, match="steps can no longer"):
        stylize(photo(0), path, steps=3)


def test_the_same_seed_gives_the_same_weights(folder: Path, seeing: Seeing) -> None:
    def weights(seed: int) -> torch.Tensor:
        how = Practice(**SHORT, seed=seed)  # type: ignore[arg-type]
        painter = teach_style([as_float(5)], [1.0], folder, seeing, how, width=4)
        return torch.cat([parameter.flatten() for parameter in painter.network.parameters()])

    state = torch.get_rng_state()
    first = weights(1)
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2))
    assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers go on as they would have


def test_the_decoder_is_given_the_usual_mean_and_deviation(seeing: Seeing) -> None:
    network = any_style_of(seeing, width=4)
    photos = torch.cat([as_float(seed) for seed in range(4)])
    network.calibrate(photos)
    usual = (network.describe(photos) - network.usual_mean) / network.usual_deviation
    alive = usual[:, usual.std((0, 2, 3)) > 0]
    torch.testing.assert_close(alive.mean((0, 2, 3)), torch.zeros(alive.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(alive.std((0, 2, 3)), torch.ones(alive.shape[1]), atol=1e-3, rtol=0)


def test_any_style_learns_through_a_trained_networks_eyes(folder: Path, shared_file: Callable[[str], Path]) -> None:
    """SqueezeNet's answers go into the hundreds: uncalibrated, the decoder's sigmoid is at its end from the start."""
    losses: list[float] = []
    how = Practice(**{**SHORT, "steps": 30}, watch=lambda lesson: losses.append(lesson.loss))  # type: ignore[arg-type]
    eyes = find_network(shared_file("squeezenet1_0-imagenet.safetensors"))
    painter = teach_any_style(folder, folder, eyes, how, width=8)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    painted = painter.paint(as_float(0, 64, 64), [as_float(1)], [1.0]).image
    assert ((painted > 5) & (painted < 250)).float().mean() > 0.5


def test_any_style_is_learnt_kept_and_shown(folder: Path, seeing: Seeing, tmp_path: Path) -> None:
    losses: list[float] = []
    watch = lambda lesson: losses.append(lesson.loss)  # noqa: E731
    how = Practice(**{**SHORT, "steps": 60}, rate=0.002, watch=watch)  # type: ignore[arg-type]
    painter = teach_any_style(folder, folder, seeing, how, width=8)
    assert sum(losses[-5:]) < 0.96 * sum(losses[:5])
    path = painter.save(tmp_path / "any.safetensors")
    again = load_painter(path, "cpu", "fp32")
    styles = [as_float(6), as_float(7)]
    ours, theirs = (which.paint(as_float(0, 41, 37), styles, [0.4, 0.6]).image for which in (painter, again))
    assert torch.equal(ours, theirs)
    assert ours.shape == (3, 41, 37)
    first, second = (stylize(photo(0), [photo(seed), path], device="cpu", precision="fp32") for seed in (6, 7))
    assert not torch.equal(first.image, second.image)
    faint = stylize(photo(0), [photo(6), path], strength=0.0, device="cpu", precision="fp32")
    other = stylize(photo(0), [photo(7), path], strength=0.0, device="cpu", precision="fp32")
    assert torch.equal(faint.image, other.image)
    with pytest.raises(UsageError, match="name a picture"):
        again.paint(as_float(0))


def test_only_the_decoder_learns(seeing: Seeing) -> None:
    network = any_style_of(seeing, width=4)
    learning = {name.partition(".")[0] for name, weight in network.named_parameters() if weight.requires_grad}
    assert learning == {"decoder"}
    assert isinstance(network, AnyStyle)
    assert network.last == "stage4"


def test_files_for_other_work_are_refused(tmp_path: Path) -> None:
    path = small_file(tmp_path)
    with pytest.raises(DataError, match="paints nothing"):
        load_painter(path)
    with pytest.raises(DataError, match="no such model file"):
        load_painter(tmp_path / "none.safetensors")
    painter = Painter(FastStyle(4, 1), teach_card())
    with pytest.raises(UsageError, match="here a network is needed"):
        find_network(painter.save(tmp_path / "p.safetensors"))


def teach_card():
    from striate.config import ModelCard
    from striate.create.painter import AS_IT_IS

    arguments = {"width": 4, "blocks": 1}
    return ModelCard(task="stylize", architecture="fast_style", arguments=arguments, classes=[], preprocess=AS_IT_IS)


@pytest.mark.parametrize("how", [{"minutes": 0.0}, {"steps": 0}, {"size": 8}, {"batch": 0}, {"rate": -1.0}])
def test_practice_that_cannot_be(how: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(how))):
        Practice(**how)  # type: ignore[arg-type]
