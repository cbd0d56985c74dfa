"""Every network through everything: forward, backward, features, other channels and sizes, and wrong arguments."""

import json
from functools import cache
from math import ceil

import pytest
import torch
from torch import nn

from striate.backbones import MODELS, create_model, list_models
from striate.backbones.backbone import WithAuxiliary
from striate.errors import UsageError

CHAIN = "(conv8-bn-relu)x2-pool-conv16s2-relu-fc32-relu"
FREE_CHAIN = "conv8-relu-pool-conv16-lrn-relu-gap-drop0.1-fc12-bn-tanh"
NAMES = [*MODELS, CHAIN, FREE_CHAIN]
SHALLOW = {"lenet5", "mlp", "resnet18", "resnet50", "plain18", "resnet20_cifar", "plain20_cifar", CHAIN, FREE_CHAIN}


# unpadded convolutions in the stem, and all through LeNet
UNPADDED = ("lenet5", "alexnet", "squeezenet", "inception_v3", "nasnet", "mini_xception")


def device(name: str) -> str:
    """Where the deeper ones of a family run: on nothing, which checks their wiring."""
    return "cpu" if name in SHALLOW else "meta"


@cache
def smallest(name: str) -> int:
    with torch.device("meta"):
        return create_model(name, num_classes=5, image_size=(64, 64)).smallest


def size_for(name: str, height: int, width: int) -> tuple[int, int]:
    """The size wanted, or the next that the network takes."""
    return max(height, smallest(name)), max(width, smallest(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_network_learns(name):
    size = (299, 299) if name == "inception_v3" else size_for(name, 33, 19)  # its auxiliary classifier's smallest
    with torch.device(device(name)):
        model = create_model(name, num_classes=5, image_size=size)
        answer = model(torch.rand(2, 3, *size))
        logits = answer.logits if isinstance(answer, WithAuxiliary) else answer
        assert logits.shape == (2, 5)
        several = (logits, *answer.auxiliary) if isinstance(answer, WithAuxiliary) else (logits,)
        torch.stack(several).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    if name in SHALLOW:
        assert torch.isfinite(logits).all()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("in_chans", [1, 4])
def test_other_channels_and_no_classes(name, in_chans):
    with torch.device("meta"):
        size = size_for(name, 40, 40)
        model = create_model(name, num_classes=0, in_chans=in_chans, image_size=size).eval()
        pooled = model(torch.rand(3, in_chans, *size))
    assert pooled.shape == (3, model.num_features)
    assert not [key for key in model.state_dict() if key.startswith(f"{model.last_layer}.")]


@pytest.mark.parametrize("name", NAMES)
def test_stages_are_what_they_say(name):
    side = 64 * ceil(smallest(name) / 64)
    with torch.device("meta"):
        model = create_model(name, num_classes=4, image_size=(side, side)).eval()
        images = torch.rand(2, 3, side, side)
        found = model.feature_maps(images)
        pyramid = create_model(name, num_classes=4, image_size=(side, side), features_only=True).eval()
        listed = pyramid(images)
    assert list(found) == list(model.pyramid) == pyramid.names
    assert [maps.shape for maps in listed] == [maps.shape for maps in found.values()]
    assert [maps.shape[1] for maps in listed] == pyramid.channels()
    for maps, reduction in zip(listed, pyramid.reductions(), strict=True):
        # unpadded convolutions make maps a little smaller than the reduction says
        short = side // reduction - maps.shape[-1]
        assert short == 0 or (name.startswith(UNPADDED) and 0 <= short <= 6 and maps.shape[-1] >= 1)


@pytest.mark.parametrize("name", ["resnet18", "lenet5", "resnet20_cifar", CHAIN])
def test_out_indices_choose_stages_and_drop_the_rest(name):
    whole = create_model(name, num_classes=4, image_size=(32, 32)).eval()
    part = create_model(name, num_classes=4, image_size=(32, 32), features_only=True, out_indices=(1, 0)).eval()
    names = part.backbone.state_dict()
    part.backbone.load_state_dict({key: value for key, value in whole.state_dict().items() if key in names})
    images = torch.rand(1, 3, 32, 32)
    stages = list(whole.feature_maps(images).values())
    for mine, expected in zip(part(images), (stages[1], stages[0]), strict=True):
        assert torch.equal(mine, expected)
    part.train()
    sum(maps.sum() for maps in part(torch.rand(2, 3, 32, 32))).backward()
    assert all(parameter.grad is not None for parameter in part.parameters())  # nothing is left over: DDP needs it


@pytest.mark.parametrize("name", NAMES)
def test_a_network_knows_how_to_be_built_again(name):
    own = {"stem": "cifar", "output_stride": 8} if name.startswith("resnet18") else {}
    own |= {"hidden": (20, 10), "activation": "tanh"} if name == "mlp" else {}
    with torch.device("meta"):
        model = create_model(name, num_classes=3, image_size=(36, 36), dropout=0.25, **own)
        arguments = json.loads(json.dumps(model.arguments))
        again = create_model(model.architecture, num_classes=3, in_chans=3, **arguments)
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in (model, again)]
    assert shapes[0] == shapes[1]
    assert again.arguments == model.arguments
    dropouts = [module.p for module in again.modules() if isinstance(module, nn.Dropout)]
    assert 0.25 in dropouts


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


@pytest.mark.parametrize("name", ["resnet18", "resnet20_cifar", "lenet5", CHAIN])
def test_forward_is_one_graph_in_any_memory_format(name):
    model = create_model(name, num_classes=3, image_size=(32, 32)).eval()
    images = torch.rand(2, 3, 32, 32)
    before = images.clone()
    with torch.no_grad():
        expected = model(images)
        traced = torch.export.export(model, (images,)).module()  # fails on a graph break
        last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(traced(images), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(images, before)
    assert not any(getattr(module, "inplace", False) for module in model.modules())


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
