"""What is explained: a copy of a model's network that may be hooked and differentiated, and pictures it has judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from striate.config import Preprocess
from striate.data.geometry import preprocess_affine
from striate.data.transforms import Normalize, eval_transform
from striate.errors import DataError, UsageError, did_you_mean
from striate.explain.explanation import Label, Request
from striate.explain.layers import find_layer, readable_copy, stages_of
from striate.inference.predictor import NOT_FINITE, Predictor, is_finite
from striate.inference.sources import Source, expand
from striate.results import Result, visible
from striate.tasks import Task
from striate.tasks.explainable import Explainable

if TYPE_CHECKING:
    from striate.model import Model

ClassScore = Callable[[Any], Tensor]  # a network's outputs → float [B], of which the gradient is asked for

PICTURES = 12  # explained where no limit is given
PLACES = 4  # along the shorter side, at least, in the maps that explain a picture as a whole
OBJECT = 3  # places, at least, in the maps that explain an object
TOLD = 5  # pictures that could not be read, told one by one


@dataclass(frozen=True)
class ExplainedModel:
    """A model as explanations take it.

    Attributes:
        network: a copy of the model's: float [B, C, h, w], normalised, → outputs; evaluation mode, no activation in
            place, no parameter asks for a gradient.
        task, preprocess, name, device: the model's.
        explainable: the task, as what says how much speaks for a class.
    """

    network: nn.Module
    task: Task
    preprocess: Preprocess
    name: str
    device: torch.device
    explainable: Explainable

    @classmethod
    def of(cls, model: Model) -> ExplainedModel:
        """Raises UsageError: its task cannot be explained."""
        return cls(
            readable_copy(model.module),
            model.task,
            model.card.preprocess,
            model.name,
            torch.device(model.device),
            explainable(model.task),
        )

    @property
    def predictor(self) -> Predictor:
        """Of pictures that are normalised already."""
        return Predictor(self.network, self.task, self.preprocess, self.device)

    def class_score_of(self, one: ExplainedImage) -> ClassScore:
        """Outputs → how much they speak for what is explained of a picture; of a detector always the same object."""
        return lambda outputs: self.explainable.class_score(
            outputs, one.label if one.label >= 0 else None, one.target_box
        )


def explainable(task: Task) -> Explainable:
    """The task, as what says how much speaks for a class.

    Raises:
        UsageError: it does not say.
    """
    if not isinstance(task, Explainable):
        raise UsageError(
            f"task {task.name} does not say how much speaks for a class (it is not Explainable), "
            "so what its models answer cannot be explained"
        )
    return task


class ExplainedImage(NamedTuple):
    """One picture that the network has judged.

    Attributes:
        source: where it comes from.
        picture: uint8 [3 or 1, H, W], as it was read.
        images: float [1, C, h, w], normalised, on the network's device.
        result: what the model says of it.
        label: the class that is explained; -1: none in particular.
        class_name: what it is called; none has no name.
        target_box: see `Explainable.target_box`.
        class_score: what the network's outputs give for it.
        is_reported: the model would say of itself what is explained; of a detector: it is above the threshold.
    """

    source: Source
    picture: Tensor
    images: Tensor
    result: Result
    label: int
    class_name: str | None
    target_box: Tensor | None
    class_score: float
    is_reported: bool = True

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.shape[-2], self.picture.shape[-1]

    @property
    def name(self) -> str:
        return file_name(self.source)

    @property
    def said(self) -> str:
        """What the model says, as a sentence."""
        if not self.is_reported:
            confidence = self.result.confidence_of(self.label)
            score = f", of score {confidence:.2f}" if confidence else ""
            return (
                f"The model reports no {self.class_name} here: what is explained is its "
                f"strongest candidate for one{score}, a box below the threshold."
            )
        said = self.result.describe(3).removeprefix(f"{visible(self.source.name)}: ")
        return f"The model says: {said.replace('  ', ', ')}."


def file_name(source: Source) -> str:
    """Without its folder, fit for one line; of `digits:test` and the like the whole."""
    return visible(source.name.replace("\\", "/").rpartition("/")[2] or source.name)


def look_at(
    explained: ExplainedModel, request: Request, most: int = PICTURES
) -> tuple[list[ExplainedImage], list[str]]:
    """The pictures of a request, judged, and remarks on those left out.

    Args:
        most: how many at most where the request names no limit.

    Raises:
        UsageError: no class is called as the request says, or the network cannot be explained.
        DataError: no picture could be read.
    """
    labels = labels_of(request.label, explained.task.classes)
    sources, is_single = expand(request.sources)
    prepare, normalize = eval_transform(explained.preprocess), Normalize(explained.preprocess)
    pictures: list[ExplainedImage] = []
    skipped: list[str] = []
    wanted = request.limit or most
    for source in sources:
        if len(pictures) == wanted:
            break
        try:
            picture = source.load()
            batch = normalize(prepare(picture)[None]).to(explained.device)
            pictures.append(explained_image(explained, source, picture, batch, labels))
        except DataError as error:
            if is_single:
                raise
            skipped.append(f"skipped: {error}")
            if len(skipped) <= TOLD:
                request.say(skipped[-1])
    else:
        wanted = 0  # all were looked at
    if not pictures:
        raise DataError(f"none of these pictures could be explained; {skipped[0] if skipped else 'there is none'}")
    notes = skipped[:TOLD] + ([f"skipped: {len(skipped) - TOLD} more"] if len(skipped) > TOLD else [])
    if wanted and request.limit is None:
        notes.append(f"these are the first {wanted} pictures; --limit takes more")
        request.say(notes[-1])
    return pictures, notes


def explained_image(
    explained: ExplainedModel, source: Source, picture: Tensor, images: Tensor, labels: list[int]
) -> ExplainedImage:
    """What the model says of a picture, and how much speaks for the strongest of the classes, or for its answer.

    Raises:
        DataError: the outputs are not finite, or nothing at all speaks for the class.
    """
    task, scores, sizes = explained.task, explained.explainable, torch.tensor([picture.shape[-2:]])
    with torch.no_grad():
        outputs = explained.network(images)
        wanted = labels or [int(scores.predicted_class(outputs)[0])]
        strengths = [float(scores.class_score(outputs, label if label >= 0 else None)[0]) for label in wanted]
        (prediction,) = task.postprocess(outputs, sizes, explained.preprocess)
        strength, label = max(zip(strengths, wanted, strict=True))
        box = scores.target_box(outputs, label) if label >= 0 else None
    if not is_finite(prediction) or strength != strength:
        raise DataError(f"{source.name}: {NOT_FINITE}")
    if strength == float("-inf"):
        named = task.classes[label] if label >= 0 else "anything"
        raise DataError(f"{source.name}: nothing on this picture speaks for {named}")
    is_reported = not task.result.has_threshold or task.to_result(prediction, source).confidence_of(label) > 0
    result = whole_result(task, prediction, source).strongest(label)  # of the class, however weak it is
    name = visible(task.classes[label]) if label >= 0 else None
    return ExplainedImage(source, picture, images, result, label, name, box, strength, is_reported)


def whole_result(task: Task, prediction: Any, source: Source) -> Result:
    """The result of a picture, what is below the task's thresholds among it."""
    return task.to_result(prediction, source, threshold=0.0 if task.result.has_threshold else None)


