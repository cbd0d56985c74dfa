"""Painting itself, on a small network: the loss falls, settings do what they say, errors say what to do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data
from tests.create.networks import PREPROCESS, photo, small_backbone, small_file, without_classifier
from torch import Tensor

import striate
from bench.drawn_styles import glass
from striate.create.style import Painting, Styled, stylize
from striate.errors import DataError, UsageError
from striate.tasks.stylize.loss import SCALE, STYLE_SHARE, VARIATION_SHARE, StyleLoss
from striate.tasks.stylize.network import find_network
from striate.tasks.stylize.perception import Layers, Perception
from striate.tasks.stylize.style_losses import gram_matrix

LAYERS = Layers({"relu1": 0.25, "stage3": 0.75}, ("relu2",))


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_file(tmp_path_factory.mktemp("network"))


def painted(network: Path, content: Any = None, style: Any = None, **how: Any) -> Styled:
    settings = {"size": 48, "steps": 12, "device": "cpu", "precision": "fp32", **how}
    content, style = photo(0) if content is None else content, photo(1) if style is None else style
    return stylize(content, style, network=network, **settings)


def test_the_loss_never_rises_and_the_picture_gets_the_style(seeing: Path) -> None:
    found = painted(seeing, scales=2, strength=3.0)
    assert [row["size"] for row in found.losses] == [32] * 12 + [48] * 12  # 24 would be less than is allowed
    for size in (32, 48):
        losses = [row["total"] for row in found.losses if row["size"] == size]
        assert all(later < earlier for earlier, later in pairwise(losses))
    last = [row["style"] for row in found.losses if row["size"] == 48]
    assert last[-1] < 0.5 * last[0]
    assert found.image.shape == (3, 40, 48)
    assert found.image.dtype == torch.uint8
    assert found.seconds > 0


def test_bf16_never_rises_either(seeing: Path) -> None:
    losses = [row["total"] for row in painted(seeing, precision="bf16", steps=15).losses]
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert len(losses) > 3


def test_bf16_that_finds_no_way_down_goes_on_in_fp32(shared_file: Callable[[str], Path]) -> None:
    """A faint style over a smooth photo: in bf16's rounding L-BFGS finds no step at all."""
    rocket = torch.from_numpy(data.rocket()).permute(2, 0, 1)
    panes = torch.from_numpy(np.array(glass())).permute(2, 0, 1)
    network = shared_file("squeezenet1_0-imagenet.safetensors")
    settings: dict[str, Any] = {"size": 64, "steps": 8, "strength": 0.03}
    rounded, exact = (painted(network, rocket, panes, precision=how, **settings).losses for how in ("bf16", "fp32"))
    assert all(later["total"] < earlier["total"] for earlier, later in pairwise(rounded))
    assert rounded[-1]["total"] == pytest.approx(exact[-1]["total"], rel=0.02)


def test_loss_against_the_formula_written_out() -> None:
    perception = Perception(small_backbone(), PREPROCESS, (*LAYERS.style, *LAYERS.content))
    images, content, style = (photo(seed)[None].float() / 255 for seed in (2, 0, 1))
    likeness = StyleLoss(perception, LAYERS, strength=2.0, variation=0.5)
    likeness.aim([style], [1.0])
    found = likeness(images, likeness.content_of(content)).numbers()
    ours, kept, looks = (perception(pictures) for pictures in (images, content, style))
    far = float((ours["relu2"] - kept["relu2"]).square().sum() / kept["relu2"].square().sum())
    unlike = 0.0
    for name, weight in LAYERS.style.items():
        mine, wanted = (gram_matrix(answers[name]) / answers[name][0, 0].numel() for answers in (ours, looks))
        unlike += weight * float((mine - wanted).square().sum() / wanted.square().sum())
    assert found["content"] == pytest.approx(far, rel=1e-4)
    assert found["style"] == pytest.approx(unlike, rel=1e-4)
    total = far + STYLE_SHARE * 2.0 * unlike + VARIATION_SHARE * 0.5 * found["variation"]
    assert found["total"] == pytest.approx(SCALE * total, rel=1e-4)


