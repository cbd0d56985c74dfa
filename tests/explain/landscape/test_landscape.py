"""Landscapes against brute force, closed forms and torch's own Hessian; two networks that read digits on one page."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import striate
from striate.config import Preprocess, Recipe
from striate.data.sample import Sample
from striate.data.targets import as_target
from striate.errors import DataError, UsageError
from striate.explain import explain
from striate.explain.explanation import Request
from striate.explain.landscape import loss_surface
from striate.explain.landscape.figure import draw_contours, draw_lines, draw_reliefs, scale_of, ticks_of
from striate.explain.landscape.loss_surface import Landscape, loss_at, measure_landscape, random_direction, weights_of
from striate.explain.landscape.pages import batches_of
from striate.explain.landscape.sharpness import extreme_eigenvalues, gradient_at, keskar_sharpness, lanczos
from striate.train import start

CLASSIFY: Any = SimpleNamespace(loss=lambda outputs, targets: {"loss": F.cross_entropy(outputs.float(), targets)})
LINEAR: Any = SimpleNamespace(loss=lambda outputs, targets: {"loss": outputs.mean()})


@pytest.fixture
def in_fp32(monkeypatch) -> None:
    monkeypatch.setattr(loss_surface, "pick_precision", lambda name, device: "fp32")


def small_network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 3))
    network = nn.Sequential(*layers)
    network(2 * torch.randn(50, 1, 6, 6) + 1)  # running statistics that are not those of the batches below
    return network.eval()


def batches(sizes: tuple[int, ...] = (5, 3)) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    draw = {"generator": generator}
    return [(torch.randn(size, 1, 6, 6, **draw), torch.randint(3, (size,), **draw)) for size in sizes]


def test_every_filter_of_a_direction_has_the_norm_of_the_networks():
    """Section 4 of Li et al. 2018; the released code leaves out what has one dimension: biases, batch norms."""
    weights = weights_of(small_network())
    direction = random_direction(weights, 3, "first")
    assert direction.keys() == weights.keys()
    for name in ("0.weight", "4.weight"):
        for ours, theirs in zip(direction[name], weights[name], strict=True):
            assert ours.norm().item() == pytest.approx(theirs.norm().item(), rel=1e-5)
    for name in ("0.bias", "1.weight", "1.bias", "4.bias"):
        assert not direction[name].any()
    backwards = random_direction(dict(reversed(weights.items())), 3, "first")
    other = random_direction(weights, 3, "second")
    assert all(torch.equal(direction[name], backwards[name]) for name in weights)
    assert not torch.equal(direction["0.weight"], other["0.weight"])


def test_the_surface_is_that_of_networks_moved_by_hand(in_fp32: None):
    network, data = small_network(), batches()
    before = deepcopy(network.state_dict())
    found = measure_landscape(network, data, CLASSIFY, points=5, seed=2)
    first, second = (random_direction(weights_of(network), 2, name) for name in ("first", "second"))
    images, targets = (torch.cat(parts) for parts in zip(*data, strict=True))
    for row, up in enumerate((-1, -0.5, 0, 0.5, 1)):
        for column, across in enumerate((-1, -0.5, 0, 0.5, 1)):
            moved = deepcopy(network)
            for name, parameter in moved.named_parameters():
                parameter.data += across * first[name] + up * second[name]
            expected = F.cross_entropy(moved(images), targets).item()
            assert found.surface[row, column].item() == pytest.approx(expected, rel=1e-5)
    assert found.centre == pytest.approx(F.cross_entropy(network(images), targets).item(), rel=1e-6)
    assert found.lines.shape == (loss_surface.LINES, 5)
    assert torch.allclose(found.lines[:, 2], torch.tensor(found.centre, dtype=torch.float64))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert not network.training


def test_same_seed_same_surface_bit_for_bit():
    network, data = small_network(), batches()
    one, again, other = (measure_landscape(network, data, CLASSIFY, points=3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.surface, again.surface)
    assert torch.equal(one.lines, again.lines)
    assert not torch.equal(one.surface, other.surface)


def landscape(surface: Tensor) -> Landscape:
    axis = torch.linspace(-1, 1, len(surface), dtype=torch.float64)
    return Landscape(axis, surface, axis.square().expand(3, -1) + 5, 5.0, 5.0)


def test_bowls_are_convex_and_saddles_are_not():
    axis = torch.linspace(-1, 1, 21, dtype=torch.float64)
    x, y = axis[None], axis[:, None]
    assert landscape(x**2 + 3 * y**2 + x * y).bent_down == 0
    assert landscape(x**2 - y**2).bent_down == 1
    assert landscape(x * y).bent_down == 1
    assert landscape(x + y**2).bent_down == 0  # flat is not bent
    assert landscape(torch.cos(6 * x) + 0 * y).bent_down == pytest.approx(6 / 11, abs=0.1)  # |6x| < π/2, |6x| < 3


def test_the_rise_is_the_mean_over_lines_and_sides():
    found = landscape(torch.zeros(21, 21, dtype=torch.float64))
    assert found.nearest(0.52) == pytest.approx(0.5)
    assert found.rise(0.52) == pytest.approx(0.25)
    assert found.nearest(0.001) == pytest.approx(0.1)  # there is no rise at the centre itself


def test_eigenvalues_are_those_of_the_whole_hessian():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 2), nn.Tanh(), nn.Linear(2, 3)).eval()
    data = batches()
    images, targets = (torch.cat(parts) for parts in zip(*data, strict=True))
    weights = weights_of(network)
    sizes = [value.numel() for value in weights.values()]

    def loss(flat: Tensor) -> Tensor:
        parts = {n: p.view_as(weights[n]) for n, p in zip(weights, flat.split(sizes), strict=True)}
        return F.cross_entropy(torch.func.functional_call(network, parts, (images,)), targets)

    flat = torch.cat([value.flatten() for value in weights.values()])
    whole = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))
    largest, smallest = extreme_eigenvalues(network, data, CLASSIFY, steps=40)
    assert largest == pytest.approx(whole[-1].item(), rel=1e-3)
    assert smallest == pytest.approx(whole[0].item(), rel=1e-2)
    assert smallest < 0
    found, gradient = gradient_at(network, weights, data, CLASSIFY)
    assert found == pytest.approx(loss(flat).item(), rel=1e-6)
    expected = torch.autograd.functional.jacobian(loss, flat)
    torch.testing.assert_close(torch.cat([part.flatten() for part in gradient.values()]), expected)


def test_lanczos_finds_the_ends_and_stops_when_it_knows_all():
    values = torch.linspace(-3, 10, 50)
    found = lanczos(lambda vector: [values * vector[0]], [torch.ones(50)], 40)
    assert found[0].item() == pytest.approx(-3, abs=1e-3)
    assert found[-1].item() == pytest.approx(10, abs=1e-3)
    two = torch.tensor([1.0, 4.0])
    assert lanczos(lambda vector: [two * vector[0]], [torch.ones(2)], 40).tolist() == pytest.approx([1, 4], rel=1e-5)


def test_keskars_measure_of_a_linear_loss():
    """f = w·mean(x): the box's worst corner raises it by ε Σ |mean xᵢ| (|wᵢ| + 1)."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 1, bias=False)).eval()
    data = batches((8,))
    weight, mean = network[1].weight.detach().flatten(), data[0][0].flatten(1).mean(0)
    rise = 1e-3 * (mean.abs() * (weight.abs() + 1)).sum()
    expected = 100 * rise / (1 + (weight * mean).sum())
    assert keskar_sharpness(network, data, LINEAR) == pytest.approx(expected.item(), rel=1e-3)


