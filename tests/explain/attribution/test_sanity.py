"""Ranks against scipy, randomisation and curves of models whose reasons are known."""

from __future__ import annotations

import copy

import pytest
import torch
from scipy.stats import rankdata, spearmanr
from tests.explain.models import Sides, model_of, picture, zoo_model
from torch import Tensor, nn

from striate.errors import UsageError
from striate.explain.attribution.faithfulness import CELLS, STEPS, Curves, curves, curves_of, order_of
from striate.explain.attribution.sanity import (
    cascade,
    faithfulness_section,
    mean_ranks,
    randomise,
    rank_correlation,
    top_down,
)
from striate.explain.explained import ExplainedModel, look_at
from striate.explain.explanation import Request


@pytest.mark.parametrize("levels", [3, 40, 10_000])
def test_rank_correlation_is_scipys(levels: int):
    generator = torch.Generator().manual_seed(levels)
    one = torch.randint(levels, (20, 15), generator=generator).float()
    other = one + torch.randint(levels, (20, 15), generator=generator).float()
    assert mean_ranks(one.flatten()).tolist() == rankdata(one.flatten()).tolist()
    expected = spearmanr(one.flatten(), other.flatten()).statistic
    assert rank_correlation(one, other) == pytest.approx(expected)
    assert rank_correlation(one, one) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert rank_correlation(one, torch.zeros(20, 15)) == 0


def test_layers_lose_what_they_learnt_from_the_answer_down():
    model = zoo_model()
    network = copy.deepcopy(model.module)
    groups = top_down(network)
    assert list(groups) == ["head", "layer3", "layer2", "layer1", "stem"]
    everything = [parameter for found in groups.values() for parameter in found]
    assert sorted(map(id, everything)) == sorted(map(id, network.parameters()))
    before = copy.deepcopy(network.state_dict())
    randomise(groups["head"], torch.Generator().manual_seed(0))
    changed = {name for name, values in network.state_dict().items() if not torch.equal(values, before[name])}
    assert changed == {"fc.weight", "fc.bias"} or changed == {"fc.weight"}
    assert float(network.get_parameter("fc.weight").detach().std()) == pytest.approx(
        float(before["fc.weight"].std()), rel=0.3
    )
    plain = top_down(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 2)))
    assert list(plain) == ["2", "0"]


def test_a_map_that_does_not_look_at_the_network_never_changes():
    explained = ExplainedModel.of(zoo_model())
    seen, _ = look_at(explained, Request(picture(32, 32)))

    def edges(network: nn.Module, images: Tensor, evidence: object) -> Tensor:
        return images[0].diff(dim=2).abs().sum(0)

    def weights(network: nn.Module, images: Tensor, evidence: object) -> Tensor:
        return network.get_parameter("conv1.weight").detach().flatten(1)

    names, found = cascade(explained, seen, {"edges": edges, "weights": weights}, seed=0)
    assert names == ["head", "layer3", "layer2", "layer1", "stem"]
    assert found["edges"].tolist() == pytest.approx([1.0] * 6)
    assert found["weights"][:5].tolist() == pytest.approx([1.0] * 5)  # until the stem itself is random
    assert abs(float(found["weights"][5])) < 0.35
    _, again = cascade(explained, seen, {"weights": weights}, seed=0)
    assert torch.equal(again["weights"], found["weights"])


