"""Move the picture, and the map of a convolution moves with it: that is equivariance, and it is exact. Pooling then
makes the answer care less and less about where things are, which is invariance, and it is only approximate.

Both come from two savings over a dense layer: every output looks at a few inputs only (sparse interactions), and every
place uses the same weights (parameter sharing).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from striate.lectures.foundations import equivariance_pictures as pictures
from striate.lectures.foundations.kernels import photograph
from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import Section, Table

PYTHON = """
import torch
from skimage.data import camera
from striate import create_model

photo = torch.from_numpy(camera())[None, None, :256, :256] / 255
layer = create_model("conv8-relu-pool", in_chans=1, num_classes=0).conv1

moved_then_seen = layer(photo.roll(5, dims=3))
seen_then_moved = layer(photo).roll(5, dims=3)
inside = (..., slice(8, -8))  # the border is where padding and the far edge come in
print((moved_then_seen - seen_then_moved)[inside].abs().max())  # 0
"""

LINE = "(conv16-bn-relu)x2-pool-(conv32-bn-relu)x2-pool-conv64-bn-relu-gap"
EPOCHS = 6
STAGES = {"conv1": "relu1", "conv2": "relu2", "pooled once": "pool1", "pooled twice": "pool2", "averaged": "gap1"}
CANVAS, DIGIT = 24, 8  # pixels; a digit lies in the middle of an empty canvas
SHIFTS = (0, 1, 2, 3, 4, 5, 6)
PHOTO_SHIFTS = (0, 1, 2, 4, 8, 16, 24)
SQUEEZENET = "squeezenet1_0-imagenet.safetensors"
SQUEEZENET_MEAN = (0.48235, 0.45882, 0.40784)


def commutes(layer: nn.Module, picture: Tensor, shift: int) -> float:
    """Largest difference, off the border, between moving then seeing and seeing then moving, over the largest answer.

    Args:
        layer: with stride 1.
        picture: [1, C, H, W]; moved right by `shift` pixels, what leaves on the right comes in on the left.
    """
    with torch.inference_mode():
        seen = layer(picture)
        moved_first = layer(picture.roll(shift, dims=3))
        inside = (..., slice(4, -4), slice(shift + 4, -4))  # not what came round the edge, nor what padding touches
        difference = (moved_first - seen.roll(shift, dims=3))[inside].abs().max()
        return float(difference / seen[inside].abs().max())


def through(network: nn.Module, images: Tensor, wanted: dict[str, str]) -> dict[str, Tensor]:
    """What comes out of some layers, by the names given to them, and the probabilities as "answer"."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, inputs, output: found.update({name: output.flatten(1).clone()})

    hooks = [network.get_submodule(layer).register_forward_hook(keep(name)) for name, layer in wanted.items()]
    with torch.inference_mode():
        found["answer"] = network(images).softmax(1)
    for hook in hooks:
        hook.remove()
    return found


def change(here: dict[str, Tensor], there: dict[str, Tensor]) -> dict[str, float]:
    """‖there − here‖ / ‖here‖ of every layer, mean over the pictures."""
    return {name: float(((there[name] - here[name]).norm(dim=1) / here[name].norm(dim=1)).mean()) for name in here}


def on_digits() -> dict[str, Any]:
    """Train a network on digits, then move photographs and digits before it."""
    import striate
    from striate.data import open_dataset
    from striate.data.transforms import Normalize

    with tempfile.TemporaryDirectory() as folder:
        model = striate.train("digits", model=LINE, epochs=EPOCHS, out=folder, quiet=True, threads=1, workers=0)
    normalize, module = Normalize(model.card.preprocess).cpu(), model.module.cpu()
    network = nn.Sequential(normalize, module).eval()
    first = module.get_submodule("conv1")
    photo = normalize(photograph()[None, None].float() * 255)
    shifts = {str(shift): commutes(first, photo, shift) for shift in (1, 5, 17)}
    best = int(first(photo).detach().flatten(2).std(2).argmax())  # the channel with the most to see

    samples = open_dataset("digits").splits["test"][:128]
    digits = torch.stack([sample.image for sample in samples if isinstance(sample.image, Tensor)]).float()
    margin = (CANVAS - DIGIT) // 2

    def placed(shift: int) -> Tensor:
        canvas = torch.zeros(len(digits), 1, CANVAS, CANVAS)
        canvas[:, :, margin : margin + DIGIT, margin + shift : margin + shift + DIGIT] = digits
        return canvas

    layers = {name: f"1.{layer}" for name, layer in STAGES.items()}
    here = through(network, placed(0), layers)
    moves = [change(here, through(network, placed(shift), layers)) for shift in SHIFTS]
    return {
        "accuracy": model.card.metrics["accuracy"],
        "commutes": shifts,
        "kernel": first.get_parameter("weight")[best, 0].tolist(),
        "scale": [float(normalize.scale), float(normalize.shift)],
        "moves": moves,
    }


