"""Any network of timm as a backbone: `create_model("timm/convnext_atto")`.

timm (Wightman et al., github.com/huggingface/pytorch-image-models) builds the network; its parameters keep timm's names
behind `network.`. The weights are fresh. timm is imported when the first of its networks is asked for.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from striate.backbones.backbone import IMAGENET, Backbone, Canonical, Entry, Stage
from striate.errors import UsageError, did_you_mean

PREFIX = "timm/"


class TimmBackbone(Backbone):
    """Stages are those of timm's `features_only`, by the names of its layers; transformers have one a block.

    Args:
        name: as timm has it, with or without `timm/` before it.
        dropout: before the classifier; timm's default when not given.
        output_stride: 8 or 16, for networks that timm can dilate.
        image_size: (height, width) for networks bound to one size (most transformers); timm's default when not given.

    Raises:
        UsageError: no such network, or an argument that it cannot take.
    """

    def __init__(
        self,
        name: str,
        num_classes: int = 1000,
        in_chans: int = 3,
        dropout: float | None = None,
        output_stride: int = 32,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        config = _config(name)
        network = _build(
            name.removeprefix(PREFIX),
            num_classes=num_classes,
            in_chans=in_chans,
            **({} if dropout is None else {"drop_rate": dropout}),
            **({} if output_stride == 32 else {"output_stride": output_stride}),
            **({"img_size": image_size} if image_size and config.fixed_input_size else {}),
        )
        super().__init__(getattr(network, "head_hidden_size", None) or network.num_features)
        self.network = network
        if config.fixed_input_size:
            self.image_size = image_size or config.input_size[-2:]
        self.last_layer = f"network.{_classifier(network, config)}"
        if hasattr(network, "forward_intermediates"):
            self._add_stages()
        if output_stride != 32 and any(stage.reduction > output_stride for stage in self.pyramid.values()):
            raise UsageError(f"timm cannot give {name} an output_stride of {output_stride}")
        for module in network.modules():  # explanations read what activations are given
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]

    def feature_maps(self, images: Tensor) -> dict[str, Tensor]:
        """Every stage by name: [B, channels, H / reduction, W / reduction]"""
        self.check_size(images)
        maps = self.network.forward_intermediates(
            images,
            indices=list(range(len(self.pyramid))),
            stop_early=True,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        return dict(zip(self.pyramid, maps, strict=True))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, num_classes]; the features [B, num_features] where num_classes is 0."""
        self.check_size(images)
        return self._run(self.head_layers, self.network(images))

    def cut_after(self, stage: str) -> None:
        names = list(self.pyramid)
        kept = names[: names.index(stage) + 1]
        self.network.prune_intermediate_layers(list(range(len(kept))), prune_norm=True, prune_head=True)
        for name in names[len(kept) :]:
            del self.pyramid[name], self.stage_layers[name]
        self.head_layers = ()

    def _add_stages(self) -> None:
        """A stage's layers are those with parameters that timm made since the stage before it."""
        modules = dict(self.network.named_modules())
        order, begin = list(modules), 0
        for index, level in enumerate(self.network.feature_info):
            name = level["module"] or f"stage{index}"
            inside = [place for place, layer in enumerate(order) if f"{layer}.".startswith(f"{name}.")]
            end = max([begin, *(place + 1 for place in inside)])
            layers = [layer for layer in order[begin:end] if layer and _has_parameters(modules[layer])]
            stage = Stage(level["num_chs"], level["reduction"])
            self.add_stage(name, stage, [f"network.{layer}" for layer in layers])
            begin = end


def timm_entry(name: str) -> Entry:
    """What `create_model` needs to know of `timm/<name>`.

    Raises:
        UsageError: timm has no such network.
    """
    config = _config(name)
    channels, height, width = config.input_size
    canonical = Canonical(channels, (height, width), config.num_classes or IMAGENET.classes)
    return Entry(partial(TimmBackbone, name), f"timm's {name.removeprefix(PREFIX)}", "timm", canonical)


def _config(name: str) -> Any:
    """timm's account of a network: its input, its classifier.

    Raises:
        UsageError: timm has no network, or no weights of it, of this name.
    """
    import timm

    name = name.removeprefix(PREFIX)
    if not timm.is_model(name):
        raise UsageError(f'timm has no network called "{name}".{did_you_mean(name, timm.list_models())}')
    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        architecture = name.partition(".")[0]
        known = timm.list_models(f"{architecture}.*", pretrained=True)
        raise UsageError(f'timm has no weights called "{name}".{did_you_mean(name, known)}') from None


def _build(name: str, **arguments: Any) -> Any:
    import timm

    try:
        return timm.create_model(name, pretrained=False, **arguments)
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:  # timm's ways to say no
        wanted = ", ".join(f"{key}={value}" for key, value in arguments.items())
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"timm cannot build {name} with {wanted}" + (f": {reason}" if reason else "")) from None


def _classifier(network: nn.Module, config: Any) -> str:
    """Name of the last layer; without classes timm may put nothing in place of the whole head that it was in."""
    modules = dict(network.named_modules())
    name = config.classifier if isinstance(config.classifier, str) else (config.classifier or ("",))[0]
    while name and name not in modules:
        name = name.rpartition(".")[0]
    if not name:
        raise UsageError(f"timm's {config.architecture} has no classifier, so it cannot be a backbone")
    return name


def _has_parameters(layer: nn.Module) -> bool:
    return next(layer.parameters(recurse=False), None) is not None
