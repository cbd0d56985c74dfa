"""A multi-layer perceptron: what a convolutional network is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from striate.backbones.backbone import Backbone, Canonical, Entry, Stage, checked
from striate.errors import UsageError

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "silu": nn.SiLU}


class MLP(Backbone):
    """Pixels, hidden layers, classes: 28 * 28 - 256 - 128 - 10 has 235,146 parameters.

    Stages: hidden1, hidden2, … as maps of 1 × 1.

    Args:
        hidden: widths of the hidden layers.
        image_size: (height, width) of the pictures; 28x28 when not given.

    Raises:
        UsageError: no hidden layer, a width below 1, an unknown activation.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 1,
        dropout: float | None = None,
        hidden: Sequence[int] = (256, 128),
        activation: str = "relu",
        image_size: tuple[int, int] | None = None,
    ) -> None:
        if not isinstance(hidden, Sequence) or not hidden or not all(isinstance(n, int) and n > 0 for n in hidden):
            raise UsageError(f"hidden must be a list of widths such as (256, 128), not {hidden!r}")
        checked("activation", activation, tuple(ACTIVATIONS))
        super().__init__(num_features=hidden[-1])
        self.image_size = image_size or (28, 28)
        height, width = self.image_size
        self.flatten = nn.Flatten()
        for number, (inputs, outputs) in enumerate(pairwise((in_chans * height * width, *hidden)), start=1):
            setattr(self, f"fc{number}", nn.Linear(inputs, outputs))
            setattr(self, f"{activation}{number}", ACTIVATIONS[activation]())
            layers = (f"fc{number}", f"{activation}{number}")
            stage = Stage(outputs, max(self.image_size))
            self.add_stage(f"hidden{number}", stage, layers if number > 1 else ("flatten", *layers))
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.fc = nn.Linear(hidden[-1], num_classes) if num_classes else nn.Identity()
        self.head_layers = ("dropout", "fc")


MODELS = {
    "mlp": Entry(MLP, "fully connected: no convolution", "Rumelhart et al. 1986", Canonical(1, (28, 28), 10)),
}
