"""Networks that paint a photo in a style at once: one style, or any.

The photo itself is the target: what of it is to be kept, against what of the style is to be seen (`StyleLoss`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from striate.config import Augment, Preprocess, Recipe
from striate.data.facts import Facts
from striate.data.geometry import map_to_picture
from striate.data.reader import read_sample
from striate.data.sample import Sample
from striate.data.targets import ImageTarget
from striate.errors import DataError, ImageError, UsageError
from striate.images import PICTURE_SUFFIXES, read_image
from striate.results import Result, Styled
from striate.tasks.metrics import Metrics, Predictions
from striate.tasks.section import PictureCard, Section
from striate.tasks.step import SHIPPED, Learner, Step
from striate.tasks.stylize.any_style import AnyStyle, any_style_of
from striate.tasks.stylize.fast_style import FastStyle
from striate.tasks.stylize.loss import SCALE, StyleLoss
from striate.tasks.stylize.network import PerceptualNetwork, find_network
from striate.tasks.stylize.perception import Perception, default_layers
from striate.tasks.stylize.pictures import as_float, scaled_to
from striate.tasks.task import Task

NETWORKS = {"fast_style": 16, "any_style": 24}  # and how many channels they have at full size
STEPS = 450  # that a training takes when not told otherwise
CALIBRATION = 16  # photos whose descriptions tell a network for any style what is usual
SLACK = 0.8  # of the shorter side of a photo are the squares that are looked at
SHOWN = 12  # paintings of held-out photos in a report
MOST_LOOKS = 500  # pictures of styles kept in memory


@dataclass
class Photos:
    """A batch's targets: float [3, H, W] in 0..1 each, in training all of one size."""

    pixels: list[Tensor]

    def to(self, device: torch.device, /, *, non_blocking: bool = False) -> Photos:
        return Photos([photo.to(device, non_blocking=non_blocking) for photo in self.pixels])

    def stacked(self) -> Tensor:
        """[B, 3, H, W]"""
        return torch.stack(self.pixels).contiguous(memory_format=torch.channels_last)