def test_scales_are_shared_and_bear_infinities():
    axis = torch.linspace(-1, 1, 5, dtype=torch.float64)
    wild = landscape(1 + axis[None] ** 2 + axis[:, None] ** 2)
    wild.surface[0, 0], wild.surface[0, 1], wild.surface[4, 4] = torch.inf, torch.nan, 1e30
    tame = landscape(wild.surface.new_full((5, 5), 2.0))
    assert scale_of([wild, tame]) == (1.0, 1e4)
    assert scale_of([tame]) == (2.0, 4.0)
    for draw in (draw_contours, draw_reliefs, draw_lines):
        draw(["a$b", "tame"], [wild, tame]).canvas.draw()
    assert ticks_of(1.5, 40) == [2, 5, 10, 20]
    assert len(ticks_of(1e-4, 1e4)) <= 9


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> list[Path]:
    out = tmp_path_factory.mktemp("runs")
    common = {"data": "digits", "out": str(out), "epochs": 2, "batch": 32, "limit": 320, "threads": 1}
    lines = ("conv8-bn-relu-pool-conv16-bn-relu-gap", "conv8-relu-pool-fc16-relu")
    return [start(Recipe(**common, model=line, name=f"run{n}"), quiet=True) for n, line in enumerate(lines)]


def test_two_networks_on_one_page(digits: list[Path]):
    model, other = (striate.load(run, device="cpu") for run in digits)
    said: list[str] = []
    found = model.explain("digits:test", "landscape", other=str(digits[1]), steps=4, limit=48, say=said.append)
    assert found.values["names"] == ["run0", "run1"]
    rows = [row[0] for row in found.sections[0].tables[0].rows]
    assert rows[1:3] == ["mean rise of the loss at distance 0.5", "share of the inner square that is not convex"]
    one, two = found.values["landscapes"]
    assert one.surface.shape == (5, 5)
    again = other.explain("digits:test", "landscape", steps=5, limit=48).values["landscapes"][0]
    assert torch.equal(two.surface, again.surface)  # whichever is drawn beside it
    for figures in found.values["sharpness"]:
        assert figures["largest eigenvalue"] > 0
        assert figures["keskar"] > 0
        assert abs(figures["rounding"]) < 0.02 * figures["loss"] + 1e-3
    page = found.to_html()
    assert page.count("<svg") == 3
    assert "48 of the test split of digits:test" in page
    assert len(said) == 2 * (5 + 2)
    assert not any(layer.training for layer in model.module.modules())


