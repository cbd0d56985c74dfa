"""`--how slide`: what a classifier says of every window of a picture."""

from __future__ import annotations

import pytest
import torch
from tests.explain.models import Sides, model_of, picture, zoo_model

from striate.errors import UsageError


def bright_half() -> torch.Tensor:
    """uint8 [3, 32, 64]: black, and grey in its right half."""
    return torch.cat((torch.zeros(3, 32, 32), torch.full((3, 32, 32), 40.0)), 2).byte()


def test_windows_over_an_edge_are_those_of_the_right_side():
    """Sides says right where the right half of a window is brighter: where the edge is in its middle most surely."""
    found = model_of(Sides()).explain(bright_half(), "slide", label="right")
    (height, width), (_, stride) = found.values["window"][0], found.values["stride"][0]
    assert (height, width) == (16, 16)
    (scores,), (boxes,) = found.values["maps"], found.values["boxes"]
    middles = torch.arange(scores.shape[1]) * stride + width / 2
    assert float(scores.amin(0)[(middles - 32).abs() < 5].min()) > 0.9
    assert float((scores[:, (middles - 32).abs() > 9] - 0.5).abs().max()) < 1e-4
    assert abs(float(boxes[0, [0, 2]].mean()) - 32) < 5
    assert found.values["confidences"][0].tolist() == sorted(found.values["confidences"][0].tolist(), reverse=True)
    assert len(found.sections[0].figures) == 2
    assert "are right with a probability" in found.sections[0].text


def test_steps_make_windows_smaller_and_a_network_of_the_zoo_runs_once():
    model = zoo_model(architecture="conv8-relu-pool-conv16-relu-gap", size=16)
    found = model.explain([picture(), picture(48, 24)], "slide", steps=3)
    assert [window[0] for window in found.values["window"]] == [8, 8]
    assert "in one pass" in found.sections[0].text
    assert found.values["labels"][0] in ("left", "right")
    assert "data:image/webp" in found.to_html()


@pytest.mark.parametrize(("task", "architecture"), [("detect", "fcos"), ("keypoints", "soft/resnet18")])
def test_only_classifiers_slide(task: str, architecture: str):
    with pytest.raises(UsageError, match=f"slide is for classifiers; this model's task is {task}"):
        zoo_model(task, architecture, 64).explain(picture(), "slide")
