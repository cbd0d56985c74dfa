"""Are explanations to be believed? Two tests that they can fail.

An explanation of what a network has learnt must change when that is undone: layers are made random from the top down
(Adebayo et al., NeurIPS 2018, arXiv:1810.03292). And what it points at must matter: the confidence falls when those
parts are taken away first, and rises when they come first (Petsiuk et al., BMVC 2018, arXiv:1806.07421).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from striate.explain.attribution.faithfulness import RANDOM, Curves, curves_of, draw_curves
from striate.explain.attribution.maps import (
    enlarged,
    grad_cam,
    gradient,
    guided_backpropagation,
    hires_cam,
    integrated_gradients,
    occlusion,
    smooth_gradient,
)
from striate.explain.explained import ClassScore, ExplainedImage, ExplainedModel, deepest_maps, look_at
from striate.explain.explanation import Explanation, Request
from striate.explain.layers import backbone_in, find_layer
from striate.results.words import percent
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, RED, VIOLET, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from striate.model import Model

PICTURES = 4
STEPS = 12  # of integrated gradients, and samples of SmoothGrad: ranks need no more
RECOGNISED = 0.9  # of the whole picture's confidence: above, a blurred one leaves nothing to be put back
OCCLUDED = 9  # places of the covering square along a side

Way = Callable[
    [nn.Module, Tensor, ClassScore], Tensor
]  # network, images [1, C, h, w], class score → map [rows, columns]
COLOURS = {
    "Grad-CAM": BLUE,
    "gradient": GREEN,
    "SmoothGrad": VIOLET,
    "integrated gradients": ORANGE,
    "guided backpropagation": RED,
    "occlusion": "#12a5a5",
}


def ways_of(layer: str, spatial: bool, seed: int) -> dict[str, Way]:
    """Each method as a map of what speaks for the answer."""
    cam = hires_cam if spatial else grad_cam
    return {
        "Grad-CAM": lambda network, images, class_score: cam(network, images, class_score, find_layer(network, layer))[
            0
        ],
        "gradient": lambda *of: gradient(*of)[0].abs().sum(0),
        "SmoothGrad": lambda *of: smooth_gradient(*of, samples=STEPS, seed=seed)[0].abs().sum(0),
        "integrated gradients": lambda *of: integrated_gradients(*of, steps=STEPS)[0].sum(0),
        "guided backpropagation": lambda *of: guided_backpropagation(*of)[0].abs().sum(0),
    }


def explain_sanity(model: Model, request: Request) -> Explanation:
    """Both tests of each method, over the pictures.

    `values["correlations"]`: by method, float [layers made random + 1], means over the pictures, 1 at first;
    `values["randomised"]`: the layers' names, from the top down; `values["deletion"]` and `values["insertion"]`: by
    method and for `random`, the mean area under the curve; `values["curves"]`: the curves themselves.

    Raises:
        UsageError: the model has no such layer.
    """
    explained = ExplainedModel.of(model)
    pictures, notes = look_at(explained, request, PICTURES)
    layer = request.layer or deepest_maps(explained, pictures[0])[0]
    find_layer(explained.network, layer)
    ways = ways_of(layer, explained.task.spatial, request.seed)
    names, correlations = cascade(explained, pictures, ways, request.seed, request.say)
    measured = faithful(explained, pictures, ways, request)
    sections = [
        randomisation_section(names, correlations, len(pictures)),
        faithfulness_section(measured, len(pictures)),
    ]
    values = {
        "randomised": names,
        "correlations": correlations,
        "deletion": {name: one.areas[0] for name, one in measured.items()},
        "insertion": {name: one.areas[1] for name, one in measured.items()},
        "curves": {name: {"deletion": one.deletion, "insertion": one.insertion} for name, one in measured.items()},
    }
    facts = {"pictures": str(len(pictures)), "layer of Grad-CAM": layer, "seed": str(request.seed)}
    return Explanation(f"Sanity of explanations of {explained.name}", sections, values, facts, notes)


def cascade(
    explained: ExplainedModel,
    pictures: Sequence[ExplainedImage],
    ways: dict[str, Way],
    seed: int,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[list[str], dict[str, Tensor]]:
    """Rank correlation of each map with that of the trained network, as ever more layers are made random.

    Returns:
        Names of what is made random, from the top down, n of them; by method float [n + 1], means over the pictures.
    """
    network = copy.deepcopy(explained.network)
    groups = top_down(network)
    first = [{name: map_of(way, network, one, explained) for name, way in ways.items()} for one in pictures]
    found = {name: [1.0] for name in ways}
    generator = torch.Generator().manual_seed(seed)
    for number, (group, parameters) in enumerate(groups.items(), start=1):
        say(f"made random: {group} ({number} of {len(groups)})")
        randomise(parameters, generator)
        for name, way in ways.items():
            pairs = zip(pictures, first, strict=True)
            values = [
                rank_correlation(before[name].abs(), map_of(way, network, one, explained).abs())
                for one, before in pairs
            ]
            found[name].append(sum(values) / len(values))
    return [*groups], {name: torch.tensor(values) for name, values in found.items()}


def map_of(way: Way, network: nn.Module, one: ExplainedImage, explained: ExplainedModel) -> Tensor:
    return way(network, one.images, explained.class_score_of(one)).float().cpu()


def top_down(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Parameters by group, from the answer to the picture: what is not of the backbone's stages, then the stages.

    A network without stages goes layer by layer, as its modules are listed.
    """
    backbone = backbone_in(network)
    if backbone is None or not backbone.stage_layers:
        layers = [(name, [*layer.parameters(recurse=False)]) for name, layer in network.named_modules()]
        return {name or "itself": found for name, found in reversed(layers) if found}
    inside = dict(backbone.named_modules())
    stages: dict[str, list[nn.Parameter]] = {}
    for name, layers in backbone.stage_layers.items():
        found = [parameter for layer in layers if layer in inside for parameter in inside[layer].parameters()]
        if found:
            stages[name] = [*dict.fromkeys(found)]
    taken = {id(parameter) for found in stages.values() for parameter in found}
    head = [parameter for parameter in network.parameters() if id(parameter) not in taken]
    return ({"head": head} if head else {}) | dict(reversed(stages.items()))


