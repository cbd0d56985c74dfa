"""Networks from one line: `(conv32-relu)x2-pool-(conv64-relu)x2-pool-fc128-relu`. The classifier is added at the end.

    conv<channels>[k<kernel>][s<stride>][p<padding>]   kernel 3, stride 1, padding that keeps the size
    maxpool<k>[s<stride>][p<padding>], avgpool<k>[…]   stride as wide as the window; `pool` is maxpool2
    gap                                                global average pooling
    bn, lrn                                            batch norm; local response norm (Krizhevsky et al. 2012, 3.3)
    relu, tanh, sigmoid, gelu, silu
    fc<n>, flatten, drop<p>                            fully connected; a map becomes a vector by itself
    (a-b)x3                                            repeated; groups nest

`fc` or `flatten` on a map binds the network to one picture size: `image_size`, or 28x28 for one channel and 32x32 for
more. A line without them, or with `gap` before them, takes pictures of any size; where the last layer is still a map,
global average pooling follows. A convolution directly before `bn` has no bias. Weights start as in He et al. 2015
where the line has relu, gelu or silu, as in Glorot & Bengio 2010 where it has not.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from torch import nn

from striate.backbones.backbone import Backbone, Stage
from striate.backbones.chain_parser import Token, error_at, parse
from striate.errors import UsageError
from striate.layers.sizes import conv_output, same_padding

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "silu": nn.SiLU}
RECTIFIERS = {"relu", "gelu", "silu"}


class Flow(NamedTuple):
    """What flows between two layers: a map, a map of 1 × 1 after `gap`, or a vector."""

    kind: str  # "map", "pooled", "vector"
    channels: int
    size: tuple[int, int] | None  # None: any
    reduction: int = 1


class Chain(Backbone):
    """Stages: stage1, stage2, …; one ends before each layer that makes the map smaller, and at the last map.

    Layers are named by their word and a running number: conv1, relu1, pool1, fc1; the last one is `fc`.

    Args:
        line: the network, as in this module's docstring.
        image_size: (height, width) of the pictures, only used where the line binds the network to one size.

    Raises:
        UsageError: with the position in the line.
    """

    def __init__(
        self,
        line: str,
        num_classes: int = 10,
        in_chans: int = 3,
        dropout: float | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        tokens = parse(line)
        super().__init__(num_features=in_chans)
        self.architecture = line
        if _bound_to_one_size(tokens):
            self.image_size = image_size or ((28, 28) if in_chans == 1 else (32, 32))

        flow = Flow("map", in_chans, self.image_size)
        counts: Counter[str] = Counter()
        layers: list[str] = []  # since the last stage ended
        for token, follower in zip(tokens, [*tokens[1:], None], strict=True):
            if flow.kind != "vector" and token.word == "fc":
                layers, flow = self._end_stage(layers, flow), flattened(flow)
                layers.append(self._add("flatten", nn.Flatten(), counts))
            module, after = build_layer(line, token, flow, before_norm=follower is not None and follower.word == "bn")
            if flow.kind == "map" and (after.kind, after.reduction) != ("map", flow.reduction):
                layers = self._end_stage(layers, flow)
            layers.append(self._add(token.word, module, counts))
            flow = after
        layers = self._end_stage(layers, flow)
        if flow.kind == "map":
            layers.append(self._add("gap", nn.AdaptiveAvgPool2d(1), counts))
        if flow.kind != "vector":
            layers.append(self._add("flatten", nn.Flatten(), counts))

        self.num_features = flow.channels
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.fc = nn.Linear(flow.channels, num_classes) if num_classes else nn.Identity()
        self.head_layers = (*layers, "dropout", "fc")
        initialise(self, rectified=bool(RECTIFIERS & {token.word for token in tokens}))

    def _add(self, word: str, module: nn.Module, counts: Counter[str]) -> str:
        counts[word] += 1
        name = f"{word}{counts[word]}"
        self.add_module(name, module)
        return name

    def _end_stage(self, layers: list[str], flow: Flow) -> list[str]:
        """Name what was built since the last stage, if it made a map; what is left over belongs to the head."""
        if flow.kind != "map" or not layers:
            return layers
        self.add_stage(f"stage{len(self.pyramid) + 1}", Stage(flow.channels, flow.reduction), layers)
        return []


def build_layer(line: str, token: Token, flow: Flow, before_norm: bool) -> tuple[nn.Module, Flow]:
    """One layer for what flows in, and what flows out of it.

    Raises:
        UsageError: a layer that needs a map where a vector flows, or a window that does not fit.
    """
    word, number = token.word, int(token.number)
    if word in ("conv", "pool", "maxpool", "avgpool", "gap", "lrn") and flow.kind == "vector":
        raise error_at(line, token.position, f'"{token.text}" needs a map, but after fc or flatten a vector flows')
    if word in ("conv", "pool", "maxpool", "avgpool"):
        return _window_layer(line, token, flow, bias=not before_norm)
    if word in ACTIVATIONS:
        return ACTIVATIONS[word](), flow
    if word == "bn":
        return (nn.BatchNorm1d if flow.kind == "vector" else nn.BatchNorm2d)(flow.channels), flow
    if word == "lrn":  # k = 2, n = 5, alpha = 1e-4, beta = 0.75; torch divides alpha by n, the paper does not
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0), flow
    if word == "drop":
        return nn.Dropout(token.number), flow
    if word == "gap":
        return nn.AdaptiveAvgPool2d(1), Flow("pooled", flow.channels, (1, 1), flow.reduction)
    if word == "flatten":
        return nn.Flatten(), flattened(flow)
    return nn.Linear(flow.channels, number, bias=not before_norm), Flow("vector", number, None, flow.reduction)


def _window_layer(line: str, token: Token, flow: Flow, bias: bool) -> tuple[nn.Module, Flow]:
    """A convolution or a pooling: what slides over a map."""
    number, options = int(token.number), token.options
    try:
        if token.word == "conv":
            kernel, stride = options.get("k", 3), options.get("s", 1)
            padding = options["p"] if "p" in options else same_padding(kernel)
            channels = number
            module: nn.Module = nn.Conv2d(flow.channels, channels, kernel, stride, padding, bias=bias)
        else:
            kernel = 2 if token.word == "pool" else number
            stride, padding = options.get("s", kernel), options.get("p", 0)
            if padding > kernel // 2:
                raise UsageError(f"padding of at most half the window ({kernel // 2}), not {padding}")
            channels = flow.channels
            module = (nn.AvgPool2d if token.word == "avgpool" else nn.MaxPool2d)(kernel, stride, padding)
        size = flow.size and (
            conv_output(flow.size[0], kernel, stride, padding),
            conv_output(flow.size[1], kernel, stride, padding),
        )
    except UsageError as error:
        raise error_at(line, token.position, f'"{token.text}": {error}') from None
    return module, Flow(flow.kind, channels, size, flow.reduction * stride)


def flattened(flow: Flow) -> Flow:
    height, width = flow.size or (1, 1)
    return Flow("vector", flow.channels * height * width, None, flow.reduction)


def _bound_to_one_size(tokens: list[Token]) -> bool:
    """Whether a map, whose size the picture's decides, is flattened."""
    first = next((token.word for token in tokens if token.word in ("gap", "fc", "flatten")), "gap")
    return first != "gap"


def initialise(network: nn.Module, rectified: bool) -> None:
    """Zero biases, and weights as the activations ask: half of what a rectifier is given is lost."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if rectified:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