def on_photos(weights: str, folder: str, count: int = 24) -> dict[str, Any]:
    """SqueezeNet's ImageNet weights: windows of photographs, moved by real pixels, not by copies."""
    from pathlib import Path

    from torchvision.transforms.v2 import functional as F

    from striate import create_model, read_image

    network = create_model("squeezenet1_0", weights=weights).eval()
    size, room = 227, max(PHOTO_SHIFTS)
    windows: dict[int, list[Tensor]] = {shift: [] for shift in PHOTO_SHIFTS}
    for path in sorted(Path(folder).glob("*.JPEG"))[:: max(1, 116 // count)][:count]:
        picture = read_image(path)
        picture = F.resize(picture, [256 + room], antialias=True).float() / 255
        picture = (picture - torch.tensor(SQUEEZENET_MEAN).view(3, 1, 1)) / 0.0039216  # [3, 280, ≥ 280]
        left = (picture.shape[2] - size - room) // 2
        for shift in PHOTO_SHIFTS:
            windows[shift].append(picture[:, 20 : 20 + size, left + room - shift : left + room - shift + size])
    batches = {shift: torch.stack(pictures_) for shift, pictures_ in windows.items()}
    stages = {"conv1": "features.1", "fire4": "features.5", "fire8": "features.10", "fire9": "features.12"}
    here = through(network, batches[0], stages)
    there = {shift: through(network, batch, stages) for shift, batch in batches.items()}
    with torch.inference_mode():
        first, second = (network.get_submodule("features.0")(batches[shift]) for shift in (0, 2))  # stride 2: one place
    exact = float((second[..., 1:] - first[..., :-1]).abs().max() / first.abs().max())
    top = here["answer"].argmax(1)
    return {
        "pictures": len(top),
        "conv1": exact,
        "moves": [change(here, there[shift]) for shift in PHOTO_SHIFTS],
        "same": [float((there[shift]["answer"].argmax(1) == top).float().mean()) for shift in PHOTO_SHIFTS],
    }


def savings() -> list[list[str | int]]:
    """Three convolutions: what each output looks at, what is learnt, and what a dense layer would."""
    cases = (
        ("digits: conv2, 16→16 channels, 8×8", 3, 16, 16, 8, 8),
        ("SqueezeNet: conv1, 3→96 channels, 227→111", 7, 3, 96, 227, 111),
        ("VGG-16: conv3-3, 256→256 channels, 56×56", 3, 256, 256, 56, 56),
    )
    rows: list[list[str | int]] = []
    for what, kernel, c_in, c_out, before, after in cases:
        looks, pixels = kernel**2 * c_in, before**2 * c_in
        learnt = looks * c_out
        dense = pixels * after**2 * c_out
        rows.append([what, looks, pixels, learnt, dense, dense // learnt])
    return rows


def show(setting: Setting) -> Shown:
    """Equivariance to the last bit, invariance as it grows layer by layer, and what is saved."""
    found = setting.remembered("A7-digits", {"line": LINE, "epochs": EPOCHS}, on_digits)
    exact = max(found["commutes"].values())
    far = found["moves"][SHIFTS.index(2)]
    checks = [
        Check(
            "A trained layer on a photograph: moving first or last",
            "the same",
            f"largest difference {exact:.1e} of the largest answer, off the border",
            exact < 1e-6,
        ),
        Check(
            "Two pixels' move changes, layer by layer",
            "less after pooling",
            " → ".join(f"{name} {100 * value:.0f} %" for name, value in far.items()),
            far["conv2"] > far["pooled once"] > far["pooled twice"] > far["averaged"],
            f"‖f(moved) − f‖ / ‖f‖ over 128 digits; the network is right on {found['accuracy']:.1%}.",
        ),
    ]
    drawn = [pictures.commuting(photograph(), torch.tensor(found["kernel"]), found["scale"])]
    curves = [pictures.moves(SHIFTS, found["moves"], "digits, a network of five convolutions")]
    missing = []
    weights, photos = setting.found(SQUEEZENET), setting.found("imagenet-samples")
    if weights and photos:
        real = setting.remembered(
            "A7-photos",
            {"weights": weights.stat().st_size, "photos": photos.name},
            lambda: on_photos(str(weights), str(photos)),
        )
        curves.append(pictures.moves(PHOTO_SHIFTS, real["moves"], f"SqueezeNet on {real['pictures']} photographs"))
        same = ", ".join(
            f"{shift} px {value:.0%}" for shift, value in zip(PHOTO_SHIFTS, real["same"], strict=True) if shift
        )
        checks += [
            Check(
                "SqueezeNet's first layer, stride 2: two pixels' move",
                "moves its map by one",
                f"largest difference {real['conv1']:.1e} of the largest answer",
                real["conv1"] < 1e-5,
            ),
            Check(
                "The same answer for a moved photograph",
                "mostly",
                same,
                real["same"][1] >= 0.75,
                f"{real['pictures']} photographs, each moved over real pixels; strides make this less than exact.",
            ),
        ]
    else:
        missing.append(
            f"{SQUEEZENET} and imagenet-samples: with them a real ImageNet network is measured on photographs; "
            "name their folder with --data"
        )
    return Shown(
        tuple(checks),
        (
            Section(
                "Convolution moves with the picture",
                "A kernel that a network learnt on digits, on a photograph moved by 40 pixels. Seen then moved and "
                "moved then seen differ nowhere but at the border.",
                drawn,
            ),
            Section(
                "The answer moves less, layer by layer",
                "How much each layer's output changes, at the same places, when the picture moves. The maps change "
                "much: what they found has moved with the picture. Pooling softens it; their average over all places "
                "and the answer change little.",
                curves,
            ),
            Section(
                "Sparse interactions, shared weights",
                "Each output of a convolution looks at three inputs here; a dense one looks at all. Equal colours are "
                "equal weights.",
                [pictures.connections()],
                [
                    Table(
                        ["layer", "inputs an output sees", "dense: inputs", "weights", "dense: weights", "times"],
                        savings(),
                    )
                ],
            ),
        ),
        missing=tuple(missing),
    )
