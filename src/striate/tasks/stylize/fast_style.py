"""A network that has learnt one style and paints any photo at once (Johnson, Alahi & Fei-Fei 2016, arXiv:1603.08155).

Down, residual blocks, up, as in the paper's supplement, half as wide and with what came after it: every picture is
normalised by itself (Ulyanov, Vedaldi & Lempitsky 2017, arXiv:1607.08022), and maps grow by repeating pixels before a
convolution, which leaves no checkerboards (Odena, Dumoulin & Olah 2016, Distill).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 4  # the smallest maps are so many times smaller than the photo
BORDER = 16  # pixels mirrored around the photo, and cut off again: there the zeros show that convolutions pad with


class PictureNorm(nn.GroupNorm):
    """Instance norm: every map of every picture to mean 0 and deviation 1, then a learnt scale and shift.

    A group norm with a group a channel says the same, and is the faster one on a processor in channels_last; its
    gradient is ten times slower.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            return F.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)
        return super().forward(input)


class Conv(nn.Module):
    """Convolution, norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.norm = PictureNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)), inplace=True)


class Residual(nn.Module):
    """Two convolutions, added to what came in; no ReLU behind the sum (Gross & Wilber 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Conv(channels, channels, 3)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = PictureNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.second(self.first(x)))


class Up(nn.Module):
    """Every pixel four times, then a convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Conv(in_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class FastStyle(nn.Module):
    """Photos [B, 3, H, W] in 0..1 -> painted [B, 3, H, W] in 0..1, any H and W.

    Args:
        width: channels at full size; the paper has 32.
        blocks: residual ones.
    """

    def __init__(self, width: int = 16, blocks: int = 5) -> None:
        super().__init__()
        self.arguments = {"width": width, "blocks": blocks}
        self.down = nn.Sequential(
            Conv(3, width, 9),
            Conv(width, 2 * width, 3, stride=2),
            Conv(2 * width, 4 * width, 3, stride=2),
        )
        self.blocks = nn.Sequential(*(Residual(4 * width) for _ in range(blocks)))
        self.up = nn.Sequential(Up(4 * width, 2 * width), Up(2 * width, width))
        self.last = nn.Conv2d(width, 3, 9, padding=4)

    def forward(self, photos: Tensor) -> Tensor:
        height, width = photos.shape[-2:]
        right, below = BORDER + -width % STRIDE, BORDER + -height % STRIDE
        mode = "reflect" if min(height, width) > BORDER + STRIDE else "replicate"  # a mirror needs something to show
        x = F.pad(2 * photos - 1, (BORDER, right, BORDER, below), mode=mode)  # [B, 3, 4h, 4w]
        x = self.down(x.contiguous(memory_format=torch.channels_last))  # [B, 4 width, h, w]
        x = self.up(self.blocks(x))  # [B, width, 4h, 4w]
        return torch.sigmoid(self.last(x)[..., BORDER : BORDER + height, BORDER : BORDER + width].float())
