"""NASNet-A against timm's, the paper's figure and tables, and what its dilation promises."""

import pytest
import torch
from referee import as_trained, cross_entropy, dilated_holds_strided, is_one_graph, starts_agree, steps_agree
from timm.models.nasnet import NASNetALarge
from torch import nn
from torch.nn import functional as F

from striate.backbones.backbone import FeatureList
from striate.backbones.nasnet import (
    CURRENT,
    MODELS,
    NASNETS,
    NORMAL,
    PREVIOUS,
    REDUCTION,
    HalvingAverage,
    NASNet,
    Variant,
    interleaved,
    moved,
)
from striate.network_summary import summarize

NARROW = NASNETS["nasnetalarge"]._replace(stem=8, features=192)  # timm builds it, too
SHORT = Variant(stem=4, features=96, repeats=1, skip_reduction=True, count_padding=False)


def twins(**arguments: int) -> tuple[NASNet, NASNetALarge]:
    """Ours and timm's, thin enough for a test, with one set of weights."""
    ours = NASNet(NARROW, **arguments)
    theirs = NASNetALarge(stem_size=8, num_features=192, **arguments)
    as_trained(theirs)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def test_the_large_one_costs_what_table_2_says():
    with torch.device("meta"):
        summary = summarize(MODELS["nasnetalarge"].build(), (3, 331, 331))
    assert summary.multiply_adds == pytest.approx(23.8e9, rel=0.005)
    assert [MODELS[name].canonical.size for name in MODELS] == [(331, 331), (224, 224)]


def test_initialisation_is_timms():
    torch.manual_seed(3)
    ours = NASNet(NARROW, num_classes=7)
    torch.manual_seed(3)
    starts_agree(ours, NASNetALarge(stem_size=8, num_features=192, num_classes=7))


