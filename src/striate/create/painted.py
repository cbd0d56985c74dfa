"""Painting at once, with a model file that `striate stylize train` wrote."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from striate.device import pick_precision
from striate.errors import DataError, UsageError
from striate.model import Model
from striate.results import Styled
from striate.tasks.stylize.any_style import AnyStyle
from striate.tasks.stylize.pictures import as_uint8, scaled_to
from striate.tasks.stylize.task import Stylize

MOST_STYLE = 512  # pixels: longer side of a style shown to a network for any


def load_painter(path: str | Path, device: str = "auto") -> Model:
    """As `striate.load`, of a network that paints.

    Raises:
        DataError: no such file, or one for another task.
    """
    model = Model.load(path, device)
    if model.card.task != Stylize.name:
        raise DataError(
            f"{path}: is a network for {model.card.task}, which paints nothing. Pictures can be compared by it: "
            f"--network {path}; one that paints is made by: striate stylize train STYLE --content PHOTOS"
        )
    return model


def knows_any_style(model: Model) -> bool:
    return isinstance(model.module, AnyStyle)


@torch.inference_mode()
def paint_with(
    model: Model,
    photo: Tensor,
    styles: Sequence[Tensor] = (),
    shares: Sequence[float] = (),
    strength: float = 1.0,
    size: int | None = None,
    precision: str = "auto",
) -> Styled:
    """Paint a photo, float [1, 3, H, W] in 0..1.

    Args:
        styles: pictures [1, 3, h, w], for a network that paints any style.
        shares: how much each of them counts, summing to 1.
        strength: for a network that paints any style, from 0, the photo, to 1.
        size: longer side of the result; the photo's own when not given.

    Raises:
        UsageError: a network for any style without one, or the other way round.
    """
    if knows_any_style(model) != bool(styles):
        told = "paints any style: name a picture that has it" if not styles else "knows one style already"
        raise UsageError(f"this network {told}")
    begin = time.perf_counter()
    photo = photo if size is None else scaled_to(photo, size)
    photo = photo.to(model.device, memory_format=torch.channels_last)
    use_bf16 = pick_precision(precision, model.device) == "bf16"
    with torch.autocast(model.device.type, torch.bfloat16, enabled=use_bf16):
        if styles:
            shown = [scaled_to(style, MOST_STYLE).to(model.device) for style in styles]
            painted = cast(Tensor, model.module(photo, shown, shares, strength))
        else:
            painted = cast(Tensor, model.module(photo))
    return Styled(as_uint8(painted), seconds=time.perf_counter() - begin)
