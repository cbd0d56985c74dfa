"""The task: names of detectors, places back in the picture, thresholds, what it refuses."""

from __future__ import annotations

import pytest
import torch

from striate.config import Preprocess, Recipe
from striate.data.facts import Facts
from striate.data.sample import Sample
from striate.data.targets import Objects
from striate.errors import UsageError
from striate.inference.sources import Source
from striate.tasks import create_task
from striate.tasks.detect.outputs import DetectionCoder, collate_objects, learnable, stack_detections
from striate.tasks.detect.task import DETECTORS, Detect, network_size, parsed
from striate.train.recipes import refuse_unsupported

CPU = torch.device("cpu")


class Said(DetectionCoder):
    """Gives these rows, whatever was asked."""

    def losses(self, outputs: dict[str, torch.Tensor], targets: torch.Tensor) -> dict[str, torch.Tensor]:
        return {}

    def detections(self, outputs: dict[str, torch.Tensor], limit: int = 100) -> torch.Tensor:
        return outputs["rows"]

    def class_scores(self, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
        raise NotImplementedError

    candidate_boxes = class_scores


class Silent(torch.nn.Module):
    coder = Said()


def test_names_of_detectors():
    assert parsed("fcos") == ("fcos", DETECTORS["fcos"].backbone)
    assert parsed("yolov3/resnet18") == ("yolov3", "resnet18")
    assert parsed("resnet34") == ("fcos", "resnet34")  # the default detector on it
    assert parsed("timm/resnet10t") == ("fcos", "timm/resnet10t")
    with pytest.raises(UsageError, match=r'"yolov4".*Did you mean "yolov'):
        parsed("yolov4/resnet18")


@pytest.mark.parametrize("name", list(DETECTORS))
def test_every_detector_learns_and_answers(name: str):
    torch.manual_seed(0)
    task = Detect(("a", "b"))
    targets = [Objects.of([[10, 10, 60, 50], [70, 30, 120, 120]], [0, 1]), Objects.of([], [])]
    samples = [Sample(torch.zeros(3, 128, 128, dtype=torch.uint8), target, "x") for target in targets] * 5
    architecture = name if "resnet50" not in name and name != "yolov3" else f"{name}/resnet18"
    preprocess = Preprocess(size=(128, 128), fit="pad")
    task.fit_to_data(architecture, samples, preprocess)
    network = task.build(architecture, 3, dropout=None, image_size=[128, 128])
    again = Detect(("a", "b"), **task.arguments).build(architecture, 3)
    again.load_state_dict(network.state_dict())  # what is stored is enough to build it
    images, rows = torch.rand(2, 3, 128, 128), task.collate(targets)
    takes = getattr(network, "takes_targets", False)
    losses = task.loss(network(images, rows) if takes else network(images), rows)
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    network.eval()
    with torch.no_grad():
        settled = torch.stack(task.postprocess(network(images), torch.tensor([[64, 64], [256, 128]]), preprocess))
    assert settled.shape == (2, 100, 6)
    assert settled.isfinite().all()
    sizes = torch.tensor([[64, 64, 64, 64], [128, 256, 128, 256]])
    assert (settled[..., :4] >= 0).all()
    assert (settled[..., :4] <= sizes[:, None]).all()


def test_postprocess_gives_pixels_of_the_picture():
    """A picture of 100 × 200 is seen as 64 × 128 in 128 × 128, 32 rows down."""
    rows = stack_detections([torch.tensor([[64.0, 32, 128, 96]])], [torch.tensor([0.9])], [torch.tensor([1])], 5)
    preprocess = Preprocess(size=(128, 128), fit="pad")
    task = Detect(("a", "b"))
    with pytest.raises(RuntimeError, match="`build` it first"):
        task.postprocess({"rows": rows}, torch.tensor([[100, 200]]), preprocess)
    task.adopt(Silent())
    settled = torch.stack(task.postprocess({"rows": rows}, torch.tensor([[100, 200]]), preprocess))
    assert settled[0, 0].tolist() == pytest.approx([100, 0, 200, 100, 0.9, 1])
    assert settled[0, 1].tolist() == [0, 0, 0, 0, 0, -1]


def test_thresholds_of_each_class_decide_what_is_shown():
    rows = stack_detections([torch.rand(3, 4)], [torch.tensor([0.9, 0.4, 0.35])], [torch.tensor([0, 0, 1])], 5)
    task = Detect(("a", "b"), thresholds=[0.5, 0.3])
    source = Source("x", torch.zeros(3, 8, 8, dtype=torch.uint8))
    assert task.to_result(rows[0], source).counts() == {"a": 1, "b": 1}
    assert task.to_result(rows[0], source, threshold=0.38).counts() == {"a": 2}
    with pytest.raises(UsageError, match=r"0\.\.1"):
        task.to_result(rows[0], source, threshold=1.5)


def test_calibration_finds_the_threshold_of_best_f1():
    """Right ones score 0.8, wrong ones 0.4: any bar between gives F1 = 1."""
    truth = collate_objects([Objects.of([[0, 0, 10, 10]], [0])] * 4)
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    rows = stack_detections([boxes] * 4, [torch.tensor([0.8, 0.4])] * 4, [torch.tensor([0, 0])] * 4, 5)
    task = Detect(("a",))
    metrics = task.metrics()
    metrics.update(rows, truth)
    task.calibrate(metrics)
    assert task.thresholds is not None
    assert 0.4 < task.thresholds[0] <= 0.8


def test_rare_classes_are_drawn_more_often():
    targets = [Objects.of([[0, 0, 4, 4]], [0])] * 3 + [Objects.of([[0, 0, 4, 4]], [1]), None]
    task = Detect(("a", "b"))
    assert task.class_counts(targets).tolist() == [3.0, 1.0]
    torch.testing.assert_close(task.sample_weights(targets), torch.tensor([1 / 3, 1 / 3, 1 / 3, 1, 1 / 3]))


def test_what_boxes_cannot_do_is_said():
    task = create_task("detect", classes=("a",))
    with pytest.raises(UsageError, match="mosaic"):
        refuse_unsupported(Recipe(mixup=0.2), task)
    with pytest.raises(UsageError, match="label smoothing"):
        refuse_unsupported(Recipe(label_smoothing=0.1), task)


@pytest.mark.parametrize(
    ("height", "width", "one_size", "expected"),
    [
        (480, 640, True, (256, 320)),
        (160, 160, True, (160, 160)),
        (480, 640, False, (320, 320)),
        (90, 90, True, (96, 96)),
    ],
)
def test_the_network_sees_the_pictures_own_proportions(height, width, one_size, expected):
    assert network_size(Facts(100, 2, height, width, one_size, False), 320) == expected


def test_targets_as_tensors():
    objects = Objects.of([[1, 2, 3, 4], [5, 6, 7, 9], [0, 0, 1, 1]], [4, 0, 2], kinds=[0, 1, 2], areas=[2.5, 3, 1])
    rows = collate_objects([objects, None])
    assert rows.shape == (2, 3, 7)
    assert rows[0, 1].tolist() == [5, 6, 7, 9, 0, 1, 3]
    boxes, labels = learnable(rows[0])
    assert boxes.tolist() == [[1, 2, 3, 4]]
    assert labels.tolist() == [4]
    assert len(learnable(rows[1])[0]) == 0
