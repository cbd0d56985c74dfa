"""Networks of the zoo as lectures look at them: built without contents, counted layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.lectures.diagrams import Volume
from striate.tasks.section import Table

if TYPE_CHECKING:
    from torch import nn

    from striate.network_summary import Summary

MIB = 2**20
# layers whose results a drawing shows, by the class of the layer
SHOWN = {
    "Conv2d": "conv",
    "MaxPool2d": "pool",
    "AvgPool2d": "pool",
    "AdaptiveAvgPool2d": "pool",
    "Linear": "dense",
}


def counted(name: str, size: tuple[int, int] | None = None, **arguments: Any) -> tuple[nn.Module, Summary]:
    """The network of that name on torch's meta device, and what one picture of `size` (its own when not given) costs.

    Raises:
        UsageError: as `create_model` and `summarize`.
    """
    import torch

    from striate.backbones import canonical_of, create_model
    from striate.network_summary import summarize

    channels, made_for, classes = canonical_of(name)
    options = {"num_classes": classes, "in_chans": channels, **arguments}
    with torch.device("meta"):
        network = create_model(name, **options)
    return network, summarize(network, (1, options["in_chans"], *(size or made_for)))


def layers_of(summary: Summary) -> Table:
    """Layers with their output, parameters, multiply-adds; of one picture, so without the batch."""
    rows = [
        [row.name, row.kind, "×".join(map(str, row.output[1:])), row.parameters, row.multiply_adds]
        for row in summary.rows
    ]
    return Table(("layer", "type", "output", "parameters", "multiply-adds"), rows)


def volumes_of(summary: Summary, leave_out: tuple[str, ...] = ()) -> list[Volume]:
    """The picture, and what each convolution, pooling and dense layer makes of it; poolings that change nothing,
    and layers of the names in `leave_out`, are not shown."""
    _, channels, height, width = summary.input_size
    found = [Volume("picture", channels, height, width, "picture")]
    for row in summary.rows:
        if row.kind not in SHOWN or row.name in leave_out:
            continue
        shape = (*row.output[1:], 1, 1)[:3]
        if SHOWN[row.kind] == "pool" and (found[-1].channels, found[-1].height, found[-1].width) == shape:
            continue
        found.append(Volume(row.name, *shape, SHOWN[row.kind]))
    return found


def numbered(volumes: list[Volume]) -> list[Volume]:
    """With names that say the kind and the place: conv1, conv2, pool2, dense3."""
    names, layers = [], 0
    for volume in volumes:
        layers += volume.kind in ("conv", "dense")
        names.append(volume.name if volume.kind == "picture" else f"{volume.kind}{layers}")
    return [volume._replace(name=name) for volume, name in zip(volumes, names, strict=True)]


def giga(count: float) -> str:
    return f"{count / 1e9:.3g} G" if count >= 1e8 else f"{count / 1e6:.3g} M" if count >= 1e5 else f"{count:,.0f}"


def million(count: float) -> str:
    return f"{count / 1e6:.4g} M"
