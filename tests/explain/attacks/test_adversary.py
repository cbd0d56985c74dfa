"""Pages of adversaries, on a model of brightness whose tipping point is known, on trained digits, on SqueezeNet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import striate
from striate.config import ModelCard, Preprocess, Recipe
from striate.data.sample import Sample
from striate.errors import DataError, UsageError
from striate.explain import explain
from striate.model import Model
from striate.train import start

CLASSES = ["dark", "light"]


class Brightness(nn.Module):
    """Light where the mean is above one half, which is between the grey levels 127 and 128."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(9.0))

    def forward(self, images: Tensor) -> Tensor:
        over = images.mean((1, 2, 3)) - 0.5
        return torch.stack([-self.weight * over, self.weight * over], dim=1)


def brightness_model(**arguments) -> Model:
    preprocess = Preprocess(size=(16, 16), channels=1, mean=(0.0,), std=(1.0,))
    card = ModelCard(
        task="classify", architecture="brightness", classes=CLASSES, preprocess=preprocess, task_arguments=arguments
    )
    return Model(Brightness(), card, device="cpu")


def grey(level: int) -> Tensor:
    return torch.full((1, 16, 16), level, dtype=torch.uint8)


@pytest.mark.parametrize(("level", "needed"), [(128, 1), (127, 1), (129, 2), (131, 4), (120, 8), (140, None)])
@pytest.mark.parametrize("steps", [None, 10])
def test_the_weakest_noise_that_changes_the_answer_is_found(level: int, needed: int | None, steps: int | None):
    options = {} if steps is None else {"steps": steps, "attack": "pgd"}
    found = brightness_model().explain([grey(level)], "adversary", **options).values["adversaries"][0]
    assert found.succeeded is (needed is not None)
    assert found.epsilon == pytest.approx((needed or 8) / 255)
    towards = -1 if level > 127 else 1
    if steps is None:  # all pixels by the whole of ε
        assert found.adversary.unique().tolist() == [level + towards * (needed or 8)]
    assert (found.adversary.int() - found.picture.int()).abs().max() <= (needed or 8)
    assert found.before.label == ("light" if level > 127 else "dark")
    assert (found.after.label != found.before.label) is found.succeeded
    assert found.after.confidence == pytest.approx(brightness_model().predict(found.adversary).confidence)


def test_a_strength_and_a_class_can_be_asked_for():
    model = brightness_model()
    found = model.explain([grey(100), grey(150)], "adversary", label="light", epsilon=0.2).values["adversaries"]
    assert [one.succeeded for one in found] == [True, True]  # the second is light already, and gets lighter
    assert [one.adversary.unique().tolist() for one in found] == [[151], [201]]
    one = model.explain([grey(150)], "adversary", label="dark", epsilon=0.05).values["adversaries"][0]
    assert not one.succeeded
    assert one.after.confidence < one.before.confidence


def test_where_several_labels_may_hold():
    model = brightness_model(multi_label=True, thresholds=[0.5, 0.5])
    one = model.explain([grey(129)], "adversary").values["adversaries"][0]
    assert one.before.labels == ("light",)
    assert one.after.labels == ("dark",)
    assert one.epsilon == pytest.approx(2 / 255)
    wanted = model.explain([grey(129)], "adversary", label="dark").values["adversaries"][0]
    assert wanted.succeeded
    assert torch.equal(wanted.adversary, one.adversary)


def test_the_page_tells_before_and_after(tmp_path: Path):
    Image.new("L", (16, 16), 128).save(tmp_path / "a$b.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    said: list[str] = []
    model = brightness_model()
    found = model.explain(tmp_path, "adversary", say=said.append)
    page = found.to_html()
    assert "1 of 1 answers changed" in page
    assert "a$b.png: light 50.9 % becomes dark 50.9 % by 1/255" in page
    assert len(said) == 1
    assert "broken.png" in found.notes[0]
    assert model.module.weight.grad is None
    assert model.module.weight.requires_grad


def test_what_cannot_be_is_told_in_one_line(tmp_path: Path):
    model = brightness_model()
    with pytest.raises(UsageError, match=r'no class is called "lihgt"\. Did you mean "light"'):
        explain(model, [grey(1)], "adversary", label="lihgt")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"none of the pictures .*broken\.png"):
        explain(model, tmp_path, "adversary")
    preprocess = Preprocess(size=(16, 16), channels=1, mean=(0.0,), std=(1.0,))
    scores = ModelCard(task="score", architecture="x", classes=["1", "2"], preprocess=preprocess)
    for how in ("adversary", "robust_accuracy"):
        with pytest.raises(UsageError, match=f"{how} is for classifiers; this model's task is score"):
            explain(Model(Brightness(), scores, device="cpu"), [grey(1)], how)


def test_options_of_attacks_are_checked():
    model = brightness_model()
    with pytest.raises(UsageError, match="ask for attack pgd"):
        explain(model, [grey(1)], "adversary", steps=5)
    with pytest.raises(UsageError, match="attack must be fgsm or pgd"):
        explain(model, [grey(1)], "adversary", attack="cw")
    with pytest.raises(UsageError, match="no pixel would change"):
        explain(model, [grey(1)], "adversary", epsilon=0.003)
    with pytest.raises(UsageError, match="towards one class"):
        explain(model, [grey(1)], "adversary", label=["dark", "light"])
    assert explain(model, [grey(130)], "adversary", label=0).values["results"][0]["after"]["label"] == "dark"
    found = explain(model, [grey(130)], "adversary", attack="pgd")
    assert "PGD, 10 steps" in found.facts["attack"]


