"""Files of weights: foreign spellings are understood, what does not fit is named, code in them never runs."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from striate.backbones import create_model
from striate.errors import DataError

NAME = "resnet20_cifar"


@pytest.fixture(scope="module")
def model():
    return create_model(NAME, num_classes=10)


@pytest.mark.parametrize("spelling", ["plain", "module", "compiled", "wrapped", "linear", "safetensors", "untracked"])
def test_spellings_of_the_same_weights(model, tmp_path, spelling):
    weights = dict(model.state_dict())
    path = tmp_path / "weights.pth"
    if spelling == "module":
        weights = {f"module.{name}": tensor for name, tensor in weights.items()}
    elif spelling == "compiled":
        weights = {f"module._orig_mod.{name}": tensor for name, tensor in weights.items()}
    elif spelling == "linear":
        weights = {name.replace("fc.", "linear."): tensor for name, tensor in weights.items()}
    elif spelling == "untracked":
        weights = {name: tensor for name, tensor in weights.items() if "num_batches" not in name}
    if spelling == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(weights, path)
    else:
        torch.save({"state_dict": weights, "epoch": 3} if spelling == "wrapped" else weights, path)
    loaded = create_model(NAME, num_classes=10, weights=path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_another_number_of_classes_starts_a_fresh_classifier(model, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    with pytest.warns(UserWarning, match="knows 10 classes, this network 3"):
        tuned = create_model(NAME, num_classes=3, weights=path)
    assert tuned.fc.weight.shape == (3, 64)
    assert torch.equal(tuned.conv1.weight, model.conv1.weight)
    body = create_model(NAME, features_only=True, out_indices=(1,), weights=path)
    assert torch.equal(body.backbone.conv1.weight, model.conv1.weight)
    assert torch.equal(create_model(NAME, num_classes=0, weights=path).bn1.bias, model.bn1.bias)


def test_a_grey_picture_answers_as_its_three_equal_channels(model, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    grey = torch.rand(2, 1, 32, 32)
    expected = model.eval()(grey.expand(-1, 3, -1, -1))
    of_one = create_model(NAME, num_classes=10, in_chans=1, weights=path).eval()
    torch.testing.assert_close(of_one(grey), expected, rtol=1e-4, atol=1e-5)
    of_six = create_model(NAME, num_classes=10, in_chans=6, weights=path).eval()
    twice = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(of_six(torch.cat([twice, twice], 1)), model(twice), rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_named(model, tmp_path):
    path = tmp_path / "weights.pth"
    weights = dict(model.state_dict())
    del weights["layer2.0.conv1.weight"]
    weights["layer9.weight"] = torch.zeros(1)
    weights["conv1.weight"] = torch.zeros(16, 3, 5, 5)
    torch.save(weights, path)
    with pytest.raises(DataError) as caught:
        create_model(NAME, num_classes=10, weights=path)
    text = str(caught.value)
    assert "1 missing (layer2.0.conv1.weight)" in text
    assert "1 unknown (layer9.weight)" in text
    assert "conv1.weight 16×3×5×5 in the file, 16×3×3×3 here" in text


class Trap:
    def __reduce__(self):
        return os.mkdir, (os.environ["STRIATE_TRAP"],)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickled_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_TRAP", str(tmp_path / "sprung"))
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": Trap()}, path)
    with pytest.raises(DataError, match="more than weights"):
        create_model(NAME, weights=path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError):
        create_model(NAME, weights=path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x00" * 99, b"\x80\x02.", b"hello"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_refused_by_name(tmp_path, content, suffix):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match="broken"):
        create_model(NAME, weights=path)


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1}, {1: torch.zeros(1)}, torch.zeros(3)])
def test_files_without_named_tensors_are_refused(tmp_path, content):
    path = tmp_path / "odd.pt"
    torch.save(content, path)
    with pytest.raises(DataError, match="odd"):
        create_model(NAME, weights=path)