def test_the_loss_at_the_centre_is_that_of_evaluation(digits: list[Path]):
    model = striate.load(digits[0], device="cpu")
    found = model.explain("digits:test", "landscape", steps=5, limit=10_000).values["sharpness"][0]
    model.task.temperature = 1.0
    assert found["loss"] == pytest.approx(model.evaluate("digits:test")["nll"], rel=1e-4)


def test_what_cannot_be_is_told_in_one_line(digits: list[Path]):
    model = striate.load(digits[0], device="cpu")
    with pytest.raises(UsageError, match="landscape needs labelled data"):
        explain(model, [torch.zeros(1, 8, 8, dtype=torch.uint8)], "landscape")
    with pytest.raises(DataError):
        explain(model, "nowhere", "landscape")
    with pytest.raises(DataError, match="no such model file"):
        explain(model, "digits:test", "landscape", other="nowhere.safetensors")


def test_networks_without_a_loss_outside_training_are_refused():
    task = SimpleNamespace(target_transform=as_target, collate=torch.tensor, loss=lambda outputs, targets: {})
    preprocess = Preprocess(size=(8, 8), channels=1, mean=(0.0,), std=(1.0,))
    card = SimpleNamespace(preprocess=preprocess, architecture="two-stage")
    model: Any = SimpleNamespace(module=nn.Flatten(), task=task, card=card, device=torch.device("cpu"))
    samples = [Sample(torch.zeros(1, 8, 8, dtype=torch.uint8), 3, "a")]
    with pytest.raises(UsageError, match="two-stage has no loss outside training"):
        batches_of(model, Request(samples))


def test_loss_at_weighs_batches_by_their_pictures():
    network, data = small_network(), batches((1, 7))
    weights = weights_of(network)
    images, targets = (torch.cat(parts) for parts in zip(*data, strict=True))
    whole = loss_at(network, weights, [(images, targets)], CLASSIFY)
    assert loss_at(network, weights, data, CLASSIFY).item() == pytest.approx(whole.item(), rel=1e-6)
