"""DeconvNet: one activation projected back to pixels (Zeiler & Fergus 2014, arXiv:1311.2901, sections 2.1 and 3).

From the top: the signal is that activation, all others of its layer 0. Back through each layer: maxima are unpooled to
where they came from (the switches recorded on the way up; where windows overlap, what they send adds up), the signal
is rectified, and convolutions become transposed ones with the same filters. Biases play no part.

Backpropagation does all of this but one thing: the gradient of a max-pooling is unpooling by switches and that of a
convolution is the transposed convolution, but that of a ReLU lets through where the *forward* signal was above 0, not
where the backward one is (Simonyan et al. 2014, arXiv:1312.6034, section 4; Springenberg et al. 2015, arXiv:1412.6806,
section 3.4). So a DeconvNet is automatic differentiation with another backward of the ReLU, and goes through whatever
torch can differentiate: concatenations, residual sums (the signal goes both ways), average pooling, groups, strides.
Batch norm is, judging, an affine map: of it the slope remains. Any other activation (SiLU, GELU …) is rectified as a
ReLU is; gates of one value a channel (squeeze-and-excitation) count as constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from striate.data.transforms import Normalize
from striate.explain.explanation import Explanation, Request
from striate.explain.layers import read_maps, readable_copy, spread, stage_layers
from striate.explain.units.sheets import as_grey, as_tile, beside, crop_of, grid, webp
from striate.explain.units.top_activations import BEST, ExcitingCrops, facts_of, look, notes_of, unit_caption
from striate.tasks.section import Figure, Section

if TYPE_CHECKING:
    from striate.model import Model

LAYERS = 4  # where none is named: early to late
UNITS, UNITS_EACH = 8, 4

# fmt: off
ACTIVATIONS = frozenset((
    F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6, F.hardtanh, F.leaky_relu, F.prelu, F.rrelu,
    F.elu, F.selu, F.celu, F.silu, F.gelu, F.mish, F.hardswish, F.softplus,
))
GATES = frozenset((F.hardsigmoid, F.sigmoid, torch.sigmoid, Tensor.sigmoid, Tensor.sigmoid_))
# fmt: on


class Rectifying(TorchFunctionMode):
    """As a context: activations compute what they compute, and send back only what is above 0."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in ACTIVATIONS:
            return _Rectified.apply(args[0], func, args[1:], kwargs)
        result = func(*args, **kwargs)
        if func in GATES and result.ndim == 4 and result.shape[-2:] == (1, 1):
            return result.detach()
        return result


class _Rectified(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: Any) -> Tensor:
        return func(values.clone(), *args, **kwargs)  # a clone: it may work in place

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return signal.clamp(min=0), None, None, None


def project(
    network: nn.Module,
    layer: str,
    images: Tensor,
    units: Sequence[int] | Tensor,
    rows: Sequence[int] | Tensor,
    columns: Sequence[int] | Tensor,
) -> Tensor:
    """One activation of each picture, back in pixels.

    Args:
        network: is left as it is.
        layer: a module's name in it, whose output is [B, C, h, w], or [B, C].
        images: float [B, 3, H, W], normalised.
        units, rows, columns: B whole numbers each: which activation.

    Returns:
        float [B, 3, H, W], as far from 0 as the activation sees there; 0 outside its receptive field.

    Raises:
        UsageError: no such layer.
    """
    read = readable_copy(network)
    pixels = images.detach().clone().requires_grad_()
    with torch.enable_grad(), Rectifying():
        maps = read_maps(read, layer, pixels)  # [B, C, h, w]
    signal = torch.zeros_like(maps)
    where = (torch.arange(len(images)), *(torch.as_tensor(part) for part in (units, rows, columns)))
    signal[where] = maps.detach()[where]
    (projection,) = torch.autograd.grad(maps, pixels, signal)
    return projection


def explain_deconvnet(model: Model, request: Request) -> Explanation:
    """Of each unit the nine crops that most excite it, and each projected to pixels, as the paper's figure 2 has it.

    Layers: `request.layer`, or four stages from early to late; units: `request.units`, or the most selective.

    `values`: by layer what `explain_top` gives, and `projections`: unit → float [9, C, H, W] in normalised pixels.

    Raises:
        DataError: no pictures.
        UsageError: no such layer or unit.
    """
    layers = [request.layer] if request.layer else spread(stage_layers(model.module), LAYERS)
    found, skipped = look(model, request, layers, UNITS if len(layers) == 1 else UNITS_EACH)
    sections, values = [], {}
    for exciting in found:
        request.say(f"{exciting.layer}: projecting {len(exciting.units)} units")
        projections = {unit: projections_of(model, exciting, unit) for unit in exciting.units}
        figures = [drawn(exciting, unit, projections[unit]) for unit in exciting.units]
        text = (
            f"{len(exciting.top.values):,} units; {exciting.field_in_words()}. Left, the crops that most excite a "
            "unit; right, what of each reaches it: mid-grey is nothing, and each projection has its own contrast."
        )
        sections.append(Section(exciting.layer, text, figures))
        values[exciting.layer] = exciting.values() | {"projections": projections}
    notes = ["Projections by DeconvNet (Zeiler & Fergus 2014): unpooled by switches, rectified, filters transposed."]
    return Explanation(
        f"What units of {model.name} see",
        sections,
        values,
        facts_of(model, found),
        notes + notes_of(request, skipped),
    )


def projections_of(model: Model, exciting: ExcitingCrops, unit: int) -> Tensor:
    """float [k, C, H, W]: of the k pictures that most excite a unit, what reaches it."""
    top = exciting.top
    pictures = torch.stack([exciting.pictures[number] for number in top.pictures[unit].tolist()])
    normalize = Normalize(model.card.preprocess).to(model.device)
    images = normalize(pictures.to(model.device, memory_format=torch.channels_last))
    units = [unit] * len(images)
    return project(model.module, exciting.layer, images, units, top.rows[unit], top.columns[unit]).cpu()


def drawn(exciting: ExcitingCrops, unit: int, projections: Tensor) -> Figure:
    """Nine crops, and their projections beside them."""
    top = exciting.top
    tiles = []
    for projection, row, column in zip(projections, top.rows[unit].tolist(), top.columns[unit].tolist(), strict=True):
        tiles.append(as_tile(as_grey(crop_of(projection, exciting.place, row, column, beyond=0))))
    captions = exciting.captions(unit)
    sheet = beside([grid([as_tile(crop) for crop in exciting.crops(unit)], captions), grid(tiles, [""] * len(tiles))])
    alt = f"{BEST} crops that most excite unit {unit} of {exciting.layer}, and their projections: {', '.join(captions)}"
    return Figure(webp(sheet), unit_caption(exciting, unit), alt, wide=True)