def randomise(parameters: Sequence[nn.Parameter], generator: torch.Generator) -> None:
    """Weights drawn anew from a normal distribution of their own deviation, vectors (biases, norms) shuffled.

    Their scale stays, so that no map is dead or blinding for that reason alone.
    """
    with torch.no_grad():
        for parameter in parameters:
            if parameter.ndim > 1:
                drawn = torch.randn(parameter.shape, generator=generator) * parameter.float().std(correction=0).cpu()
            else:
                drawn = parameter.cpu()[torch.randperm(parameter.numel(), generator=generator)]
            parameter.copy_(drawn)


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's: of the ranks of all values, ties sharing theirs; 0 where either is constant."""
    ranks = [mean_ranks(values.flatten()) for values in (one, other)]
    centred = [values - values.mean() for values in ranks]
    scale = centred[0].norm() * centred[1].norm()
    return float(centred[0] @ centred[1] / scale) if scale > 0 else 0.0


def mean_ranks(values: Tensor) -> Tensor:
    """Ranks from 1, float64 [n]; equal values share the mean of theirs."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[inverse]


def faithful(
    explained: ExplainedModel, pictures: Sequence[ExplainedImage], ways: dict[str, Way], request: Request
) -> dict[str, Curves]:
    """Curves of each method, of occlusion, and of a random order."""
    stride = max(1, -(-min(explained.preprocess.size) // OCCLUDED))

    def occluded(network: nn.Module, images: Tensor, class_score: ClassScore) -> Tensor:
        return occlusion(network, images, class_score, 2 * stride, stride)[0]

    orders: dict[str, list[Tensor]] = {}
    for name, way in {**ways, "occlusion": occluded}.items():
        request.say(f"taken away and put back: {name}")
        orders[name] = [
            enlarged(
                map_of(way, explained.network, one, explained)[None], (one.images.shape[-2], one.images.shape[-1])
            )[0]
            for one in pictures
        ]
    return curves_of(explained, pictures, orders, request.seed)


def randomisation_section(names: Sequence[str], correlations: dict[str, Tensor], pictures: int) -> Section:
    text = (
        f"{counted(pictures)}. From the left, one group of layers after the other loses what it has learnt, to weights "
        "drawn at random once: the head, then the network's stages down to the picture, each the whole stage and not "
        "only the layer that may be called so. A map that explains the learnt network must turn into another one: its "
        "rank correlation with the first falls towards 0. One that stays high shows edges of the picture, whatever the "
        "network has learnt.\n\n"
    )
    last = {name: float(values[-1]) for name, values in correlations.items()}
    half = {
        name: float(values[1 + len(names) // 2]) if len(names) > 1 else last[name]
        for name, values in correlations.items()
    }
    stubborn = max(half, key=lambda name: half[name])
    text += f"Half way down, {stubborn} still agrees with itself most ({half[stubborn]:.2f})."
    rows = [(name, *(float(value) for value in values)) for name, values in correlations.items()]
    table = Table(
        ("method", "trained", *names), rows, "Spearman's rank correlation with the map of the trained network"
    )
    drawing = draw_cascade(names, correlations)
    caption = f"Mean over {counted(pictures)}. Each point has all layers up to there random."
    alt = "; ".join(f"{name} ends at {value:.2f}" for name, value in last.items())
    return Section("Layers made random", text, [Figure(drawing, caption, alt, True)], [table])


def faithfulness_section(measured: dict[str, Curves], pictures: int) -> Section:
    text = (
        "Squares of the picture are taken away, those first that a map holds most important, and the confidence in the "
        "answer is measured: the sooner it falls, the better (deletion, a small area under the curve). The other way "
        "round, they are put onto a blurred picture: the sooner it rises, the better (insertion, a large area). A map "
        f"that is no better than squares at random explains nothing. {counted(pictures)}; random is the mean of "
        f"{RANDOM} orders of each."
    )
    rows = [(name, *one.areas, one.areas[1] - one.areas[0]) for name, one in measured.items()]
    is_blind, start = recognised_blurred(measured)
    rows.sort(key=(lambda row: row[1]) if is_blind else (lambda row: -row[3]))
    if is_blind:
        text += (
            f" Here insertion says nothing of any method: the blurred picture is recognised from the start, with "
            f"{percent(start)}. The order in the table is that of deletion alone."
        )
    table = Table(("order", "deletion (low)", "insertion (high)", "difference"), rows, "Areas under the mean curves")
    drawing = draw_curves(measured, COLOURS)
    best = rows[0][0]
    return Section(
        "Parts taken away", text, [Figure(drawing, f"Mean over {counted(pictures)}.", f"Best: {best}", True)], [table]
    )


def recognised_blurred(measured: dict[str, Curves]) -> tuple[bool, float]:
    """Whether insertion has nothing to tell apart: with nothing put back the confidence is nearly what it is with all;
    and that confidence."""
    start, end = (float(next(iter(measured.values())).insertion[at]) for at in (0, -1))
    return start > RECOGNISED * end, start


def counted(pictures: int) -> str:
    return "1 picture" if pictures == 1 else f"{pictures} pictures"


def draw_cascade(names: Sequence[str], correlations: dict[str, Tensor]) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(9, 3.6), layout="constrained")
    axes = drawing.add_subplot()
    places = range(len(names) + 1)
    for name, values in correlations.items():
        axes.plot(places, values.numpy(), marker="o", markersize=4, linewidth=1.8, color=COLOURS[name], label=name)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xticks([*places], ["trained", *names], rotation=30 if len(names) > 7 else 0)
    axes.set(ylabel="rank correlation", ylim=(min(-0.1, *(float(v.min()) for v in correlations.values())) - 0.02, 1.03))
    axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    axes.legend(frameon=False, fontsize=9)
    return drawing
