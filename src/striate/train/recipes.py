"""What a person need not know: every `auto` of a Recipe, chosen from the data and the machine, and said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from striate.backbones import is_chain
from striate.backbones.public_weights import find_weights
from striate.config import Augment, Preprocess, Recipe
from striate.data.facts import SMALL, Facts, look
from striate.data.reader import read_sample
from striate.data.sample import Dataset
from striate.data.statistics import channel_statistics
from striate.data.transforms import eval_transform
from striate.device import can_compile, has_native_bf16, pick_precision
from striate.errors import ImageError, UsageError
from striate.tasks import Task
from striate.tasks.task import FEATURES, OPTIONS
from striate.train.optimizers import DEFAULT_WEIGHT_DECAY, default_lr

FEW_EPOCHS = 10  # too few for strong augmentation to pay
TINY = 16  # pixels
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Networks for small grey pictures. Unpadded 3×3 convolutions spend nothing on the empty border: at 28×28 2.6 M
# multiply-adds, 4,700 pictures a second trained on two AVX2 cores (`python -m bench mnist`).
SMALL_NET = "(conv16p0-bn-relu)x2-pool-(conv32p0-bn-relu)x2-pool-conv64p0-bn-relu-flatten"  # from 24 pixels on
TINY_NET = "(conv32-bn-relu)x2-pool-(conv64-bn-relu)x2-pool-conv128-bn-relu-gap"


def augment_preset(name: str, facts: Facts) -> Augment:
    """`none`, `light`, `standard` or `strong` for pictures like these.

    Small grey pictures are shifted and tilted but not mirrored: they are mostly characters.
    """
    if name == "none":
        return Augment()
    if facts.small:
        shift = max(1, max(facts.height, facts.width) // 12)
        if facts.grey:
            augment = Augment(crop="pad", pad=shift)
            if name != "light":
                augment = Augment(crop="pad", pad=shift, rotate=10, shear=5, scale=(0.9, 1.1))
        else:
            augment = Augment(crop="pad", pad=max(1, facts.height // 8), hflip=0.5)
    elif name == "light":
        augment = Augment(crop="resized", crop_scale=(0.5, 1.0), hflip=0.5)
    else:
        augment = Augment(crop="resized", crop_scale=(0.25, 1.0), hflip=0.5, color_jitter=0.2)
    if name == "strong":
        augment = augment.model_copy(update={"policy": "trivial", "erase": 0.25})
    return augment


def resolve_augment(augment: Augment | str, dataset: Dataset, own: dict[str, Augment] | None = None) -> Augment:
    """The Augment that a recipe's `augment` stands for on this data set; `auto` is light where epochs are few.

    Args:
        own: the task's own presets.
    """
    if isinstance(augment, Augment):
        return augment
    if own is not None and augment in own:
        return own[augment]
    facts = look(next(iter(dataset.splits.values())), len(dataset.classes))
    if augment == "auto":
        augment = "standard" if choose_epochs(facts) > FEW_EPOCHS else "light"
    return augment_preset(augment, facts)


def choose_model(facts: Facts, device: torch.device, pretrained: bool) -> str:
    if pretrained:
        return "resnet18" if device.type == "cpu" else "resnet50"
    if facts.small and facts.grey:
        return SMALL_NET if min(facts.height, facts.width) >= 24 else TINY_NET
    if facts.small and device.type == "cpu":
        return "resnet20_cifar"
    return "resnet18" if facts.small or device.type == "cpu" else "resnet50"


def choose_epochs(facts: Facts) -> int:
    """Some 350,000 pictures seen, each at least 6 times and at most 60 times."""
    return min(max(round(350_000 / facts.count), 6), 60)


def choose_batch(facts: Facts, small: bool, device: torch.device) -> int:
    """About 20 steps an epoch, but 16 pictures a step, which batch norm needs; 128 small or 32 large ones at most on a
    processor, more on a GPU."""
    most = (512 if small else 128) if device.type == "cuda" else (128 if small else 32)
    return min(most, facts.count, max(16, 2 ** ((facts.count // 20).bit_length() - 1)))


def resolve(recipe: Recipe, dataset: Dataset, task: Task, device: torch.device) -> tuple[Recipe, Preprocess, list[str]]:
    """The recipe with nothing left to choose, how pictures enter the network, and what was chosen, in sentences.

    Raises:
        UsageError: settings that exclude each other.
    """
    facts = look(dataset.splits["train"], len(dataset.classes))
    suggested = task.default_recipe(facts, device, bool(recipe.weights), recipe.model)
    recipe, fitted = with_suggestions(recipe, suggested)
    chosen: dict[str, object] = {}
    model, architecture = recipe.model, ""
    if model == "auto":
        if recipe.weights and Path(recipe.weights).is_file():
            architecture = find_weights(recipe.weights).architecture
        model = architecture or choose_model(facts, device, bool(recipe.weights))
    published = find_weights(recipe.weights, task.backbone_of(model)) if recipe.weights else None
    chosen["model"] = model
    augment = resolve_augment(recipe.augment, dataset, suggested.get("augment"))
    chosen["augment"] = augment

    if published is not None and published.preprocess is not None and recipe.normalize == "auto":
        preprocess = published.preprocess.model_copy(update=fitted)
        if recipe.size:
            preprocess = preprocess.model_copy(update={"size": (recipe.size, recipe.size)})
    else:
        preprocess = choose_preprocess(facts, recipe, dataset, device, fitted)
    size = preprocess.size
    small = max(size) <= SMALL

    chosen["epochs"] = recipe.epochs or choose_epochs(facts)
    chosen["batch"] = batch = choose_batch(facts, small, device) if recipe.batch == "auto" else recipe.batch
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if batch % world:
        raise UsageError(f"batch {batch} cannot be shared evenly by {world} processes: choose a multiple of {world}")
    # SGD trains residual networks best; a network from a line gets what is least particular about its rate
    optimizer = recipe.optimizer
    if optimizer == "auto":
        optimizer = "adamw" if is_chain(model) else "nesterov"
    chosen["optimizer"] = optimizer
    chosen["lr"] = recipe.lr or default_lr(optimizer, batch * recipe.accumulate)
    if recipe.weight_decay is None:
        chosen["weight_decay"] = DEFAULT_WEIGHT_DECAY.get(optimizer, 5e-4)
    if recipe.schedule == "auto":
        chosen["schedule"] = "onecycle"
    chosen["device"] = device.type if device.index is None else str(device)
    chosen["precision"] = pick_precision(recipe.precision, device)
    chosen["channels_last"] = recipe.channels_last is True or recipe.channels_last == "auto"
    if recipe.compile == "auto":
        chosen["compile"] = can_compile(device) and _pays_to_compile(facts, int(chosen["epochs"]), size, device)  # type: ignore[call-overload]
    if recipe.threads == "auto":
        # threads that wait for each other after every tiny operation gain nothing alone, and lose all to a busy
        # neighbour: digits 3,000 pictures a second with one thread, 3,300 with two, on a shared machine 2,700 and 900
        chosen["threads"] = 1 if max(size) <= TINY else torch.get_num_threads()
    if recipe.workers == "auto":
        chosen["workers"] = min(2 if device.type == "cpu" else 16, os.cpu_count() or 1)
    notes = [
        f"{facts.count:,} training pictures, {'grey' if facts.grey else 'colour'}, "
        f"{'all' if facts.one_size else 'about'} {facts.height}×{facts.width}; "
        f"the network sees {size[0]}×{size[1]}",
    ]
    if recipe.model == "auto":
        why = "the weights' own" if architecture else "chosen for the size of the pictures and this machine"
        notes.append(f"model: {model} ({why}; --model for another)")
    return recipe.model_copy(update=chosen), preprocess, notes


SPATIAL_ONLY, LABELS_ONLY = ("shift", "mosaic", "multi_scale"), ("policy", "crop", "erase")  # of Augment


def refuse_unsupported(recipe: Recipe, task: Task) -> None:
    """Nothing that a task would ignore is taken.

    Raises:
        UsageError: an option that this task does not support.
    """

    def refuse(what: str, instead: str) -> None:
        raise UsageError(f"task {task.name} does not support {what.replace('_', ' ')}; {instead}")

    supported = ", ".join(name.replace("_", " ") for name in OPTIONS if name in task.supports) or "none of its kind"
    for name, off in OPTIONS.items():
        if name not in task.supports and getattr(recipe, name) != off:
            refuse(name, task.hints.get(name, f"it does support: {supported}"))
    if FEATURES not in task.supports and recipe.transfer == "features":
        refuse("transfer features, which fits a linear head on whole pictures", "use --transfer finetune")
    if FEATURES not in task.supports and recipe.head == "neighbours":
        refuse("head neighbours", "leave --head linear")
    if isinstance(recipe.augment, Augment):
        plain = Augment()
        for name in LABELS_ONLY if task.spatial else SPATIAL_ONLY:
            if getattr(recipe.augment, name) != getattr(plain, name):
                why = "its targets move with the picture" if task.spatial else "its targets are not places"
                refuse(f"augment.{name}", why)


def with_suggestions(recipe: Recipe, suggested: dict[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """The recipe with a task's suggestions wherever the user said nothing; and those that are Preprocess's."""
    update = {
        key: value
        for key, value in suggested.items()
        if key in Recipe.model_fields
        and key not in ("augment", "size")
        and (key not in recipe.model_fields_set or getattr(recipe, key) in ("auto", None, 0))
    }
    fitted = {
        key: suggested[key]
        for key in ("size", "channels", "fit", "crop_ratio", "fill", "pad_multiple")
        if key in suggested
    }
    return recipe.model_copy(update=update), fitted


def choose_preprocess(
    facts: Facts, recipe: Recipe, dataset: Dataset, device: torch.device, fitted: dict[str, Any]
) -> Preprocess:
    """For a network that starts from nothing: the pictures' own size where it is small, and their own statistics.

    Args:
        fitted: what the task wants of `size`, `fit`, `fill` and `pad_multiple`.
    """
    side = recipe.size or (None if facts.small else (224 if device.type == "cuda" else 128))
    size = (side, side) if side else (facts.height, facts.width)
    channels = 1 if facts.grey else 3
    as_it_is = facts.one_size and (facts.height, facts.width) == size
    preprocess = Preprocess(
        size=size,
        channels=channels,
        fit="squash" if as_it_is else "crop",
        crop_ratio=1.0 if as_it_is else 0.875,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
    preprocess = preprocess.model_copy(update=fitted | ({"size": size} if recipe.size else {}))
    return _with_statistics(preprocess, recipe, dataset)


def _with_statistics(preprocess: Preprocess, recipe: Recipe, dataset: Dataset) -> Preprocess:
    """Mean and deviation of up to 2,000 training pictures as the network will see them, or ImageNet's, or none."""
    if recipe.normalize == "none":
        return preprocess
    if recipe.normalize == "imagenet":
        if preprocess.channels == 1:
            raise UsageError("normalize imagenet needs colour pictures; these are grey. Use --normalize data")
        return preprocess.model_copy(update={"mean": IMAGENET_MEAN, "std": IMAGENET_STD})
    prepare = eval_transform(preprocess)
    samples = dataset.splits["train"]

    def pictures():
        for sample in samples[:: max(1, len(samples) // 2000)][:2000]:
            try:
                yield prepare(read_sample(sample))
            except ImageError:
                continue

    mean, std = channel_statistics(pictures(), preprocess.channels)
    return preprocess.model_copy(
        update={"mean": tuple(round(m, 5) for m in mean), "std": tuple(max(round(s, 5), 1e-3) for s in std)}
    )


def _pays_to_compile(facts: Facts, epochs: int, size: tuple[int, int], device: torch.device) -> bool:
    """Compiling takes 10 to 60 s and saves about a fifth on a GPU or in bf16: worth it when training is long.

    A rule, not a measurement, so that the same recipe takes the same way again. In fp32 on a processor it saves
    nothing (`python -m bench train_step`).
    """
    pixels = facts.count * epochs * size[0] * size[1]
    return has_native_bf16(device) and pixels > 2e9 and max(size) > SMALL
