"""`striate stylize train`: a network learns a style, or any; a run like every other."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from striate.errors import UsageError

Numbers = Annotated[list[float] | None, Parameter(consume_multiple=True, negative_iterable="")]


def train(
    *styles: str,
    content: Path | None = None,
    model: Literal["fast_style", "any_style"] = "fast_style",
    network: str | None = None,
    mix: Numbers = None,
    strength: float = 1.0,
    smooth: float = 1.0,
    style_size: int | None = None,
    width: int | None = None,
    epochs: int = 0,
    size: int | None = None,
    batch: int | Literal["auto"] = "auto",
    lr: float | None = None,
    ema: float = 0.0,
    name: str | None = None,
    out: str = "runs",
    seed: int = 0,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    resume: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Teach a network STYLES on a folder of photos, so that it paints at once.

    Parameters
    ----------
    styles
        Pictures whose style to learn, mixed; for any_style pictures or folders of them, each a style.
    content
        A folder of photos to learn on.
    model
        fast_style learns one style; any_style is shown one when it paints.
    network
        By whose layers pictures are compared: a model file, a file of weights, or the name of a network.
    mix
        How much each of several styles counts: --mix 0.7 0.3
    strength
        How much of the style: 0.1 faint, 1 as meant, 10 wild.
    smooth
        How much smoothness counts, times what is usual.
    style_size
        Longer side of the styles when they are looked at; twice --size when not given.
    width
        Channels of the network at full size: 16 or 24; more are better and slower.
    epochs
        Times that all photos are seen; about 450 steps when not given.
    size
        Side of the squares of photos that are looked at, 256.
    batch
        Squares a step, 4.
    lr
        Of Adam, 0.001.
    ema
        Decay of averaged weights; 0: none.
    name
        Of the run: runs/stylize/NAME; the first style's when not given.
    out
        Folder of all runs.
    seed
        Of everything random.
    device
        auto, cpu, cuda, cuda:0 …
    precision
        auto: bf16 where the device has it natively.
    resume
        Instead of all else: a run to go on with, exactly.
    overwrite
        Allow the named run to exist.
    """
    from striate.cli.terminal import wrote
    from striate.config import Recipe
    from striate.train import start

    if resume is not None:
        run = start(Recipe(), resume=resume)
    else:
        if not styles:
            raise UsageError("which style? As in: striate stylize train starry_night.jpg --content photos/")
        if content is None:
            raise UsageError("a network learns on photos: name a folder of them with --content")
        if model == "any_style" and mix:
            raise UsageError("--mix: of a network for any style, styles are mixed when it paints")
        options: dict[str, Any] = {
            "styles": [str(Path(style).resolve()) for style in styles],
            "shares": shares(mix, len(styles)) if mix else None,
            "network": str(Path(network).resolve()) if network and Path(network).exists() else network,
            "strength": strength,
            "smooth": smooth,
            "style_size": style_size,
            "width": width,
        }
        given = {"batch": batch, "lr": lr, "size": size, "seed": seed, "device": device, "precision": precision}
        recipe = Recipe(
            data=str(content),
            task="stylize",
            model=model,
            task_options={key: value for key, value in options.items() if value is not None},
            name=name or Path(styles[0]).stem,
            out=out,
            epochs=epochs,
            ema=ema,
            overwrite=overwrite,
            **{key: value for key, value in given.items() if value is not None},
        )
        run = start(recipe)
    file, shown = run / "model.safetensors", ["STYLE"] if model == "any_style" else []
    wrote([file, run / "report.html"], shlex.join(["striate", "stylize", "PHOTO", *shown, str(file)]))
    return 0


def shares(mix: list[float], count: int) -> list[float]:
    from striate.create.style import shares_of

    return shares_of(mix, count)
