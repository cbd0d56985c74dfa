from __future__ import annotations

import pytest
import torch
from torch import nn

from striate.backbones import create_model
from striate.config import ModelCard, Preprocess
from striate.errors import UsageError
from striate.explain.explanation import Request
from striate.explain.units.maximization import Redirecting, explain_maximize, maximize, moved, painted
from striate.model import Model


def model_of(architecture: str, channels: int = 3, size: int = 32) -> Model:
    torch.manual_seed(0)
    half = (0.5,) * channels
    card = ModelCard(
        task="classify",
        architecture=architecture,
        classes=["cat", "dog", "bird", "fish", "fly"],
        preprocess=Preprocess(size=(size, size), channels=channels, mean=half, std=half),  # type: ignore[arg-type]
    )
    return Model(create_model(architecture, num_classes=5, in_chans=channels), card, "cpu")


def test_a_known_maximum_is_found():
    """The score is likeness to a picture: what comes out is that picture."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 24), indexing="ij")
    wanted = ((rows.square() + columns.square()) < 0.3).float()

    def score(images: torch.Tensor) -> torch.Tensor:
        return (images[:, 0] * (2 * wanted - 1)).mean((1, 2))

    found = maximize(score, lambda pixels: pixels / 255, 1, 1, (24, 24), steps=60)
    picture = found.pictures[0, 0]
    assert float(picture[wanted > 0].mean()) > 0.9
    assert float(picture[wanted == 0].mean()) < 0.2
    assert float(found.after) > float(found.before)
    assert found.curves.shape == (60, 1)


def test_painted_spectrum_is_what_numpy_makes_of_it():
    import numpy as np

    generator = torch.Generator().manual_seed(0)
    spectrum = torch.randn(1, 1, 6, 5, 2, generator=generator)
    values = spectrum[0, 0, ..., 0].double().numpy() + 1j * spectrum[0, 0, ..., 1].double().numpy()
    frequency = np.maximum(np.hypot(np.fft.fftfreq(6)[:, None], np.fft.rfftfreq(8)[None]), 1 / 8)
    pixels = np.fft.irfft2(values * np.sqrt(48) / frequency, s=(6, 8), norm="ortho") / 32
    expected = 1 / (1 + np.exp(-pixels))
    np.testing.assert_allclose(painted(spectrum, (6, 8))[0, 0].numpy(), expected, atol=1e-5)


def test_grey_start_and_colours():
    pictures = painted(0.001 * torch.randn(2, 3, 20, 11, 2), (20, 20))
    assert pictures.shape == (2, 3, 20, 20)
    assert float((pictures - 0.5).abs().max()) < 0.05


def test_moves_are_small_and_of_each_picture_its_own():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.zeros(2, 1, 40, 40)
    pictures[:, :, 18:22, 18:22] = 1
    found = moved(pictures, generator)
    assert not torch.equal(found[0], found[1])
    rows, columns = (found[0, 0] > 0.5).nonzero().float().mean(0)
    assert abs(rows - 19.5) < 3
    assert abs(columns - 19.5) < 3


def test_a_silent_unit_is_woken():
    """A ReLU that nothing passes has no gradient; redirected, it has one; where something passes, nothing changes."""
    values = torch.tensor([[-1.0, -2.0], [3.0, -4.0]], requires_grad=True)
    with Redirecting(True):
        outputs = nn.ReLU()(values)
    (-outputs.sum()).backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[-1, -1], [-1, 0]]
    values.grad = None
    with Redirecting(False):
        (-nn.ReLU()(values).sum()).backward()
    assert values.grad.tolist() == [[0, 0], [-1, 0]]


def test_same_seed_same_picture():
    model = model_of("squeezenet1_1")
    first = explain_maximize(model, Request(label="dog", steps=3, seed=5))
    torch.randn(3)
    again = explain_maximize(model, Request(label="dog", steps=3, seed=5))
    other = explain_maximize(model, Request(label="dog", steps=3, seed=6))
    assert torch.equal(first.values["pictures"], again.values["pictures"])
    assert not torch.equal(first.values["pictures"], other.values["pictures"])
    assert first.values["names"] == ["dog"]


def test_units_of_a_layer_rise_and_the_model_stays():
    model = model_of("squeezenet1_1")
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    found = explain_maximize(model, Request(layer="features.0", units=(3, 5), steps=12))
    assert found.values["pictures"].shape == (2, 3, 32, 32)
    assert (found.values["after"] > found.values["before"]).all()
    assert found.values["names"] == ["features.0, unit 3", "features.0, unit 5"]
    assert all(torch.equal(before[name], value) for name, value in model.module.state_dict().items())
    assert model.module.features[1].inplace
    assert model.module.features[0].weight.requires_grad
    assert found.to_html().count("data:image/webp") == 2


def test_grey_networks_and_classes_drawn_by_the_seed():
    found = explain_maximize(model_of("lenet5", 1), Request(steps=2))
    assert found.values["pictures"].shape == (4, 1, 32, 32)
    assert len(set(found.values["names"])) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "dogg"}, 'Did you mean "dog"'),
        ({"layer": "features.99"}, "no layer"),
        ({"layer": "features.0", "units": (64,)}, "has units 0 to 63"),
        ({"steps": -1}, "whole number from 1"),
    ],
)
def test_what_is_not_there(options: dict, message: str):
    with pytest.raises(UsageError, match=message):
        explain_maximize(model_of("squeezenet1_1"), Request(**options))


@pytest.mark.slow
def test_a_class_of_imagenet_is_recognised(shared_file):
    import striate

    model = striate.load(shared_file("squeezenet1_0-imagenet.safetensors"), device="cpu")
    found = model.explain(how="maximize", label="cock", steps=64)
    assert model.predict(found.values["pictures"][0]).label == "cock"
