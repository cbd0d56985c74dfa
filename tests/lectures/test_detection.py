"""Part D: the lectures' numbers for windows, boxes and suppression; outside truths: plain loops, torchvision, worked
examples."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from striate.lectures.detection import anchors, ladder, search, sliding, suppression
from striate.lectures.page import Setting


@dataclass(frozen=True)
class Known(Setting):
    """What was found, by name, and what every long run gave; None: run."""

    places: Any = None
    known: Any = None

    def found(self, name: str) -> Path | None:
        return (self.places or {}).get(name)

    def remembered(self, name: str, inputs: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return compute() if self.known is None else self.known


def agreeing(shown: Any) -> list[bool]:
    return [check.agrees for check in shown.checks]


def test_suppression_as_worked(tmp_path: Path):
    shown = suppression.show(Known(tmp_path))
    assert all(agreeing(shown))
    ours = {check.what: check.ours for check in shown.checks}
    assert ours["IoU of (0, 0, 4, 4) and (1, 1, 5, 5)"] == "0.3913"  # 9 / 23
    assert ours["suppression at 0.5 of the four boxes"] == "0.9, 0.7, 0.6 stay"
    assert ours["suppression against the rule, word by word"] == "300 of 300 random scenes"


def test_the_rule_in_plain_python_is_torchvisions():
    from torchvision.ops import nms

    for seed in range(5):
        boxes, scores = suppression.crowd(seed, 60)
        kept = suppression.by_the_rule(boxes.double().tolist(), scores.double().tolist(), 0.5)
        assert kept == nms(boxes.double(), scores.double(), 0.5).tolist()


def test_windows_by_crops_and_at_once(tmp_path: Path):
    photo = {
        "maps": {"crops": [[0.1, 0.2], [0.3, 0.4]], "one pass": [[0.1, 0.2], [0.3, 0.4]]},
        "windows": 4,
        "stride": 16,
        "crops": 10**10,
        "one pass": 10**9,
        "ms crops": 100.0,
        "ms one pass": 10.0,
        "agree": 1.0,
    }
    shown = sliding.show(Known(tmp_path, known=photo))
    assert all(agreeing(shown))
    ours = {check.what: check.ours for check in shown.checks}
    assert (ours["scores on 16×16"], ours["scores on 28×28"]) == ("2×2", "8×8")  # lecture 4
    rows = shown.sections[0].tables[0].rows
    # 28×28, by hand: 64 windows of (10·10·75·16 + 25·16·400 + 400·400 + 400·4)
    assert rows[1][2] == 64 * (10 * 10 * 75 * 16 + 25 * 16 * 400 + 400 * 400 + 400 * 4)
    # at once: one convolution on 24×24, the dense layers at each of 64 places
    assert rows[1][3] == 24 * 24 * 75 * 16 + 64 * (25 * 16 * 400 + 400 * 400 + 400 * 4)
    assert shown.missing[0].startswith("squeezenet1_0-imagenet.safetensors")


@pytest.mark.slow
def test_windows_of_a_photograph(shared_file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sliding, "SIDE", 320)
    shown = sliding.show(Known(tmp_path, places={sliding.WEIGHTS: shared_file(sliding.WEIGHTS)}))
    assert all(agreeing(shown))
    assert not shown.missing


def test_search_joins_the_two_most_alike(tmp_path: Path):
    shown = search.show(Known(tmp_path))
    assert all(agreeing(shown))
    assert shown.missing[0].startswith("coco128-train.zip")
    assert shown.sections[0].figures[0].content.startswith(b"RIFF")


@pytest.mark.slow
def test_proposals_hold_objects_of_coco(shared_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(search, "PICTURES", 4)
    found = search.recall(shared_data("coco128-train"), Known(tmp_path))
    assert found["pictures"] == 4
    assert found["shares"]["search"][-1] > found["shares"]["random"][-1]
    assert found["shares"]["search"] == sorted(found["shares"]["search"])


def test_ladder_is_judged_step_by_step(tmp_path: Path):
    seconds = {"R-CNN": [60.0, 62.0], "Fast R-CNN": [2.0, 2.2], "Faster R-CNN": [0.8, 0.9], "YOLOv3": [0.2, 0.2]}
    known = {"seconds": seconds, "search": 1.0, "regions": 500.0}
    shown = ladder.show(Known(tmp_path, known=known))
    assert agreeing(shown) == [True, True, True]
    assert "29.0 times" in shown.checks[0].ours
    known["seconds"] = {**seconds, "Faster R-CNN": [3.0]}
    assert agreeing(ladder.show(Known(tmp_path, known=known))) == [True, False, True]


@pytest.mark.slow
def test_ladder_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in (("SIDE", 128), ("CROP", 64), ("LIMIT", 50), ("PICTURES", ("coffee",))):
        monkeypatch.setattr(ladder, name, value)
    found = ladder.measured(Known(tmp_path))
    assert set(found["seconds"]) == {"R-CNN", "Fast R-CNN", "Faster R-CNN", "YOLOv3"}
    assert found["regions"] <= 50


def test_clusters_of_drawn_shapes_without_data(tmp_path: Path):
    shown = anchors.show(Known(tmp_path))
    assert [line.split()[0] for line in shown.missing] == ["bccd.zip", "coco128-train.zip"]
    assert len(shown.checks) == 3
    assert all(agreeing(shown))
    values = [row[1] for row in shown.sections[0].tables[0].rows]
    assert values == sorted(values)


def test_boxes_by_hand_have_the_papers_areas():
    sizes = anchors.by_hand() * 600 / anchors.SIDE
    assert sizes.prod(1).sqrt().round().tolist() == [128] * 3 + [256] * 3 + [512] * 3
    assert torch.allclose(sizes[:, 0] / sizes[:, 1], torch.tensor([0.5, 1, 2] * 3))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "boxes"), [("bccd", 2000), ("coco128-train", 800)])
def test_clusters_of_real_boxes(shared_data, tmp_path: Path, name: str, boxes: int):
    shown = anchors.show(Known(tmp_path, places={name: shared_data(name)}))
    assert all(agreeing(shown))
    assert len(shown.missing) == 1
    assert int(shown.sections[0].title.split()[-2].replace(",", "")) > boxes


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (suppression, ["= 0.3913", "[0, 3, 1]"]),
        (sliding, ["64 windows", "1.3 times fewer"]),
        (search, ["proposals from all strategies"]),
        (ladder, ["FasterRCNN: ", "YOLOv3: "]),
        (anchors, ["mean IoU with the nearest of nine: 0."]),
    ],
)
def test_ten_lines_run(module: Any, expected: list[str]):
    assert len(module.PYTHON.splitlines()) <= 10
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(module.PYTHON, "PYTHON", "exec"), {"__name__": "__main__"})
    for part in expected:
        assert part in out.getvalue()
