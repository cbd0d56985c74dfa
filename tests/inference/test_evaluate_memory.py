"""Evaluation of a dense task: what a network says of a picture is forgotten once its metrics have seen it."""

from __future__ import annotations

import subprocess
import sys

import pytest

EVALUATE = """
import resource, sys
from types import SimpleNamespace

import torch

from striate.config import Preprocess
from striate.data.loaders import Split
from striate.data.sample import Sample
from striate.data.targets import SegmentationMap
from striate.inference.evaluate import collect_outputs
from striate.inference.predictor import Predictor
from striate.tasks.metrics import Metrics

PICTURES, HEIGHT, WIDTH, CLASSES = 2_000, 512, 1_024, 19
base = torch.randint(0, 255, (3, HEIGHT, WIDTH), dtype=torch.uint8)
truth = (torch.arange(HEIGHT)[:, None] // 27).expand(HEIGHT, WIDTH).clamp(max=CLASSES - 1).to(torch.uint8).contiguous()


class Generated(SegmentationMap):
    \"\"\"Made when it is loaded, as a file would be read.\"\"\"

    def load(self, size):
        return SegmentationMap(truth.clone())


class Accuracy(Metrics):
    best = "accuracy"

    def __init__(self):
        self.cells = torch.zeros(CLASSES, CLASSES, dtype=torch.int64)

    def update(self, predictions, targets):
        for one, other in zip(predictions, targets):
            cells = other.long() * CLASSES + one.long()
            self.cells += torch.bincount(cells.flatten(), minlength=CLASSES**2).reshape(CLASSES, CLASSES)

    def merge(self, other):
        self.cells += other.cells

    def compute(self):
        return {"accuracy": float(self.cells.diagonal().sum() / self.cells.sum())}


task = SimpleNamespace(
    collate=lambda targets: [target.values for target in targets],
    postprocess=lambda outputs, sizes, preprocess: list(outputs.argmax(1).to(torch.uint8)),
)
weights = torch.randn(CLASSES, 3, 1, 1)
network = lambda images: torch.nn.functional.conv2d(images.float(), weights)  # [B, 19, H, W]
preprocess = Preprocess(size=(HEIGHT, WIDTH), fit="native", pad_multiple=32)
samples = [Sample(base, Generated("map"), str(number)) for number in range(PICTURES)]
split = Split(samples, task.collate, preprocess)
metrics = Accuracy()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
predictor = Predictor(network, task, preprocess, torch.device("cpu"))
found = collect_outputs(predictor, split, metrics, 4)
assert len(found.indices) == PICTURES and int(metrics.cells.sum()) == PICTURES * HEIGHT * WIDTH
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_two_thousand_maps_are_evaluated_in_less_than_two_gigabytes() -> None:
    """2,000 pictures of 512 × 1,024 and 19 classes: their outputs together would be 80 GB, their maps 1 GB."""
    done = subprocess.run([sys.executable, "-c", EVALUATE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    kilobytes = int(done.stdout.split()[-1])
    print(f"{kilobytes / 2**20:.2f} GiB beside what was loaded before")
    assert kilobytes < 2 * 2**20
