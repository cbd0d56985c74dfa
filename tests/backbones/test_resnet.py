"""ResNets, ResNeXts and wide ones against torchvision's, the papers' claims, and real weights on real pictures."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.io import decode_image

from striate.backbones import create_model
from striate.errors import UsageError
from striate.network_summary import summarize

TORCHVISION = {  # parameters and giga-multiply-adds: ../shared/NUMBERS.md; the last row: torchvision's metadata
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 4.089),
    "resnet101": (44_549_160, 7.801),
    "resnet152": (60_192_808, 11.514),
    "resnext50_32x4d": (25_028_904, 4.23),
    "resnext101_32x8d": (88_791_336, 16.414),
    "resnext101_64x4d": (83_455_272, 15.46),
    "wide_resnet50_2": (68_883_240, 11.398),
    "wide_resnet101_2": (126_886_696, 22.753),
}
CIFAR = {"resnet20_cifar": 269_722, "resnet56_cifar": 853_018, "resnet110_cifar": 1_727_962}


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def randomise_norms(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5), nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2), nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


@pytest.mark.parametrize("name", TORCHVISION)
def test_names_shapes_and_counts_are_torchvisions(name):
    with torch.device("meta"):
        ours, theirs = create_model(name), torchvision.models.get_model(name)
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (ours, theirs)]
    assert list(shapes[0].items()) == list(shapes[1].items())
    parameters, multiply_adds = TORCHVISION[name]
    assert count(ours) == parameters
    assert summarize(ours, (3, 224, 224)).multiply_adds == pytest.approx(multiply_adds * 1e9, rel=0.001)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_initialisation_outputs_and_gradients_are_torchvisions(name):
    torch.manual_seed(3)
    ours = create_model(name, num_classes=7)
    torch.manual_seed(3)
    theirs = torchvision.models.get_model(name, num_classes=7)
    for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, yours)

    images, targets = torch.randn(3, 3, 48, 37), torch.tensor([0, 3, 6])
    for model in (ours, theirs):
        nn.functional.cross_entropy(model(images), targets).backward()
        torch.optim.SGD(model.parameters(), lr=0.01).step()
        model.zero_grad()
        nn.functional.cross_entropy(model(images), targets).backward()
    for (key, mine), yours in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad, yours.grad, rtol=1e-4, atol=1e-5, msg=key)
    ours.eval(), theirs.eval()  # also compares the running statistics
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "output_stride", "replaced"),
    [
        ("resnet50", 16, [False, False, True]),
        ("resnet50", 8, [False, True, True]),
        ("resnet50", 4, [True, True, True]),
        ("resnext50_32x4d", 32, [False, False, False]),
        ("resnext50_32x4d", 8, [False, True, True]),
    ],
)
def test_outputs_and_dilation_are_torchvisions(name, output_stride, replaced):
    ours = randomise_norms(create_model(name, output_stride=output_stride, num_classes=5)).eval()
    theirs = torchvision.models.get_model(name, replace_stride_with_dilation=replaced, num_classes=5).eval()
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        images = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
    assert ours.pyramid["layer4"].reduction == output_stride


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_dilated_features_hold_the_strided_ones(name):
    """What dilation is for: the same filters at more places; every other place is where the stride would stop."""
    strided = create_model(name, num_classes=0).eval()
    dilated = create_model(name, num_classes=0, output_stride=16).eval()
    dilated.load_state_dict(strided.state_dict())
    with torch.no_grad():
        images = torch.randn(1, 3, 96, 96)
        coarse, fine = strided.feature_maps(images)["layer4"], dilated.feature_maps(images)["layer4"]
    assert fine.shape[-1] == 2 * coarse.shape[-1]
    torch.testing.assert_close(fine[..., ::2, ::2], coarse, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CIFAR)
def test_counts_of_the_cifar_networks(name):
    with torch.device("meta"):
        assert count(create_model(name, num_classes=10)) == CIFAR[name]
    if name != "resnet110_cifar":
        with torch.device("meta"):
            assert count(create_model(name.replace("resnet", "plain"), num_classes=10)) == CIFAR[name]


def test_groups_are_many_thin_bottlenecks_side_by_side():
    """ResNeXt, figure 3: the block in groups (c) is the sum of 32 paths of its own convolutions (a)."""
    block = randomise_norms(create_model("resnext50_32x4d", num_classes=0).layer1[1]).eval()

    def cut(norm: nn.BatchNorm2d, values: torch.Tensor, part: slice) -> torch.Tensor:
        numbers = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        return nn.functional.batch_norm(values, *(number[part] for number in numbers)).relu()

    x = torch.randn(2, 256, 9, 7)
    paths = []
    with torch.no_grad():
        for start in range(0, 128, 4):
            part = slice(start, start + 4)  # 32x4d: 32 paths, 4 wide
            path = cut(block.bn1, nn.functional.conv2d(x, block.conv1.weight[part]), part)
            path = cut(block.bn2, nn.functional.conv2d(path, block.conv2.weight[part], padding=1), part)
            paths.append(nn.functional.conv2d(path, block.conv3.weight[:, part]))
        assert len(paths) == 32
        torch.testing.assert_close(block(x), (x + block.bn3(sum(paths))).relu(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("plain", "residual"), [("plain18", "resnet18"), ("plain34", "resnet34")])
def test_plain_twins_are_the_residual_ones_without_shortcuts(plain, residual):
    with torch.device("meta"):
        twin, network = create_model(plain).state_dict(), create_model(residual).state_dict()
    assert list(twin) == [name for name in network if "downsample" not in name]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20_cifar"])
def test_zero_residual_weights_make_every_block_the_identity(name):
    model = create_model(name, num_classes=0, zero_init_residual=True).eval()
    values = torch.rand(1, model.pyramid["layer1"].channels, 8, 8)  # not negative: relu lets it pass
    with torch.no_grad():
        assert torch.equal(model.layer1[1:](values), values)
    plain = create_model("plain18", num_classes=0, zero_init_residual=True).eval()
    with torch.no_grad():
        assert not plain.layer1[1:](torch.rand(1, 64, 8, 8)).any()


def test_the_stem_for_small_pictures():
    model = create_model("resnet18", stem="cifar", num_classes=10)
    assert model.conv1.weight.shape == (64, 3, 3, 3)
    assert [stage.reduction for stage in model.pyramid.values()] == [1, 1, 2, 4, 8]
    assert model.feature_maps(torch.zeros(1, 3, 32, 32))["layer4"].shape == (1, 512, 4, 4)


def test_output_stride_below_the_stem_is_refused():
    with pytest.raises(UsageError, match="output_stride must be one of 4, 8, 16, 32, not 2"):
        create_model("resnet18", output_stride=2)
    with pytest.raises(UsageError, match="not 12"):
        create_model("resnet18", output_stride=12)


@pytest.mark.parametrize(
    ("name", "file", "accuracy"),
    [("resnet20_cifar", "resnet20-12fca82f.th", 0.81), ("resnet56_cifar", "resnet56-4bfd9763.th", 0.85)],
)
def test_public_cifar_weights_know_real_pictures(shared_data, name, file, accuracy):
    weights = next(shared_data("weights").rglob(file))
    pictures = next(path for path in sorted(shared_data("cifar10-jpg").rglob("test")) if path.is_dir())
    classes = sorted(folder.name for folder in pictures.iterdir())  # alphabetical is CIFAR-10's own order
    files = [(path, label) for label, kind in enumerate(classes) for path in sorted((pictures / kind).iterdir())]
    model = create_model(name, num_classes=10, weights=weights).eval().to(memory_format=torch.channels_last)

    images = torch.stack([decode_image(str(path)) for path, _ in files])
    labels = torch.tensor([label for _, label in files])
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    correct = 0
    with torch.inference_mode():
        for batch, targets in zip(images.split(250), labels.split(250), strict=True):
            normal = (batch / 255 - mean[:, None, None]) / std[:, None, None]
            correct += int((model(normal).argmax(1) == targets).sum())
    assert correct / len(files) == pytest.approx(accuracy, abs=0.03)