def test_strengths_are_whole_grey_levels():
    model, samples = brightness_model(), [Sample(grey(128), 1, "a")]
    assert explain(model, samples, "robust_accuracy", epsilon=0.3).sections[0].tables[0].columns[:3] == (
        *("attack", "undisturbed", "ε 9/255"),
    )
    found = explain(model, samples, "robust_accuracy", epsilon=3 / 255).values["epsilons"]
    assert found == pytest.approx([0, 1 / 255, 2 / 255, 3 / 255])


def test_epsilons_of_a_model_whose_tipping_point_is_known():
    """Ten pictures 0.5, 1.5 … 9.5 levels above one half fall at ε = 1, 2 … levels; one is wrong from the start."""
    samples = [Sample(grey(128 + number), 1, str(number)) for number in range(10)] + [Sample(grey(120), 1, "wrong")]
    found = explain(brightness_model(), samples, "robust_accuracy", steps=5)
    old = explain(brightness_model(), samples, "epsilons", steps=5)
    assert (old.values, old.notes[-1][:40]) == (found.values, "epsilons is called robust_accuracy now; ")
    expected = [(10 - levels) / 11 for levels in range(9)]
    assert found.values["epsilons"] == pytest.approx([levels / 255 for levels in range(9)])
    assert found.values["fgsm"] == pytest.approx(expected)
    # from a random start not every pixel has come to the edge after five steps, so some still stand
    assert all(slow >= sure - 1e-9 for slow, sure in zip(found.values["pgd"], expected, strict=True))
    assert found.values["pgd"] == sorted(found.values["pgd"], reverse=True)
    assert found.values["count"] == 11
    assert "the labelled pictures given" in found.to_html()


def test_without_labels_the_models_own_answers_are_the_truth(tmp_path: Path):
    for level in (100, 128, 129, 200):
        Image.new("L", (16, 16), level).save(tmp_path / f"{level}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    found = explain(brightness_model(), tmp_path, "robust_accuracy", epsilon=0.2)
    assert found.values["fgsm"][0] == found.values["pgd"][0] == 1
    assert found.values["fgsm"][1:] == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25])
    text = found.sections[0].text
    assert text.startswith("Without labels that the model knows: the share of answers that stay the same.")
    assert "Under noise of 51/255 FGSM leaves 25.0 %" in text
    assert "rightly" not in found.to_html()
    assert found.title == "Answers of brightness under attack"
    assert "broken.png" in found.notes[0]
    with pytest.raises(DataError, match="no such file"):
        explain(brightness_model(), tmp_path / "nowhere", "robust_accuracy")


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> tuple[Path, Path]:
    """Two networks that read digits, the second better."""
    out = tmp_path_factory.mktemp("runs")
    common = {"data": "digits", "out": str(out), "epochs": 6, "batch": 32, "threads": 1}
    first = Recipe(**common, model="conv8-bn-relu-pool-conv16-bn-relu-gap", name="first")
    second = Recipe(**common, model="conv8-bn-relu-pool-conv16-bn-relu-flatten", name="second", seed=1)
    return start(first, quiet=True), start(second, quiet=True)


def test_adversaries_of_one_network_on_another(digits: tuple[Path, Path]):
    model, other = (striate.load(run, device="cpu") for run in digits)
    found = model.explain(
        "digits:test", "robust_accuracy", other=str(digits[1]), epsilon=0.4, limit=100, steps=5
    ).values
    everything = model.explain("digits:test", "robust_accuracy", limit=10_000, steps=1).values
    assert everything["fgsm"][0] == pytest.approx(model.evaluate("digits:test")["accuracy"])
    assert everything["count"] == len(model.evaluate("digits:test").samples)
    assert found["fgsm"][0] == found["pgd"][0]
    page = model.explain("digits:test", "robust_accuracy", other=str(digits[1]), limit=8, steps=1)
    assert [row[0] for row in page.sections[0].tables[0].rows][2:] == ["FGSM on second", "PGD, 1 steps on second"]
    assert found["pgd"][8] <= found["fgsm"][8] < 0.1
    assert found["transfer_fgsm"][0] == pytest.approx(other.evaluate("digits:test")["accuracy"], abs=0.1)
    # they harm the one that they were not made for, but less
    assert found["fgsm"][8] < found["transfer_fgsm"][8] < found["transfer_fgsm"][0]
    again = model.explain(
        "digits:test", "robust_accuracy", other=str(digits[1]), epsilon=0.4, limit=100, steps=5
    ).values
    assert again == found


def test_the_other_must_know_the_classes(digits: tuple[Path, Path]):
    with pytest.raises(UsageError, match='other: class "dark" is not among the 10'):
        explain(brightness_model(), [grey(1)], "robust_accuracy", other=str(digits[1]))


def test_squeezenet_is_fooled_by_two_grey_levels(shared_file, shared_data):
    """Published: ImageNet networks without defence fall to a few 1/255 (Kurakin et al. 2017, figure 2)."""
    model = striate.load(shared_file("squeezenet1_0-imagenet.safetensors"), device="cpu")
    photos = sorted(shared_data("imagenet-samples").rglob("*.JPEG"))[10:13]
    found = model.explain(photos, "adversary", epsilon=2 / 255, attack="pgd", steps=5).values["adversaries"]
    assert sum(one.succeeded for one in found) >= 2
    for one in found:
        assert (one.adversary.int() - one.picture.int()).abs().max() <= 2
