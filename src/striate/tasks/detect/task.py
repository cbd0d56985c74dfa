"""The task: what is where. Detectors by name, and what they share: targets, thresholds, results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from math import inf
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from striate.config import Augment, Preprocess
from striate.data.facts import Facts
from striate.data.geometry import to_picture
from striate.data.sample import Sample
from striate.data.targets import Objects, Target
from striate.errors import UsageError, did_you_mean
from striate.results import Detections, Result
from striate.tasks.detect.boxes import iou
from striate.tasks.detect.data_fits import clusters, grid_of, ladder_of_anchors, levels_of
from striate.tasks.detect.metrics import DetectionMetrics
from striate.tasks.detect.outputs import DetectionCoder, collate_objects
from striate.tasks.detect.sections import sections
from striate.tasks.detect.stitching import stitch_detections
from striate.tasks.explainable import Explainable
from striate.tasks.outputs import Coded
from striate.tasks.task import THRESHOLD, TILES, Task, refuse_threshold

FEW_EPOCHS = 40  # up to here light augmentation: what is seen seldom is not yet known by heart
SHOWN = 0.3  # the score from which a detection holds, before thresholds are chosen on validation


class Detector(NamedTuple):
    """One detector that has a name. `build` is `module:class` of this folder, imported when it is asked for."""

    build: str
    arguments: dict[str, Any]
    backbone: str
    about: str
    fit: Callable[[Sequence[Sample], Preprocess], dict[str, Any]] | None = None  # what it takes from the data


AS_PUBLISHED = {"channels": 256, "convs": 4, "extra": "p6p7", "assignment": "centre"}
LIGHT = {  # a quarter of the paper's width: what small sets and processors bear
    "channels": 64,
    "representation": 256,
    "rpn_batch": 128,
    "roi_batch": 64,
    "before": (500, 300),
    "after": (300, 100),
}

# convolutions without padding: one pass over the picture gives exactly the scores of crops
WINDOW = "conv24k5s2p0-bn-relu-conv48p0-bn-relu-pool-conv64p0-bn-relu-conv96p0-bn-relu-fc64-bn-relu-drop0.2"

# a new detector: its file, and its line here
DETECTORS: dict[str, Detector] = {
    "fcos": Detector("fcos:FCOS", {}, "darknet_tiny", "anchor-free, taught by alignment; the default", levels_of),
    "fcos_resnet50_fpn": Detector("fcos:FCOS", AS_PUBLISHED, "resnet50", "the paper's, as torchvision has it"),
    "faster_rcnn": Detector(
        "faster_rcnn:FasterRCNN", LIGHT, "resnet18", "two stages, a narrow pyramid and head", ladder_of_anchors
    ),
    "fasterrcnn_resnet50_fpn": Detector("faster_rcnn:FasterRCNN", {}, "resnet50", "two stages, as torchvision has it"),
    "yolov3": Detector("yolov3:YOLOv3", {}, "darknet53", "three scales, anchors of the data", partial(clusters, 9)),
    "yolov3_tiny": Detector(
        "yolov3:YOLOv3", {}, "darknet_tiny", "two scales, anchors of the data", partial(clusters, 6)
    ),
    "fast_rcnn": Detector(
        "fast_rcnn:FastRCNN", {"hidden": 256, "stride": 8}, "resnet18", "regions of selective search, features once"
    ),
    "rcnn": Detector("rcnn:RCNN", {"crop": 64}, "resnet18", "regions of selective search, each through the network"),
    "sliding": Detector("sliding_window:SlidingWindow", {}, WINDOW, "a classifier of crops, run everywhere at once"),
    "yolov1": Detector("yolov1:YOLOv1", {}, "darknet_tiny", "a grid, each cell a class and two boxes", grid_of),
}
DEFAULT = "fcos"


class Detect(Explainable, Coded, Task):
    """Targets: float [B, M, 7]; outputs: tensors by name, which the network's coder reads
    (`striate.tasks.detect.outputs`).

    Args:
        thresholds: from which score on a detection of each class holds; chosen on validation.
        detector: what the detector takes from the data: anchors, levels; found by `fit_to_data`.
    """

    name = "detect"
    result: ClassVar[type[Result]] = Detections
    supports: ClassVar[frozenset[str]] = frozenset({"sampling", "adversarial", TILES, THRESHOLD})
    hints: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("mixup", "cutmix"), "what boxes have is a mosaic: --augment.mosaic 1"),
        **dict.fromkeys(("label_smoothing", "class_weights"), "--sampling balanced helps rare classes"),
    }
    spatial: ClassVar[bool] = True
    independent = True

    def __init__(
        self,
        classes: Sequence[str],
        thresholds: Sequence[float] | None = None,
        detector: dict[str, Any] | None = None,
    ) -> None:
        self.classes = tuple(classes)
        self.thresholds = list(thresholds) if thresholds is not None else None
        self.detector = dict(detector or {})
        self._coder: DetectionCoder | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        return {"thresholds": self.thresholds, "detector": self.detector}

    def backbone_of(self, architecture: str) -> str:
        return parsed(architecture)[1]

    def default_recipe(self, facts: Facts, device: torch.device, weights: bool, model: str) -> dict[str, Any]:
        """A letterbox at the pictures' own proportions, AdamW, averaged weights; 18,000 pictures seen, each at least 12
        times and at most 100 times."""
        epochs = min(max(round(18_000 / facts.count), 12), 100)
        return {
            # with weights: their own network, under the default detector
            **({} if weights else {"model": DEFAULT if device.type == "cpu" else f"{DEFAULT}/resnet50"}),
            "size": network_size(facts, 640 if device.type == "cuda" else 320),
            "fit": "pad",
            "fill": 114,
            # judged at their own proportions; one grid for the whole picture is bound to those it learnt
            "pad_multiple": 0 if model.partition("/")[0] == "yolov1" else 32,
            "optimizer": "adamw",
            "lr": 2e-3,
            "weight_decay": 0.05,
            "epochs": epochs,
            "batch": 8,  # small sets want steps more than smooth ones
            "ema": 0.998,
            "clip": 10.0,
            "augment": AUGMENTS | {"auto": AUGMENTS["light" if epochs <= FEW_EPOCHS else "standard"]},
        }

    def fit_to_data(self, architecture: str, samples: Sequence[Sample], preprocess: Preprocess) -> None:
        detector, _ = parsed(architecture)
        look = DETECTORS[detector].fit
        if look is not None:
            self.detector = look(samples, preprocess)

    def build(self, architecture: str, in_channels: int, **arguments: Any) -> nn.Module:
        detector, backbone = parsed(architecture)
        module, _, name = DETECTORS[detector].build.partition(":")
        build: Callable[..., nn.Module] = getattr(import_module(f"striate.tasks.detect.{module}"), name)
        given = {key: arguments[key] for key in ("weights", "accept_license") if key in arguments}
        settings = DETECTORS[detector].arguments | self.detector | given
        network = build(backbone, len(self.classes), in_channels, **settings)
        self.adopt(network)
        return network

    def adopt(self, network: nn.Module) -> None:
        coder = getattr(network, "coder", None)
        self._coder = coder if isinstance(coder, DetectionCoder) else None

    @property
    def coder(self) -> DetectionCoder:
        """
        Raises:
            RuntimeError: no network has been built or adopted.
        """
        if self._coder is None:
            raise RuntimeError("what a detector's outputs mean is known with its network: `build` it first")
        return self._coder

    def collate(self, targets: Sequence[Objects | None]) -> Tensor:
        return collate_objects(targets)

    def target_transform(self, target: Any) -> Target | None:
        return None if target is None else target.without_masks()

    def loss(
        self,
        outputs: dict[str, Tensor],
        targets: Tensor,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        return self.coder.losses(outputs, targets)

    def postprocess(self, outputs: dict[str, Tensor], sizes: Tensor, preprocess: Preprocess) -> list[Tensor]:
        """B times float32 [K, 6], boxes in pixels of the pictures as they were read, cut at their edges."""
        found = self.coder.detections(outputs).float().cpu()
        corners = to_picture(found[..., :4].reshape(len(found), -1, 2), sizes, preprocess)
        bounds = sizes.flip(1)[:, None].to(corners.dtype)  # width, height
        boxes = corners.clamp(min=0).minimum(bounds).reshape(len(found), -1, 4)
        return list(torch.cat((boxes * (found[..., 5:] >= 0), found[..., 4:]), -1))

    def stitch(self, predictions: Sequence[Tensor], windows: Tensor, size: tuple[int, int]) -> Tensor:
        return stitch_detections(torch.stack(list(predictions)), windows, size)

    def predicted_class(self, outputs: dict[str, Tensor]) -> Tensor:
        return self.coder.class_scores(outputs).amax(1).argmax(1)

    def target_box(self, outputs: dict[str, Tensor], label: int) -> Tensor:
        strongest = self.coder.class_scores(outputs)[..., label].argmax(1)
        return self.coder.candidate_boxes(outputs)[torch.arange(len(strongest)), strongest].detach()

    def class_score(
        self, outputs: dict[str, Tensor], label: int | None = None, target_box: Tensor | None = None
    ) -> Tensor:
        """Of the strongest candidate (for the class, at that box): see `DetectionCoder.class_scores`.

        Where candidates have fixed places it is the same one in every picture; of regions it is that which overlaps
        the target box most. -inf where there is none.
        """
        candidates = self.coder.class_scores(outputs)
        strengths = candidates.amax(2) if label is None else candidates[..., label]  # [B, N]
        if target_box is not None:
            sites = self.coder.candidate_boxes(outputs)
            pairs = zip(target_box.expand(len(strengths), 4), sites, strict=True)
            near = torch.stack([iou(where[None], there)[0] for where, there in pairs])  # [B, N]
            strengths = strengths.masked_fill(near < near.amax(1, keepdim=True) - 1e-4, -inf)
        return strengths.amax(1)

    def calibrate(self, metrics: DetectionMetrics) -> None:
        """The threshold of each class that gives the best F1 on these pictures."""
        self.thresholds = metrics.tuned_thresholds()

    def to_result(self, prediction: Tensor, source: Any, threshold: float | None = None) -> Detections:
        if threshold is not None:
            refuse_threshold(threshold)
        if threshold is None and self.thresholds is not None:
            bars = torch.tensor(self.thresholds)
        else:
            bars = torch.full((len(self.classes),), SHOWN if threshold is None else threshold)
        labels = prediction[:, 5].long()
        held = (labels >= 0) & (prediction[:, 4] >= bars[labels.clamp(min=0)])
        return Detections(source, self.classes, prediction[held, :4], prediction[held, 4], labels[held])

    def metrics(self) -> DetectionMetrics:
        return DetectionMetrics(self.classes, self.thresholds)

    sections = staticmethod(sections)


AUGMENTS = {
    "light": Augment(hflip=0.5, scale=(0.85, 1.2), color_jitter=0.1),
    "standard": Augment(hflip=0.5, scale=(0.6, 1.5), shift=0.05, color_jitter=0.2, mosaic=0.3),
    "strong": Augment(hflip=0.5, scale=(0.5, 1.6), shift=0.1, color_jitter=0.4, mosaic=0.8),
}


def parsed(architecture: str) -> tuple[str, str]:
    """`fcos/resnet34` → (`fcos`, `resnet34`); `fcos` takes its own backbone, `resnet34` the default detector.

    Raises:
        UsageError: no such detector.
    """
    detector, slash, backbone = architecture.partition("/")
    if detector in DETECTORS:
        return detector, backbone if slash else DETECTORS[detector].backbone
    if slash and detector != "timm":
        raise UsageError(
            f'no detector is called "{detector}"; there are {", ".join(DETECTORS)}.{did_you_mean(detector, DETECTORS)}'
        )
    return DEFAULT, architecture


def network_size(facts: Facts, longest: int) -> tuple[int, int]:
    """(height, width) that the network sees: at most `longest`, multiples of 32, a square where pictures vary."""
    if not facts.one_size:
        side = min(longest, -(-max(facts.height, facts.width) // 32) * 32)
        return side, side
    scale = min(1.0, longest / max(facts.height, facts.width))
    return -(-round(facts.height * scale) // 32) * 32, -(-round(facts.width * scale) // 32) * 32