@pytest.mark.parametrize("size", [(64, 75), (3, 3)])
def test_outputs_are_timms(size):
    ours, theirs = (model.eval() for model in twins(num_classes=5))
    with torch.no_grad():
        images = torch.randn(2, 3, *size)
        wanted = theirs(images)
        torch.testing.assert_close(ours(images), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
        maps = ours.feature_maps(images)
        expected = theirs.forward_intermediates(images, intermediates_only=True)
    for (name, mine), yours, info in zip(maps.items(), expected, theirs.feature_info, strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-5, atol=1e-5 * max(1, yours.abs().max().item()), msg=name)
        assert ours.pyramid[name].reduction == info["reduction"]
        assert ours.pyramid[name].channels == mine.shape[1]


def test_three_steps_of_training_are_timms():
    ours, theirs = (model.double() for model in twins(num_classes=5))  # in single precision rounding alone parts them
    steps_agree(ours, theirs, torch.randn(4, 3, 40, 33).double(), cross_entropy, tolerance=1e-6)


# The authors' own writing of figure 4: tensorflow/models, research/slim/nets/nasnet/nasnet_utils.py. Hidden state 0 is
# the current input, 1 the previous one, then come the sums; what is marked as not used is stacked.
AUTHORS = (
    (
        NORMAL,
        "separable_5x5_2 separable_3x3_2 separable_5x5_2 separable_3x3_2 avg_pool_3x3 none avg_pool_3x3 avg_pool_3x3 "
        "separable_3x3_2 none",
        [0, 1, 1, 1, 0, 1, 1, 1, 0, 0],
        [1, 0, 0, 0, 0, 0, 0],
    ),
    (
        REDUCTION,
        "separable_5x5_2 separable_7x7_2 max_pool_3x3 separable_7x7_2 avg_pool_3x3 separable_5x5_2 none avg_pool_3x3 "
        "separable_3x3_2 max_pool_3x3",
        [0, 1, 0, 1, 0, 1, 3, 2, 2, 0],
        [1, 1, 1, 0, 0, 0, 0],
    ),
)


@pytest.mark.parametrize(("plan", "operations", "states", "used"), AUTHORS)
def test_cells_are_the_authors(plan, operations, states, used):
    words = {"separable": "sep", "avg": "avg", "max": "max", "none": "identity"}
    ours = [operation for pair in plan.pairs for operation in pair]
    for (name, source), theirs, state in zip(ours, operations.split(), states, strict=True):
        kind, *rest = theirs.split("_")
        size = [part for part in rest if "x" in part]
        assert name == " ".join([words[kind], *size])
        assert source == {0: CURRENT, 1: PREVIOUS}.get(state, state)
    assert plan.output == tuple({1: PREVIOUS}.get(state, state) for state, is_used in enumerate(used) if not is_used)


@pytest.mark.parametrize(("name", "previous"), [("nasnetalarge", "cell_4"), ("nasnetamobile", "cell_3")])
def test_what_the_cell_after_a_reduction_reads(name, previous):
    """The reduction itself, and beside it what the authors' `skip_reduction_layer_input` says."""
    with torch.device("meta"):
        model, inputs, outputs = MODELS[name].build().eval(), {}, {}
        for cell, module in model.named_children():
            module.register_forward_hook(
                lambda _, given, made, cell=cell: (inputs.update({cell: given}), outputs.update({cell: made}), None)[2]
            )
        model(torch.rand(1, 3, 64, 64))
    assert inputs["cell_6"][0] is outputs["reduction_cell_0"]
    assert inputs["cell_6"][1] is outputs[previous]
    assert inputs["cell_7"][1] is outputs["reduction_cell_0"]
    assert inputs["cell_stem_1"][0] is outputs["cell_stem_0"]
    assert inputs["cell_stem_1"][1] is outputs["conv0"]


@pytest.mark.parametrize("size", [(5, 6), (6, 5)])
def test_averages_at_the_border(size):
    """SAME begins a window at -1 where a side is odd, at 0 where it is even; TensorFlow divides by what is there."""
    values = torch.rand(1, 1, *size)
    of_there, of_nine = (HalvingAverage(count_padding)(values) for count_padding in (False, True))
    for row in range(3):
        for column in range(3):
            top, left = 2 * row - size[0] % 2, 2 * column - size[1] % 2
            window = values[0, 0, max(0, top) : top + 3, max(0, left) : left + 3]
            assert of_there[0, 0, row, column].item() == pytest.approx(window.mean().item(), rel=1e-5)
            assert of_nine[0, 0, row, column].item() == pytest.approx(window.sum().item() / 9, rel=1e-5)


@pytest.mark.parametrize(("variant", "size"), [(NARROW, (64, 75)), (SHORT, (90, 70))])
@pytest.mark.parametrize("output_stride", [16, 8])
def test_dilated_maps_hold_the_strided_ones(variant, size, output_stride):
    strided, dilated = as_trained(NASNet(variant)), NASNet(variant, output_stride=output_stride)
    dilated_holds_strided(strided, dilated, torch.randn(2, 3, *size))
    assert all(stage.reduction <= output_stride for stage in dilated.pyramid.values())


def test_the_values_between_are_those_of_a_moved_picture():
    """A picture moved by 16 pixels: where the stride of 32 stops then, far from the borders."""
    strided, dilated = NASNet(SHORT).eval(), NASNet(SHORT, output_stride=16).eval()
    for module in strided.modules():  # the weights of birth fade with distance, so that borders stay far
        if isinstance(module, nn.BatchNorm2d):
            as_trained(module)
    dilated.load_state_dict(strided.state_dict())
    with torch.no_grad():
        images = torch.randn(1, 3, 800, 800)
        fine = dilated.feature_maps(images)["stage3"]
        for down, right in ((0, 1), (1, 0), (1, 1)):
            picture = F.pad(images[..., 16 * down :, 16 * right :], (0, 16 * right, 0, 16 * down))
            coarse = strided.feature_maps(picture)["stage3"]
            inner = slice(10, -10)
            between = fine[..., down::2, right::2]
            torch.testing.assert_close(between[..., inner, inner], coarse[..., inner, inner], rtol=1e-4, atol=1e-4)
            assert not torch.allclose(between, fine[..., ::2, ::2], atol=1e-2)


def test_moved_maps_are_put_together_again():
    values = torch.arange(2 * 3 * 5 * 7.0).reshape(2, 3, 5, 7)
    halved = moved(values)[..., ::2, ::2]
    assert torch.equal(interleaved(halved, [values.shape[-2:]]), values)


@pytest.mark.parametrize("deepest", range(5))
def test_a_network_can_end_at_any_stage(deepest):
    whole, part = NASNet(SHORT).eval(), FeatureList(NASNet(SHORT, num_classes=0), (deepest, 0)).eval()
    as_trained(whole)
    names = part.backbone.state_dict()
    part.backbone.load_state_dict({key: value for key, value in whole.state_dict().items() if key in names})
    images = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        expected = list(whole.feature_maps(images).values())
        for mine, yours in zip(part(images), (expected[deepest], expected[0]), strict=True):
            assert torch.equal(mine, yours)
    sum(maps.sum() for maps in part.train()(images)).backward()
    assert all(parameter.grad is not None for parameter in part.parameters())


def test_forward_is_one_graph_in_any_memory_format():
    model = as_trained(NASNet(SHORT, num_classes=3, output_stride=16))
    images = torch.randn(2, 3, 33, 40)
    is_one_graph(model, images)
    with torch.no_grad():
        maps = model.feature_maps(images)
        torch.compiler.reset()
        beginning = FeatureList(model, (2,))  # both kinds of cells, and as much as a test has time to compile
        compiled = torch.compile(beginning, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(images), [maps["stage1"]], rtol=1e-4, atol=1e-4)
