"""The vocabulary that families share: convolution with norm and activation, squeeze-and-excitation, norms.

Names inside the blocks are torchvision's, so that its weights load.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]
Activation = Callable[..., nn.Module]  # takes `inplace`


def same_padding(kernel_size: int, dilation: int = 1) -> int:
    """What keeps a map's size at stride 1, for odd kernels."""
    return dilation * (kernel_size - 1) // 2


class ConvNormAct(nn.Sequential):
    """Convolution without bias, norm, activation: [B, in, H, W] -> [B, out, ⌈H / stride⌉, ⌈W / stride⌉].

    Children are 0, 1 and, unless `activation` is None, 2: it works in place, which saves MobileNet V2 7 % of its time
    on a processor (`python -m bench families`); nobody else holds the norm's output.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        *,
        dilation: int = 1,
        groups: int = 1,
        norm: Norm = nn.BatchNorm2d,
        activation: Activation | None = nn.ReLU,
    ) -> None:
        conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=same_padding(kernel_size, dilation),
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        super().__init__(conv, norm(out_channels), *([] if activation is None else [activation(inplace=True)]))


class SqueezeExcitation(nn.Module):
    """Weigh channels by what the whole map shows (Hu et al., CVPR 2018, arXiv:1709.01507, figure 3)."""

    def __init__(
        self,
        channels: int,
        squeezed: int,
        activation: Activation = nn.ReLU,
        scale_activation: Activation = nn.Sigmoid,
    ) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = activation()
        self.scale_activation = scale_activation()

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W], weighed"""
        scale = self.activation(self.fc1(self.avgpool(x)))  # [B, squeezed, 1, 1]
        return x * self.scale_activation(self.fc2(scale))


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of each pixel of [B, C, H, W]."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W]"""
        x = input.permute(0, 2, 3, 1)  # [B, H, W, C]
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class StochasticDepth(nn.Module):
    """Leave a residual branch out for some pictures of a batch while training (Huang et al. 2016, arXiv:1603.09382).

    torchvision.ops has the same; importing that takes two seconds.

    Args:
        p: probability of leaving out; what stays is scaled by 1 / (1 - p).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W]"""
        if not self.training or self.p == 0:
            return x
        kept = torch.empty(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(1 - self.p)
        return x * (kept / (1 - self.p) if self.p < 1 else kept)


def make_divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, at least one, never more than a tenth below `value` (MobileNet's rounding)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded
