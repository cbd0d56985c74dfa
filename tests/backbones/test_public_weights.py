"""Weights by name: where they lie, what comes with them, and when they are refused. Nothing is fetched here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model_weights

from striate.backbones import MODELS, create_model
from striate.backbones.public_weights import TIMM_TWINS, Published, find_weights, local_file
from striate.errors import DataError, UsageError

HALF = {"googlenet", "inception_v3"}


@pytest.mark.parametrize(
    "name", ["resnet50", "squeezenet1_0", "efficientnet_b3", "convnext_tiny", "mobilenet_v3_large"]
)
def test_imagenet_is_torchvisions_file_with_its_preprocessing(name: str) -> None:
    found = find_weights("imagenet", name)
    theirs = get_model_weights(name)["IMAGENET1K_V1"]
    how = theirs.transforms()
    assert found.place == theirs.url
    assert found.classes == tuple(theirs.meta["categories"])
    assert found.top1 == theirs.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert found.preprocess is not None
    assert found.preprocess.size == (how.crop_size[0],) * 2
    assert round(found.preprocess.size[0] / found.preprocess.crop_ratio) == how.resize_size[0]
    assert found.preprocess.interpolation == how.interpolation.value
    assert found.preprocess.mean == tuple(how.mean)
    assert "BSD" in found.license


def test_pixels_of_googlenet_go_from_minus_one_to_one() -> None:
    """What torchvision's `transform_input` makes of ImageNet's statistics."""
    preprocess = find_weights("imagenet", "googlenet").preprocess
    assert preprocess is not None
    assert preprocess.mean == preprocess.std == (0.5, 0.5, 0.5)


def test_timm_knows_the_others() -> None:
    for name in TIMM_TWINS:
        found = find_weights("imagenet", name)
        assert found.place.startswith("hf://timm/"), name
        assert found.preprocess is not None
    assert find_weights("imagenet", "timm/convnext_atto").license


@pytest.mark.parametrize(
    ("weights", "name", "said"),
    [
        ("imagnet", "resnet50", 'Did you mean "imagenet"'),
        ("imagenet", "plain18", "no public weights"),
        ("weights/none.pth", "resnet50", "no such file"),
    ],
)
def test_what_is_not_there_is_said(weights: str, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find_weights(weights, name)


def test_licences_that_forbid_commerce_need_a_word(monkeypatch, tmp_path: Path) -> None:
    published = Published("https://example.invalid/weights-00000000.pth", license="CC-BY-NC-4.0")
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="--accept-license"):
        local_file(published)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "weights-00000000.pth").write_bytes(b"x")
    assert local_file(published, accept_license=True).read_bytes() == b"x"
    assert local_file(published._replace(license="Apache-2.0")).is_file()


def test_a_damaged_hub_address_is_refused() -> None:
    with pytest.raises(UsageError, match="hf://owner/repository"):
        local_file(Published("hf://alone", license="mit"))


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    entries = {
        "architecture": "resnet18",
        "mean": "[0.5,0.4,0.3]",
        "std": "[0.2,0.2,0.2]",
        "size": "200",
        "resize": "250",
    }
    save_file({"a": torch.zeros(1)}, path, entries | {"classes": "ImageNet-1k"})
    found = find_weights(path)
    assert found.architecture == "resnet18"
    assert found.preprocess is not None
    assert (found.preprocess.size, found.preprocess.crop_ratio) == ((200, 200), 0.8)
    assert found.preprocess.mean == (0.5, 0.4, 0.3)
    assert len(found.classes) == 1000
    save_file({"a": torch.zeros(1)}, path, entries | {"size": "many"})
    assert find_weights(path).preprocess is None
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="not a readable"):
        find_weights(path)


def test_every_network_of_torchvision_with_public_weights_is_found() -> None:
    """Those that torchvision also builds: its first set is ours to give."""
    for name in MODELS:
        try:
            known = get_model_weights(name)
        except ValueError:
            continue
        assert find_weights("imagenet", name).place in {weights.url for weights in known}


def test_the_head_of_squeezenet_can_be_linear(tmp_path: Path) -> None:
    whole = create_model("squeezenet1_0", num_classes=1000)
    path = tmp_path / "weights.safetensors"
    save_file(whole.state_dict(), path)
    model = create_model("squeezenet1_0", num_classes=3, weights=path, linear_head=True).eval()
    images = torch.rand(2, 3, 64, 64)
    body = create_model("squeezenet1_0", num_classes=0, weights=path).eval()
    assert model.last_layer == "linear_head"
    torch.testing.assert_close(model(images), model.linear_head(body(images)))
    arguments = json.loads(json.dumps(model.arguments))
    again = create_model(model.architecture, num_classes=3, **arguments)
    again.load_state_dict(model.state_dict())
    assert create_model("resnet18", num_classes=3, linear_head=True).last_layer == "fc"