def test_gradient_of_the_whole_loss_against_finite_differences() -> None:
    backbone = small_backbone("conv4-tanh-avgpool2-conv5-tanh")  # smooth, so that differences mean something
    layers = Layers({"tanh1": 0.5, "tanh2": 0.5}, ("tanh2",))
    perception = Perception(backbone, PREPROCESS, (*layers.style, *layers.content)).double()
    likeness = StyleLoss(perception, layers)
    images, content, style = (photo(seed, 6, 5)[None].double() / 255 for seed in (2, 0, 1))
    likeness.aim([style], [1.0])
    kept = likeness.content_of(content)
    assert torch.autograd.gradcheck(lambda x: likeness(x, kept).total, (images.requires_grad_(),), rtol=1e-4)


def test_the_loss_of_what_is_wanted_is_nothing() -> None:
    perception = Perception(small_backbone(), PREPROCESS, (*LAYERS.style, *LAYERS.content))
    images = photo()[None].float() / 255
    likeness = StyleLoss(perception, LAYERS)
    likeness.aim([images], [1.0])
    found = likeness(images, likeness.content_of(images)).numbers()
    assert found["content"] == 0
    assert found["style"] == pytest.approx(0, abs=1e-9)


def test_mixed_styles_pull_as_each_by_its_share() -> None:
    """Σ_s m_s L_s and the loss of the mixed Gram matrices have the same gradient, up to each layer's divisor."""
    layers = Layers({"stage3": 1.0}, ("relu2",))
    perception = Perception(small_backbone(), PREPROCESS, ("stage3", "relu2")).double()
    styles = [photo(seed)[None].double() / 255 for seed in (1, 2)]
    likeness = StyleLoss(perception, layers, variation=0.0)
    images = (photo(3)[None].double() / 255).requires_grad_(True)

    def pull(aims: list[Tensor], shares: list[float]) -> tuple[Tensor, Tensor]:
        likeness.aim(aims, shares)
        (gradient,) = torch.autograd.grad(
            likeness(images, {"relu2": perception(images)["relu2"].detach()}).style, images
        )
        return gradient, likeness.grams["stage3"].square().sum()

    mixed, divisor = pull(styles, [0.3, 0.7])
    (first, by_first), (second, by_second) = (pull([style], [1.0]) for style in styles)
    torch.testing.assert_close(mixed * divisor, 0.3 * first * by_first + 0.7 * second * by_second)


