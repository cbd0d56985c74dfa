"""Part B: what pages say against the lectures' numbers, typed here from LECTURES.md, NUMBERS.md and the papers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.lectures.known import said

from striate.lectures import LECTURES
from striate.lectures.page import Check, Setting, Shown

IDS = [name for name in LECTURES if name.startswith("B")]
# what the lectures print and our networks do not agree with; their pages say why
DIFFER = {
    "B4": {"parameters without the auxiliary classifiers"},
    "B8": {"B7 over B0, by φ = 6"},
}


@dataclass(frozen=True)
class Nowhere(Setting):
    """No data; nothing takes long."""

    known: Any = None

    def found(self, name: str) -> Path | None:
        return None

    def remembered(self, name: str, inputs: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return compute() if self.known is None else self.known


def module_of(name: str) -> ModuleType:
    return import_module(f"striate.lectures.{LECTURES[name].module}")


def by_name(shown: Shown) -> dict[str, Check]:
    return {check.what: check for check in shown.checks}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Shown]:
    made: dict[str, Shown] = {}

    def page(name: str) -> Shown:
        if name not in made:
            known = costs() if name == "B3" else None
            made[name] = module_of(name).show(Nowhere(tmp_path_factory.getbasetemp(), known=known))
        return made[name]

    return page


def costs() -> dict[str, Any]:
    """As `measured` gives them, with times that nobody measured."""
    from dataclasses import asdict

    from striate.profiling.networks import find_networks

    networks = find_networks(["vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "resnet152"])
    return {
        one.name: {**asdict(one), "memory_bytes": 2 * one.file_bytes, "latency_ms": one.multiply_adds / 1e8}
        for one in networks
    }


@pytest.mark.parametrize("name", IDS)
def test_every_page_has_checks_drawings_and_an_idea(pages, name: str):
    shown = pages(name)
    assert {check.what for check in shown.checks if not check.agrees} == DIFFER.get(name, set())
    assert all(check.why for check in shown.checks if not check.agrees)
    assert any(section.figures for section in shown.sections)
    assert all(figure.alt for section in shown.sections for figure in section.figures)
    assert module_of(name).__doc__.count(".") >= 3


@pytest.mark.parametrize("name", IDS)
def test_letters_in_drawings_do_not_lie_on_each_other(pages, name: str):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    for section in pages(name).sections:
        for figure in section.figures:
            canvas = FigureCanvasAgg(figure.content)
            canvas.draw()
            letters = [one for one in figure.content.findobj(Text) if one.get_visible() and one.get_text().strip()]
            boxes = [(one.get_text(), one.get_window_extent(canvas.get_renderer())) for one in letters]
            for (one, a), (other, b) in combinations(boxes, 2):
                wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
                assert wide < 2 or high < 2, f"{section.title}: {one!r} on {other!r}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("B1", ["61,706 parameters"]),
        ("B2", ["alexnet: 61,100,840 parameters", "(96, 55, 55), 34,944 of them"]),
        ("B3", ["vgg16: 138.4 M parameters, 15.47 G multiply-adds, 528 MB", "resnet50: 25.6 M"]),
        ("B4", ["direct 120 M", "2.4 M + 10.0 M", "90% less"]),
        ("B5", ["True a block", "25,557,032 parameters, 4.09 G"]),
        ("B6", ["convnext_tiny: 28.6 M parameters, 4.46 G"]),
        ("B7", ["0.115017 of the multiply-adds; 1/C_out + 1/f² = 0.115017"]),
        ("B8", ["= 1.920", "phi 0: 224 px, 0.39 G"]),
        ("B9", ["88,753,150 parameters"]),
        ("B10", ["(1, 10, 5, 9)"]),
        ("B11", ["784-256-128-10: 235,146 parameters"]),
    ],
)
def test_ten_lines_run_and_print_the_number(name: str, expected: list[str]):
    python = module_of(name).PYTHON
    assert len(python.splitlines()) <= 10
    printed = said(python)
    for part in expected:
        assert part in printed


def test_lenet_and_alexnet_as_printed(pages):
    lenet, alexnet = by_name(pages("B1")), by_name(pages("B2"))
    assert lenet["parameters"].ours == "61,706"
    assert lenet["six 5×5 filters on 32×32"].ours == "28×28×6"
    # the paper of 1998: 60,000 trainable parameters
    from striate.lectures.architectures.lenet import PAPER_C3, PAPER_POOLS

    assert 156 + PAPER_POOLS + PAPER_C3 + 48_120 + 10_164 == 60_000
    assert alexnet["first layer: 96 filters of 11×11×3, stride 4"].ours == "55×55×96"
    assert alexnet["its parameters"].ours == "34,944"
    assert alexnet["weights of a dense layer in its place"].ours == "43.7·10⁹"


def test_vgg_by_column(pages):
    table = pages("B3").sections[0].tables[0]
    counts = {row[1]: row[3] for row in table.rows}
    assert counts == {
        "vgg11": 132_863_336,
        "vgg11_bn": 132_868_840,
        "vgg11_lrn": 132_863_336,
        "vgg13": 133_047_848,
        "vgg13_bn": 133_053_736,
        "vgg16c": 133_638_952,
        "vgg16": 138_357_544,
        "vgg16_bn": 138_365_992,
        "vgg19": 143_667_240,
        "vgg19_bn": 143_678_248,
    }
    checks = by_name(pages("B3"))
    assert checks["VGG-16: multiply-adds"].ours == "15.47 G"
    assert "15.347 G" in checks["VGG-16: multiply-adds"].why
    assert checks["VGG-16: size of the file"].ours == "527.8 MB"


def test_inception_costs_as_printed(pages):
    checks = by_name(pages("B4"))
    ours = [check.ours for check in checks.values()]
    places = 28 * 28
    assert ours[:4] == [f"{places * 192 * 32 * 25:,}", f"{places * 192 * 16:,}", f"{places * 16 * 32 * 25:,}", "89.7%"]
    assert checks["layers with weights, one after another"].ours == "22"


def test_resnet_as_printed(pages):
    checks = by_name(pages("B5"))
    assert checks["ResNet-50: parameters"].ours == "25,557,032"
    assert checks["ResNet-152: parameters"].ours == "60,192,808"
    assert checks["ResNet-50: multiply-adds"].ours == "4.09 G"
    assert "3.858 G" in checks["ResNet-50: multiply-adds"].why
    assert "largest difference 0" in checks["with zero residual weights a block is the identity"].ours
    # torchvision's metadata: 92.862 and 90.382 % top-5
    assert "7.14 % against 9.62 %" in checks["top-5 error on ImageNet, ResNet-50 against VGG-16"].ours
    assert any("cifar10-jpg.zip" in line for line in pages("B5").missing)


def test_depth_is_judged_by_its_last_errors(tmp_path: Path):
    from striate.lectures.architectures.depth import plain_against_residual

    curve = {"plain-56": [0.9, 0.7], "residual-56": [0.8, 0.1], "plain-20": [0.8, 0.2], "residual-20": [0.7, 0.1]}
    known = {name: {"error": error, "loss": [2.0, 1.0], "seconds": 1.0} for name, error in curve.items()}

    class WithPictures(Nowhere):
        def found(self, name: str) -> Path:
            return tmp_path

    checks, section, told = plain_against_residual(WithPictures(tmp_path, known=known))
    assert [check.agrees for check in checks] == [True, True]
    assert not told
    assert section.figures
    known["plain-56"]["error"] = [0.9, 0.2]
    checks, _, _ = plain_against_residual(WithPictures(tmp_path, known=known))
    assert not checks[0].agrees


@pytest.mark.slow
def test_depth_trains_on_real_pictures(shared_data, tmp_path: Path):
    from striate.lectures.architectures.depth import NETWORKS, trained

    source = shared_data("cifar10-jpg")
    found = trained(source, Nowhere(tmp_path), pictures=40, judged=20, epochs=2, recipe="--batch 20")
    assert set(found) == set(NETWORKS)
    assert all(len(one["error"]) == 2 and 0 <= one["error"][-1] <= 1 for one in found.values())


@pytest.mark.slow
def test_vgg_against_resnet_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from striate.lectures.architectures import vgg

    monkeypatch.setattr(vgg, "COMPARED", ("vgg16", "resnet50"))
    monkeypatch.setattr(vgg, "SECONDS", 0.2)
    found = vgg.measured(Nowhere(tmp_path))
    check, _ = vgg.compared(found)
    assert check.agrees


def test_convnext_in_nine_steps(pages):
    from striate.lectures.architectures.convnext import STEPS, multiply_adds

    assert multiply_adds(STEPS["ResNet-50"][0]) == 4_089_184_256  # torchvision: 4.089
    assert f"{multiply_adds(STEPS['own layers to halve'][0]) / 1e9:.3f}" == "4.456"  # torchvision: 4.456
    # figure 2 of the paper, G multiply-adds from top to bottom
    printed = (4.1, 4.5, 4.4, 2.4, 5.3, 4.6, 4.1, 4.2, 4.5)
    ours = [multiply_adds(design) / 1e9 for design, _, _ in STEPS.values()]
    assert ours == pytest.approx(printed, abs=0.06)


def test_mobile_networks_as_printed(pages):
    from striate.lectures.architectures.mobilenet import counted_in_full

    assert counted_in_full() / 1e6 == pytest.approx(4866, abs=2)  # table 4 of the paper
    checks = by_name(pages("B7"))
    assert checks["MobileNet V1: parameters"].ours == "4,231,976"
    assert checks["MobileNet V2: parameters"].ours == "3,504,872"


def test_compound_scaling_as_printed(pages):
    checks = by_name(pages("B8"))
    assert checks["α · β² · γ²"].ours == "1.920"
    rows = pages("B8").sections[0].tables[0].rows
    assert rows[0][5] == 5_288_548
    assert rows[7][5] == 66_347_960
    assert f"{rows[7][6] / 1e9:.3f}" == "37.746"


def test_nasnet_and_lines_as_printed(pages):
    assert by_name(pages("B9"))["NASNet-A large: parameters"].ours == "88,753,150"
    assert by_name(pages("B11"))["784-256-128-10"].ours.startswith("235,146 from the line, 235,146 by name, 235,146")
    assert by_name(pages("B11"))["LeNet-5 as a line"].ours == "61,706"
    product = by_name(pages("B10"))["a 1×1 convolution against a product of matrices"]
    assert product.ours == "largest difference 0"
