"""Any style in one pass: adaptive instance normalisation (Huang & Belongie 2017, ICCV, arXiv:1703.06868).

The early layers of a trained network describe photo and style; every map of the photo's description is given the mean
and the deviation that it has in the style's; a decoder, the only part that learns, turns that into a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones import Backbone, create_model
from striate.config import Preprocess
from striate.errors import UsageError
from striate.tasks.stylize.network import PerceptualNetwork
from striate.tasks.stylize.perception import BORDER, Perception, default_layers
from striate.tasks.stylize.style_losses import total_variation

REDUCTION = 8  # pictures are made again from maps so many times smaller, as in the paper
VARIATION_SHARE = 20.0  # of smoothness, twice that in StyleLoss: found by looking
LEAST_DEVIATION = 0.01  # of the usual one, that a map is taken to have
STYLE_SHARE = 10.0  # λ of equation 11 is 10 for VGG's sums; here both losses are shares, as in StyleLoss


def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every map of every picture: [B, N, H, W] -> two of [B, N, 1, 1], in float32."""
    features = features.float()
    return features.mean((2, 3), keepdim=True), features.std((2, 3), keepdim=True, correction=0).clamp_min(1e-4)


def adapt(content: Tensor, style: Tensor) -> Tensor:
    """AdaIN(x, y) = σ(y) (x - μ(x)) / σ(x) + μ(y), of [B, N, H, W] and [B, N, h, w] (equation 8)."""
    (mean, deviation), (wanted_mean, wanted_deviation) = statistics(content), statistics(style)
    return wanted_deviation * (content.float() - mean) / deviation + wanted_mean


