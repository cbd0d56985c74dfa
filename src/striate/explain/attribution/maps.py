"""Which pixels speak for an answer: maps from gradients, from activations, and from covering parts of the picture.

Functions of a network (float [B, C, h, w], normalised → outputs), images and `class_score` (outputs → float [B], of
which an explanation is asked). They leave the network as they find it, but do want it without activations in place
(`layers.readable_copy`). Pages of them are in `pages`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from striate.errors import UsageError
from striate.explain.explained import ClassScore, is_map, layer_outputs

SMOOTH_SAMPLES, SMOOTH_NOISE = 25, 0.15  # Smilkov et al. 2017, section 4: 10 to 20 % noise; few gain after 50 samples
AT_ONCE = 16  # pictures computed together
RECTIFIERS = frozenset(
    (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6, F.leaky_relu, F.elu, F.silu, F.mish, F.gelu)
    + (F.hardswish,)
)


def gradient(network: nn.Module, images: Tensor, class_score: ClassScore) -> Tensor:
    """How the evidence changes with each value (Simonyan et al. 2014, arXiv:1312.6034, section 3): [B, C, h, w]."""
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        total = class_score(network(leaf)).sum()
    return torch.autograd.grad(total, leaf)[0]


def smooth_gradient(
    network: nn.Module,
    images: Tensor,
    class_score: ClassScore,
    samples: int = SMOOTH_SAMPLES,
    noise: float = SMOOTH_NOISE,
    seed: int = 0,
) -> Tensor:
    """SmoothGrad: the mean gradient of noisy copies (Smilkov et al. 2017, arXiv:1706.03825): [B, C, h, w].

    captum's NoiseTunnel draws from the global generator; here a seed decides.

    Args:
        noise: deviation, of the range between each picture's least and largest value.
    """
    generator = torch.Generator().manual_seed(seed)
    spread = noise * (images.amax((1, 2, 3)) - images.amin((1, 2, 3)))[:, None, None, None]
    total = torch.zeros_like(images)
    for _ in range(samples):
        drawn = torch.randn(images.shape, generator=generator).to(images.device)
        total += gradient(network, images + spread * drawn, class_score)
    return total / samples


class GuidedRectifiers(TorchFunctionMode):
    """While it is on, no negative gradient passes back through an activation.

    Of ReLU this is the guided rule, (x > 0) · (g > 0) · g; the same rule is taken for its smooth relatives. captum
    hooks modules of type nn.ReLU only: it misses functions, and fails on activations in place.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in RECTIFIERS and output.requires_grad:
            output.register_hook(lambda gradient: gradient.clamp(min=0))
        return output


def guided_backpropagation(network: nn.Module, images: Tensor, class_score: ClassScore) -> Tensor:
    """The gradient, through activations only where it is positive (Springenberg et al. 2015, arXiv:1412.6806):
    [B, C, h, w]."""
    with GuidedRectifiers():
        return gradient(network, images, class_score)


def grad_cam(network: nn.Module, images: Tensor, class_score: ClassScore, layer: nn.Module) -> Tensor:
    """Grad-CAM (Selvaraju et al., ICCV 2017, arXiv:1610.02391, equations 1 and 2): where a layer speaks for something.

    Channels of the layer's maps, each weighed by its mean gradient, added up, and what is negative left out. captum
    takes a layer's last call only; here those of a layer that is called for several maps, as the heads of detectors
    are, add up at the size of the largest.

    Returns:
        float [B, rows, columns] of the layer, at least 0.

    Raises:
        UsageError: the layer gives no maps, or they have no part in the evidence.
    """
    pairs = maps_and_slopes(network, images, class_score, layer)
    return added([(slope.mean((2, 3), keepdim=True) * maps).sum(1) for maps, slope in pairs]).relu()


def hires_cam(network: nn.Module, images: Tensor, class_score: ClassScore, layer: nn.Module) -> Tensor:
    """HiResCAM (Draelos & Carin 2020, arXiv:2011.08891, equation 4): as Grad-CAM, each place by its own gradient.

    For an answer about one place, such as a detection, whose mean gradient over the picture says nothing. Where
    classes are read off the maps' means, both are the same.
    """
    return added([(slope * maps).sum(1) for maps, slope in maps_and_slopes(network, images, class_score, layer)]).relu()