def labels_of(label: Label | Sequence[Label] | None, classes: tuple[str, ...]) -> list[int]:
    """Indices of the classes meant: an index itself, or all that are called so (ImageNet has two called crane).

    Raises:
        UsageError: there is no such class.
    """
    if label is None:
        return []
    if isinstance(label, int):
        if not 0 <= label < len(classes):
            raise UsageError(f"no class has the index {label}: there are {len(classes):,}, from 0 on")
        return [label]
    if not isinstance(label, str):
        return [*dict.fromkeys(index for one in label for index in labels_of(one, classes))]
    name = label
    found = [index for index, known in enumerate(classes) if known == name]
    if not found:
        listed = f" There are {', '.join(classes)}." if len(classes) <= 12 else f" There are {len(classes):,} classes."
        raise UsageError(f'no class is called "{name}".{did_you_mean(name, classes) or listed}')
    return found


def deepest_maps(explained: ExplainedModel, one: ExplainedImage) -> tuple[str, nn.Module]:
    """The last stage of the backbone whose maps have enough places to say where; without a backbone the last such
    layer; where none has, the first.

    Where an object is explained, the last in which it is at least three places long: coarser maps are for larger ones.

    Raises:
        UsageError: no layer gives maps.
    """
    found = maps_by_stage(explained, one)
    if not found:
        raise UsageError("this network has no feature maps, so there are no regions to speak of: take --how integrated")
    side, height = object_side(one, explained.preprocess), one.images.shape[2]
    fine = [
        name
        for name, (rows, columns) in found.items()
        if (min(rows, columns) >= PLACES if side is None else side * rows / height >= OBJECT)
    ]
    name = fine[-1] if fine else next(iter(found))
    return name, find_layer(explained.network, name)


def maps_by_stage(explained: ExplainedModel, one: ExplainedImage) -> dict[str, tuple[int, int]]:
    """Rows and columns of the maps of each stage of the backbone, from the picture on; without a backbone, of each
    layer."""
    network = explained.network
    names = stages_of(network) or {name: name for name, _ in network.named_modules() if name}
    layers = {name: network.get_submodule(layer) for name, layer in names.items()}
    with torch.no_grad(), layer_outputs([*layers.values()]) as given:
        network(one.images)
    return {
        name: (values.shape[2], values.shape[3])
        for name, layer in layers.items()
        for values in given.get(layer, ())
        if is_map(values)
    }


def object_side(one: ExplainedImage, preprocess: Preprocess) -> float | None:
    """The longer side of the detection that is explained, in pixels of what the network sees."""
    box = None if one.target_box is None else one.result.box_of(one.label)
    if box is None:
        return None
    there = preprocess_affine(one.size, preprocess)
    x1, y1, x2, y2 = box
    return max((x2 - x1) * there.xx, (y2 - y1) * there.yy)


def is_map(values: Any) -> bool:
    return isinstance(values, Tensor) and values.ndim == 4 and values.shape[2] * values.shape[3] > 1


@contextmanager
def layer_outputs(layers: list[nn.Module]) -> Iterator[dict[nn.Module, list[Any]]]:
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
