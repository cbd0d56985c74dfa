"""What a network is made of: layers, shapes, parameters, multiply-adds, memory, receptive fields.

The network runs once on tensors without contents (torch's meta device), so that ResNet-152 at any batch size costs
neither memory nor arithmetic, and the network itself is left untouched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from striate.errors import UsageError
from striate.layers.receptive_fields import Field, FieldTracker


@dataclass(frozen=True)
class LayerRow:
    """One layer as it ran; `receptive_field` in pixels (height, width), None where it sees the whole picture."""

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    trainable: int
    multiply_adds: int  # for the whole batch
    activation_bytes: int
    receptive_field: Field | None


@dataclass(frozen=True)
class Summary:
    """Rows in the order in which the layers ran; totals count every parameter once. `str()` is the table as text."""

    input_size: tuple[int, ...]
    rows: tuple[LayerRow, ...]
    parameters: int
    trainable: int
    parameter_bytes: int
    multiply_adds: int
    activation_bytes: int

    def grouped(self, depth: int) -> Summary:
        """The same with layers joined down to `depth` parts of their names: 1 gives conv1, bn1, …, layer1, …

        Raises:
            UsageError: a depth below 1.
        """
        if depth < 1:
            raise UsageError(f"depth must be 1 or more, not {depth}")

        def head(row: LayerRow) -> str:
            return ".".join(row.name.split(".")[:depth])

        rows = tuple(_joined(name, list(group)) for name, group in groupby(self.rows, key=head))
        return Summary(**{**self.__dict__, "rows": rows})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> tuple[list[str], list[list[object]]]:
        """Column heads, and one list of cells a row."""
        heads = ["layer", "type", "output", "parameters", "trainable", "multiply-adds", "memory", "sees"]
        return heads, [
            [
                row.name,
                row.kind,
                _sides(row.output),
                row.parameters,
                row.trainable,
                row.multiply_adds,
                _bytes(row.activation_bytes),
                "all" if row.receptive_field is None else _sides(row.receptive_field),
            ]
            for row in self.rows
        ]

    def totals(self) -> list[str]:
        """The lines below the table."""
        frozen = self.parameters - self.trainable
        images = self.input_size[0]
        per_image = f" for {images} pictures, {self.multiply_adds / images:,.0f} each" if images > 1 else ""
        return [
            f"input          {_sides(self.input_size)}",
            f"parameters     {self.parameters:,} ({_bytes(self.parameter_bytes)})"
            + (f", {frozen:,} of them frozen" if frozen else ""),
            f"multiply-adds  {self.multiply_adds:,} ({in_giga_or_mega(self.multiply_adds)}){per_image}",
            f"activations    {_bytes(self.activation_bytes)}",
        ]

    def __str__(self) -> str:
        heads, rows = self.table()
        cells = [heads, *([f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        return "\n".join([*lines, "", *self.totals()])


def summarize(model: nn.Module, input_size: Sequence[int]) -> Summary:
    """Run a network once on nothing and write down every layer.

    Args:
        input_size: (batch, channels, height, width), or (channels, height, width) for one picture.

    A layer is a module without modules in it, or with parameters of its own; identities are left out. Multiply-adds
    are those of convolutions and linear layers, as torchvision counts them; biases, norms, pooling count nothing.

    >>> summarize(nn.Conv2d(1, 4, 3, stride=2, padding=1), (64, 1, 28, 28)).rows[0].parameters
    40

    Raises:
        UsageError: a size that is not 3 or 4 whole numbers above 0, or that the network cannot take.
    """
    size = tuple(input_size)
    if len(size) not in (3, 4) or not all(isinstance(side, int) and side > 0 for side in size):
        raise UsageError(f"input_size must be (batch, channels, height, width), not {size}")
    size = size if len(size) == 4 else (1, *size)

    rows: list[LayerRow] = []
    counted: set[int] = set()  # parameters that a row has; shared layers are counted where they first run
    tracker = FieldTracker()

    def record(name: str, module: nn.Module, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        own = [parameter for parameter in originals[name] if id(parameter) not in counted]
        counted.update(id(parameter) for parameter in own)
        rows.append(
            LayerRow(
                name=name or type(module).__name__,
                kind=type(module).__name__,
                output=tuple(output.shape),
                parameters=sum(parameter.numel() for parameter in own),
                trainable=sum(parameter.numel() for parameter in own if parameter.requires_grad),
                multiply_adds=_multiply_adds(module, output),
                activation_bytes=output.numel() * output.element_size(),
                receptive_field=tracker.field(output),
            )
        )

    layers = {name: module for name, module in model.named_modules() if _is_layer(module)}
    originals = {name: list(module.parameters(recurse=False)) for name, module in layers.items()}
    hooks = [
        module.register_forward_hook(lambda module, _, output, name=name: record(name, module, output))
        for name, module in layers.items()
    ]
    hollow = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    }
    dtypes = [parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()]
    images = torch.empty(size, device="meta", dtype=dtypes[0] if dtypes else torch.float32)
    try:
        with torch.no_grad(), _evaluating(model), tracker:
            tracker.begin(images)
            functional_call(model, hollow, (images,))
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"the network cannot take pictures of {_sides(size)}: {reason}") from None
    finally:
        for hook in hooks:
            hook.remove()

    parameters = list(model.parameters())
    return Summary(
        input_size=size,
        rows=tuple(rows),
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        parameter_bytes=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        multiply_adds=sum(row.multiply_adds for row in rows),
        activation_bytes=sum(row.activation_bytes for row in rows),
    )


def _is_layer(module: nn.Module) -> bool:
    if isinstance(module, nn.Identity):
        return False
    return next(module.children(), None) is None or next(module.parameters(recurse=False), None) is not None


def _multiply_adds(module: nn.Module, output: Tensor) -> int:
    """Weights that each output value is a sum over, times output values."""
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        inputs = output.numel() // module.out_channels // prod(module.stride)  # about: borders differ
        return inputs * module.weight.numel()
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return output.numel() * module.weight[0].numel()
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    return 0


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Batch norms of one picture need this; every module's own mode is put back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _joined(name: str, rows: list[LayerRow]) -> LayerRow:
    last = rows[-1]
    fields = [row.receptive_field for row in rows]
    return LayerRow(
        name=name,
        kind=last.kind if len(rows) == 1 else f"{len(rows)} layers",
        output=last.output,
        parameters=sum(row.parameters for row in rows),
        trainable=sum(row.trainable for row in rows),
        multiply_adds=sum(row.multiply_adds for row in rows),
        activation_bytes=sum(row.activation_bytes for row in rows),
        receptive_field=None if None in fields else max(field for field in fields if field is not None),
    )


def _sides(shape: Sequence[int]) -> str:
    return "×".join(str(side) for side in shape)


def _bytes(count: int) -> str:
    """In KiB below one MiB: `0.9 KiB`, `97.5 MiB`."""
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.1f} KiB"


def in_giga_or_mega(count: int) -> str:
    return f"{count / 1e9:.3f} G" if count >= 1e8 else f"{count / 1e6:.3f} M"