def test_the_same_seed_gives_the_same_picture(seeing: Path) -> None:
    first, again, other = (painted(seeing, start="noise", steps=4, seed=seed).image for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_strength(seeing: Path) -> None:
    faint, wild = (painted(seeing, strength=strength).losses[-1] for strength in (0.01, 100.0))
    assert faint["content"] < wild["content"]
    assert faint["style"] > wild["style"]


def test_smoothness(seeing: Path) -> None:
    rough, smooth = (painted(seeing, smooth=smooth).losses[-1]["variation"] for smooth in (0.0, 100.0))
    assert smooth < 0.8 * rough


def test_kept_luminance_keeps_chroma(seeing: Path) -> None:
    color = pytest.importorskip("skimage.color")
    gentle = (photo(0).float() * 0.3 + 90).to(torch.uint8)  # colours far from the edges of what can be shown
    found = painted(seeing, gentle, photo(1), keep_colours="luminance", strength=0.3)
    ours, theirs = (color.rgb2yiq(picture.permute(1, 2, 0).numpy()) for picture in (found.image, gentle))
    assert np.abs(ours[..., 1:] - theirs[..., 1:]).max() < 0.02
    assert np.abs(ours[..., 0] - theirs[..., 0]).max() > 0.02  # something was painted


def test_recoloured_styles_keep_the_photos_palette(seeing: Path) -> None:
    red = photo(0).clone()
    red[1:] //= 4
    blue = photo(1).clone()
    blue[:2] //= 4
    plain, kept = (painted(seeing, red, blue, keep_colours=how, strength=10.0).image for how in (None, "histogram"))
    for name, image in (("plain", plain), ("kept", kept)):
        means = image.float().mean((1, 2))
        assert (means[0] > means[2]) == (name == "kept") or name == "plain", means
    assert kept.float()[0].mean() - kept.float()[2].mean() > plain.float()[0].mean() - plain.float()[2].mean()


def test_it_can_be_watched(seeing: Path) -> None:
    seen = []
    painted(seeing, steps=3, watch=lambda now: seen.append((now.step, now.steps, now.size, tuple(now.image().shape))))
    assert seen == [(step, 3, 48, (1, 3, 40, 48)) for step in (1, 2, 3)]


def test_adam_paints_too(seeing: Path) -> None:
    losses = [row["total"] for row in painted(seeing, optimizer="adam", steps=30).losses]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(("size", "expected"), [(512, [256, 512]), (300, [300]), (1600, [400, 800, 1600])])
def test_scales(size: int, expected: list[int]) -> None:
    assert Painting(size=size).sizes() == expected


def test_a_result_is_saved_once(seeing: Path, tmp_path: Path) -> None:
    found = painted(seeing, steps=1)
    path = found.save(tmp_path / "new" / "painted.png")
    assert torch.equal(striate.read_image(path), found.image)
    with pytest.raises(UsageError, match="exists already"):
        found.save(path)
    with pytest.raises(UsageError, match="not a picture format"):
        found.save(tmp_path / "painted.doc")
    assert found.to_dict()["width"] == 48


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"size": 4}, "size must be"),
        ({"steps": 0}, "steps must be"),
        ({"steps": 2.5}, "steps must be"),
        ({"strength": -1.0}, "strength must be"),
        ({"strength": float("nan")}, "strength must be"),
        ({"style_scale": 0.0}, "style_scale must be"),
        ({"optimizer": "sgd"}, "optimizer must be one of lbfgs, adam"),
        ({"keep_colours": "all"}, "keep_colours must be one of luminance, histogram"),
        ({"mix": [1.0, 2.0]}, "2 numbers for 1 styles"),
        ({"mix": [0.0]}, "above"),
        ({"strenth": 2.0}, 'Did you mean "strength"'),
        ({"style_layers": ["relu9"]}, "is no layer"),
        ({"style": []}, "no style"),
        ({"style": ["a.safetensors", "b.safetensors"]}, "one trained style"),
    ],
)
def test_settings_that_cannot_be(seeing: Path, how: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        painted(seeing, **how)


def test_networks_and_pictures_that_cannot_be(seeing: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        painted(seeing, content=str(tmp_path / "none.png"))
    with pytest.raises(UsageError, match="neither a file nor the name"):
        painted(tmp_path / "none.pth")
    with pytest.raises(UsageError, match="grey"):
        painted(small_file(tmp_path, channels=1))
    (tmp_path / "strange.pth").write_bytes(b"x")
    with pytest.raises(UsageError, match="Let its name begin"):
        painted(tmp_path / "strange.pth")
    (tmp_path / "vgg11-broken.pth").write_bytes(b"x")
    with pytest.raises(DataError, match="not a file of weights"):
        painted(tmp_path / "vgg11-broken.pth")
    with pytest.raises(UsageError, match="one picture is needed"):
        painted(seeing, content=[photo(0), photo(1)])


def test_weights_without_their_classifier_are_enough(tmp_path: Path) -> None:
    """As the files of VGG's convolutions alone that go around for style transfer."""
    early = without_classifier("vgg11").state_dict()
    torch.save(early, tmp_path / "vgg11-conv.pth")
    found = find_network(tmp_path / "vgg11-conv.pth")
    assert found.name == "vgg11"
    assert found.preprocess.mean == (0.485, 0.456, 0.406)
    assert torch.equal(found.backbone.state_dict()["features.3.weight"], early["features.3.weight"])
    del early["features.3.weight"]
    torch.save(early, tmp_path / "vgg11-less.pth")
    with pytest.raises(DataError, match="1 missing"):
        find_network(tmp_path / "vgg11-less.pth")
