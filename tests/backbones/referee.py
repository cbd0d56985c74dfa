"""What a network is held against: the published one, and itself with strides, without classes, as one graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import timm
import torch
import torchvision
from timm.models.efficientnet import _gen_mobilenet_v1
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import googlenet, inception_v3, mobilenet_v2

from striate.backbones import MODELS, Backbone, create_model, mobilenet_v1
from striate.backbones import mobilenet_v2 as our_mobilenet_v2
from striate.layers.blocks import SqueezeExcitation

# the published network of the same name: torchvision's where it has one, else timm's, which has no name for odd widths
TWINS: dict[str, Callable[..., nn.Module]] = {
    **{name: partial(torchvision.models.get_model, name) for name in set(torchvision.models.list_models()) & {*MODELS}},
    "googlenet": partial(googlenet, aux_logits=False, init_weights=True),
    "inception_v3": partial(inception_v3, init_weights=True),
    **{name: partial(mobilenet_v2, width_mult=width) for name, width in our_mobilenet_v2.WIDTH_MULTIPLIERS.items()},
    **{
        name: partial(_gen_mobilenet_v1, "mobilenetv1_100", width)
        for name, width in mobilenet_v1.WIDTH_MULTIPLIERS.items()
    },
    **{name: partial(timm.create_model, name) for name in MODELS if name.startswith("resnetv2_")},
    **{name: partial(timm.create_model, name) for name in ("nasnetalarge", "darknet53")},
}


def as_trained(model: nn.Module) -> nn.Module:
    """The network with other numbers, and ready to predict.

    No signal fades in them, and norms, biases and layer scales do something: at birth they would hide a wrong eps, a
    running mean that is never used, or a bias that is forgotten. Tensors of `to_empty` are all filled.
    """
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(1 << 20, generator=generator)  # read from anywhere: drawing takes longer than all the rest
    for key, tensor in model.state_dict().items():
        name = key.rpartition(".")[2]
        if name == "num_batches_tracked":
            tensor.zero_()
        elif name == "layer_scale":
            tensor.uniform_(0.2, 1, generator=generator)
        elif tensor.ndim > 1:
            for part in tensor.view(-1).split(len(noise) // 2):
                start = int(torch.randint(len(noise) // 2, (), generator=generator))  # no two layers are the same
                part.copy_(noise[start : start + len(part)])
            tensor *= (2 / tensor[0].numel()) ** 0.5
        elif name in ("weight", "running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        else:
            tensor.normal_(std=0.2, generator=generator)
    return model.eval()


def trained(name: str, **arguments: Any) -> nn.Module:
    """`create_model` on the processor with the numbers of `as_trained`, which are cheaper than those of birth."""
    with torch.device("meta"):
        model = create_model(name, **arguments)
    return as_trained(model.to_empty(device="cpu"))


def twin_of(model: nn.Module, name: str, **arguments: Any) -> nn.Module:
    """The published network with the very tensors of ours, ready to predict."""
    with torch.device("meta"):
        theirs = TWINS[name](**arguments)
    theirs.load_state_dict(model.state_dict(), assign=True)
    return theirs.eval()


def without_chance(*models: nn.Module) -> None:
    """No dropout, no stochastic depth."""
    for model in models:
        for module in model.modules():
            if type(module).__name__ in ("Dropout", "StochasticDepth"):
                module.p = 0.0  # type: ignore[assignment]


def names_and_settings_agree(ours: nn.Module, theirs: nn.Module) -> None:
    """Names, their order and shapes; what norms and chance are set to, which no state dict holds."""
    states = [[(key, tensor.shape) for key, tensor in model.state_dict().items()] for model in (ours, theirs)]
    assert states[0] == states[1]
    assert _norms(ours) == _norms(theirs)
    for kind in ("Dropout", "StochasticDepth"):
        assert _chances(ours, kind) == _chances(theirs, kind), kind


def _norms(model: nn.Module) -> list[tuple[float, float | None]]:
    kinds = (nn.BatchNorm2d, nn.LayerNorm)
    return [(norm.eps, getattr(norm, "momentum", None)) for norm in model.modules() if isinstance(norm, kinds)]


def _chances(model: nn.Module, kind: str) -> list[float]:
    chances = (module.p for module in model.modules() if type(module).__name__ == kind)
    return [round(chance, 9) for chance in chances if chance > 0]  # type: ignore[call-overload, operator]


def starts_agree(ours: nn.Module, theirs: nn.Module) -> None:
    """The same seed gave the same weights."""
    for (key, mine), yours in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, yours), key


def outputs_agree(ours: nn.Module, theirs: nn.Module, images: Tensor) -> None:
    """Logits to 1e-5 of the largest, of pictures that make a difference."""
    with torch.no_grad():
        found, expected = ours(images), theirs(images)
    largest = expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * max(1, largest))
    assert len(images) == 1 or (expected[0] - expected[1]).abs().max() > 1e-3 * largest  # the very deep drift


def chance_agrees(ours: nn.Module, theirs: nn.Module, images: Tensor) -> None:
    """Dropout and stochastic depth fall where the published network's do, and do fall."""
    answers = []
    with torch.no_grad():
        for seed in (0, 1):
            for model in (ours.train(), theirs.train()):
                torch.manual_seed(seed)
                answers.append(model(images))
    size = answers[1].abs().max().item()
    torch.testing.assert_close(answers[0], answers[1], rtol=0, atol=1e-4 * size)
    assert (answers[0] - answers[2]).abs().max() > 1e-2 * size


def steps_agree(
    ours: nn.Module,
    theirs: nn.Module,
    images: Tensor,
    loss: Callable[[Any], Tensor],
    learning_rate: float = 0.03,
    tolerance: float = 1e-4,
) -> None:
    """Weights and running statistics after three steps of SGD, without chance; the first layer moved."""
    without_chance(ours, theirs)
    first = next(ours.parameters())
    before = first.detach().clone()
    for model in (ours.train(), theirs.train()):
        optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
        for _ in range(3):
            optimizer.zero_grad()
            loss(model(images)).backward()
            optimizer.step()
        optimizer.zero_grad()  # so many gradients are not kept
    for (key, mine), yours in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        _close(key, mine, yours, tolerance, tolerance)
    assert (first - before).abs().max() > 10 * tolerance


def cross_entropy(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.arange(len(logits)) % logits.shape[1])


def stages_agree(ours: Backbone, theirs: nn.Module, images: Tensor, layers: Sequence[str]) -> None:
    """Each stage is what the published network's layer of that name gives."""
    seen: dict[str, Tensor] = {}
    hooks = [
        theirs.get_submodule(layer).register_forward_hook(
            lambda _, given, made, layer=layer: seen.setdefault(layer, made)
        )
        for layer in layers
    ]
    with torch.no_grad():
        theirs(images)
        found = ours.feature_maps(images)
    for hook in hooks:
        hook.remove()
    for maps, layer in zip(found.values(), layers, strict=True):
        _close(layer, maps, seen[layer], 1e-5 * max(1, seen[layer].abs().max().item()))


def _close(what: str, found: Tensor, expected: Tensor, atol: float, rtol: float = 0.0) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol, msg=lambda text: f"{what}: {text}")


def dilated_holds_strided(
    strided: Backbone, dilated: Backbone, images: Tensor, first: Callable[[int], int] = lambda step: 0
) -> None:
    """What dilation is for: the same weights at more places; every so many pixels is where a stride would stop.

    Args:
        first: the pixel at which the strided map begins in the dilated one, where there are `step` pixels for one.
    """
    assert [(key, tensor.shape) for key, tensor in dilated.state_dict().items()] == [
        (key, tensor.shape) for key, tensor in strided.state_dict().items()
    ]
    dilated.load_state_dict(strided.state_dict(), assign=True)
    with torch.no_grad():
        coarse, fine = strided.eval().feature_maps(images), dilated.eval().feature_maps(images)
    for name, stage in strided.pyramid.items():
        step = stage.reduction // dilated.pyramid[name].reduction
        start, scale = first(step) if step > 1 else 0, coarse[name].std().item()
        assert scale > 0.05, name  # there is something to compare
        _close(name, fine[name][..., start::step, start::step], coarse[name], 1e-4 * max(1, scale))
        for few, many in zip(coarse[name].shape[2:], fine[name].shape[2:], strict=True):
            assert step * (few - 1) < many - start <= step * few, name


def hold_gates(model: nn.Module) -> None:
    """Squeeze-and-excitation that looks at nothing: the mean of a dilated map is that of more pixels."""
    for module in model.modules():
        if isinstance(module, SqueezeExcitation):
            nn.init.zeros_(module.get_submodule("fc2").get_parameter("weight"))


def is_one_graph(model: nn.Module, images: Tensor, compiled: bool = False) -> None:
    """Exported, in channels_last, and compiled if wanted, it answers the same; and it leaves its input alone."""
    before = images.clone()
    with torch.no_grad():
        expected = model.eval()(images)
        tolerance = {"rtol": 1e-4, "atol": 1e-5 * max(1.0, expected.abs().max().item())}
        exported = torch.export.export(model, (images,)).module()  # fails on a graph break
        torch.testing.assert_close(exported(images), expected, **tolerance)
        if compiled:
            torch.compiler.reset()  # so many compiled networks are more than it keeps
            graph = torch.compile(model, fullgraph=True, backend="eager")
            torch.testing.assert_close(graph(images), expected, **tolerance)
        last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, **tolerance)
    assert torch.equal(images, before)