class Stylize(Task):
    """Targets: `Photos`; outputs: float [B, 3, H, W] in 0..1.

    Args:
        styles: pictures whose style is learnt, mixed; of any_style also a folder of many.
        shares: how much each counts; alike when not given.
        network: by whose layers pictures are compared: see `find_network`.
        strength, smooth: of the style and of smoothness, times what is usual.
        style_size: longer side of the styles when they are looked at; twice the squares' when not given, so that
            strokes suit photos of about 512 pixels.
        width: channels of the network at full size.
        encoder: how an any_style's network is built again; found in training.
        size: side of the squares.
    """

    name = "stylize"
    result: ClassVar[type[Result]] = Styled
    reads: ClassVar[tuple[str, ...]] = ("pictures",)
    spatial: ClassVar[bool] = True
    classes: tuple[str, ...] = ()

    def __init__(
        self,
        classes: Sequence[str] = (),
        styles: Sequence[str] = (),
        shares: Sequence[float] | None = None,
        network: str | None = None,
        strength: float = 1.0,
        smooth: float = 1.0,
        style_size: int | None = None,
        width: int | None = None,
        encoder: dict[str, Any] | None = None,
        size: int = 256,
    ) -> None:
        if width is not None and not 4 <= width <= 256:
            raise UsageError(f"width must be from 4 to 256, not {width}")
        for name, value in (("strength", strength), ("smooth", smooth)):
            if not 0 <= value < float("inf"):
                raise UsageError(f"{name} must be a number from 0, not {value!r}")
        if shares is not None and len(shares) != len(styles):
            raise UsageError(f"shares: {len(shares)} numbers for {len(styles)} styles; give one for each")
        self.styles = [str(Path(style).absolute()) for style in styles]  # a run may go on from another folder
        self.network = str(Path(network).absolute()) if network and Path(network).exists() else network
        self.encoder = encoder
        self.shares = list(shares) if shares is not None else None
        self.strength, self.smooth, self.style_size, self.width, self.size = strength, smooth, style_size, width, size
        self._first: list[Sample] = []

    @property
    def arguments(self) -> dict[str, Any]:
        names = ("styles", "shares", "network", "strength", "smooth", "style_size", "width", "encoder", "size")
        return {name: getattr(self, name) for name in names}

    def default_recipe(self, facts: Facts, device: torch.device, weights: bool, model: str) -> dict[str, Any]:
        return {
            "model": "fast_style",
            "size": (256, 256),
            "channels": 3,
            "fit": "crop",
            "crop_ratio": SLACK,
            "normalize": "none",
            "batch": 4,
            "epochs": max(1, round(STEPS * 4 / facts.count)),
            "optimizer": "adam",
            "lr": 1e-3,
            "weight_decay": 0.0,
            "schedule": "cosine",
            "clip": 10.0,  # early steps of a Gram loss are wild
            "augment": dict.fromkeys(("auto", "light", "standard", "strong"), Augment(hflip=0.5, scale=(1.0, 1.25))),
        }

    def fit_to_data(self, architecture: str, samples: Sequence[Sample], preprocess: Preprocess) -> None:
        self.size, self._first = max(preprocess.size), list(samples[:CALIBRATION])

    def build(self, architecture: str, in_channels: int, **arguments: Any) -> nn.Module:
        if architecture not in NETWORKS:
            raise UsageError(f'task stylize knows the networks {", ".join(NETWORKS)}, not "{architecture}"')
        width = self.width or NETWORKS[architecture]
        if architecture == "fast_style":
            return FastStyle(width)
        if self.encoder is not None:
            return AnyStyle(**self.encoder)
        network = any_style_of(self.perceptual, width)
        self.encoder = network.arguments
        photos = [as_float(square(read_sample(sample), self.size)) for sample in self._first]
        network.calibrate(torch.cat(photos), as_float(square(self.looks[0], self.size)))
        return network

    def deployed(self, preprocess: Preprocess) -> Preprocess:
        """Trained on squares, used on whole photos as they are."""
        return preprocess.model_copy(update={"fit": "native"})

    # ---- what is learnt ----

    @cached_property
    def perceptual(self) -> PerceptualNetwork:
        return find_network(self.network)

    @cached_property
    def looks(self) -> list[Tensor]:
        """The pictures whose style is learnt, uint8 [3, H, W]; of folders all that can be read.

        Raises:
            DataError: there is none.
        """
        found: list[Tensor] = []
        for place in map(Path, self.styles):
            inside = sorted(path for path in place.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
            for path in inside[:MOST_LOOKS] if place.is_dir() else [place]:
                try:
                    found.append(read_image(path))
                except ImageError:
                    if not place.is_dir():
                        raise
        if not found:
            raise DataError("no style to learn: name at least one picture that has it")
        return found

    @cached_property
    def style_loss(self) -> StyleLoss:
        layers = default_layers(self.perceptual.backbone)
        names = (*layers.style, *layers.content)
        perception = Perception(self.perceptual.backbone, self.perceptual.preprocess, names)
        return StyleLoss(perception, layers, self.strength, self.smooth)

    def loss(
        self, outputs: Tensor, targets: Photos, label_smoothing: float = 0.0, class_weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Content, style and smoothness of the paintings (Gatys et al. 2016, equation 7); of any_style against the
        style that it was calibrated with."""
        loss = self.style_loss
        if not loss.grams:
            loss.perception.to(outputs.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            looks = self.looks if self.encoder is None else self.looks[:1]
            shares = self.shares if self.shares is not None and self.encoder is None else [1 / len(looks)] * len(looks)
            side = self.style_size or 2 * self.size
            loss.aim([scaled_to(as_float(look), side).to(outputs.device) for look in looks], shares)
        found = loss(outputs, loss.content_of(targets.stacked()))
        return {"loss": found.total / SCALE, "content": found.content, "style": found.style}

    def step(self, model: nn.Module, recipe: Recipe, class_weights: Tensor | None = None) -> Step:
        if isinstance(model, AnyStyle):
            return AnyStyleStep(model, [square(look, self.size) for look in self.looks])
        return super().step(model, recipe, class_weights)

    # ---- from pictures to results ----

    def collate(self, targets: Sequence[ImageTarget | None]) -> Photos:
        return Photos([as_float(target.pixels())[0] for target in targets if target is not None])

    def postprocess(self, outputs: Tensor, sizes: Tensor, preprocess: Preprocess) -> list[Tensor]:
        """B times float [3, H, W] in 0..1, of the pictures' own sizes; where squares were painted, those."""
        painted = outputs.float().cpu()
        if preprocess.fit != "native":
            return list(painted)
        return [
            map_to_picture(one, (int(size[0]), int(size[1])), preprocess)
            for one, size in zip(painted, sizes.tolist(), strict=True)
        ]

    def to_result(self, prediction: Tensor, source: Any, threshold: float | None = None) -> Styled:
        if threshold is not None:
            raise UsageError("a threshold is for models that say whether something is there; this one paints")
        return Styled((prediction.clamp(0, 1) * 255).round().to(torch.uint8), source=source)

    def metrics(self) -> Paintings:
        return Paintings()

    @staticmethod
    def sections(metrics: Paintings, samples: Sequence[Sample], read: Callable[[Sample], Tensor]) -> list[Section]:
        """Paintings of photos that were not learnt from."""
        painted = [(one.clamp(0, 1) * 255).round().to(torch.uint8) for one in metrics.shown]
        cards = [PictureCard(one, sample.name) for one, sample in zip(painted, samples, strict=False)]
        return [Section("Painted", f"The first of {metrics.count:,} photos held out.", pictures=cards)]


class AnyStyleStep(Step):
    """Every photo with a style of its own, drawn from torch's generator, which training seeds for every batch."""

    def __init__(self, model: AnyStyle, looks: list[Tensor]) -> None:
        super().__init__({SHIPPED: model})
        self.looks = looks

    def __call__(self, images: Tensor, targets: Photos, learner: Learner) -> dict[str, Tensor]:
        drawn = torch.randint(len(self.looks), (len(images),)).tolist()
        styles = torch.cat([as_float(self.looks[index]) for index in drawn]).to(images.device)
        losses = learner.nets[SHIPPED](images, styles)
        learner.update(losses["loss"], SHIPPED)
        return {"loss": losses["loss"].detach()}


class Paintings(Metrics):
    """Some of the paintings, to be looked at. Weights are kept by the mean loss of validation, which training takes
    beside."""

    best, mode = "loss", "min"

    def __init__(self) -> None:
        self.count, self.shown = 0, list[Tensor]()

    def update(self, predictions: Predictions, targets: Photos) -> None:
        self.count += len(predictions)
        self.shown += list(predictions)[: SHOWN - len(self.shown)]

    def merge(self, other: Any) -> None:
        self.count += other.count
        self.shown += other.shown[: SHOWN - len(self.shown)]

    def compute(self) -> dict[str, float]:
        return {}

    def full(self, seed: int = 0) -> dict[str, Any]:
        return {"samples": self.count, "best": self.best, "scalars": {}}


def square(picture: Tensor, side: int) -> Tensor:
    """The middle of a picture, uint8 [3, side, side], its shorter side brought to that first."""
    resized = F.resize(picture.expand(3, -1, -1), [side], antialias=True)
    return F.center_crop(resized, [side, side])