def maps_and_slopes(
    network: nn.Module, images: Tensor, class_score: ClassScore, layer: nn.Module
) -> list[tuple[Tensor, Tensor]]:
    """What a layer gives in each of its calls, [B, channels, rows, columns], and the gradient of the evidence there.

    Raises:
        UsageError: as `grad_cam`.
    """
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad(), layer_outputs([layer]) as given:
        total = class_score(network(leaf)).sum()
    maps = [values for values in given.get(layer, ()) if is_map(values) and values.requires_grad]
    if not maps:
        raise UsageError("the layer gives no maps [B, channels, rows, columns]: name one before the pooling")
    slopes = torch.autograd.grad(total, maps, allow_unused=True)
    found = [(values.detach(), slope) for values, slope in zip(maps, slopes, strict=True) if slope is not None]
    if not found:
        raise UsageError("the layer has no part in the answer: name another")
    return found


def added(maps: list[Tensor]) -> Tensor:
    """The sum of [B, rows, columns], each brought to the size of the largest."""
    size = max((one.shape[-2:] for one in maps), key=lambda size: size[0] * size[1])
    return torch.stack([enlarged(one, (size[0], size[1])) for one in maps]).sum(0)


def guided_grad_cam(guided: Tensor, regions: Tensor) -> Tensor:
    """Guided backpropagation [B, C, h, w] times Grad-CAM [B, rows, columns] (Selvaraju et al., section 3.2)."""
    return guided * enlarged(regions, (guided.shape[-2], guided.shape[-1]))[:, None]


def integrated_gradients(
    network: nn.Module, images: Tensor, class_score: ClassScore, steps: int = 50, baseline: Tensor | float = 0.0
) -> Tensor:
    """Integrated gradients (Sundararajan et al., ICML 2017, arXiv:1703.01365): [B, C, h, w].

    They add up to the evidence of the images less that of the baseline, but for an error that falls with the steps.

    Args:
        steps: of the integral, by Gauss-Legendre's rule.
        baseline: where the way to the picture begins; 0, the mean colour of normalised images.
    """
    from captum.attr import IntegratedGradients

    return (
        IntegratedGradients(lambda batch: class_score(network(batch)))
        .attribute(images.detach(), baselines=baseline, n_steps=steps, internal_batch_size=max(AT_ONCE, len(images)))
        .detach()
        .to(images.dtype)
    )


def occlusion(
    network: nn.Module, images: Tensor, class_score: ClassScore, window: int, stride: int, baseline: float = 0.0
) -> Tensor:
    """How much the evidence falls where a square is covered (Zeiler & Fergus 2014, arXiv:1311.2901, section 4.2).

    Args:
        window: side of the square. stride: between squares; where they overlap, what it costs is averaged.
        baseline: what covers; 0, the mean colour of normalised images.

    Returns:
        float [B, h, w]; negative where the evidence rises.
    """
    return averaged(
        occlusion_map(network, images, class_score, window, stride, baseline), images.shape[2:], window, stride
    )


def occlusion_map(
    network: nn.Module, images: Tensor, class_score: ClassScore, window: int, stride: int, baseline: float = 0.0
) -> Tensor:
    """How much the evidence falls by each square alone: [B, rows, columns] of squares. Args as for `occlusion`."""
    rows, columns = (covers(side, window, stride) for side in images.shape[2:])  # [rows, h], [columns, w]
    squares = [(row, column) for row in rows for column in columns]
    found: list[Tensor] = []
    with torch.no_grad():
        whole = class_score(network(images))  # [B]
        for start in range(0, len(squares), AT_ONCE):
            part = torch.stack([row[:, None] & column for row, column in squares[start : start + AT_ONCE]])  # [S, h, w]
            covered = images.masked_fill(part.to(images.device)[:, None, None], baseline)  # [S, B, C, h, w]
            found.append(class_score(network(covered.flatten(0, 1))).unflatten(0, (len(part), len(images))))
    return (whole - torch.cat(found)).T.unflatten(1, (len(rows), len(columns)))


def averaged(drops: Tensor, size: Sequence[int], window: int, stride: int) -> Tensor:
    """Of each pixel the mean over the squares that cover it: [B, rows, columns] → [B, *size]."""
    rows, columns = (covers(side, window, stride).to(drops) for side in size)
    return rows.T @ drops @ columns / (rows.sum(0)[:, None] * columns.sum(0))


def covers(side: int, window: int, stride: int) -> Tensor:
    """Which pixels of a side each step of the square covers, the last one cut off at the edge: bool [steps, side]."""
    window = min(window, side)
    stride = min(stride, window)
    first = torch.arange(0, side - window + stride, stride)[:, None]
    pixels = torch.arange(side)
    return (pixels >= first) & (pixels < first + window)


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, rows, columns] → [B, *size], bilinear."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
