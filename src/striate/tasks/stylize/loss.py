"""How far a picture is from a photo's content and a painting's style: the loss that stylizing goes down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from striate.tasks.stylize.perception import Layers, Perception
from striate.tasks.stylize.style_losses import at_least_float32, content_loss, mean_gram, style_loss, total_variation

# how much style counts against content where the strength is 1, both as shares (see StyleLoss); found by looking
STYLE_SHARE = 50.0
VARIATION_SHARE = 10.0
SCALE = 1000.0  # a common factor that lifts the loss out of the noise of L-BFGS in float32


class Losses(NamedTuple):
    """The terms of a loss by themselves, and their sum with weights."""

    total: Tensor
    content: Tensor
    style: Tensor
    variation: Tensor

    def numbers(self) -> dict[str, float]:
        return {name: float(value.detach()) for name, value in self._asdict().items()}


class StyleLoss:
    """L = α L_content + β L_style + γ L_variation (Gatys et al. 2016, equation 7, and smoothness).

    A layer's term is divided by what it would be for a picture that answers with zeros everywhere: ‖F - P‖² / ‖P‖²,
    ‖G - A‖² / ‖A‖². So α and β mean the same for every network, layer and size; for one network and size this is the
    paper's loss with other weights w_l.

    Args:
        perception: reads the layers.
        layers: which, and their weights.
        strength: of the style, β / α over its default.
        variation: γ, times its default.
    """

    def __init__(self, perception: Perception, layers: Layers, strength: float = 1.0, variation: float = 1.0) -> None:
        self.perception, self.layers = perception, layers
        self.strength, self.variation = strength, variation
        self.grams: dict[str, Tensor] = {}

    @torch.no_grad()
    def aim(self, styles: Sequence[Tensor], mix: Sequence[float]) -> None:
        """Say what style to have: pictures [1, 3, h, w] with shares that sum to 1.

        Σ_s m_s ‖G - A_s‖² = ‖G - Σ_s m_s A_s‖² + a constant, so one matrix a layer stands for all styles.
        """
        self.grams = {}
        for share, style in zip(mix, styles, strict=True):
            answers = self.perception(style, self.layers.style)
            for name in self.layers.style:
                gram = share * mean_gram(answers[name])
                self.grams[name] = self.grams[name] + gram if name in self.grams else gram

    @torch.no_grad()
    def content_of(self, photos: Tensor) -> dict[str, Tensor]:
        """What of photos [B, 3, H, W] is to be kept, by layer."""
        answers = self.perception(photos, self.layers.content)
        return {name: at_least_float32(answers[name]) for name in self.layers.content}

    def __call__(self, images: Tensor, content: dict[str, Tensor]) -> Losses:
        """Losses of pictures [B, 3, H, W] in 0..1, of the size of the photos that `content` is of."""
        answers = self.perception(images)
        kept = [
            content_loss(answers[name], target) / content_loss(torch.zeros_like(target), target)
            for name, target in content.items()
        ]
        alike = [
            weight * style_loss(mean_gram(answers[name]), gram) / style_loss(torch.zeros_like(gram), gram)
            for (name, weight), gram in zip(self.layers.style.items(), self.grams.values(), strict=True)
        ]
        far, unlike, rough = torch.stack(kept).mean(), torch.stack(alike).sum(), total_variation(images)
        total = far + STYLE_SHARE * self.strength * unlike + VARIATION_SHARE * self.variation * rough
        return Losses(SCALE * total, far, unlike, rough)
