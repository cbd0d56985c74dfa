"""Transfer: the head against scikit-learn, the cache by content, who moves and how fast, and real pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from striate import load
from striate.backbones import create_model
from striate.config import Preprocess, Recipe
from striate.data.sample import Sample
from striate.train.fit import fit
from striate.train.job import model_arguments
from striate.train.transfer import (
    cached_features,
    choose,
    content_key,
    fit_head,
    fit_linear,
    keep_still,
    rate_scales,
    without_classifier,
)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))


def problem(count: int = 300, width: int = 12, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(classes, (count,), generator=generator)
    centres = torch.randn(classes, width, generator=generator)
    return centres[targets] + 1.5 * torch.randn(count, width, generator=generator) + 3, targets


def test_the_head_is_scikit_learns_logistic_regression():
    features, targets = problem()
    strength = 0.01
    weight, bias = fit_linear(features, targets, 3, F.cross_entropy, strength)
    spread = (features - features.mean(0)) / features.std(0, correction=0)
    # scikit-learn adds the losses and halves the squares: C = 1 / (N * strength)
    theirs = LogisticRegression(C=1 / (len(features) * strength), tol=1e-8, max_iter=5000)
    theirs.fit(spread.numpy().astype(np.float64), targets.numpy())
    ours = (features @ weight.T + bias).softmax(1)
    expected = torch.from_numpy(theirs.predict_proba(spread.numpy().astype(np.float64))).float()
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-3)


def test_cross_validation_tells_noise_from_classes():
    features, targets = problem()

    def accuracy(outputs, wanted):
        return (outputs.argmax(1) == wanted).float().mean()

    learnt = fit_head(features, targets, 3, F.cross_entropy, accuracy, seed=0)
    shuffled = targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(1))]
    noise = fit_head(features, shuffled, 3, F.cross_entropy, accuracy, seed=0)
    assert learnt.score > 0.8
    assert noise.score < 0.45
    assert noise.strength > learnt.strength  # nothing to learn: the head is kept small
    assert fit_head(features[:4], targets[:4], 3, F.cross_entropy, accuracy, seed=0).weight.shape == (3, 12)


def test_features_are_computed_once_and_known_by_content(tmp_path: Path):
    model = create_model("resnet20_cifar", num_classes=3).eval()
    preprocess = Preprocess(size=(32, 32))
    samples = [Sample(torch.full((3, 8, 8), value, dtype=torch.uint8), 0, str(value)) for value in range(3)]
    calls = []

    def compute(body):
        calls.append(body)
        return body(torch.rand(3, 3, 32, 32)).detach(), torch.arange(3)

    first, _ = cached_features(model, samples, preprocess, compute)
    again, indices = cached_features(model, samples, preprocess, compute)
    assert first.shape == (3, 64)
    assert torch.equal(first, again)
    assert indices.tolist() == [0, 1, 2]
    assert len(calls) == 1
    key = content_key(model, samples, preprocess)
    with torch.no_grad():
        model.fc.weight.add_(1)  # the head is no part of it
    assert content_key(model, samples, preprocess) == key
    assert content_key(model, samples[:2], preprocess) != key
    assert content_key(model, samples, preprocess.model_copy(update={"size": (64, 64)})) != key
    with torch.no_grad():
        model.conv1.weight[0, 0, 0, 0] += 1e-3
    assert content_key(model, samples, preprocess) != key


def test_the_classifier_is_put_back():
    model = create_model("resnet20_cifar", num_classes=3).eval()
    images = torch.rand(2, 3, 32, 32)
    with without_classifier(model) as body:
        assert body(images).shape == (2, 64)
    assert model(images).shape == (2, 3)


def test_what_is_chosen_and_why():
    assert choose(torch.tensor([5, 9, 7]), 0.5, "accuracy")[0] == "features"
    assert choose(torch.tensor([100, 90]), 0.99, "accuracy")[0] == "features"
    how, why = choose(torch.tensor([100, 90]), 0.8, "accuracy")
    assert how == "finetune"
    assert "95 pictures" in why


def test_stages_learn_slower_the_deeper_they_lie_under_the_head():
    model = create_model("resnet20_cifar", num_classes=3)
    scales = rate_scales(model, 0.5, frozen_stages=1)
    assert scales["fc.weight"] == 1
    assert scales["layer3.0.conv1.weight"] == 0.5
    assert scales["layer2.0.conv1.weight"] == 0.25
    assert scales["conv1.weight"] == 0.0625
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == ["conv1.weight", "bn1.weight", "bn1.bias"]


def test_statistics_of_batch_norms_stay():
    model = create_model("resnet20_cifar", num_classes=3).train()
    keep_still(model, Recipe(freeze_bn=True))
    before = model.bn1.running_mean.clone()
    model(torch.rand(4, 3, 32, 32) * 9)
    assert torch.equal(model.bn1.running_mean, before)
    model.train()
    keep_still(model, Recipe(freeze_bn=False))
    model(torch.rand(4, 3, 32, 32) * 9)
    assert not torch.equal(model.bn1.running_mean, before)


def test_a_run_starts_from_a_run(tmp_path: Path):
    """Both ways begin where the first run ended, and neither loses what it knew."""
    options = {"data": "digits", "out": str(tmp_path), "epochs": 5, "threads": 1, "limit": 600}
    first = fit(Recipe(**options, name="first", model="(conv16-bn-relu)x2-pool-conv32-bn-relu-gap"), quiet=True)
    weights = str(first / "model.safetensors")
    features = fit(Recipe(**options | {"epochs": 0}, name="features", weights=weights, transfer="features"), quiet=True)
    card = load(features / "model.safetensors").card
    assert card.architecture.startswith("(conv16")
    assert card.recipe["transfer"] == "features"
    before = load(weights).card.metrics["accuracy"]
    assert card.metrics["accuracy"] > before - 0.02
    tuned = fit(Recipe(**options, name="tuned", weights=weights, transfer="finetune"), quiet=True)
    assert load(tuned / "model.safetensors").card.metrics["accuracy"] > before - 0.02


def test_squeezenets_features_know_ants_from_bees(shared_data, shared_file, tmp_path: Path):
    weights = shared_file("squeezenet1_0-imagenet.safetensors")
    data = next(path.parent for path in shared_data("hymenoptera").rglob("train") if path.is_dir())
    run = fit(
        Recipe(data=str(data), weights=str(weights), transfer="features", out=str(tmp_path), threads=1), quiet=True
    )
    model = load(run / "model.safetensors")
    assert model.card.preprocess.size == (227, 227)  # the weights' own way
    assert model.card.metrics["accuracy"] >= 0.85  # a plain logistic regression on pooled features: 0.85 to 0.875


@pytest.mark.parametrize(("model", "transfer", "new"), [("squeezenet1_0", "auto", True), ("resnet18", "auto", False)])
def test_a_head_that_dies_on_few_classes_is_replaced_even_from_scratch(model, transfer, new):
    """SqueezeNet's classifier ends in a ReLU; ants against bees it stayed at a loss of ln 2 from the third epoch on."""
    arguments = model_arguments(Recipe(data="x", model=model, transfer=transfer), Preprocess(size=(64, 64)))
    assert arguments.get("linear_head", False) == new
    last = create_model(model, num_classes=2, **arguments)
    assert isinstance(last.get_submodule(last.last_layer), torch.nn.Linear)


def test_without_transfer_the_published_head_stays():
    recipe = Recipe(data="x", model="squeezenet1_0", transfer="none")
    assert "linear_head" not in model_arguments(recipe, Preprocess(size=(64, 64)))
