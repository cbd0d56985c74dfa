"""What the report shows: every part is there, its numbers are the metrics', its pictures show the box."""

from __future__ import annotations

import json

import pytest
import torch

from striate.data.sample import Sample
from striate.errors import ImageError, StriateError
from striate.report import write_report
from striate.tasks.detect.figures import SHOWN_SIDE, draw_object
from striate.tasks.detect.metrics import DetectionMetrics
from striate.tasks.detect.sections import sections

CLASSES = ("cat", "dog $x$ <b>", "bird")


def metrics_of(pictures: int = 5) -> DetectionMetrics:
    """Each picture has a cat that is found, one that is missed, and a dog where a cat is."""
    metrics = DetectionMetrics(CLASSES, [0.3] * 3)
    targets = torch.tensor([[10.0, 10, 30, 30, 0, 0, 400], [60, 40, 90, 70, 0, 0, 900], [0, 70, 20, 90, 0, 0, 400]])
    detections = torch.tensor([[10.0, 10, 30, 31, 0.9, 0], [0, 70, 20, 90, 0.8, 1], [0, 0, 0, 0, 0, -1]])
    metrics.update(detections.expand(pictures, -1, -1), targets.expand(pictures, -1, -1))
    return metrics


def read(sample: Sample) -> torch.Tensor:
    if sample.name == "2.jpg":
        raise ImageError("2.jpg: is no picture")
    return torch.full((3, 100, 120), 128, dtype=torch.uint8)


SAMPLES = [Sample(f"{i}.jpg", None, f"{i}.jpg") for i in range(5)]


def test_all_parts_are_shown_and_the_page_is_written(tmp_path):
    metrics = metrics_of()
    made = sections(metrics, SAMPLES, read)
    by_title = {section.title: section for section in made}
    assert list(by_title) == [
        "The numbers",
        "Precision against recall",
        "What is taken for what",
        "Class by class",
        "Large and small",
        "Worst misses",
        "Surest false alarms",
    ]
    values = {row[0]: row[1] for row in by_title["The numbers"].tables[0].rows}
    assert values["AP50"] == metrics.compute()["ap50"] == pytest.approx(1 / 3, abs=0.01)
    misses, alarms = by_title["Worst misses"].pictures, by_title["Surest false alarms"].pictures
    assert (len(misses), len(alarms)) == (10, 5)
    assert misses[0].caption == "missed cat\nnothing was said\n0.jpg"
    assert "taken for dog" in misses[-1].caption
    assert sum(card.picture is None for card in misses) == 2
    assert sum("could not be read" in card.caption for card in misses) == 2
    account = write_report(
        tmp_path,
        title="t",
        facts={},
        sections=made,
        history=[],
        full=metrics.full(),
        recipe_yaml="",
        commands=[],
        notes=[],
    )
    assert "dog $x$ <b>" not in account[0].read_text()
    assert json.loads(account[1].read_text())["metrics"]["best"] == "ap"


def test_nothing_said_and_nothing_there_can_be_shown():
    nothing, no_object = torch.tensor([[[0.0, 0, 0, 0, 0, -1]]]), torch.tensor([[[0.0, 0, 0, 0, -1, 0, 0]]])
    for detections in (nothing, torch.tensor([[[5.0, 5, 20, 20, 0.8, 2]]])):
        metrics = DetectionMetrics(CLASSES)
        metrics.update(detections, no_object)
        made = {section.title: section for section in sections(metrics, SAMPLES[:1], read)}
        assert made["Worst misses"].text == "None: every object was found."
        assert len(made["Surest false alarms"].pictures) == (detections is not nothing)


def test_one_sample_a_picture_is_needed():
    with pytest.raises(StriateError, match="5 pictures were judged but 2 samples"):
        sections(metrics_of(), SAMPLES[:2], read)


@pytest.mark.parametrize(
    "box", [[40.0, 30, 60, 50], [-20, -20, 10, 10], [110, 90, 200, 160], [5, 5, 5, 5], [300, 300, 310, 310]]
)
def test_a_crop_shows_the_box_whatever_it_is(box):
    picture = torch.zeros(3, 100, 120, dtype=torch.uint8)
    drawn = draw_object(picture, box, "#ff0000", torch.tensor([[0.0, 0, 8, 8]]), "#00ff00")
    assert max(drawn.shape[1:]) == SHOWN_SIDE
    inside = box[0] < 120 and box[2] > box[0]
    assert bool((drawn[0] == 255).any()) == inside


def test_grey_pictures_are_drawn_in_colour():
    drawn = draw_object(
        torch.zeros(1, 40, 40, dtype=torch.uint8), [5, 5, 20, 20], "#ff0000", torch.zeros(0, 4), "#00ff00"
    )
    assert drawn.shape[0] == 3
