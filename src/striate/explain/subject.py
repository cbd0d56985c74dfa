"""What is explained: a copy of a model's network that may be hooked and differentiated, and pictures it has judged."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from striate.backbones.backbone import Backbone
from striate.config import Preprocess
from striate.data.transforms import Normalize, eval_transform
from striate.errors import DataError, UsageError, did_you_mean
from striate.explain.explanation import Request
from striate.results import Detections, Result, visible
from striate.sources import Source, expand
from striate.tasks import Task

if TYPE_CHECKING:
    from striate.model import Model

Evidence = Callable[[Any], Tensor]  # a network's outputs → float [B], of which the gradient is asked for

PICTURES = 12  # explained where no limit is given
TOLD = 5  # pictures that could not be read, told one by one


@dataclass(frozen=True)
class Subject:
    """A model as explanations take it.

    Attributes:
        network: a copy of the model's: float [B, C, h, w], normalised, → outputs; evaluation mode, no activation in
            place, no parameter asks for a gradient.
        task, preprocess, architecture, device: the model's.
    """

    network: nn.Module
    task: Task
    preprocess: Preprocess
    architecture: str
    device: torch.device

    @classmethod
    def of(cls, model: Model) -> Subject:
        return cls(
            unchained(model.module),
            model.task,
            model.card.preprocess,
            model.card.architecture,
            torch.device(model.device),
        )

    def evidence(self, label: int | None) -> Evidence:
        """Outputs → how much they speak for the class; -1 and None: for whatever each picture is answered."""
        return lambda outputs: self.task.evidence(outputs, None if label is None or label < 0 else label)


class Seen(NamedTuple):
    """One picture that the network has judged.

    Attributes:
        source: where it comes from.
        picture: uint8 [3 or 1, H, W], as it was read.
        images: float [1, C, h, w], normalised, on the network's device.
        result: what the model says of it.
        label: the class that is explained; -1: none in particular.
        evidence: what the network's outputs give for it.
    """

    source: Source
    picture: Tensor
    images: Tensor
    result: Result
    label: int
    evidence: float

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.shape[-2], self.picture.shape[-1]

    @property
    def name(self) -> str:
        """Of the file, without its folder."""
        return visible(self.source.name.replace("\\", "/").rpartition("/")[2] or self.source.name)

    @property
    def said(self) -> str:
        """What the model says, as a sentence."""
        said = self.result.describe(3).removeprefix(f"{visible(self.source.name)}: ")
        return f"The model says: {said.replace('  ', ', ')}."


def unchained(module: nn.Module) -> nn.Module:
    """A copy for gradients and hooks: in evaluation mode, nothing in place, parameters without gradients."""
    network = copy.deepcopy(module).eval().requires_grad_(False)
    for layer in network.modules():
        if getattr(layer, "inplace", False):
            layer.inplace = False  # type: ignore[assignment]
    return network


def look_at(subject: Subject, request: Request, most: int = PICTURES) -> tuple[list[Seen], list[str]]:
    """The pictures of a request, judged, and remarks on those left out.

    Args:
        most: how many at most where the request names no limit.

    Raises:
        UsageError: no class is called as the request says, or the network cannot be explained.
        DataError: no picture could be read.
    """
    labels = labels_of(request.label, subject.task.classes)
    sources, is_single = expand(request.sources)
    prepare, normalize = eval_transform(subject.preprocess), Normalize(subject.preprocess)
    seen: list[Seen] = []
    skipped: list[str] = []
    wanted = request.limit or most
    for source in sources:
        if len(seen) == wanted:
            break
        try:
            picture = source.load()
            batch = normalize(prepare(picture)[None]).to(subject.device)
            seen.append(judged(subject, source, picture, batch, labels))
        except DataError as error:
            if is_single:
                raise
            skipped.append(f"skipped: {error}")
            if len(skipped) <= TOLD:
                request.say(skipped[-1])
    else:
        wanted = 0  # all were looked at
    if not seen:
        raise DataError(f"none of these pictures could be explained; {skipped[0] if skipped else 'there is none'}")
    notes = skipped[:TOLD] + ([f"skipped: {len(skipped) - TOLD} more"] if len(skipped) > TOLD else [])
    if wanted and request.limit is None:
        notes.append(f"these are the first {wanted} pictures; --limit takes more")
        request.say(notes[-1])
    return seen, notes


def judged(subject: Subject, source: Source, picture: Tensor, images: Tensor, labels: list[int]) -> Seen:
    """What the model says of a picture, and how much speaks for the strongest of the classes, or for its answer.

    Raises:
        DataError: the outputs are not finite, or nothing at all speaks for the class.
    """
    sizes = torch.tensor([picture.shape[-2:]])
    with torch.no_grad():
        outputs = subject.network(images)
        wanted = labels or [int(subject.task.answered(outputs)[0])]
        strengths = [float(subject.evidence(label)(outputs)[0]) for label in wanted]
        settled = subject.task.settle(outputs, sizes, subject.preprocess)
    strength, label = max(zip(strengths, wanted, strict=True))
    if not settled.isfinite().all() or strength != strength:
        raise DataError(f"{source.name}: the network's outputs are not finite; its weights may be damaged")
    if strength == float("-inf"):
        named = subject.task.classes[label] if label >= 0 else "anything"
        raise DataError(f"{source.name}: nothing on this picture speaks for {named}")
    result = subject.task.decode(settled, [source])[0]
    if isinstance(result, Detections):  # of the strongest of the class alone, however weak it is
        candidates = subject.task.decode(settled, [source], threshold=0.0)[0]
        assert isinstance(candidates, Detections)
        result = strongest(candidates, label)
    return Seen(source, picture, images, result, label, strength)


def strongest(found: Detections, label: int) -> Detections:
    """The best detection of a class alone; none where there is none."""
    rows = (found.labels == label).nonzero().flatten()[:1]
    return Detections(found.source, found.classes, found.boxes[rows], found.scores[rows], found.labels[rows])


def labels_of(name: str | None, classes: tuple[str, ...]) -> list[int]:
    """Indices of the classes called so (ImageNet has two called crane); none without a name.

    Raises:
        UsageError: no class is called so.
    """
    if name is None:
        return []
    found = [index for index, known in enumerate(classes) if known == name]
    if not found:
        listed = f" There are {', '.join(classes)}." if len(classes) <= 12 else f" There are {len(classes):,} classes."
        raise UsageError(f'no class is called "{name}".{did_you_mean(name, classes) or listed}')
    return found


def layer_of(network: nn.Module, name: str) -> nn.Module:
    """A module by its name, or the last layer of a stage by the stage's.

    Raises:
        UsageError: there is none; the message names the stages.
    """
    layers = dict(network.named_modules())
    stages = stage_layers(network)
    if name and name in layers:
        return layers[name]
    if name in stages:
        return stages[name]
    known = [*stages, *(layer for layer in layers if layer)]
    listed = f"; stages are {', '.join(stages)}" if stages else ""
    raise UsageError(f'no layer is called "{name}"{listed}.{did_you_mean(name, known)}')


def backbone_in(network: nn.Module) -> Backbone | None:
    return next((module for module in network.modules() if isinstance(module, Backbone)), None)


def stage_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The layer that gives each stage of the network's backbone, by the stage's name; none without a backbone."""
    backbone = backbone_in(network)
    if backbone is None:
        return {}
    inside = dict(backbone.named_modules())
    found: dict[str, nn.Module] = {}
    for name, layers in backbone.stage_layers.items():
        # timm's networks call a stage by the layer that gives it
        given = next((layer for layer in (f"network.{name}", *layers[-1:]) if layer in inside), None)
        if given is not None:
            found[name] = inside[given]
    return found


