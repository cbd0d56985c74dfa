"""The model file: one `.safetensors`, weights and, in its header, the ModelCard."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from striate.config import ModelCard, Preprocess, explain
from striate.errors import DataError
from striate.files import write_atomic

KEY = "striate"


def write_model(path: str | Path, state_dict: dict[str, Tensor], card: ModelCard) -> Path:
    """Write weights and card as one file, atomically; the same weights and card give the same bytes."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
    return write_atomic(path, save(weights, metadata={KEY: card.model_dump_json()}))


def read_card(path: str | Path) -> ModelCard:
    """The card alone; the weights are not read.

    Raises:
        DataError: no such file, not safetensors, or no card in it.
    """
    return _read(path, with_weights=False)[1]


def read_model(path: str | Path) -> tuple[dict[str, Tensor], ModelCard]:
    """Weights by parameter name, on the CPU, and the card.

    Raises:
        DataError: as `read_card`.
    """
    return _read(path, with_weights=True)


def _read(path: str | Path, with_weights: bool) -> tuple[dict[str, Tensor], ModelCard]:
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such model file. A training run writes one: runs/<task>/<name>/model.safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()} if with_weights else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path}: not a model file ({error}). Expected a .safetensors written by striate train"
        ) from None
    card = card_of(header, str(path))
    if card is None:
        raise DataError(
            f"{path}: weights without a model card, so nothing says which network they belong to. Say it with: "
            "striate convert FILE --model NAME …; or start training from them: striate train DATA --weights FILE"
        )
    return weights, card


def card_of(header: dict[str, str], place: str) -> ModelCard | None:
    """The card in a safetensors header: ours, or one made of the plain entries that some files have instead.

    Those are `architecture`, `classes` (ImageNet's), `mean` and `std` (of pixels in 0..1), `size`, `resize`. None where
    the header says too little.

    Raises:
        DataError: a card of ours that is not understood.
    """
    if KEY in header:
        try:
            return ModelCard.model_validate_json(header[KEY])
        except ValidationError as error:
            raise DataError(f"{place}: its model card is not understood ({explain(error)})") from None
    try:
        size, resize = int(header["size"]), int(header.get("resize", header["size"]))
        preprocess = Preprocess(
            size=(size, size),
            crop_ratio=min(1.0, size / resize),
            mean=tuple(json.loads(header["mean"])),
            std=tuple(json.loads(header["std"])),
        )
        if "imagenet" not in header["classes"].lower():
            return None
        return ModelCard(
            task="classify",
            architecture=header["architecture"],
            classes=list(imagenet_classes()),
            preprocess=preprocess,
            license=header.get("license", ""),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def imagenet_classes() -> tuple[str, ...]:
    """The 1,000 names in the order of the synsets, as torchvision ships them."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
