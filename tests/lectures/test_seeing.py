"""Parts G and H1 of the lectures: what can be computed by hand, what is known from outside, and what real data show."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from striate.lectures import LECTURES
from striate.lectures.page import Setting, Shown
from striate.lectures.seeing import adversary, dissection, features, landscape, real, top

IDS = [*(key for key in LECTURES if key[0] == "G"), "H1"]


def module_of(key: str):
    return importlib.import_module(f"striate.lectures.{LECTURES[key].module}")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Shown]:
    """What an id shows without any data, run once."""
    kept: dict[str, Shown] = {}
    cache = tmp_path_factory.mktemp("cache")

    def run(key: str) -> Shown:
        if key not in kept:
            kept[key] = module_of(key).show(Setting(cache))
        return kept[key]

    return run


@pytest.fixture(scope="module")
def printed() -> Callable[[str], str]:
    """What an id's lines print, run as they stand."""
    kept: dict[str, str] = {}

    def run(key: str) -> str:
        if key not in kept:
            told = io.StringIO()
            with contextlib.redirect_stdout(told):
                exec(compile(module_of(key).PYTHON, key, "exec"), {})  # the very text of the page
            kept[key] = told.getvalue()
        return kept[key]

    return run


@pytest.mark.parametrize("key", IDS)
def test_the_lines_run_and_are_few(key: str, printed):
    assert printed(key).strip()
    lines = [line for line in module_of(key).PYTHON.splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith(("import", "from"))]) <= 10


@pytest.mark.parametrize("key", IDS)
def test_without_data_the_rest_shows_and_says_what_is_missing(key: str, shown):
    found = shown(key)
    assert found.checks
    assert all(check.agrees for check in found.checks)
    assert found.sections
    assert found.missing
    assert all("--data" in line for line in found.missing)


@pytest.mark.parametrize("key", IDS)
def test_ideas_are_short_and_name_their_source(key: str):
    first, *_ = (module_of(key).__doc__ or "").strip().split("\n\n")
    assert re.search(r"\b20[01]\d\b", first), "no citation"
    assert len(re.findall(r"[.?:](\s|$)", first)) <= 5


# G1


def test_gabors_have_a_direction_and_blobs_have_none():
    y, x = torch.meshgrid(torch.arange(-3.0, 4), torch.arange(-3.0, 4), indexing="ij")
    bell = torch.exp(-(x**2 + y**2) / 5)
    bars, turned, spot = torch.cos(2 * x) * bell, torch.cos(1.4 * (x + y)) * bell, bell - bell.mean()
    red_green = torch.stack((bell, -bell, 0 * bell))
    found = features.kinds_of(torch.stack([*(one.expand(3, -1, -1) for one in (bars, turned, spot)), red_green]))
    assert (found.direction[:2] > 0.8).all()
    assert (found.direction[2:] < 1e-3).all()
    torch.testing.assert_close(found.brightness, torch.tensor([1.0, 1, 1, 0]), atol=1e-5, rtol=0)
    assert found.frequency[0] > found.frequency[3]


def test_direction_does_not_depend_on_the_angle_or_the_contrast():
    filters = torch.randn(6, 1, 7, 7, generator=torch.Generator().manual_seed(0))
    found = features.kinds_of(filters).direction
    for other in (filters.rot90(1, (2, 3)), filters.flip(3), -3 * filters, filters.transpose(2, 3)):
        torch.testing.assert_close(features.kinds_of(other).direction, found, atol=1e-4, rtol=1e-4)


# G2


def test_loops_are_a_deconvnet():
    """On one picture worked out by hand: the way of one value, up and down."""
    image = torch.zeros(6, 8)
    image[2, 3] = 5
    centre = torch.zeros(1, 1, 3, 3)
    centre[0, 0, 1, 1] = 2  # the picture, twice
    second = torch.tensor([[[[1.0, 0], [0, 0]]]])  # the value itself
    projection, value = top.by_loops(image, centre, second, 0, 0, 1)
    assert value == 10  # the rectified map, 4×6, has 10 at (1, 2): in window (0, 1)
    assert projection[2, 3] == 20
    assert projection.count_nonzero() == 1


def test_negative_signals_are_rectified_on_the_way_back():
    image = torch.ones(6, 6)
    centre = torch.zeros(2, 1, 3, 3)
    centre[:, 0, 1, 1] = torch.tensor([1.0, 3.0])
    second = torch.zeros(1, 2, 2, 2)
    second[0, 0, 0, 0], second[0, 1, 0, 0] = -1, 1  # the first map speaks against
    projection, value = top.by_loops(image, centre, second, 0, 0, 0)
    assert value == 2
    assert projection.sum() == 6  # 2 x 3 of the second map; nothing of the first


def test_chance_is_that_of_dice():
    labels = torch.arange(10).repeat(100)
    rolls = np.random.default_rng(0).integers(0, 10, (20_000, 9))
    expected = np.mean([np.bincount(row).max() / 9 for row in rolls])
    assert top.by_chance(labels) == pytest.approx(expected, abs=0.01)


def test_varied_units_share_no_pictures_where_they_can():
    pictures = torch.tensor([[0, 1, 2], [0, 1, 2], [2, 3, 4], [5, 6, 7]])
    assert top.varied(pictures, [0, 1, 2, 3], 3) == [0, 3, 2]
    assert top.varied(pictures, [2], 3) == [2]


# G3


def test_worked_iou_from_sets():
    image, masks = dissection.example()
    excited = {(9, 9), (9, 10)}
    assert {tuple(place) for place in (image[0] > 0).nonzero().tolist()} == excited
    square, bar = ({tuple(place) for place in mask.nonzero().tolist()} for mask in masks)
    assert len(excited & square) / len(excited | square) == 0.5
    assert len(excited & bar) / len(excited | bar) == 0.25


