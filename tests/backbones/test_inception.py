"""Inception v3 against torchvision's, timm's stages, and the paper's claims."""

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from striate.backbones.backbone import WithAuxiliary
from striate.backbones.googlenet import BasicConv2d
from striate.backbones.inception import MODELS, DilatedAvgPool2d, InceptionV3
from striate.errors import UsageError
from striate.network_summary import summarize

STAGES = ["Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c"]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def build(**arguments) -> InceptionV3:
    return MODELS["inception_v3"].build(**arguments)


def lively(model: nn.Module) -> nn.Module:
    """Weights that do not fade through the layers, and batch norms that have seen something."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def reference(**arguments) -> nn.Module:
    return lively(torchvision.models.inception_v3(weights=None, init_weights=False, **arguments))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def shapes(model: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, tensor.shape) for name, tensor in model.state_dict().items()]


@pytest.mark.parametrize(("aux_logits", "parameters"), [(True, 27_161_264), (False, 23_834_568)])
def test_names_shapes_and_counts_are_torchvisions(aux_logits, parameters):
    with torch.device("meta"):
        ours = build(aux_logits=aux_logits, transform_input=True)
        theirs = torchvision.models.inception_v3(weights=None, aux_logits=aux_logits, init_weights=False)
    assert shapes(ours) == shapes(theirs)
    assert count(ours) == parameters  # ../shared/NUMBERS.md
    assert ours.dropout.p == theirs.dropout.p == 0.5


def test_multiply_adds_are_torchvisions_at_299():
    canonical = MODELS["inception_v3"].canonical
    with torch.device("meta"):
        summary = summarize(build(), (canonical.channels, *canonical.size))
    assert summary.multiply_adds == pytest.approx(5.713e9, rel=0.005)


def test_initialisation_is_torchvisions():
    torch.manual_seed(3)
    ours = build(num_classes=7)
    torch.manual_seed(3)
    theirs = torchvision.models.inception_v3(weights=None, num_classes=7, init_weights=True)
    for (name, mine), (same, yours) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == same
        assert torch.equal(mine, yours), name


def test_outputs_are_torchvisions():
    theirs = reference(num_classes=7, transform_input=True).eval()
    ours = build(num_classes=7, transform_input=True).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 101, 128) * torch.tensor((0.3, 3.0))[:, None, None, None]
    with torch.no_grad():
        expected = theirs(images)
        torch.testing.assert_close(ours(images), expected, rtol=1e-5, atol=1e-5)
    assert (expected[0] - expected[1]).abs().min() > 1e-2  # the pictures make a difference


def test_training_is_torchvisions():
    theirs = reference(num_classes=5, aux_logits=False, dropout=0)
    ours = build(num_classes=5, aux_logits=False, dropout=0)
    ours.load_state_dict(theirs.state_dict())
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9) for model in (ours, theirs)]
    for _ in range(3):
        images, targets = torch.randn(3, 3, 107, 107), torch.tensor([0, 1, 4])
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), targets).backward()
            optimizer.step()
    for (name, mine), yours in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-4, msg=name)


def test_the_auxiliary_classifier_is_torchvisions():
    theirs = reference(num_classes=5, dropout=0)
    ours = build(num_classes=5, dropout=0)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 299, 299)
    with torch.no_grad():
        mine, yours = ours(images), theirs(images)
    assert isinstance(mine, WithAuxiliary)
    assert mine.weight == 0.4
    assert len(mine.auxiliary) == 1
    torch.testing.assert_close(mine.logits, yours.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mine.auxiliary[0], yours.aux_logits, rtol=1e-4, atol=1e-5)
    assert not torch.equal(mine.auxiliary[0], mine.logits)


def test_the_auxiliary_classifier_is_for_training_on_299():
    with torch.device("meta"):
        model = build(num_classes=5)
        logits, auxiliary, weight = model(torch.rand(2, 3, 299, 310))
        (logits.sum() + weight * auxiliary[0].sum()).backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        with pytest.raises(UsageError, match=r"299x299 or more \(maps of 17x17; these are 16x17\).*aux_logits=False"):
            model(torch.rand(2, 3, 298, 310))
        assert isinstance(model.eval()(torch.rand(2, 3, 298, 310)), Tensor)


def test_without_the_auxiliary_classifier():
    with torch.device("meta"):
        assert isinstance(build(num_classes=5, aux_logits=False)(torch.rand(2, 3, 75, 75)), Tensor)
        model = build(num_classes=5)
        assert model.feature_maps(torch.rand(2, 3, 75, 75))["Mixed_7c"].shape == (2, 2048, 1, 1)
        model.cut_after("Mixed_6e")
        assert not [name for name, _ in model.named_parameters() if name.startswith(("Aux", "Mixed_7", "fc"))]
        assert model(torch.rand(2, 3, 75, 75)).shape == (2, 768, 3, 3)
        assert shapes(build(num_classes=0)) == shapes(build(num_classes=0, aux_logits=False))


def test_the_smallest_picture():
    with torch.device("meta"):
        model = build(num_classes=4).eval()
        assert model.feature_maps(torch.rand(2, 3, 75, 299))["Mixed_7c"].shape == (2, 2048, 1, 8)
        with pytest.raises(UsageError, match="needs pictures of 75x75 or more, these are 74x299"):
            model(torch.rand(2, 3, 74, 299))


def test_stages_are_timms_and_no_classes_give_the_last_one_pooled():
    theirs = timm.create_model("inception_v3", pretrained=False, features_only=True).eval()
    ours = lively(build(num_classes=0)).eval()
    missing = theirs.load_state_dict(ours.state_dict(), strict=False).missing_keys
    assert not missing
    assert [tuple(stage) for stage in ours.pyramid.values()] == list(
        zip(theirs.feature_info.channels(), theirs.feature_info.reduction(), strict=True)
    )
    images = torch.randn(1, 3, 107, 120)
    with torch.no_grad():
        found = ours.feature_maps(images)
        pooled = ours(images)
        for mine, expected in zip(found.values(), theirs(images), strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)
    assert pooled.shape == (1, ours.num_features)
    torch.testing.assert_close(pooled, found["Mixed_7c"].mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_stages_have_the_sizes_of_table_1():
    with torch.device("meta"):
        model = build()
        found = model.feature_maps(torch.rand(1, 3, 299, 299))
    assert list(found) == list(model.pyramid) == STAGES
    assert [maps.shape[-1] for maps in found.values()] == [147, 71, 35, 17, 8]
    assert [maps.shape[1] for maps in found.values()] == [stage.channels for stage in model.pyramid.values()]


@pytest.mark.parametrize(("output_stride", "reductions"), [(16, [2, 4, 8, 16, 16]), (8, [2, 4, 8, 8, 8])])
def test_dilated_features_hold_the_strided_ones(output_stride, reductions):
    """Also at the borders, since layers that lose their stride stay unpadded."""
    strided = lively(build(num_classes=0)).eval()
    dilated = build(num_classes=0, output_stride=output_stride).eval()
    dilated.load_state_dict(strided.state_dict())
    with torch.no_grad():
        images = torch.randn(1, 3, 139, 156)
        coarse, fine = strided.feature_maps(images), dilated.feature_maps(images)
    assert [stage.reduction for stage in dilated.pyramid.values()] == reductions
    for name, stage in strided.pyramid.items():
        step = stage.reduction // dilated.pyramid[name].reduction
        torch.testing.assert_close(fine[name][..., ::step, ::step], coarse[name], rtol=1e-4, atol=1e-4)
        assert coarse[name].std() > 0.5  # there is something to compare
        rows = coarse[name].shape[-2]
        assert fine[name].shape[-2] in range(step * (rows - 1) + 1, step * rows + 1)


def test_dilated_means_are_means_of_every_second_pixel():
    maps = torch.randn(2, 5, 12, 8)
    smoothed = DilatedAvgPool2d(2)(maps)
    for row in range(2):
        for column in range(2):
            expected = nn.functional.avg_pool2d(maps[..., row::2, column::2], 3, stride=1, padding=1)
            torch.testing.assert_close(smoothed[..., row::2, column::2], expected)


def test_small_kernels_cost_what_section_3_says():
    """Two 3x3 for a 5x5: 18/25; a 1x7 and a 7x1 for a 7x7: 2/7; both see as far."""

    def cost(*kernels: int | tuple[int, int]):
        with torch.device("meta"):
            return summarize(nn.Sequential(*(BasicConv2d(64, 64, kernel) for kernel in kernels)), (64, 17, 17))

    for small, large, share in [(cost(3, 3), cost(5), 18 / 25), (cost((1, 7), (7, 1)), cost(7), 2 / 7)]:
        assert small.multiply_adds / large.multiply_adds == pytest.approx(share)
        assert small.rows[-1].receptive_field == large.rows[-1].receptive_field


def test_it_is_one_graph():
    model = lively(build(num_classes=3, output_stride=16)).eval()
    images = torch.rand(1, 3, 80, 80)
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(torch.export.export(model, (images,)).module()(images), expected)
        last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
    assert not any(getattr(module, "inplace", False) for module in model.modules())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_stride": 4}, "output_stride must be one of 8, 16, 32, not 4"),
        ({"aux_logits": None}, "aux_logits must be one of"),
        ({"transform_input": "tf"}, "transform_input must be one of"),
        ({"transform_input": True, "in_chans": 4}, "transform_input is for pictures of 3 channels, not 4"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with torch.device("meta"), pytest.raises(UsageError, match=message):
        build(**arguments)
