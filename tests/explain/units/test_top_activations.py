from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from striate.backbones import create_model
from striate.config import ModelCard, Preprocess
from striate.errors import DataError, UsageError
from striate.explain.explanation import Request
from striate.explain.units.top_activations import explain_top, look, top_activations
from striate.model import Model


def small(size: int = 24) -> Model:
    torch.manual_seed(0)
    card = ModelCard(
        task="classify",
        architecture="squeezenet1_1",
        classes=["a", "b", "c"],
        preprocess=Preprocess(size=(size, size), fit="squash"),
    )
    return Model(create_model("squeezenet1_1", num_classes=3), card, "cpu")


@pytest.mark.parametrize("batch", [1, 4, 23])
def test_against_sorting_everything(batch: int):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.Conv2d(5, 6, 3))
    images = torch.randn(23, 3, 9, 11)
    found = top_activations(network, "2", images.split(batch), k=4)
    maps = network(images).detach().numpy()
    for unit in range(6):
        highest = maps[:, unit].reshape(23, -1).max(1)
        order = np.argsort(-highest, kind="stable")[:4]
        np.testing.assert_allclose(found.values[unit], highest[order], rtol=1e-5)
        assert found.pictures[unit].tolist() == order.tolist()
        for rank, number in enumerate(order):
            row, column = np.unravel_index(maps[number, unit].argmax(), maps.shape[2:])
            assert (int(found.rows[unit, rank]), int(found.columns[unit, rank])) == (row, column)
        assert float(found.mean[unit]) == pytest.approx(highest.mean(), rel=1e-4)
        assert float(found.deviation[unit]) == pytest.approx(highest.std(), rel=1e-3)
    assert found.count == 23


def test_fewer_pictures_than_asked_for_and_none():
    network = nn.Sequential(nn.Conv2d(1, 2, 1))
    assert top_activations(network, "0", [torch.randn(3, 1, 4, 4)]).values.shape == (2, 3)
    with pytest.raises(UsageError, match="no pictures"):
        top_activations(network, "0", [])


def test_equals_keep_their_order():
    network = nn.Sequential(nn.Conv2d(1, 2, 1))
    found = top_activations(network, "0", torch.ones(6, 1, 4, 4).split(2), k=3)
    assert found.pictures.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert not found.rows.any()


def test_selective_units_stand_out_and_dead_ones_come_last():
    network = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU())
    network[0].weight.data = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, -1]])[:, :, None, None]
    images = torch.rand(40, 3, 2, 2)
    images[:9, 1] += 50  # the second unit likes nine pictures, the third none
    found = top_activations(network, "1", [images])
    assert found.selective(3) == [1, 0, 2]


def test_flat_folder_of_photos(tmp_path):
    """Unlabelled pictures; what cannot be read is told."""
    for number in range(5):
        Image.fromarray(np.full((24, 24, 3), 40 * number, np.uint8)).save(tmp_path / f"photo {number}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    found = explain_top(small(), Request(str(tmp_path), layer="features.0", units=(0, 3)))
    values = found.values["features.0"]
    assert set(values["units"]) == {0, 3}
    assert len(values["units"][0]["pictures"]) == 5
    assert all(name.startswith("photo ") for name in values["units"][0]["pictures"])
    assert any("broken.png" in note for note in found.notes)
    assert found.to_html().count("data:image/webp") == 2


def test_crops_are_what_the_unit_saw():
    """A unit that answers to brightness, and one bright pixel: the crop is the 3 × 3 pixels with it in the middle."""
    model = small(21)
    with torch.no_grad():
        first = model.module.get_submodule("features.0")
        first.weight.zero_()
        first.weight[0, :, 1, 1] = 1
    pictures = [np.zeros((21, 21, 3), np.uint8) for _ in range(3)]
    pictures[1][7, 11] = 255
    (seen,), skipped = look(model, Request(pictures, units=(0,)), ["features.0"], 8)
    assert not skipped
    assert seen.place is not None
    assert seen.place.field == (3, 3)
    crop = seen.crops(0)[0]
    assert crop.shape == (3, 3, 3)
    assert crop[0].tolist() == [[0, 0, 0], [0, 255, 0], [0, 0, 0]]
    assert seen.captions(0)[0].endswith("picture 1")


def test_data_set_split_and_limit():
    torch.manual_seed(0)
    card = ModelCard(
        task="classify",
        architecture="lenet5",
        classes=list("0123456789"),
        preprocess=Preprocess(size=(32, 32), channels=1, mean=(0.5,), std=(0.5,)),
    )
    model = Model(create_model("lenet5", num_classes=10, in_chans=1), card, "cpu")
    found = explain_top(model, Request("digits:test", limit=30))
    assert found.facts["pictures"] == "30"
    again = explain_top(model, Request("digits:test", limit=30))
    assert again.values == found.values
    other = explain_top(model, Request("digits:test", limit=30, seed=1))
    assert other.values != found.values


def test_what_is_not_there(tmp_path):
    model = small()
    with pytest.raises(UsageError, match="no layer"):
        explain_top(model, Request([np.zeros((24, 24, 3), np.uint8)], layer="feature.0"))
    with pytest.raises(UsageError, match="has units 0 to 63, not 64"):
        explain_top(model, Request([np.zeros((24, 24, 3), np.uint8)], layer="features.0", units=(64,)))
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of the 1 pictures could be read; the first"):
        explain_top(model, Request([tmp_path / "a.png"]))
    with pytest.raises(DataError, match="nowhere"):
        explain_top(model, Request(str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match="none of the 0 pictures"):
        explain_top(model, Request([]))