def test_a_dissection_comes_back_from_json():
    import json

    numbers = {
        "trained": {
            "iou": [[0.1, 0.0], [0.01, 0.05]],
            "thresholds": [1.0, 2.0],
            "shares": [0.1, 0.2],
            "peaks": [[1.5, 2.5]],
            "areas": [0.005, 0.004],
            "above": 12,
            "place": [[3, 3], [2, 2], [-1, -1]],
        }
    }
    found = dissection.restored(json.loads(json.dumps(numbers)), "trained", ("a", "b"))
    assert [(unit, concept) for unit, concept, _ in found.detectors()] == [(0, "a"), (1, "b")]
    assert found.place is not None
    assert found.place.first == (-1, -1)


# G4


def test_growing_a_layer_leaves_the_function(shown):
    wanted = {check.what: check.ours for check in shown("G4").checks}
    assert wanted["filters (6, 8) and (0, 1): lengths of a normalised direction’s"] == "10 and 1"


def test_a_landscape_comes_back_from_json():
    import json

    from striate.explain.landscape.loss_surface import Landscape

    axis = torch.linspace(-1, 1, 3, dtype=torch.float64)
    surface, lines = torch.rand(3, 3, dtype=torch.float64), torch.rand(5, 3, dtype=torch.float64)
    found = landscape.restored(json.loads(json.dumps(landscape.stored(Landscape(axis, surface, lines, 0.5, 0.25)))))
    assert torch.equal(found.surface, surface)
    assert torch.equal(found.lines, lines)
    assert (found.centre, found.centre_fp32) == (0.5, 0.25)


def test_unscaled_directions_leave_biases():
    weights = {"w": torch.ones(3, 2), "b": torch.ones(3)}
    found = landscape.unscaled(weights, 0, "line")
    assert found["b"].count_nonzero() == 0
    assert found["w"].count_nonzero() == 6


# G5


def test_digits_are_pixels_again():
    network, images, labels = adversary.learnt_digits()
    assert images.shape == (597, 1, 8, 8)
    assert images.min() == 0
    assert images.max() == 1
    whole = 16 * images
    torch.testing.assert_close(
        whole, whole.round(), atol=1e-4, rtol=0
    )  # scikit-learn's are whole numbers of sixteenths
    assert (network(images).argmax(1) == labels).float().mean() > 0.9


def test_fgsm_of_a_linear_model_is_known(shown):
    """Of w·x the worst noise of size ε is ε·sign(w), and it costs ε·‖w‖₁ (Goodfellow et al., section 3)."""
    from striate.explain.attacks.gradient import fgsm

    weights = torch.tensor([[0.5, -2.0, 1.0]])
    images = torch.full((1, 1, 1, 3), 0.5)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 1, bias=False))
    network[1].weight.data = weights
    noisy = fgsm(network, images, torch.zeros(1, 1), 0.1, loss=lambda outputs, targets: -outputs.sum())
    with torch.inference_mode():
        fall = float(network(images) - network(noisy))
    assert fall == pytest.approx(0.1 * 3.5, rel=1e-5)
    assert "falls" in {check.printed for check in shown("G5").checks}


# H1


def test_grams_by_numpy(shown, printed):
    maps = np.array([[1, 2, 3, 4], [0, 1, 1, 0]])
    assert (maps @ maps.T).tolist() == [[30, 5], [5, 2]]
    ones = np.ones((2, 4))
    loss = ((ones @ ones.T - maps @ maps.T) ** 2).sum() / (4 * 2**2 * 4**2)
    assert loss == 682 / 256
    assert f"{loss:.4g}" in {check.ours for check in shown("H1").checks}
    assert "2.6641" in printed("H1")


# with real data


@pytest.fixture(scope="module")
def with_data(shared_file, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Shown]:
    folder = shared_file(real.WEIGHTS).parent
    setting = Setting(tmp_path_factory.mktemp("cache"), folder)
    return lambda key: module_of(key).show(setting)


def test_labels_are_those_of_the_file_names(shared_file, tmp_path: Path):
    setting = Setting(tmp_path, shared_file(real.CLASSES).parent)
    samples = real.labelled(setting)
    if not samples:
        pytest.skip("needs imagenet-samples.zip")
    from torchvision.models import SqueezeNet1_0_Weights

    names = SqueezeNet1_0_Weights.IMAGENET1K_V1.meta["categories"]
    by_name = {sample.name: names[sample.target] for sample in samples}  # type: ignore[index]
    assert by_name["n02129604_tiger.JPEG"] == "tiger"
    assert by_name["n02483362_gibbon.JPEG"] == "gibbon"
    assert len(samples) == 116


def test_first_filters_of_a_real_network(shared_file):
    from striate.model import load

    checks, section = features.first_filters(load(shared_file(real.WEIGHTS), "cpu"))
    assert all(check.agrees for check in checks)
    assert len(section.figures) == 2


@pytest.mark.slow
@pytest.mark.parametrize("key", ["G1", "G2", "G3", "G5", "H1"])  # G4 trains for ten minutes: striate lectures G4
def test_with_real_data_the_claims_hold(key: str, with_data):
    found = with_data(key)
    assert not found.missing
    assert [check.what for check in found.checks if not check.agrees] == []


def test_missing_data_is_named_once(tmp_path: Path):
    setting = Setting(tmp_path, tmp_path)
    told = real.absent(setting, {real.WEIGHTS: "filters", real.PHOTOS: "maps"})
    assert [line.split()[0] for line in told] == [real.WEIGHTS, "imagenet-samples.zip"]
