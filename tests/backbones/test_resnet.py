"""ResNets against torchvision's, the paper's counts, and real weights on real pictures."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.io import decode_image

from striate.backbones import create_model
from striate.errors import UsageError

TORCHVISION = {  # ../shared/NUMBERS.md
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
}
CIFAR = {"resnet20_cifar": 269_722, "resnet56_cifar": 853_018, "resnet110_cifar": 1_727_962}


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", TORCHVISION)
def test_names_shapes_and_counts_are_torchvisions(name):
    with torch.device("meta"):
        ours, theirs = create_model(name), torchvision.models.get_model(name)
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (ours, theirs)]
    assert list(shapes[0].items()) == list(shapes[1].items())
    assert count(ours) == TORCHVISION[name]


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


@pytest.mark.parametrize(("output_stride", "replaced"), [(16, [False, False, True]), (8, [False, True, True])])
def test_dilation_is_torchvisions(output_stride, replaced):
    ours = create_model("resnet50", output_stride=output_stride, num_classes=5).eval()
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=replaced, num_classes=5).eval()
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        images = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
    assert ours.stages["layer4"].reduction == output_stride


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_dilated_features_hold_the_strided_ones(name):
    """What dilation is for: the same filters at more places; every other place is where the stride would stop."""
    strided = create_model(name, num_classes=0).eval()
    dilated = create_model(name, num_classes=0, output_stride=16).eval()
    dilated.load_state_dict(strided.state_dict())
    with torch.no_grad():
        images = torch.randn(1, 3, 96, 96)
        coarse, fine = strided.features(images)["layer4"], dilated.features(images)["layer4"]
    assert fine.shape[-1] == 2 * coarse.shape[-1]
    torch.testing.assert_close(fine[..., ::2, ::2], coarse, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CIFAR)
def test_counts_of_the_cifar_networks(name):
    with torch.device("meta"):
        assert count(create_model(name, num_classes=10)) == CIFAR[name]
    if name != "resnet110_cifar":
        with torch.device("meta"):
            assert count(create_model(name.replace("resnet", "plain"), num_classes=10)) == CIFAR[name]


@pytest.mark.parametrize(("plain", "residual"), [("plain18", "resnet18"), ("plain34", "resnet34")])
def test_plain_twins_are_the_residual_ones_without_shortcuts(plain, residual):
    with torch.device("meta"):
        twin, network = create_model(plain).state_dict(), create_model(residual).state_dict()
    assert list(twin) == [name for name in network if "downsample" not in name]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20_cifar"])
def test_zero_residual_weights_make_every_block_the_identity(name):
    model = create_model(name, num_classes=0, zero_init_residual=True).eval()
    values = torch.rand(1, model.stages["layer1"].channels, 8, 8)  # not negative: relu lets it pass
    with torch.no_grad():
        assert torch.equal(model.layer1[1:](values), values)
    plain = create_model("plain18", num_classes=0, zero_init_residual=True).eval()
    with torch.no_grad():
        assert not plain.layer1[1:](torch.rand(1, 64, 8, 8)).any()


def test_the_stem_for_small_pictures():
    model = create_model("resnet18", stem="cifar", num_classes=10)
    assert model.conv1.weight.shape == (64, 3, 3, 3)
    assert [stage.reduction for stage in model.stages.values()] == [1, 1, 2, 4, 8]
    assert model.features(torch.zeros(1, 3, 32, 32))["layer4"].shape == (1, 512, 4, 4)


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
