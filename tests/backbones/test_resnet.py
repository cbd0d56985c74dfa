"""ResNets, ResNeXts and plain ones: the papers' claims, and real weights on real pictures."""

import pytest
import torch
from referee import trained
from torch import nn
from torchvision.io import decode_image

from striate.backbones import create_model


def test_groups_are_many_thin_bottlenecks_side_by_side():
    """ResNeXt, figure 3: the block in groups (c) is the sum of 32 paths of its own convolutions (a)."""
    block = trained("resnext50_32x4d", num_classes=0).layer1[1]

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


@pytest.mark.parametrize(
    ("name", "file", "accuracy"),
    [("resnet20_cifar", "resnet20-12fca82f.th", 0.81), ("resnet56_cifar", "resnet56-4bfd9763.th", 0.85)],
)
def test_public_cifar_weights_know_real_pictures(shared_data, name, file, accuracy):
    weights = next(shared_data("weights").rglob(file))
    pictures = next(path for path in sorted(shared_data("cifar10-jpg").rglob("test")) if path.is_dir())
    classes = sorted(folder.name for folder in pictures.iterdir())  # alphabetical is CIFAR-10's own order
    # every fourth: 2,500, of whose accuracy 0.03 are four standard errors
    files = [(path, label) for label, kind in enumerate(classes) for path in sorted((pictures / kind).iterdir())[::4]]
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
