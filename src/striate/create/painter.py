"""Trained painters: teaching one, its file, and painting with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from striate.backbones.weights import mismatches
from striate.config import ModelCard, Preprocess
from striate.create.any_style import AnyStyle, any_style_of
from striate.create.fast_style import FastStyle
from striate.create.likeness import SCALE, Likeness
from striate.create.network import Seeing
from striate.create.perception import Perception, default_layers
from striate.create.pictures import as_uint8, scaled_to
from striate.create.practice import Practice, Squares, practise
from striate.create.styled import Styled
from striate.device import pick_device, pick_precision
from striate.errors import DataError, UsageError
from striate.files import refuse_overwrite
from striate.model_file import read_model, write_model

TASK = "stylize"
NETWORKS: dict[str, type[nn.Module]] = {"fast_style": FastStyle, "any_style": AnyStyle}
AS_IT_IS = Preprocess(size=(256, 256), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))  # pixels in 0..1
CALIBRATION = 16  # photos whose descriptions tell a painter of any style what is usual
MOST_STYLE = 512  # pixels: longer side of a style shown to a painter of any


class Painter:
    """A trained network that paints at once.

    Attributes:
        network: a `FastStyle`, which knows one style, or an `AnyStyle`, which is shown one.
        card: what the file says of itself.
        name: of the file, without folder and ending.
    """

    def __init__(
        self, network: nn.Module, card: ModelCard, device: str = "auto", precision: str = "auto", name: str = "painted"
    ) -> None:
        self.card, self.name = card, name
        self.device = pick_device(device)
        use_bf16 = pick_precision(precision, self.device) == "bf16"
        self.dtype = torch.bfloat16 if use_bf16 else torch.float32
        self.network = network.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def needs_style(self) -> bool:
        return isinstance(self.network, AnyStyle)

    @torch.inference_mode()
    def paint(
        self,
        photo: Tensor,
        styles: Sequence[Tensor] = (),
        shares: Sequence[float] = (),
        strength: float = 1.0,
        size: int | None = None,
    ) -> Styled:
        """Paint a photo, float [1, 3, H, W] in 0..1.

        Args:
            styles: pictures [1, 3, h, w], for a painter of any style.
            shares: how much each of them counts, summing to 1.
            strength: for a painter of any style, from 0, the photo, to 1.
            size: longer side of the result; the photo's own when not given.

        Raises:
            UsageError: a painter of any style without one, or the other way round.
        """
        if self.needs_style != bool(styles):
            told = "paints any style: name a picture that has it" if self.needs_style else "knows one style already"
            raise UsageError(f"this network {told}")
        begin = time.perf_counter()
        photo = photo if size is None else scaled_to(photo, size)
        photo = photo.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            if self.needs_style:
                shown = [scaled_to(style, MOST_STYLE).to(self.device) for style in styles]
                painted = self.network(photo, shown, shares, strength)
            else:
                painted = self.network(photo)
        return Styled(as_uint8(painted), seconds=time.perf_counter() - begin)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write weights and card as one `.safetensors`.

        Raises:
            UsageError: a file stands there, or the name has another ending.
        """
        path = refuse_overwrite(path, overwrite)
        if path.suffix != ".safetensors":
            raise UsageError(f"{path}: a model file ends in .safetensors")
        return write_model(path, self.network.state_dict(), self.card)


def load_painter(path: str | Path, device: str = "auto", precision: str = "auto") -> Painter:
    """The painter in a file that `striate stylize --train` wrote.

    Raises:
        DataError: no such file, or one for another task.
    """
    weights, card = read_model(path)
    if card.task != TASK or card.architecture not in NETWORKS:
        raise DataError(
            f"{path}: is a network for {card.task}, which paints nothing. Its eyes can be lent: --network {path}; a "
            "painter is made by: striate stylize --train STYLE --content-folder PHOTOS --out FILE.safetensors"
        )
    with torch.random.fork_rng(devices=[]):
        network = NETWORKS[card.architecture](**card.arguments)
    if problems := mismatches(network.state_dict(), weights):
        raise DataError(f"{path}: its weights do not fit {card.architecture}: {'; '.join(problems)}")
    network.load_state_dict(weights)
    return Painter(network, card, device, precision, Path(path).stem)


def teach_style(
    styles: Sequence[Tensor],
    shares: Sequence[float],
    folder: str | Path,
    seeing: Seeing,
    how: Practice,
    *,
    strength: float = 1.0,
    smooth: float = 1.0,
    style_size: int | None = None,
    width: int = 16,
    about: str = "",
) -> Painter:
    """A network that paints like these pictures (float [1, 3, h, w] in 0..1, mixed by their shares).

    Args:
        folder: photos to practise on.
        strength, smooth: as in `striate.create.style.Painting`.
        style_size: longer side of the styles when they are looked at, in pixels; twice the squares' when not given,
            so that strokes suit photos of about 512.
        width: of the network.
        about: what the card calls the style.

    Raises:
        DataError: no photos.
    """
    device = pick_device(how.device)
    photos = Squares(folder, how.size, how.seed)
    layers = default_layers(seeing.backbone)
    perception = Perception(seeing.backbone, seeing.preprocess, (*layers.style, *layers.content))
    perception = perception.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    likeness = Likeness(perception, layers, strength, smooth)
    likeness.aim([scaled_to(style, style_size or 2 * how.size).to(device) for style in styles], shares)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(how.seed)
        network = FastStyle(width).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss_of(squares: Tensor) -> Tensor:
        return likeness(network(squares), likeness.content_of(squares)).total / SCALE

    steps, loss = practise(network, loss_of, photos, how)
    return Painter(network, _card("fast_style", network, how, steps, loss, about, folder), how.device, how.precision)


def teach_any_style(folder: str | Path, styles: str | Path, seeing: Seeing, how: Practice, width: int = 24) -> Painter:
    """A network that paints like any picture it is shown, taught on a folder of photos and one of styles.

    Raises:
        DataError: nothing in one of them.
    """
    device = pick_device(how.device)
    photos, looks = Squares(folder, how.size, how.seed), Squares(styles, how.size, how.seed + 1, slack=2.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(how.seed)
        network = any_style_of(seeing, width).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.calibrate(photos.draw(CALIBRATION).to(device))

    def loss_of(squares: Tensor) -> Tensor:
        return network.loss(squares, looks.draw(len(squares)).to(device))

    steps, loss = practise(network, loss_of, photos, how)
    about = f"any, learnt on {len(looks.photos)} pictures"
    return Painter(network, _card("any_style", network, how, steps, loss, about, folder), how.device, how.precision)


def _card(
    architecture: str, network: Any, how: Practice, steps: int, loss: float, style: str, folder: str | Path
) -> ModelCard:
    recipe = {"style": style, "photos": str(folder), "steps": steps, "batch": how.batch, "size": how.size}
    return ModelCard(
        task=TASK,
        architecture=architecture,
        arguments=network.arguments,
        classes=[],
        preprocess=AS_IT_IS,
        metrics={"loss": loss},
        recipe={**recipe, "rate": how.rate, "seed": how.seed},
        striate_version=version("striate"),
    )
