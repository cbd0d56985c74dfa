"""NASNet-A against timm's, the paper's figure and tables, and what its dilation promises."""

import pytest
import timm
import torch
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
from striate.errors import UsageError
from striate.network_summary import summarize

NARROW = NASNETS["nasnetalarge"]._replace(stem=8, features=192)  # timm builds it, too
SHORT = Variant(stem=4, features=96, repeats=1, skip_reduction=True, count_padding=False)


def unsettle(model: nn.Module) -> None:
    """Batch norms as training leaves them: at birth they would hide a wrong eps or a mean that is never used."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


def twins(**arguments: int) -> tuple[NASNet, NASNetALarge]:
    """Ours and timm's, thin enough for a test, with one set of weights."""
    ours = NASNet(NARROW, **arguments)
    theirs = NASNetALarge(stem_size=8, num_features=192, **arguments)
    unsettle(theirs)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize(
    ("name", "side", "parameters", "multiply_adds"),
    [
        ("nasnetalarge", 331, 88_753_150, 23.8e9),  # ../shared/NUMBERS.md; table 2: 23.8 B, 88.9 M
        ("nasnetamobile", 224, 5_289_978, 564e6),  # pretrained-models.pytorch; table 3: 564 M, 5.3 M
    ],
)
def test_counts_are_the_papers(name, side, parameters, multiply_adds):
    with torch.device("meta"):
        summary = summarize(MODELS[name].build(), (3, side, side))
    assert summary.parameters == parameters
    assert summary.multiply_adds == pytest.approx(multiply_adds, rel=0.005)
    assert MODELS[name].canonical.size == (side, side)


def test_names_and_shapes_are_timms():
    with torch.device("meta"):
        ours, theirs = MODELS["nasnetalarge"].build(), timm.create_model("nasnetalarge")
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (ours, theirs)]
    assert list(shapes[0].items()) == list(shapes[1].items())


def test_initialisation_is_timms():
    torch.manual_seed(3)
    ours = NASNet(NARROW, num_classes=7)
    torch.manual_seed(3)
    theirs = NASNetALarge(stem_size=8, num_features=192, num_classes=7)
    for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, yours)


@pytest.mark.parametrize("size", [(64, 75), (3, 3)])
def test_outputs_are_timms(size):
    ours, theirs = (model.eval() for model in twins(num_classes=5))
    with torch.no_grad():
        images = torch.randn(2, 3, *size)
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
        maps = ours.feature_maps(images)
        expected = theirs.forward_intermediates(images, intermediates_only=True)
    for (name, mine), yours, info in zip(maps.items(), expected, theirs.feature_info, strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-5, atol=1e-5, msg=name)
        assert ours.pyramid[name].reduction == info["reduction"]
        assert ours.pyramid[name].channels == mine.shape[1]


def test_three_steps_of_training_are_timms():
    models = [model.double() for model in twins(num_classes=5)]  # in single precision rounding alone parts them
    images, targets = torch.randn(4, 3, 40, 33).double(), torch.tensor([0, 2, 4, 1])
    for model in models:
        optimizer = torch.optim.SGD(model.train().parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(images), targets).backward()
            optimizer.step()
    for (key, mine), yours in zip(models[0].state_dict().items(), models[1].state_dict().values(), strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-6, atol=1e-6, msg=key)


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
    strided, dilated = NASNet(variant).eval(), NASNet(variant, output_stride=output_stride).eval()
    unsettle(strided)
    dilated.load_state_dict(strided.state_dict())
    with torch.no_grad():
        images = torch.randn(2, 3, *size)
        coarse, fine = strided.feature_maps(images), dilated.feature_maps(images)
    for name, maps in fine.items():
        step = strided.pyramid[name].reduction // dilated.pyramid[name].reduction
        torch.testing.assert_close(maps[..., ::step, ::step], coarse[name], rtol=1e-5, atol=1e-5)
        assert dilated.pyramid[name].reduction <= output_stride
    assert fine["stage3"].shape[2:] == fine["stage2" if output_stride == 16 else "stage1"].shape[2:]


def test_the_values_between_are_those_of_a_moved_picture():
    """A picture moved by 16 pixels: where the stride of 32 stops then, far from the borders."""
    strided, dilated = NASNet(SHORT).eval(), NASNet(SHORT, output_stride=16).eval()
    unsettle(strided)
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


def test_features_without_classes_and_other_arguments():
    model = NASNet(SHORT, num_classes=0, in_chans=4, dropout=0.3).eval()
    images = torch.randn(2, 4, 40, 40)
    with torch.no_grad():
        pooled, maps = model(images), model.feature_maps(images)
    torch.testing.assert_close(pooled, maps["stage3"].mean((2, 3)), rtol=1e-5, atol=1e-5)
    assert pooled.shape == (2, model.num_features)
    assert model.dropout.p == 0.3
    with pytest.raises(UsageError, match="3x3 or more, these are 2x40"):
        model(torch.rand(1, 4, 2, 40))
    for wrong in (4, 12, 64):
        with pytest.raises(UsageError, match=f"output_stride must be one of 8, 16, 32, not {wrong}"):
            NASNet(SHORT, output_stride=wrong)


@pytest.mark.parametrize("deepest", range(5))
def test_a_network_can_end_at_any_stage(deepest):
    whole, part = NASNet(SHORT).eval(), FeatureList(NASNet(SHORT, num_classes=0), (deepest, 0)).eval()
    unsettle(whole)
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
    model = NASNet(SHORT, num_classes=3, output_stride=16).eval()
    unsettle(model)
    images = torch.randn(2, 3, 33, 40)
    with torch.no_grad():
        expected, maps = model(images), model.feature_maps(images)
        exported = torch.export.export(model, (images,)).module()
        torch.testing.assert_close(exported(images), expected, rtol=1e-4, atol=1e-5)
        last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)
        beginning = FeatureList(model, (2,))  # both kinds of cells, and as much as a test has time to compile
        compiled = torch.compile(beginning, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(images), [maps["stage1"]], rtol=1e-4, atol=1e-5)
    assert not any(getattr(module, "inplace", False) for module in model.modules())
