"""What every backbone is: a list of named layers, cut into named stages, with a classifier at the end.

The names of the layers are the names in the state dict, so families that torchvision has load its weights as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from striate.errors import UsageError


class Stage(NamedTuple):
    """One level of the feature pyramid: maps of `channels`, `reduction` times smaller than the picture."""

    channels: int
    reduction: int


class Backbone(nn.Module):
    """A function from images [B, C, H, W] to logits [B, num_classes], or to its stages by name.

    Attributes:
        stages: name -> (channels, reduction), from the picture to the deepest.
        num_features: width of what the classifier reads.
        classifier: name of the last layer; it is `nn.Identity` where num_classes is 0.
        image_size: (height, width) the network is bound to, None where it takes any.
        architecture, arguments: `create_model(architecture, num_classes=…, in_chans=…, **arguments)` builds it again.
    """

    classifier = "fc"
    image_size: tuple[int, int] | None = None
    architecture: str = ""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.arguments: dict[str, Any] = {}
        self.stages: dict[str, Stage] = {}
        self.stage_layers: dict[str, tuple[str, ...]] = {}
        self.head_layers: tuple[str, ...] = ()

    def add_stage(self, name: str, stage: Stage, layers: Sequence[str]) -> None:
        """Say that the children `layers`, run in this order, make the stage `name`."""
        self.stages[name] = stage
        self.stage_layers[name] = tuple(layers)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Every stage by name: [B, channels, H / reduction, W / reduction]; a vector is a map of 1 × 1."""
        self.check_size(images)
        found: dict[str, Tensor] = {}
        values = images
        for name, layers in self.stage_layers.items():
            values = self._run(layers, values)
            found[name] = values if values.ndim == 4 else values[:, :, None, None]
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, num_classes]; the features [B, num_features] where num_classes is 0."""
        self.check_size(images)
        values = images
        for layers in self.stage_layers.values():
            values = self._run(layers, values)
        return self._run(self.head_layers, values)

    def check_size(self, images: Tensor) -> None:
        """Refuse pictures of another size than the one the network is bound to.

        Raises:
            UsageError: with both sizes.
        """
        if self.image_size is not None and tuple(images.shape[-2:]) != self.image_size:
            raise wrong_size(self, images)

    def _run(self, layers: Sequence[str], values: Tensor) -> Tensor:
        for name in layers:
            values = getattr(self, name)(values)
        return values

    def cut_after(self, stage: str) -> None:
        """Delete what comes after a stage, the classifier included: no parameter is left without a gradient."""
        names = list(self.stages)
        unused = names[names.index(stage) + 1 :]
        doomed = [*self.head_layers, *(layer for name in unused for layer in self.stage_layers[name])]
        for layer in doomed:
            delattr(self, layer)
        for name in unused:
            del self.stages[name], self.stage_layers[name]
        self.head_layers = ()


class FeatureList(nn.Module):
    """A backbone whose forward gives a list of stages, as timm's `features_only` does.

    Args:
        backbone: cut after the deepest stage asked for.
        out_indices: which stages, counted from 0; negative from the end; None: all. Always given in that order.

    Raises:
        UsageError: an index that is no stage, or a network without feature maps.
    """

    def __init__(self, backbone: Backbone, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        names = list(backbone.stages)
        if not names:
            raise UsageError(f'"{backbone.architecture}" has no feature maps, so features_only cannot be')
        wanted = range(len(names)) if out_indices is None else out_indices
        for index in wanted:
            if not isinstance(index, int) or not -len(names) <= index < len(names):
                stages = ", ".join(f"{number} {name}" for number, name in enumerate(names))
                raise UsageError(f'out_indices: {index} is not a stage of "{backbone.architecture}" ({stages})')
        if not len(wanted):
            raise UsageError("out_indices is empty: name at least one stage, or leave it out for all")
        self.names = [names[index] for index in wanted]
        self.architecture = backbone.architecture
        self.arguments = {**backbone.arguments, "features_only": True, "out_indices": list(wanted)}
        backbone.cut_after(max(self.names, key=names.index))
        self.backbone = backbone

    def channels(self) -> list[int]:
        return [self.backbone.stages[name].channels for name in self.names]

    def reductions(self) -> list[int]:
        return [self.backbone.stages[name].reduction for name in self.names]

    def forward(self, images: Tensor) -> list[Tensor]:
        """images [B, C, H, W] -> one map [B, channels, H / reduction, W / reduction] a stage asked for."""
        found = self.backbone.features(images)
        return [found[name] for name in self.names]


def wrong_size(backbone: Backbone, images: Tensor) -> UsageError:
    height, width = backbone.image_size or (0, 0)
    return UsageError(
        f'"{backbone.architecture}" was built for pictures of {height}x{width}, these are '
        f"{images.shape[-2]}x{images.shape[-1]}: build it with image_size=({images.shape[-2]}, {images.shape[-1]})"
    )


def checked(name: str, value: object, allowed: Sequence[object]) -> None:
    """Refuse an argument outside its short list of values.

    Raises:
        UsageError: with the list.
    """
    if value not in allowed:
        choices = ", ".join(str(choice) for choice in allowed)
        raise UsageError(f"{name} must be one of {choices}, not {value!r}")
