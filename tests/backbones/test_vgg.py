"""VGG: the paper's tables, its A-LRN and C, and how its convolutions learn."""

import pytest
import torch
import torchvision
from referee import as_trained, steps_agree, trained
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones.vgg import MODELS
from striate.network_summary import summarize

TABLE_2 = {"vgg11": 133, "vgg11_lrn": 133, "vgg13": 133, "vgg16c": 134, "vgg16": 138, "vgg19": 144}  # millions
TABLE_1 = {"vgg11": 11, "vgg11_lrn": 11, "vgg13": 13, "vgg16c": 16, "vgg16": 16, "vgg19": 19}  # weight layers


def build(name, device="meta", **arguments):
    with torch.device(device):
        return MODELS[name].build(**arguments)


def trunk(name: str) -> nn.Sequential:
    """The convolutions alone: the dense layers are half a gigabyte."""
    return trained(name, features_only=True).backbone.features


def their_trunk(name: str) -> nn.Sequential:
    with torch.device("meta"):
        return torchvision.models.get_model(name).features.eval()


@pytest.mark.parametrize("name", MODELS)
def test_layers_and_millions_are_the_papers(name):
    model = build(name)
    paper = name.removesuffix("_bn")
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == TABLE_2[paper]
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == TABLE_1[paper]
    assert f"{TABLE_1[paper]} layers" in MODELS[name].about


def test_what_the_lecture_says_of_vgg16():
    found = summarize(build("vgg16"), (3, 224, 224))
    assert round(found.parameter_bytes / 2**20) == 528
    convolutions = sum(row.multiply_adds for row in found.rows if row.kind == "Conv2d")
    assert round(convolutions / 1e9, 1) == 15.3
    seen = {row.name: row.receptive_field for row in found.rows}
    assert seen["features.2"] == (5, 5)  # two 3x3 see as much as one 5x5
    assert seen["features.30"] == (212, 212)  # Araujo, Norris & Sim 2019, table 1


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_training_is_torchvisions(name):
    ours, theirs = trunk(name), their_trunk(name).to_empty(device="cpu")
    theirs.load_state_dict(ours.state_dict())
    images, wanted = torch.randn(3, 3, 64, 64), torch.randn(3, 512, 2, 2)
    steps_agree(ours, theirs, images, lambda maps: F.mse_loss(maps, wanted))


def test_c_is_d_with_kernels_that_are_zero_around_their_centre():
    """Table 1: the third convolution of conv3, conv4 and conv5 is 1x1 in C, 3x3 in D."""
    c, d = trunk("vgg16c"), their_trunk("vgg16")
    weights = {name: tensor.clone() for name, tensor in c.state_dict().items()}
    pointwise = [name for name, tensor in weights.items() if tensor.shape[2:] == (1, 1)]
    assert pointwise == ["14.weight", "21.weight", "28.weight"]
    for name in pointwise:
        weights[name] = F.pad(weights[name], (1, 1, 1, 1))
    d.load_state_dict(weights, assign=True)
    images = torch.randn(1, 3, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(c(images), d(images), rtol=1e-5, atol=1e-5)


def test_a_lrn_is_a_with_a_norm_behind_its_first_convolution():
    ours, a = trunk("vgg11_lrn").double(), as_trained(their_trunk("vgg11").to_empty(device="cpu")).double()
    assert len(ours) == len(a) + 1
    images = 100 * torch.rand(1, 3, 48, 64, dtype=torch.float64)  # large, so that the norm has something to do

    def norm(maps: Tensor) -> Tensor:
        """Krizhevsky et al. 2012, section 3.3: k = 2, n = 5, α = 1e-4, β = 0.75."""
        squares = F.pad(maps.square(), (0, 0, 0, 0, 2, 2))
        total = sum(squares[:, start : start + maps.shape[1]] for start in range(5))
        return maps / (2 + 1e-4 * total) ** 0.75

    with torch.no_grad():
        maps = a[:2](images)
        ratio = norm(maps)[maps > 0] / maps[maps > 0]
        assert ratio.max() > 1.5 * ratio.min()
        torch.testing.assert_close(ours(images), a[2:](norm(maps)), rtol=1e-5, atol=1e-5)
