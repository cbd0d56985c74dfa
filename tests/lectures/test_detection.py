"""Part D: the lectures' numbers for windows, boxes and suppression; outside truths: plain loops, torchvision, worked
examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lectures.known import Known, agreeing, said

from striate.lectures.detection import (
    anchors,
    blood,
    fast_rcnn,
    fast_rcnn_pictures,
    ladder,
    landmarks,
    localize,
    localize_pictures,
    rcnn,
    search,
    sliding,
    suppression,
    yolo,
)
from striate.lectures.page import innermost


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


# D2


def test_localisation_without_data_is_worked_by_hand(tmp_path: Path):
    shown = localize.show(Known(tmp_path))
    assert agreeing(shown) == [True, True]
    # 0.2² + 0.1² + 0.1² + 0.3² + 0.2² = 0.19, and 0.8² = 0.64
    assert shown.checks[0].ours == "car: 0.19; nothing: 0.64"
    assert [line.split()[0] for line in shown.missing] == ["bccd.zip"]


def test_windows_cut_no_object():
    import random

    draw = random.Random(1)
    boxes, labels = [[100.0, 100, 200, 220], [400.0, 50, 440, 90], [380.0, 300, 500, 420]], [2, 0, 2]
    for kind, there in ((2, {2}), (0, {0}), (None, set())):
        found = 0
        for _ in range(30):
            corner = localize.place(draw, boxes, labels, kind, 2, (640, 480))
            if corner is None:
                continue
            found += 1
            x, y = corner
            seen = set()
            for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
                shared = max(min(x2, x + 240) - max(x1, x), 0) * max(min(y2, y + 240) - max(y1, y), 0)
                assert shared in (0, (x2 - x1) * (y2 - y1))  # none or all of it
                seen |= {label} if shared else set()
            assert there <= seen
            assert kind == 2 or seen == there
        assert found
    assert localize.place(draw, [[0.0, 0, 640, 480]], [2], 2, 2, (640, 480)) is None


def test_a_target_is_written_as_shares():
    assert localize_pictures.vector([60, 120, 180, 168, 1]) == ["1", "0.50", "0.60", "0.50", "0.20", "0", "1"]
    assert localize.NAMES[1] == "white cell"
    assert localize_pictures.vector([0, 0, 0, 0, -1]) == ["0", *"––––––"]


def test_localisation_is_judged_by_overlap():
    truth = [[0.0, 0, 100, 100, 0], [50.0, 50, 90, 90, 1], [0.0, 0, 0, 0, -1]]
    said = [[0.0, 0, 100, 50, 0.9, 0.8, 0.2], [50.0, 50, 90, 90, 0.8, 0.1, 0.9], [0.0, 0, 9, 9, 0.1, 0.5, 0.5]]
    known = {"said": said, "truth": truth, "threshold": 0.5, "classes": list(localize.NAMES)}
    assert localize.overlaps(known).tolist() == [0.5, 1.0]
    checks = localize.claims(known)
    assert checks[0].ours == "100% and 100%"
    assert checks[1].ours == "0.75 against 1.00"  # the mean box of one box is that box
    assert "100% against 100% overlap" in checks[1].why
    assert [check.agrees for check in checks] == [True, False]


# D3


def test_landmarks_without_data_are_worked_by_hand(tmp_path: Path):
    shown = landmarks.show(Known(tmp_path))
    assert agreeing(shown) == [True]
    assert shown.checks[0].ours == "(0.3438, 0.3750)"  # (0.75 · 2.5 + 0.25 · 3.5) / 8, 1.5 / 4
    assert len(shown.missing) == 2


def test_errors_are_in_units_of_the_eyes():
    truth = torch.zeros(1, 68, 3)
    truth[0, 45, 0] = 50  # the other corner is at 0
    said = truth[..., :2].clone()
    said[0, :34, 1] = 10  # half of the points are 10 off: a mean of 5, a tenth of 50
    assert landmarks.errors(said, truth).tolist() == pytest.approx([0.1])
    left, top, right, bottom = landmarks.around(truth[0].tolist())
    assert (left, right) == (-12.5, 62.5)
    assert (top, bottom) == (-37.5, 37.5)


# D5


def test_overlap_of_boxes_is_torchvisions():
    from torchvision.ops import box_iou

    corners = torch.rand((40, 2, 2), generator=torch.Generator().manual_seed(0)).sort(1).values * 100
    boxes = corners.flatten(1)
    expected = box_iou(boxes, boxes)
    for one in range(0, 40, 3):
        for other in range(0, 40, 5):
            ours = rcnn.overlap(boxes[one].tolist(), boxes[other].tolist())
            assert ours == pytest.approx(float(expected[one, other]), abs=1e-5)


def test_suppressed_boxes_are_compared_pair_by_pair():
    apart = [[0.0, 0, 10, 10, 0.9, 1], [0.0, 0, 10, 9, 0.8, 2], [20.0, 0, 30, 10, 0.7, 1]]
    assert rcnn.suppressed({"found": [apart], "before": 7}).agrees  # the two that overlap are of two classes
    check = rcnn.suppressed({"found": [[*apart, [0.0, 0, 10, 8, 0.6, 1]]], "before": 7})
    assert check.ours == "at most 0.80, 4 boxes"
    assert not check.agrees


def test_linear_layers_learn_features_of_any_scale():
    from striate.tasks.detect.rcnn import RCNN

    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = RCNN("squeezenet1_0", 2, crop=32)
        labels = torch.randint(0, 3, (90,))
        features = torch.randn(90, 512) * 100 + 40
        features[torch.arange(90), labels] += 1000
        rcnn.fit(detector, features, lambda logits, codes: torch.nn.functional.cross_entropy(logits, labels))
        assert (detector.classes(features).argmax(1) == labels).all()


# D6


def test_pooling_in_plain_loops_is_torchvisions():
    from torchvision.ops import roi_pool

    generator = torch.Generator().manual_seed(0)
    maps = torch.randn((2, 13, 17), generator=generator)
    corners = torch.rand((60, 2, 2), generator=generator).sort(1).values * torch.tensor([19.0, 15])  # some go beyond
    boxes = corners.flatten(1)
    for bins in (1, 2, 7):
        expected = roi_pool(maps[None], [boxes], bins)
        for box, one in zip(boxes.tolist(), expected, strict=True):
            assert torch.equal(fast_rcnn.literally(maps, box, bins), one)


def test_pooling_as_worked(tmp_path: Path):
    shown = fast_rcnn.show(Known(tmp_path))
    assert agreeing(shown) == [True]
    assert shown.checks[0].ours == "8 7\n9 9"
    left, top, right, bottom = fast_rcnn.REGION
    region = [row[left : right + 1] for row in fast_rcnn.MAP[top : bottom + 1]]
    assert region == [(2, 3, 8, 4, 6, 2), (3, 3, 8, 3, 2, 7), (0, 2, 8, 8, 4, 1), (1, 6, 9, 3, 9, 9)]
    assert len(shown.missing) == 2


def test_regions_that_are_drawn_lie_apart():
    proposed = [[0.0, 0, 10, 10], [1.0, 0, 11, 10], [50.0, 50, 60, 60], [80.0, 0, 90, 10]]
    scores = [[0.1, 0.0, 0.1, 0.8], [0.1, 0.0, 0.9, 0.0], [0.3, 0.0, 0.7, 0.0], [0.9, 0.0, 0.1, 0.0]]
    chosen = fast_rcnn_pictures.apart({"proposed": proposed, "scores": scores})
    assert chosen == [proposed[0], proposed[2], proposed[3]]  # the second lies on the first


# D8


def seen(*boxes: tuple[float, ...]) -> blood.Picture:
    height, width = blood.SIZE
    target = torch.tensor([[*box, 1, 0, 1] for box in boxes], dtype=torch.float32)
    pixels = torch.zeros(3, height, width, dtype=torch.uint8)
    return blood.Picture(pixels, pixels[None].float(), target, "made up")


def test_the_grid_has_1470_numbers(tmp_path: Path):
    shown = yolo.show(Known(tmp_path))
    assert agreeing(shown) == [True]
    assert shown.checks[0].ours == "1,470"
    assert len(shown.missing) == 2


def test_an_object_in_units_of_its_cell():
    # 320×240: the centre (160, 120) is the middle of the grid's middle cell; a quarter of the width, 4/9 of the height
    checks = yolo.worked([seen((120, 120 - 160 / 3, 200, 120 + 160 / 3))])
    assert [check.agrees for check in checks] == [True, True]
    assert checks[0].ours == "cell (3, 3): 0.500, 0.500, 0.500, 0.667"


def test_cells_that_hold_two_centres_are_counted():
    close = seen((0, 0, 10, 10), (10, 10, 20, 20), (300, 200, 310, 210))
    check = yolo.collisions([close])
    assert check.ours == "1 of 3 objects share their cell with another"
    assert not yolo.collisions([seen((0, 0, 10, 10))]).agrees


def test_a_mirrored_photograph_keeps_its_boxes():
    one = yolo.mirrored(seen((10, 20, 50, 60)))
    assert one.target[0, :4].tolist() == [270, 20, 310, 60]
    assert torch.equal(yolo.mirrored(one).target, seen((10, 20, 50, 60)).target)


@pytest.fixture
def cells(shared_data, shared_file) -> tuple[Path, Path]:
    return innermost(shared_data("bccd"), "bccd"), shared_file("squeezenet1_0-imagenet.safetensors")


def test_average_precision_of_the_truth_is_one(cells: tuple[Path, Path]):
    names, found = blood.pictures(*cells, "test", 3)
    assert names == ["platelet", "red cell", "white cell"]
    truth = [torch.cat((one.target[:, :4], torch.ones(len(one.target), 1), one.target[:, 4:5]), 1) for one in found]
    assert blood.average_precision(names, truth, found)["all"] == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "smaller"),
    [
        (yolo, {"LEARN": 12, "JUDGE": 3, "STEPS": 20}),
        (rcnn, {"LEARN": 6, "JUDGE": 2, "REGIONS": 60, "STEPS": 100}),
        (fast_rcnn, {"LEARN": 6, "JUDGE": 3, "REGIONS": 60, "STEPS": 20}),
    ],
)
def test_detectors_of_blood_cells(
    cells: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, smaller: dict[str, int]
):
    for name, value in smaller.items():
        monkeypatch.setattr(module, name, value)
    shown = module.show(Known(tmp_path, places=dict(zip(("bccd", module.WEIGHTS), cells, strict=True))))
    assert not shown.missing
    assert all(check.agrees for check in shown.checks if "a pass each" not in check.what)  # few regions save little


def test_windows_name_what_they_show(cells: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from striate.data import open_dataset

    monkeypatch.setattr(localize, "LEARN", 8)
    monkeypatch.setattr(localize, "JUDGE", 3)
    dataset = open_dataset(str(localize.windows(cells[0], tmp_path / "windows")), val_fraction=0.2, seed=0)
    assert dataset.classes == localize.NAMES
    sides: dict[str, list[float]] = {name: [] for name in localize.NAMES}
    for sample in (sample for split in dataset.splits.values() for sample in split):
        for box, label in zip(sample.target.boxes, sample.target.labels.tolist(), strict=True):
            sides[dataset.classes[label]].append(float((box[2:] - box[:2]).amax()))
    assert max(sides["platelet"]) < min(sides["white cell"])  # the white ones are the largest cells of blood


@pytest.mark.slow
def test_localisation_of_blood_cells(cells: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in (("LEARN", 40), ("JUDGE", 20), ("EPOCHS", 6)):
        monkeypatch.setattr(localize, name, value)
    shown = localize.show(Known(tmp_path, places={"bccd": cells[0]}))
    assert agreeing(shown)[:2] == [True, True]
    assert sum(len(section.figures) for section in shown.sections) == 2


@pytest.mark.slow
def test_landmarks_of_real_faces(shared_data, shared_file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(landmarks, "EPOCHS", 3)
    places = {
        landmarks.FACES: innermost(shared_data(landmarks.FACES), landmarks.FACES),
        landmarks.WEIGHTS: shared_file(landmarks.WEIGHTS),
    }
    shown = landmarks.show(Known(tmp_path, places=places))
    assert shown.checks[2].agrees  # the same number by two ways
    assert sum(len(section.figures) for section in shown.sections) == 3


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (suppression, ["= 0.3913", "[0, 3, 1]"]),
        (sliding, ["64 windows", "1.3 times fewer"]),
        (search, ["proposals from all strategies"]),
        (ladder, ["FasterRCNN: ", "YOLOv3: "]),
        (anchors, ["mean IoU with the nearest of nine: 0."]),
        (localize, ["nothing ['0.50', '0.00', '0.00'"]),
        (landmarks, ["points: [1, 3, 68, 2] maps: none", "maps: [1, 68, 22, 22]"]),
        (rcnn, ["50 regions, 50 passes"]),
        (fast_rcnn, ["[[27, 30], [43, 46]]"]),
        (yolo, ["1470 numbers", "[2, 4]"]),
    ],
)
def test_ten_lines_run(module: Any, expected: list[str]):
    assert len(module.PYTHON.splitlines()) <= 10
    printed = said(module.PYTHON)
    for part in expected:
        assert part in printed
