"""MBConv, the block of mobile networks: expand, filter each channel by itself, weigh the channels, project.

It began as MobileNetV2's inverted residual (Sandler et al. 2018, arXiv:1801.04381, figure 3d: thin ends, a wide
depthwise middle), gained squeeze-and-excitation in MnasNet (Tan et al. 2019, arXiv:1807.11626), and is what
MobileNetV3 and EfficientNet consist of. Names inside it are torchvision's.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from striate.layers.blocks import Activation, ConvNormAct, Norm, StochasticDepth


class MBConv(nn.Module):
    """1x1 up to `expanded`, depthwise, `squeeze` if any, 1x1 down without activation; plus x if `shortcut`.

    Args:
        squeeze: a squeeze-and-excitation of `expanded` channels, or None.
        drop: probability, while training, that a picture skips the block (only where there is a shortcut).
    """

    def __init__(
        self,
        in_channels: int,
        expanded: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int,
        dilation: int,
        shortcut: bool,
        squeeze: nn.Module | None,
        norm: Norm,
        activation: Activation,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if expanded != in_channels:
            layers.append(ConvNormAct(in_channels, expanded, kernel_size=1, norm=norm, activation=activation))
        layers.append(
            ConvNormAct(
                expanded,
                expanded,
                kernel_size,
                stride,
                dilation=dilation,
                groups=expanded,
                norm=norm,
                activation=activation,
            )
        )
        if squeeze is not None:
            layers.append(squeeze)
        layers.append(ConvNormAct(expanded, out_channels, kernel_size=1, norm=norm, activation=None))
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(drop) if drop else nn.Identity()
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉]"""
        residual = self.block(x)
        return x + self.stochastic_depth(residual) if self.shortcut else residual


def initialise(network: nn.Module, linear: Callable[[nn.Linear], object]) -> None:
    """He et al. 2015 (arXiv:1502.01852), scaled by the outputs; `linear` draws the weights of a linear layer."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            linear(module)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
