"""Weights by name: where public ones lie, under which licence, and with which preprocessing they were trained.

`imagenet` is torchvision's first set of a network (`IMAGENET1K_V1`, the accuracies of its papers), `imagenet-v2` the
second; for networks of timm, timm's own. `hf://owner/repository[/file]` is a file on the Hugging Face Hub. All else is
the path of a file. Files are kept in `$STRIATE_CACHE/weights` (`~/.cache/striate/weights`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from striate.config import Preprocess
from striate.download import cache_folder, download
from striate.errors import DataError, UsageError, did_you_mean
from striate.model_file import card_of, imagenet_classes

NAMES = {"imagenet": "IMAGENET1K_V1", "imagenet-v2": "IMAGENET1K_V2"}
NON_COMMERCIAL = ("-nc", "noncommercial", "non-commercial", "research only")
# ours -> timm's, where the weights are timm's
TIMM_TWINS = {
    "darknet53": "darknet53",
    "mobilenet_v1": "mobilenetv1_100",
    "nasnetalarge": "nasnetalarge",
    "resnetv2_50": "resnetv2_50",
    "resnetv2_101": "resnetv2_101",
}
# torchvision's files for these want pixels in -1..1, which its networks compute from ImageNet's statistics first
HALVES = ("googlenet", "inception_v3")


class Published(NamedTuple):
    """Weights that somebody trained.

    Attributes:
        place: path, URL or hf:// address.
        preprocess: how pictures were prepared, None where nobody says.
        license: as the publisher states it, "" where nobody does.
        classes: what the classifier names, empty where nobody says.
        architecture: the network they are for, "" where nobody says.
    """

    place: str
    preprocess: Preprocess | None = None
    license: str = ""
    classes: tuple[str, ...] = ()
    architecture: str = ""
    top1: float | None = None  # percent, on ImageNet's validation pictures


def find_weights(weights: str | Path, architecture: str = "") -> Published:
    """What is known of weights, without fetching them.

    Args:
        weights: `imagenet`, `imagenet-v2`, `hf://owner/repository[/file]` or a path.
        architecture: the network they are for; names need it, files may say it themselves.

    Raises:
        UsageError: no such file or name, or no public weights of that name for the network.
        DataError: a file that cannot be read.
    """
    text = os.fspath(weights)
    if Path(text).is_file():
        return _described(Path(text))
    if text.startswith("hf://"):
        return Published(text)
    if text.lower() not in NAMES:
        if Path(text).suffix:
            raise UsageError(f"weights {text}: no such file")
        near = did_you_mean(text, NAMES)
        raise UsageError(f'weights "{text}": neither a file nor one of {", ".join(NAMES)} nor hf://…{near}')
    found = _of_torchvision(architecture, NAMES[text.lower()]) or _of_timm(architecture)
    if found is None:
        raise UsageError(
            f'"{architecture}" has no public weights called "{text}" that we know of. Give the path of a file'
        )
    return found


def local_file(published: Published, accept_license: bool = False) -> Path:
    """The file itself, fetched when it is not here yet.

    Raises:
        UsageError: its licence forbids commercial use, and nobody accepted that.
        DataError: it cannot be fetched; says where to put it by hand.
    """
    if Path(published.place).is_file():
        return Path(published.place)
    place, license = published.place, published.license
    if place.startswith("hf://") and not license:
        license = _license_on_hub(place)
    if any(word in license.lower() for word in NON_COMMERCIAL) and not accept_license:
        raise UsageError(
            f"{place}: licensed as {license}, which forbids commercial use. If that suits you: --accept-license"
        )
    if place.startswith("hf://"):
        return _from_hub(place)
    name = place.rpartition("/")[2]
    digest = name.rpartition(".")[0].rpartition("-")[2]  # torchvision's names end in the first digits of the SHA-256
    return download(place, cache_folder() / "weights" / name, digest if len(digest) == 8 else "", license)


def _of_torchvision(architecture: str, name: str) -> Published | None:
    from torchvision.models import get_model_weights

    try:
        known = get_model_weights(architecture)
    except ValueError:
        return None
    members = known.__members__
    if name not in members:
        if name == "IMAGENET1K_V1":  # the first there is
            name = next((member for member in members if member.startswith("IMAGENET1K")), "")
        if name not in members:
            return None
    weights: Any = members[name]
    how = weights.transforms()
    mean, std = ((0.5,) * 3, (0.5,) * 3) if architecture in HALVES else (tuple(how.mean), tuple(how.std))
    crop, resize = how.crop_size[0], how.resize_size[0]
    preprocess = Preprocess(
        size=(crop, crop),
        crop_ratio=crop / max(crop, resize),
        interpolation=how.interpolation.value,
        mean=mean,
        std=std,
    )
    top1 = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    classes = tuple(weights.meta["categories"])
    return Published(weights.url, preprocess, "BSD-3-Clause (torchvision)", classes, architecture, top1)


def _of_timm(architecture: str) -> Published | None:
    import timm

    theirs = architecture.removeprefix("timm/") if architecture.startswith("timm/") else TIMM_TWINS.get(architecture)
    config = timm.get_pretrained_cfg(theirs) if theirs else None
    if config is None or not config.hf_hub_id:
        return None
    _, height, width = config.input_size
    interpolation = config.interpolation if config.interpolation in ("bilinear", "bicubic", "nearest") else "bicubic"
    preprocess = Preprocess(
        size=(height, width),
        crop_ratio=config.crop_pct or 1.0,
        interpolation=interpolation,  # type: ignore[arg-type]
        mean=tuple(config.mean),
        std=tuple(config.std),
    )
    classes = imagenet_classes() if config.num_classes == 1000 else ()
    return Published(f"hf://{config.hf_hub_id}", preprocess, config.license or "", classes, architecture)


def _described(path: Path) -> Published:
    """What a file says of itself."""
    if path.suffix != ".safetensors":
        return Published(str(path))
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            card = card_of(file.metadata() or {}, str(path))
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not a readable .safetensors ({error})") from None
    if card is None:
        return Published(str(path))
    return Published(str(path), card.preprocess, card.license, tuple(card.classes), card.architecture)


def _hub_parts(place: str) -> tuple[str, str]:
    owner, _, rest = place.removeprefix("hf://").partition("/")
    repository, _, file = rest.partition("/")
    if not owner or not repository:
        raise UsageError(f"{place}: a Hub address is hf://owner/repository or hf://owner/repository/file")
    return f"{owner}/{repository}", file or "model.safetensors"


def _from_hub(place: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, file = _hub_parts(place)
    try:
        return Path(hf_hub_download(repository, file))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0][:160]
        raise DataError(
            f"{place}: could not be fetched ({reason}). Without a connection: fetch "
            f"https://huggingface.co/{repository}/resolve/main/{file} elsewhere and give its path as --weights"
        ) from None


def _license_on_hub(place: str) -> str:
    from huggingface_hub import model_info
    from huggingface_hub.errors import HfHubHTTPError

    try:
        data = model_info(_hub_parts(place)[0]).card_data
    except (HfHubHTTPError, OSError, ValueError):  # offline: fetching will say so, unless the file is here
        return ""
    return str(data.license or "") if data is not None else ""
