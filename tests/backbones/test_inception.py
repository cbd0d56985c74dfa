"""Inception v3: its auxiliary classifier against torchvision's, and the paper's claims."""

import pytest
import torch
import torchvision
from referee import as_trained, outputs_agree, starts_agree, twin_of, without_chance
from torch import Tensor, nn

from striate.backbones.backbone import WithAuxiliary
from striate.backbones.googlenet import BasicConv2d
from striate.backbones.inception import MODELS, DilatedAvgPool2d, InceptionV3
from striate.errors import UsageError
from striate.network_summary import summarize


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def build(**arguments) -> InceptionV3:
    return MODELS["inception_v3"].build(**arguments)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def shapes(model: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, tensor.shape) for name, tensor in model.state_dict().items()]


def test_the_auxiliary_classifier_is_torchvisions():
    torch.manual_seed(3)
    ours = build(num_classes=5)
    torch.manual_seed(3)
    theirs = torchvision.models.inception_v3(num_classes=5, init_weights=True)
    starts_agree(ours, theirs)
    theirs.load_state_dict(as_trained(ours).state_dict())
    without_chance(ours.train(), theirs.train())
    with torch.no_grad():
        images = torch.randn(2, 3, 299, 299)
        mine, yours = ours(images), theirs(images)
    assert isinstance(mine, WithAuxiliary)
    assert mine.weight == 0.4
    assert len(mine.auxiliary) == 1
    torch.testing.assert_close(mine.logits, yours.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mine.auxiliary[0], yours.aux_logits, rtol=1e-4, atol=1e-5)
    assert not torch.equal(mine.auxiliary[0], mine.logits)


def test_inputs_transformed_are_torchvisions():
    ours = as_trained(build(num_classes=7, transform_input=True))
    theirs = twin_of(ours, "inception_v3", num_classes=7, transform_input=True)
    outputs_agree(ours, theirs, torch.randn(2, 3, 101, 128) * torch.tensor((0.3, 3.0))[:, None, None, None])


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
        assert sum(weights.numel() for weights in build(aux_logits=False).parameters()) == 23_834_568  # torchvision's
        model = build(num_classes=5)
        assert model.feature_maps(torch.rand(2, 3, 75, 75))["Mixed_7c"].shape == (2, 2048, 1, 1)
        model.cut_after("Mixed_6e")
        assert not [name for name, _ in model.named_parameters() if name.startswith(("Aux", "Mixed_7", "fc"))]
        assert model(torch.rand(2, 3, 75, 75)).shape == (2, 768, 3, 3)
        assert shapes(build(num_classes=0)) == shapes(build(num_classes=0, aux_logits=False))


def test_stages_have_the_sizes_of_table_1():
    with torch.device("meta"):
        found = build().feature_maps(torch.rand(1, 3, 299, 299))
    assert [maps.shape[-1] for maps in found.values()] == [147, 71, 35, 17, 8]


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"aux_logits": None}, "aux_logits must be one of"),
        ({"transform_input": "tf"}, "transform_input must be one of"),
        ({"transform_input": True, "in_chans": 4}, "transform_input is for pictures of 3 channels, not 4"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with torch.device("meta"), pytest.raises(UsageError, match=message):
        build(**arguments)