class AnyStyle(nn.Module):
    """Photos [B, 3, H, W] and styles [B or 1, 3, h, w], in 0..1 -> painted [B, 3, H, W] in 0..1.

    In training it is shown as many styles as photos and gives its losses; without styles it paints in the one that it
    was calibrated with.

    Args:
        architecture, arguments: the network of the zoo that describes pictures.
        layers: where style is compared in training; the last is what pictures are made from again.
        mean, std: how pictures are prepared for it.
        width: channels of the decoder at full size.
    """

    takes_targets = True
    usual_mean: Tensor
    usual_deviation: Tensor
    own_mean: Tensor
    own_deviation: Tensor

    def __init__(
        self,
        architecture: str = "squeezenet1_0",
        layers: Sequence[str] = ("conv1", "fire2", "fire3", "fire4", "fire5"),
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        width: int = 24,
        backbone: Backbone | None = None,
    ) -> None:
        super().__init__()
        self.arguments = {
            "architecture": architecture,
            "layers": list(layers),
            "mean": list(mean),
            "std": list(std),
            "width": width,
        }
        if backbone is None:
            made = create_model(architecture)
            assert isinstance(made, Backbone)
            backbone = made
        preprocess = Preprocess(mean=tuple(mean), std=tuple(std))
        self.layers, self.last = tuple(layers), layers[-1]
        self.encoder = Perception(backbone, preprocess, layers, "max")
        channels, reduction = extent(self.encoder)[self.last]
        self.decoder = decoder(channels, reduction.bit_length() - 1, width)
        # the network's answers differ in size by hundreds; the decoder is given them with the usual mean and deviation
        self.register_buffer("usual_mean", torch.zeros(channels, 1, 1))
        self.register_buffer("usual_deviation", torch.ones(channels, 1, 1))
        self.register_buffer("own_mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("own_deviation", torch.ones(1, channels, 1, 1))

    @torch.no_grad()
    def calibrate(self, photos: Tensor, style: Tensor | None = None) -> None:
        """Take what is usual from photos [B, 3, H, W]: fixed numbers from then on, not a norm of each picture, which
        would take its style away (section 7.1)."""
        described = self.describe(photos).float()
        self.usual_mean.copy_(described.mean((0, 2, 3)).view(-1, 1, 1))
        deviation = described.std((0, 2, 3))
        rare = LEAST_DEVIATION * float(deviation.mean()) + 1e-4  # maps that these few photos leave dark
        self.usual_deviation.copy_(deviation.clamp_min(rare).view(-1, 1, 1))
        if style is not None:
            mean, deviation = statistics(self.describe(style))
            self.own_mean.copy_(mean)
            self.own_deviation.copy_(deviation)

    def train(self, mode: bool = True) -> AnyStyle:
        """The encoder never learns: its batch norms keep what they have."""
        super().train(mode)
        self.encoder.eval()
        return self

    def describe(self, images: Tensor) -> Tensor:
        """What the decoded layer answers: [B, 3, H, W] -> [B, N, h, w]."""
        return self.encoder(images, [self.last])[self.last]

    def decode(self, description: Tensor, height: int, width: int) -> Tensor:
        """[B, N, h, w] -> [B, 3, height, width] in 0..1."""
        usual = ((description - self.usual_mean) / self.usual_deviation).to(description.dtype)
        painted = self.decoder(usual.contiguous(memory_format=torch.channels_last)).float()
        whole = (height + 2 * BORDER, width + 2 * BORDER)  # what the encoder saw, border included
        painted = F.interpolate(painted, whole, mode="bilinear", align_corners=False)
        return torch.sigmoid(painted[..., BORDER : BORDER + height, BORDER : BORDER + width])

    def forward(
        self,
        photos: Tensor,
        styles: Sequence[Tensor] | Tensor = (),
        shares: Sequence[float] = (1.0,),
        strength: float = 1.0,
    ) -> Tensor | dict[str, Tensor]:
        """Several styles are mixed by their shares (section 7.2); `strength` 0 gives the photo back, as well as the
        decoder can."""
        if self.training:
            assert isinstance(styles, Tensor)
            return {"loss": self.loss(photos, styles)}
        content = self.describe(photos)
        if not len(styles):
            mean, deviation = statistics(content)
            aim = self.own_deviation * (content.float() - mean) / deviation + self.own_mean
            return self.decode(aim.to(photos.dtype), *photos.shape[-2:])
        aims = [share * adapt(content, self.describe(style)) for style, share in zip(styles, shares, strict=True)]
        aim = (1 - strength) * content.float() + strength * torch.stack(aims).sum(0)
        return self.decode(aim.to(photos.dtype), *photos.shape[-2:])

    def loss(self, photos: Tensor, styles: Tensor) -> Tensor:
        """Content: the description of the painting against what was to be painted; style: mean and deviation of every
        map of every layer up to there (equations 12 and 13), both as shares; and smoothness, without which a SqueezeNet
        lets grids be drawn."""
        seen, looks = self.encoder(photos, [self.last]), self.encoder(styles)
        aim = adapt(seen[self.last], looks[self.last])
        pictures = self.decode(aim, *photos.shape[-2:])
        painted = self.encoder(pictures)
        content = (painted[self.last].float() - aim).square().mean() / aim.square().mean()
        unlike = []
        for name in self.layers:
            ours, theirs = statistics(painted[name]), statistics(looks[name])
            for mine, wanted in zip(ours, theirs, strict=True):
                unlike.append((mine - wanted).square().mean() / wanted.square().mean())
        return content + STYLE_SHARE * torch.stack(unlike).mean() + VARIATION_SHARE * total_variation(pictures)


def any_style_of(perceptual: PerceptualNetwork, width: int = 24) -> AnyStyle:
    """One that sees through this network, with an untrained decoder.

    Raises:
        UsageError: the network has no maps of an eighth of the picture's size.
    """
    backbone, preprocess = perceptual.backbone, perceptual.preprocess
    names = list(default_layers(backbone).style)
    found = extent(Perception(backbone, preprocess, names, "max"))
    last = next((name for name in names if found[name][1] == REDUCTION), None)
    if last is None:
        raise UsageError(f"{perceptual.name} has no maps of an eighth of the picture's size; take another network")
    layers = names[: names.index(last) + 1]
    return AnyStyle(backbone.architecture, layers, preprocess.mean, preprocess.std, width, backbone)


def extent(perception: Perception, side: int = 256) -> dict[str, tuple[int, int]]:
    """Channels of each layer, and how many times smaller than the picture it is, to the nearest power of 2."""
    with torch.no_grad():
        answers = perception(torch.zeros(1, 3, side, side))
    return {
        name: (answer.shape[1], 2 ** round(log2((side + 2 * BORDER) / answer.shape[-1])))
        for name, answer in answers.items()
    }


def decoder(channels: int, doublings: int, width: int) -> nn.Sequential:
    """3x3 convolutions and ReLUs, pixels repeated in between, no norms (section 6.1); the last one's values go into a
    sigmoid."""
    layers: list[nn.Module] = []
    for step in reversed(range(doublings)):
        fewer = max(width, width * 2**step)
        layers += [nn.Conv2d(channels, fewer, 3, padding=1), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(fewer, fewer, 3, padding=1), nn.ReLU(inplace=True), nn.Upsample(scale_factor=2)]
        channels = fewer
    layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, 3, 3, padding=1)]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # without norms signals would fade otherwise
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(*layers)
