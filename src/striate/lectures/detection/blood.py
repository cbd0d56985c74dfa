"""Blood cells for the pages on detectors: photographs as a network sees them, and maps of a body that is not trained,
so that a page needs a minute where training all of a detector takes ten.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor, nn

    from striate.backbones import Backbone

CELLS = "bccd"
SIZE = (240, 320)  # half of the photographs' sides
NETWORK = "squeezenet1_0"  # with ImageNet's weights
NAMES = {"Platelets": "platelet", "RBC": "red cell", "WBC": "white cell"}
GROUPS = {"platelet": 0, "red cell": 2, "white cell": 1}  # colours of `striate.drawing`


class Picture(NamedTuple):
    """A photograph, uint8 [3, H, W] of SIZE; the same normalised, float [1, 3, H, W]; its objects, float [M, 7] as in
    `striate.tasks.detect.outputs`; and its name."""

    pixels: Tensor
    image: Tensor
    target: Tensor
    name: str


def pictures(source: Path, weights: Path, split: str, count: int) -> tuple[list[str], list[Picture]]:
    """Names of the classes, and the first photographs of a split of BCCD's own."""
    from striate.data import open_dataset
    from striate.data.reader import read_sample
    from striate.data.spatial import eval_pair
    from striate.data.targets import Objects
    from striate.data.transforms import Normalize
    from striate.lectures.detection.anchors import place_of
    from striate.model import load
    from striate.tasks.detect.outputs import collate_objects

    preprocess = load(weights, "cpu").card.preprocess.model_copy(update={"size": SIZE, "fit": "pad"})
    normalize = Normalize(preprocess)
    with TemporaryDirectory(prefix="striate-lecture-") as where:
        dataset = open_dataset(place_of(source, Path(where)), val_fraction=0.2, seed=0)
    found = []
    for sample in dataset.splits[split][:count]:
        pixels, target = eval_pair(read_sample(sample), sample.target, preprocess)
        assert isinstance(target, Objects)
        found.append(Picture(pixels, normalize(pixels[None]), collate_objects([target])[0], sample.name))
    return [NAMES[name] for name in dataset.classes], found


def give_weights(backbone: nn.Module, weights: Path) -> None:
    """ImageNet's weights into the body of a detector, which then learns no more."""
    from striate.backbones import FeatureList
    from striate.model import load

    body: Backbone | Any = backbone.backbone if isinstance(backbone, FeatureList) else backbone
    there = body.state_dict()
    known = load(weights, "cpu").module.state_dict()
    body.load_state_dict({name: known[name] for name in there})
    body.requires_grad_(False).eval()


def average_precision(names: list[str], detections: list[Tensor], found: list[Picture]) -> dict[str, float]:
    """AP at IoU 0.5 of each class and their mean, `all`; detections [K, 6] of each picture."""
    from striate.tasks.detect.metrics import DetectionMetrics
    from striate.tasks.detect.outputs import collate_objects  # noqa: F401

    metrics = DetectionMetrics(names)
    for rows, picture in zip(detections, found, strict=True):
        metrics.update(rows[None], picture.target[None])
    return {row["class"]: float(row["ap50"] or 0) for row in metrics.per_class()} | {
        "all": float(metrics.compute()["ap50"])
    }


def draw_found(picture: Tensor, rows: list[list[float]], names: list[str], said: bool = True) -> Any:
    """The photograph twice as large with a box, a name and a score (if `said`) for each row x1 y1 x2 y2 score class."""
    import torch
    from PIL import Image

    from striate.drawing import draw_boxes

    image = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
    image = image.resize((image.width * 2, image.height * 2), Image.Resampling.LANCZOS)
    rows = sorted(rows, key=lambda row: -row[4])
    words = [names[int(row[5])] for row in rows]
    boxes = torch.tensor([row[:4] for row in rows]).reshape(-1, 4) * 2
    labels = words if said else [""] * len(rows)
    scores = [row[4] for row in rows] if said else None
    return draw_boxes(image, boxes, labels, scores, [GROUPS[word] for word in words])