def deepest_maps(network: nn.Module, images: Tensor) -> tuple[str, nn.Module]:
    """The last stage of the backbone that gives maps of more than one place; without a backbone the last such layer.

    Args:
        images: float [B, C, h, w], to try the network on.

    Raises:
        UsageError: no layer gives maps.
    """
    stages = stage_layers(network)
    layers = stages or {name: layer for name, layer in network.named_modules() if name}
    with torch.no_grad(), outputs_of(list(layers.values())) as given:
        network(images[:1])
    found = {name: layer for name, layer in layers.items() if any(is_map(values) for values in given.get(layer, ()))}
    if not found:
        raise UsageError("this network has no feature maps, so there are no regions to speak of: take --how integrated")
    name = list(found)[-1]
    return name, found[name]


def is_map(values: Any) -> bool:
    return isinstance(values, Tensor) and values.ndim == 4 and values.shape[2] * values.shape[3] > 1


@contextmanager
def outputs_of(layers: list[nn.Module]) -> Iterator[dict[nn.Module, list[Any]]]:
    """While open, what these layers give, in the order of their calls: a layer that is shared is called many times.

    What follows gets a copy, so that nothing that works in place changes what is kept.
    """
    given: dict[nn.Module, list[Any]] = {}

    def keep(layer: nn.Module, inputs: Any, output: Any) -> Any:
        given.setdefault(layer, []).append(output)
        return output.clone() if isinstance(output, Tensor) else output

    handles = [layer.register_forward_hook(keep) for layer in dict.fromkeys(layers)]
    try:
        yield given
    finally:
        for handle in handles:
            handle.remove()
