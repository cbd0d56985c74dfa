"""`create_model`: names, wrong arguments, and the two networks bound to one size."""

import pytest
import torch

from striate.backbones import create_model, list_models
from striate.errors import UsageError

# unpadded convolutions in the stem, and all through LeNet


def test_lenet_takes_28_and_32_as_the_same_network():
    model = create_model("lenet5", num_classes=10, in_chans=1).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == 61_706
    small = torch.rand(1, 1, 28, 28)
    framed = torch.zeros(1, 1, 32, 32)
    framed[..., 2:30, 2:30] = small
    assert torch.equal(model(small), model(framed))
    with pytest.raises(UsageError, match="built for pictures of 32x32, these are 40x40"):
        model(torch.rand(1, 1, 40, 40))


def test_mlp_counts_as_the_lecture_does():
    model = create_model("mlp", num_classes=10, in_chans=1)
    assert sum(parameter.numel() for parameter in model.parameters()) == 235_146
    with pytest.raises(UsageError, match="28x28, these are 32x32"):
        model(torch.rand(1, 1, 32, 32))


def test_names_are_listed_and_searched():
    assert {"lenet5", "mlp", "resnet152", "plain56_cifar"} <= set(list_models())
    assert list_models("resnet1*") == ["resnet18", "resnet101", "resnet152", "resnet110_cifar"]
    assert list_models("PLAIN") == ["plain18", "plain34", "plain20_cifar", "plain56_cifar"]
    assert list_models("nothing") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet-18"}, 'Did you mean "resnet18"'),
        ({"name": "restnet50"}, 'Did you mean "resnet50"'),
        ({"name": ""}, "no network is called"),
        ({"name": "resnet18", "num_classes": -1}, "num_classes"),
        ({"name": "resnet18", "in_chans": 0}, "in_chans"),
        ({"name": "resnet18", "dropout": 1.0}, "dropout"),
        ({"name": "resnet18", "dropout": "high"}, "dropout"),
        ({"name": "resnet18", "image_size": (0, 3)}, "image_size"),
        ({"name": "resnet18", "image_size": 224}, "image_size"),
        ({"name": "resnet18", "stem": "vit"}, "stem must be one of imagenet, cifar"),
        ({"name": "resnet18", "stemm": "cifar"}, 'Did you mean "stem"'),
        ({"name": "resnet18", "variant": 3}, "no argument"),
        ({"name": "resnet18", "out_indices": (1,)}, "features_only"),
        ({"name": "resnet18", "features_only": True, "out_indices": (5,)}, "5 is not a stage"),
        ({"name": "resnet18", "features_only": True, "out_indices": ()}, "empty"),
        ({"name": "resnet18", "weights": "imagnet"}, 'mean "imagenet"'),
        ({"name": "resnet18", "weights": "none.pth"}, "no such file"),
        ({"name": "lenet5", "output_stride": 8}, "no argument"),
        ({"name": "lenet5", "activation": "relu6"}, "activation must be one of"),
        ({"name": "mlp", "hidden": ()}, "hidden"),
        ({"name": "mlp", "hidden": (3, -1)}, "hidden"),
        ({"name": "mlp", "hidden": 12}, "hidden"),
        ({"name": "fc12-relu", "features_only": True}, "no feature maps"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with torch.device("meta"), pytest.raises(UsageError, match=message):
        create_model(**arguments)


@pytest.mark.parametrize(
    "name", ["alexnet", "vgg11_bn", "squeezenet1_1", "resnet18", "resnetv2_50", "mobilenet_v2", "efficientnet_b0"]
)
def test_no_stage_is_overwritten_by_an_activation_in_place(name):
    model = create_model(name, num_classes=3).eval()
    images = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        found = model.feature_maps(images)  # type: ignore[operator]
        for module in model.modules():
            if hasattr(module, "inplace"):
                module.inplace = False  # type: ignore[assignment]
        apart = model.feature_maps(images)  # type: ignore[operator]
    for stage, values in apart.items():
        torch.testing.assert_close(found[stage], values, msg=stage)
