"""Typed settings: Recipe (how to train), Preprocess (how a picture becomes a tensor), ModelCard (what a file holds)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    former_names: ClassVar[dict[str, str]] = {}  # of fields; recipes and model files that have them are still read

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        if isinstance(given, dict) and not cls.former_names.keys().isdisjoint(given):
            return {cls.former_names.get(name, name): value for name, value in given.items()}
        return given


class Preprocess(Settings):
    """How a picture becomes a tensor in evaluate, predict and every export: one object, stored in the model file.

    `fit` says how a picture of another size is brought to `size`:
    `crop`: the shorter side is resized to `size / crop_ratio`, then the centre is cropped (torchvision's way);
    `squash`: both sides are resized to `size`; `pad`: resized to fit inside and padded with `fill`, up to `size`, or in
    evaluation only to the next multiples of `pad_multiple`, so that a wide picture costs no more than its own pixels;
    `native`: never resized, padded with `fill` to the next multiples of `pad_multiple`; `size` is then that of the
    crops that training takes.
    """

    former_names: ClassVar[dict[str, str]] = {"tight": "pad_multiple"}

    size: tuple[int, int] = Field(default=(224, 224), description="height, width in pixels")
    channels: Literal[1, 3] = 3
    fit: Literal["crop", "squash", "pad", "native"] = "crop"
    crop_ratio: float = Field(default=0.875, gt=0, le=1)
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    fill: int = Field(default=0, ge=0, le=255)
    pad_multiple: int = Field(
        default=0, ge=0, description="of pad: each picture's own rectangle, in multiples of this; 0: no"
    )
    mean: tuple[float, ...] = Field(default=(0.485, 0.456, 0.406), description="per channel, of pixels in 0..1")
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


class Augment(Settings):
    """What training does to a picture before the network sees it (all on uint8, before normalisation)."""

    former_names: ClassVar[dict[str, str]] = {"mirror": "hflip", "colour": "color_jitter"}

    policy: Literal["none", "trivial", "rand"] = Field(
        default="none", description="an automatic policy on top: TrivialAugment Wide or RandAugment"
    )
    crop: Literal["none", "pad", "resized"] = Field(
        default="none", description="pad: shift by up to `pad` pixels (CIFAR); resized: a random part (ImageNet)"
    )
    pad: int = Field(default=4, ge=0)
    crop_scale: tuple[float, float] = Field(default=(0.25, 1.0), description="area of the part that `resized` keeps")
    hflip: float = Field(default=0.0, ge=0, le=1, description="probability of a left-right flip")
    rotate: float = Field(default=0.0, ge=0, le=180, description="degrees, either way")
    shear: float = Field(default=0.0, ge=0, le=60, description="degrees, either way")
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = Field(default=0.0, ge=0, le=0.5, description="boxes and points: moved by up to this share of a side")
    mosaic: float = Field(default=0.0, ge=0, le=1, description="boxes: probability of four pictures in one")
    multi_scale: tuple[float, float] = Field(
        default=(1.0, 1.0), description="boxes: each batch at a random one of these times the size, in steps of 32"
    )
    color_jitter: float = Field(
        default=0.0, ge=0, le=1, description="strength of brightness, contrast, saturation jitter"
    )
    erase: float = Field(default=0.0, ge=0, le=1, description="probability of random erasing")


class Recipe(Settings):
    """Everything that decides a training run. Written to `recipe.yaml`; the same recipe gives the same weights."""

    data: str = Field(default="", description="what to train on")
    task: str = Field(default="auto", description="read off the data when auto")
    task_options: dict[str, Any] = Field(
        default_factory=dict, description="what this task alone knows, by name: task_options.NAME"
    )
    model: str = Field(
        default="auto", description="a name (see: striate models) or a line such as conv32-relu-pool-fc64"
    )
    weights: str | None = Field(
        default=None, description="start from these: a file, imagenet, or hf://owner/repository"
    )
    accept_license: bool = Field(default=False, description="take weights whose licence forbids commercial use")
    transfer: Literal["auto", "none", "features", "finetune"] = Field(
        default="auto",
        description="what to learn on top of weights: features: the head alone; finetune: the head, then the body",
    )
    head: Literal["linear", "neighbours"] = Field(
        default="linear", description="features: a linear layer, or the k nearest of the training pictures"
    )
    frozen_stages: int = Field(default=0, ge=0, description="finetune: the first stages that stay as they are")
    layer_decay: float = Field(
        default=0.7, gt=0, le=1, description="finetune: learning rate of a stage, over that of the stage after it"
    )
    freeze_bn: bool | Literal["auto"] = Field(
        default="auto", description="finetune: keep the statistics of batch norms; auto: up to 5,000 pictures"
    )
    name: str | None = Field(default=None, description="name of the run; the data's name when not given")
    out: str = Field(default="runs", description="folder of all runs")
    epochs: int = Field(default=0, ge=0, description="0: chosen for the data")
    batch: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="pictures a step, over all processes"
    )
    size: int | None = Field(default=None, ge=8, description="side of the square the network sees")
    download: bool = Field(default=False, description="fetch a torchvision set that is not here yet")
    limit: int | None = Field(default=None, ge=1, description="use at most this many training pictures")
    # optimiser
    optimizer: Literal["auto", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"] = "auto"
    lr: float | None = Field(default=None, gt=0, description="peak learning rate; chosen when not given")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of momentum and nesterov")
    weight_decay: float | None = Field(default=None, ge=0, description="L2")
    l1: float = Field(default=0.0, ge=0, description="alpha of alpha*|w|_1 added to the loss")
    schedule: Literal["auto", "constant", "cosine", "onecycle", "step", "plateau"] = "auto"
    warmup: float = Field(default=0.0, ge=0, description="epochs of linear warm-up")
    step_epochs: int = Field(default=30, ge=1, description="schedule step: epochs between reductions")
    step_gamma: float = Field(default=0.1, gt=0, lt=1, description="schedules step and plateau: factor of a reduction")
    patience: int = Field(default=0, ge=0, description="stop after this many epochs without a better best; 0: never")
    clip: float = Field(default=0.0, ge=0, description="largest gradient norm; 0: no clipping")
    accumulate: int = Field(default=1, ge=1, description="batches whose gradients are added before a step")
    ema: float = Field(default=0.0, ge=0, lt=1, description="decay of the averaged weights; 0: none")
    # regularisation
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="before the classifier; the network's own when not given"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the truth spread over all classes")
    mixup: float = Field(default=0.0, ge=0, description="alpha of the Beta distribution; 0: none")
    cutmix: float = Field(default=0.0, ge=0, description="alpha of the Beta distribution; 0: none")
    adversarial: float = Field(
        default=0.0, ge=0, lt=1, description="train on adversaries: the most a pixel of 0..1 is changed; 0: none"
    )
    adversarial_steps: int = Field(
        default=3, ge=1, description="of projected gradient descent; 1: fast gradient sign, which may only seem to help"
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="rare classes weigh more in the loss"
    )
    sampling: Literal["uniform", "balanced"] = Field(default="uniform", description="rare classes are drawn more often")
    augment: Augment | Literal["auto", "none", "light", "standard", "strong"] = Field(
        default="auto", description="a preset; single --augment.KEY options are used instead of one"
    )
    normalize: Literal["auto", "data", "imagenet", "none"] = Field(
        default="auto", description="mean and deviation: of the data, ImageNet's, or 0 and 1"
    )
    # machine
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:0, mps")
    devices: int = Field(default=1, ge=1, description="processes (DDP); torchrun sets this itself")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="bf16 where the device has it natively, else fp32"
    )
    compile: bool | Literal["auto"] = Field(default="auto", description="torch.compile; auto: when training is long")
    channels_last: bool | Literal["auto"] = Field(default="auto", description="memory layout; auto: yes")
    threads: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="of arithmetic on a processor; auto: all, or 1 for tiny pictures"
    )
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(default="auto", description="reading processes")
    cache: bool | Literal["auto"] = Field(default="auto", description="decode once and keep; auto: up to 4 GiB")
    seed: int = Field(default=0, description="of everything random")
    deterministic: bool = Field(default=False, description="refuse operations that are not")
    checkpoint_minutes: float = Field(default=5.0, ge=0, description="also save for resume this often within an epoch")
    val_fraction: float = Field(default=0.2, gt=0, lt=1, description="held out when the data has no split of its own")
    overwrite: bool = Field(default=False, description="allow the named run to exist")


class ModelCard(Settings):
    """What one model file says of itself, in its safetensors header, as JSON under the key `striate`."""

    format: int = 1
    task: str
    architecture: str
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of create_model")
    classes: list[str]
    preprocess: Preprocess
    task_arguments: dict[str, Any] = Field(
        default_factory=dict, description="what the task needs to decode: temperature, thresholds …"
    )
    metrics: dict[str, float] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)
    data_fingerprint: str = ""
    striate_version: str = ""
    license: str = Field(default="", description="licence of the weights, as the trainer states it")


ALSO = {"int": "a whole number", "bool": "true or false"}  # pydantic's kind of error -> what was possible too


def explain(error: ValidationError) -> str:
    """The first thing that pydantic refused, in one line: `optimizer: input should be 'sgd' or 'adam' (got 'adma')`."""
    first, *others = error.errors()
    if isinstance(first["input"], str):  # of several forms that a value may have, a word was meant
        same = [other for other in (first, *others) if other["loc"][:1] == first["loc"][:1]]
        first = next((other for other in same if other["type"] == "literal_error"), first)
        if first["type"] == "literal_error":
            kinds = {other["type"].partition("_")[0] for other in same}
            first["msg"] += "".join(f" or {told}" for kind, told in ALSO.items() if kind in kinds)
    where = ".".join(
        str(part) for part in first["loc"] if not str(part).startswith(("literal[", "constrained-", "int"))
    )
    return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]} (got {first['input']!r})"
