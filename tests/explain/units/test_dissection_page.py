from __future__ import annotations

import pytest
import torch

import striate
from striate.backbones import create_model
from striate.config import ModelCard, Preprocess
from striate.errors import UsageError
from striate.explain.explanation import Request
from striate.explain.units.dissection_page import explain_dissect, outlined
from striate.model import Model


def test_page_of_the_shapes():
    torch.manual_seed(0)
    card = ModelCard(
        task="classify",
        architecture="resnet18",
        classes=["a", "b"],
        preprocess=Preprocess(size=(64, 64), fit="squash"),
    )
    model = Model(create_model("resnet18", num_classes=2), card, "cpu")
    state = torch.random.get_rng_state()
    found = explain_dissect(model, Request("shapes:val", limit=6, layer="layer1", seed=4))
    assert torch.equal(state, torch.random.get_rng_state())
    assert found.values["iou"].shape == found.values["random_iou"].shape == (64, 5)
    assert not torch.equal(found.values["iou"], found.values["random_iou"])
    again = explain_dissect(model, Request("shapes:val", limit=6, layer="layer1", seed=4))
    assert torch.equal(found.values["random_iou"], again.values["random_iou"])
    page = found.to_html()
    assert page.count("data:image/webp") == 8
    assert "circle" in page
    for row in found.sections[0].tables[0].rows:
        assert row[6] >= max(row[3], row[4]) - 1e-6  # what is possible is never surpassed, not even by random weights
    assert "6 pictures are few: a unit is judged by its 7 strongest places" in found.notes[1]
    with pytest.raises(UsageError, match="layer1 has units 0 to 63"):
        explain_dissect(model, Request("shapes:val", limit=2, layer="layer1", units=(99,)))


def test_lines_around_what_is_excited():
    picture = torch.full((1, 64, 64), 200, dtype=torch.uint8)
    excited, concept = torch.zeros(2, 64, 64, dtype=torch.bool)
    excited[20:40, 20:40] = True
    shown = outlined(picture, excited, concept)
    assert shown.shape == (3, 256, 256)
    assert shown[:, 120, 120].tolist() == [200, 200, 200]
    assert shown[:, 0, 0].tolist() == [100, 100, 100]
    assert shown[:, 80, 120].tolist() == [255, 196, 0]


@pytest.mark.slow
def test_imagenet_units_detect_what_is_on_streets(shared_data, shared_file):
    model = striate.load(shared_file("squeezenet1_0-imagenet.safetensors"), device="cpu")
    found = model.explain(shared_data("camvid12"), "dissect")
    assert len(found.values["detectors"]) >= 20
    assert len(found.values["random_detectors"]) <= 3
