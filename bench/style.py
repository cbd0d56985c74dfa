"""Style transfer at 512 pixels: seconds by changing pixels, milliseconds by a trained network.

pixels:  `striate.stylize` with its defaults, L-BFGS through SqueezeNet's eyes; photographs that scikit-image carries,
         each in a style that `bench/drawn_styles.py` draws. Fails from 180 s on, or when the loss rises within a scale.
network: `paint_with` of the astronaut, 512 × 512, by a network as `striate stylize train` makes; `--painter FILE`
         takes a trained one, without it the weights are random, which takes as long. Fails from 150 ms on.

`--picture FILE` draws photo, styles and paintings side by side. SqueezeNet's weights come from the folder of the
pictures (`squeezenet1_0-imagenet.safetensors`), or are fetched.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from bench.drawn_styles import DRAWN
from bench.harness import Comparison, interleave
from bench.pictures import SHARED

PAIRS = 5
PHOTO_FOR = {"strokes": "astronaut", "glass": "coffee", "engraving": "chelsea"}  # the style: the photo
MOST_SECONDS, MOST_MILLISECONDS = 180.0, 150.0
WEIGHTS = SHARED / "squeezenet1_0-imagenet.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--styles", nargs="+", choices=DRAWN, default=["strokes"])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--painter", type=Path, help="a model file that striate stylize train wrote")
    parser.add_argument("--picture", type=Path, help="draw what came out into this file")


def measure(options: argparse.Namespace) -> list[Comparison]:
    shown: list[tuple[str, Tensor]] = []
    found = [comparison for name in options.cases for comparison in CASES[name](options, shown)]
    if options.picture:
        from striate.data.inspect.contact_sheet import contact_sheet

        captions, pictures = zip(*shown, strict=True)
        contact_sheet(pictures, captions, columns=3, tile=options.size // 2).save(options.picture)
    return found


def pixels(options: argparse.Namespace, shown: list[tuple[str, Tensor]]) -> list[Comparison]:
    """A case a style, each painted once."""
    from striate.create import stylize

    found = []
    for name in options.styles:
        photo, style = photograph(PHOTO_FOR[name]), F.pil_to_tensor(DRAWN[name]())
        done = stylize(
            photo,
            style,
            network=WEIGHTS if WEIGHTS.is_file() else None,
            size=options.size,
            steps=options.steps,
            device=options.device,
        )
        rows = list(pairwise(done.losses))
        rises = sum(later["total"] > earlier["total"] for earlier, later in rows if earlier["size"] == later["size"])
        facts = {
            "steps": len(done.losses),
            "rises of the loss": rises,
            "first and last loss": [round(done.losses[place]["total"], 1) for place in (0, -1)],
            "seconds allowed": MOST_SECONDS,
        }
        ok = rises == 0 and done.seconds < MOST_SECONDS
        figures = {"striate": [done.seconds]}
        found.append(Comparison("s", figures, higher_is_better=False, facts=facts, case=f"pixels, {name}", ok=ok))
        shown += [(PHOTO_FOR[name], photo), (name, style), (f"{name}, {len(done.losses)} steps", done.image)]
    return found


def network(options: argparse.Namespace, shown: list[tuple[str, Tensor]]) -> list[Comparison]:
    """One photo after the other, in turn with nothing."""
    from statistics import median

    from striate.config import ModelCard, Preprocess
    from striate.create.painted import knows_any_style, load_painter, paint_with
    from striate.model import Model
    from striate.results import Styled
    from striate.tasks.stylize.fast_style import FastStyle
    from striate.tasks.stylize.pictures import as_float, scaled_to

    if options.painter:
        model = load_painter(options.painter, options.device)
    else:
        preprocess = Preprocess(fit="native", mean=(0.0,) * 3, std=(1.0,) * 3)
        card = ModelCard(task="stylize", architecture="fast_style", classes=[], preprocess=preprocess)
        model = Model(FastStyle(), card, options.device)

    def painted(photo: str, style: str) -> Styled:
        """By a network for any style: in this one."""
        looks = [as_float(F.pil_to_tensor(DRAWN[style]()))] if knows_any_style(model) else []
        picture = scaled_to(as_float(photograph(photo)), options.size)
        return paint_with(model, picture, looks, [1.0] * len(looks))

    side: Callable[[], float] = lambda: 1000 * painted("astronaut", "strokes").seconds  # noqa: E731
    figures = interleave({"striate": side}, options.pairs, warmup=3)
    facts = {
        "weights": options.painter or "random",
        "parameters": sum(parameter.numel() for parameter in model.module.parameters()),
        "milliseconds allowed": MOST_MILLISECONDS,
    }
    shown += [(f"{photo}, network, {model.name}", painted(photo, style).image) for style, photo in PHOTO_FOR.items()]
    ok = median(figures["striate"]) < MOST_MILLISECONDS
    return [Comparison("ms", figures, higher_is_better=False, facts=facts, case="network", ok=ok)]


def photograph(name: str) -> Tensor:
    """One that scikit-image carries, uint8 [3, H, W]: astronaut (NASA, public domain), chelsea (Stefan van der Walt,
    CC0), coffee (Rachel Michetti, CC0)."""
    from skimage import data

    return torch.from_numpy(getattr(data, name)()).permute(2, 0, 1).contiguous()


CASES = {"pixels": pixels, "network": network}
