"""The model file: one `.safetensors`, weights and, in its header, the ModelCard."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from striate.config import ModelCard, explain
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
            text = (file.metadata() or {}).get(KEY)
            weights = {name: file.get_tensor(name) for name in file.keys()} if with_weights else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path}: not a model file ({error}). Expected a .safetensors written by striate train"
        ) from None
    if text is None:
        raise DataError(
            f"{path}: weights without a model card, so nothing says which network they belong to. "
            "To start training from them: striate train DATA --model NAME --weights FILE"
        )
    try:
        return weights, ModelCard.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{path}: its model card is not understood ({explain(error)})") from None