def test_the_order_is_by_squares_and_curves_are_those_of_a_loop():
    cells = torch.rand(CELLS, CELLS, generator=torch.Generator().manual_seed(2))
    order = order_of(cells.repeat_interleave(3, 0).repeat_interleave(3, 1))
    assert order.tolist() == cells.flatten().argsort(descending=True).tolist()

    model = model_of(Sides(), (CELLS * 2, CELLS * 2))
    explained = ExplainedModel.of(model)
    (one,), _ = look_at(explained, Request(picture(28, 28)))
    found = curves(explained, one, order)
    step = CELLS**2 // STEPS
    images = one.images.clone()
    for number in range(STEPS + 1):
        expected = model.module(images).softmax(1)[0, one.label].item()
        assert float(found.deletion[number]) == pytest.approx(expected, abs=1e-5)
        for cell in order[number * step : (number + 1) * step].tolist():
            row, column = 2 * (cell // CELLS), 2 * (cell % CELLS)
            images[:, :, row : row + 2, column : column + 2] = 0
    assert float(found.insertion[-1]) == pytest.approx(float(found.deletion[0]), abs=1e-6)
    assert 0 <= found.areas[0] <= 1


def test_the_true_reason_beats_a_random_order_and_its_opposite_loses():
    model = model_of(Sides(), (28, 28))
    explained = ExplainedModel.of(model)
    seen, _ = look_at(explained, Request([picture(28, 28, seed) for seed in range(2)]))
    contributions = []
    for one in seen:
        grey = one.images[0].mean(0).clone()
        grey[:, 14:] *= -1  # what is dark on the right speaks for left
        contributions.append(grey)
    found = curves_of(explained, seen, {"true": contributions, "false": [-one for one in contributions]}, seed=0)
    assert found["true"].areas[0] < found["random"].areas[0] < found["false"].areas[0]


def test_explain_sanity_gives_both_tests():
    told: list[str] = []
    found = zoo_model().explain(picture(32, 32), "sanity", say=told.append)
    assert found.values["randomised"] == ["head", "layer3", "layer2", "layer1", "stem"]
    for values in found.values["correlations"].values():
        assert values.shape == (6,)
        assert float(values[0]) == 1
    assert (
        set(found.values["deletion"])
        == set(found.values["insertion"])
        == {*found.values["correlations"], "occlusion", "random"}
    )
    assert any("made random: layer2" in line for line in told)
    assert [section.title for section in found.sections] == ["Layers made random", "Parts taken away"]
    page = found.to_html()
    assert "<svg" in page
    assert "1 picture. From the left" in page
    assert "the mean of 3 orders of each" in page


def test_insertion_that_tells_nothing_is_not_ranked():
    falling, low = torch.linspace(1, 0, STEPS + 1), torch.full((STEPS + 1,), 0.2)
    flat = torch.linspace(0.95, 1, STEPS + 1)
    section = faithfulness_section({"a": Curves(falling, flat), "Grad-CAM": Curves(low, flat - 0.03)}, 2)
    assert "insertion says nothing of any method" in section.text
    assert [row[0] for row in section.tables[0].rows] == ["Grad-CAM", "a"]
    rising = Curves(falling, torch.linspace(0, 1, STEPS + 1))
    section = faithfulness_section({"a": rising, "Grad-CAM": Curves(low, rising.insertion / 9)}, 2)
    assert "says nothing" not in section.text
    assert [row[0] for row in section.tables[0].rows] == ["a", "Grad-CAM"]


@pytest.mark.slow
def test_detectors_have_curves_too():
    found = zoo_model("detect", "fcos", 32).explain(picture(32, 32), "sanity")
    assert 0 <= found.values["deletion"]["Grad-CAM"] <= 1
    assert found.values["randomised"][0] == "head"


def test_answers_without_confidence_are_refused():
    with pytest.raises(UsageError, match="sanity is for classifiers and detectors; this model's task is keypoints"):
        zoo_model("keypoints", "soft/resnet18", 64).explain(picture(), "sanity")


@pytest.mark.slow
def test_guided_backpropagation_is_the_insensitive_one(shared_file, shared_data):
    """Adebayo et al. 2018, figure 2 and 4: Grad-CAM and gradients change at once, guided backpropagation hardly."""
    from striate.model import Model

    model = Model.load(shared_file("squeezenet1_0-imagenet.safetensors"), "cpu")
    folder = next(shared_data("imagenet-samples").rglob("*tiger.JPEG")).parent
    found = model.explain([str(folder / "n02129604_tiger.JPEG"), str(folder / "n01828970_bee_eater.JPEG")], "sanity")
    curves = found.values["correlations"]
    middle = {name: float(values[3]) for name, values in curves.items()}  # classifier, fire9 and fire8 are random
    assert middle["guided backpropagation"] == max(middle.values())
    assert middle["guided backpropagation"] > middle["Grad-CAM"] + 0.3
    assert found.values["insertion"]["Grad-CAM"] > found.values["insertion"]["random"]
    assert found.values["deletion"]["integrated gradients"] < found.values["deletion"]["random"]
