"""`striate convert`: weights of any origin into one model file that says what it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from striate.config import ModelCard

# --mean 0.5 0.5 0.5
Numbers = Annotated[tuple[float, ...] | None, Parameter(consume_multiple=True, negative_iterable="")]


def convert(
    weights: str,
    /,
    *,
    model: str | None = None,
    out: Path,
    classes: str | None = None,
    mean: Numbers = None,
    std: Numbers = None,
    size: int | None = None,
    resize: int | None = None,
    license: str | None = None,
    accept_license: bool = False,
    overwrite: bool = False,
) -> int:
    """Turn weights into a model file that predict, evaluate and train understand without another word.

    Parameters
    ----------
    weights
        A file (.safetensors, .pth, .th, Keras .hdf5, darknet .weights), imagenet, or hf://owner/repository.
    model
        The network they are for; not needed where the file says it.
    out
        The model file to write (.safetensors).
    classes
        What the classifier names, in its order: a,b,c, or a text file with one name a line.
    mean
        What is taken from each channel, of pixels in 0..1: one number a channel.
    std
        What each channel is divided by after that.
    size
        Side of the square the network sees.
    resize
        The shorter side is brought to this before the square is cut out; the same as --size when not given.
    license
        The licence of the weights.
    accept_license
        Take weights whose licence forbids commercial use.
    overwrite
        Replace a file that stands at --out.
    """
    from striate.backbones import Backbone, create_model
    from striate.backbones.public_weights import find_weights, local_file
    from striate.backbones.weights import load_weights
    from striate.cli.terminal import wrote
    from striate.config import ModelCard, Preprocess
    from striate.errors import UsageError
    from striate.files import refuse_overwrite
    from striate.model_file import write_model

    next_step = f"striate predict {out} PICTURES"
    target = refuse_overwrite(out, overwrite)
    if target.suffix != ".safetensors":
        raise UsageError(f"--out {out}: a model file ends in .safetensors")
    known = find_weights(weights, model or "")
    architecture = model or known.architecture
    if not architecture:
        raise UsageError(f"{weights}: does not say which network it is for; name it: --model NAME")
    names = names_of(classes) if classes else list(known.classes)
    if not names:
        raise UsageError(f"{weights}: does not say what its classes are; name them: --classes a,b,c or a text file")
    if (mean is None) != (std is None):
        raise UsageError("--mean and --std go together")
    if Path(weights).suffix == ".weights":
        if mean is not None or resize is not None:
            raise UsageError(f"{weights}: darknet takes pixels as they are; leave out --mean, --std and --resize")
        state, card = from_darknet(Path(weights), architecture, names, size, license or "")
        write_model(target, state, card)
        wrote([target], next_step)
        return 0
    preprocess = known.preprocess
    if mean is not None and std is not None:
        side = size or (preprocess.size[0] if preprocess else 224)
        preprocess = Preprocess(
            size=(side, side),
            channels=1 if len(mean) == 1 else 3,
            crop_ratio=min(1.0, side / (resize or side)),
            mean=mean,
            std=std,
        )
    if preprocess is None:
        raise UsageError(f"{weights}: does not say how pictures were prepared; say it: --mean, --std, --size, --resize")
    path = local_file(known, accept_license)
    network = create_model(
        architecture, num_classes=len(names), in_chans=preprocess.channels, image_size=preprocess.size
    )
    assert isinstance(network, Backbone)
    load_weights(network, path, same_classes=True)
    card = ModelCard(
        task="classify",
        architecture=architecture,
        arguments=network.arguments,
        classes=names,
        preprocess=preprocess,
        license=license if license is not None else known.license,
    )
    write_model(target, network.state_dict(), card)
    wrote([target], next_step)
    return 0


def from_darknet(
    weights: Path, model: str, classes: list[str], size: int | None, license: str
) -> tuple[dict[str, Tensor], ModelCard]:
    """A YOLOv3 with darknet's weights: its state dict and its card.

    Raises:
        UsageError: the model is no YOLOv3, or the size no multiple of 32.
        DataError: the file is damaged, or belongs to another network or number of classes.
    """
    from striate.config import ModelCard, Preprocess
    from striate.errors import UsageError
    from striate.tasks import create_task
    from striate.tasks.detect.darknet_weights import load_darknet_weights
    from striate.tasks.detect.task import DETECTORS, parsed
    from striate.tasks.detect.yolov3 import ANCHOR_SIZE

    wanted = [name for name, detector in DETECTORS.items() if detector.build == "yolov3:YOLOv3"]
    if parsed(model)[0] not in wanted:
        raise UsageError(f"{weights}: darknet's weights are for {' or '.join(wanted)}, not {model}")
    side = ANCHOR_SIZE if size is None else size
    if side < 32 or side % 32:
        raise UsageError(f"--size {side}: darknet's networks take a multiple of 32; {ANCHOR_SIZE} when not given")
    # boxes coded as the paper codes them, anchors in pixels of whatever the network sees
    task = create_task("detect", classes=classes, detector={"loss": "paper", "anchor_size": None})
    network = task.build(model, 3)
    load_darknet_weights(network, weights)
    card = ModelCard(
        task="detect",
        architecture=model,
        classes=classes,
        preprocess=Preprocess(
            size=(side, side), fit="pad", fill=128, pad_multiple=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
        ),
        task_arguments=task.arguments,
        license=license,
    )
    return network.state_dict(), card


def names_of(classes: str) -> list[str]:
    """Class names from `a,b,c`, or from a text file with one a line; lines `/a/airfield 0` as Places365 has them."""
    if Path(classes).is_file():
        lines = [line.strip() for line in Path(classes).read_text(encoding="utf-8").splitlines() if line.strip()]
        numbered = [re.fullmatch(r"(?:/\w/)?(\S+) (\d+)", line) for line in lines]
        places = {int(found[2]): found[1] for found in numbered if found}
        if len(places) == len(lines) and sorted(places) == list(range(len(lines))):
            return [places[number] for number in range(len(lines))]
        return lines
    return [name.strip() for name in classes.split(",") if name.strip()]
