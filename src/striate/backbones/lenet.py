"""LeNet-5: the network that read cheques (LeCun, Bottou, Bengio & Haffner, Proc. IEEE 1998, section II.B).

As it is taught: 61,706 parameters. Every map of C3 sees all six of S2 (the paper's table I leaves some out to break
symmetry and save memory), S2 and S4 are plain averages, and the output is a linear layer, not radial basis functions.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones.backbone import Backbone, Canonical, Entry, Stage, checked, wrong_size
from striate.layers.sizes import conv_output, pool_output

ACTIVATIONS = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
SMALLEST = 32  # the paper's input: digits of 28x28 with a margin, so that strokes at the border are seen whole


class PadTo(nn.Module):
    """Zeros around a picture until it is `size` (height, width); an odd one goes right and below."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, H, W]"""
        missing_rows = self.size[0] - images.shape[-2]
        missing_columns = self.size[1] - images.shape[-1]
        left, top = missing_columns // 2, missing_rows // 2
        return F.pad(images, (left, missing_columns - left, top, missing_rows - top))


class LeNet5(Backbone):
    """Stages: s2, s4, c5 (1 × 1), f6 (1 × 1), by the paper's names.

    Args:
        activation: `tanh`, as in the paper, or `sigmoid`.
        image_size: the largest picture it will see; smaller ones (MNIST's 28x28) are padded, never below 32x32.
    """

    last_layer = "output"

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 1,
        dropout: float | None = None,
        activation: str = "tanh",
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(num_features=84)
        checked("activation", activation, tuple(ACTIVATIONS))
        height, width = image_size or (SMALLEST, SMALLEST)
        self.image_size = (max(SMALLEST, height), max(SMALLEST, width))
        squash = ACTIVATIONS[activation]
        rows, columns = (pool_output(conv_output(pool_output(conv_output(n, 5), 2), 5), 2) for n in self.image_size)

        self.pad = PadTo(self.image_size)
        self.c1 = nn.Conv2d(in_chans, 6, kernel_size=5)
        self.squash1 = squash()
        self.s2 = nn.AvgPool2d(2)
        self.add_stage("s2", Stage(6, 2), ("pad", "c1", "squash1", "s2"))  # [B, 6, 14, 14]
        self.c3 = nn.Conv2d(6, 16, kernel_size=5)
        self.squash3 = squash()
        self.s4 = nn.AvgPool2d(2)
        self.add_stage("s4", Stage(16, 4), ("c3", "squash3", "s4"))  # [B, 16, 5, 5]
        self.flatten = nn.Flatten()
        self.c5 = nn.Linear(16 * rows * columns, 120)  # a convolution as wide as its input: the same numbers
        self.squash5 = squash()
        whole = max(self.image_size)
        self.add_stage("c5", Stage(120, whole), ("flatten", "c5", "squash5"))
        self.f6 = nn.Linear(120, 84)
        self.squash6 = squash()
        self.add_stage("f6", Stage(84, whole), ("f6", "squash6"))
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.output = nn.Linear(84, num_classes) if num_classes else nn.Identity()
        self.head_layers = ("dropout", "output")

    def check_size(self, images: Tensor) -> None:
        height, width = self.image_size or (SMALLEST, SMALLEST)
        if images.shape[-2] > height or images.shape[-1] > width:
            raise wrong_size(self, images)


MODELS = {
    "lenet5": Entry(LeNet5, "5 layers, tanh, average pooling", "LeCun et al. 1998", Canonical(1, (32, 32), 10)),
}
