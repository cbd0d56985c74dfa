"""VGG against torchvision's and the paper's tables. Most of it without the dense layers, which are half a gigabyte."""

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones.vgg import MODELS
from striate.errors import UsageError
from striate.network_summary import summarize

# ../shared/NUMBERS.md; of A-LRN and C: A, and D less two thirds (8 of 9) of three kernels
COUNTS = {
    "vgg11": 132_863_336,
    "vgg11_lrn": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16c": 138_357_544 - 8 * (256**2 + 512**2 + 512**2),
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
}
GMAC = {"vgg11": 7.609, "vgg13": 11.308, "vgg16": 15.47, "vgg19": 19.632}
TORCHVISION = [name for name in COUNTS if name not in ("vgg11_lrn", "vgg16c")]
TABLE_2 = {"vgg11": 133, "vgg11_lrn": 133, "vgg13": 133, "vgg16c": 134, "vgg16": 138, "vgg19": 144}  # millions
TABLE_1 = {"vgg11": 11, "vgg11_lrn": 11, "vgg13": 13, "vgg16c": 16, "vgg16": 16, "vgg19": 19}  # weight layers


def build(name, device="meta", **arguments):
    with torch.device(device):
        return MODELS[name].build(**arguments)


def trunk(name, **arguments):
    """The convolutions alone, with random numbers in them, running statistics too."""
    model = build(name, **arguments)
    model.cut_after("pool5")
    randomise(model.to_empty(device="cpu"))
    return model.eval()


def their_trunk(name: str) -> nn.Sequential:
    with torch.device("meta"):
        features = torchvision.models.get_model(name).features
    randomise(features.to_empty(device="cpu"))
    return features.eval()


def randomise(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(7)
    for name, tensor in model.state_dict().items():
        if tensor.ndim > 1:
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0, generator=generator)
        elif name.endswith("num_batches_tracked"):
            tensor.zero_()
        else:
            tensor.normal_(mean=1.0 if "weight" in name else 0.0, std=0.2, generator=generator)


def shapes(model):
    return [(name, tensor.shape) for name, tensor in model.state_dict().items()]


@pytest.mark.parametrize("name", TORCHVISION)
def test_names_and_shapes_are_torchvisions(name):
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name)
    assert shapes(build(name)) == shapes(theirs)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_work(name):
    model = build(name)
    found = summarize(model, (3, 224, 224))
    assert found.parameters == COUNTS[name]
    paper = name.removesuffix("_bn")
    assert round(COUNTS[name] / 1e6) == TABLE_2[paper]
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == TABLE_1[paper]
    assert f"{TABLE_1[paper]} layers" in MODELS[name].about
    if paper in GMAC:
        assert found.multiply_adds / 1e9 == pytest.approx(GMAC[paper], abs=0.0005)


def test_what_the_lecture_says_of_vgg16():
    found = summarize(build("vgg16"), (3, 224, 224))
    assert round(found.parameter_bytes / 2**20) == 528
    convolutions = sum(row.multiply_adds for row in found.rows if row.kind == "Conv2d")
    assert round(convolutions / 1e9, 1) == 15.3
    seen = {row.name: row.receptive_field for row in found.rows}
    assert seen["features.2"] == (5, 5)  # two 3x3 see as much as one 5x5
    assert seen["features.30"] == (212, 212)  # Araujo, Norris & Sim 2019, table 1


@pytest.mark.parametrize("name", TORCHVISION)
def test_maps_are_torchvisions(name):
    ours, theirs = trunk(name), their_trunk(name)
    theirs.load_state_dict(ours.features.state_dict())
    images = torch.randn(1, 3, 48, 37)
    with torch.no_grad():
        expected, found = theirs(images), ours.feature_maps(images)
    assert expected.std() > 0.01
    torch.testing.assert_close(found["pool5"], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(ours(images), found["pool5"])
    assert list(found) == list(ours.pyramid) == ["conv1", "conv2", "conv3", "conv4", "conv5", "pool5"]
    assert [maps.shape[1] for maps in found.values()] == [64, 128, 256, 512, 512, 512]
    assert [maps.shape[2] for maps in found.values()] == [48, 24, 12, 6, 3, 1]
    assert [stage.reduction for stage in ours.pyramid.values()] == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_training_is_torchvisions(name):
    ours, theirs = trunk(name).train(), their_trunk(name).train()
    images, wanted = torch.randn(3, 3, 64, 64), torch.randn(3, 512, 2, 2)
    before = ours.features[0].weight.clone()
    for model in (ours, theirs):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            F.mse_loss(model(images), wanted).backward()
            optimizer.step()
    for (key, mine), yours in zip(ours.features.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-4, msg=key)
    assert (ours.features[0].weight - before).abs().max() > 1e-3  # it did move


def test_a_whole_one_starts_and_answers_as_torchvisions():
    torch.manual_seed(0)
    ours = build("vgg11", "cpu", num_classes=10)
    for module in ours.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.std().item() == pytest.approx((2 / (9 * module.out_channels)) ** 0.5, rel=0.05)
            assert not module.bias.any()
        elif isinstance(module, nn.Linear):
            assert module.weight[:200].std().item() == pytest.approx(0.01, rel=0.02)
            assert not module.bias.any()
            nn.init.normal_(module.bias, std=0.05)
    with torch.device("meta"):
        theirs = torchvision.models.vgg11(num_classes=10)
        body = MODELS["vgg11"].build(num_classes=0)
    weights = ours.state_dict()
    theirs.load_state_dict(weights, assign=True)
    last = {name: weights.pop(name) for name in list(weights) if name.startswith("classifier.6")}
    body.load_state_dict(weights, assign=True)

    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=1e-5, atol=1e-5)
        pooled = body.eval()(images)
        assert pooled.shape == (2, body.num_features) == (2, 4096)
        logits = F.linear(pooled, last["classifier.6.weight"], last["classifier.6.bias"])
        torch.testing.assert_close(logits, theirs(images), rtol=1e-5, atol=1e-5)
        outputs = []
        for model in (ours.train(), theirs.train()):  # dropout of one half, where torchvision has it
            torch.manual_seed(1)
            outputs.append(model(images))
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
    assert (outputs[0] - logits).abs().max() > 1e-3


def test_c_is_d_with_kernels_that_are_zero_around_their_centre():
    """Table 1: the third convolution of conv3, conv4 and conv5 is 1x1 in C, 3x3 in D."""
    c, d = trunk("vgg16c"), their_trunk("vgg16")
    weights = {name: tensor.clone() for name, tensor in c.features.state_dict().items()}
    pointwise = [name for name, tensor in weights.items() if tensor.shape[2:] == (1, 1)]
    assert pointwise == ["14.weight", "21.weight", "28.weight"]
    for name in pointwise:
        weights[name] = F.pad(weights[name], (1, 1, 1, 1))
    d.load_state_dict(weights)
    images = torch.randn(1, 3, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(c(images), d(images), rtol=1e-5, atol=1e-5)


def test_a_lrn_is_a_with_a_norm_behind_its_first_convolution():
    ours, a = trunk("vgg11_lrn").double(), their_trunk("vgg11").double()
    assert len(ours.features) == len(a) + 1
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


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg16c"])
@pytest.mark.parametrize("output_stride", [4, 8, 16])
def test_without_strides_the_same_values_stand_between_new_ones(name, output_stride):
    strided, dense = trunk(name), trunk(name, output_stride=output_stride)
    assert shapes(dense) == shapes(strided)
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        coarse, fine = strided.feature_maps(images)["pool5"], dense.feature_maps(images)
    factor = 32 // output_stride
    centre = factor // 2 - 1  # an even window has no centre pixel: half of it looks back, half ahead
    torch.testing.assert_close(fine["pool5"][..., centre::factor, centre::factor], coarse, rtol=1e-4, atol=1e-4)
    assert [stage.reduction for stage in dense.pyramid.values()] == [min(2**n, output_stride) for n in range(6)]
    assert [maps.shape[-1] for maps in fine.values()] == [96 // stage.reduction for stage in dense.pyramid.values()]


def test_sizes_channels_and_output_strides_it_takes():
    model = build("vgg13", num_classes=0, in_chans=2)
    assert model.feature_maps(torch.empty(1, 2, 32, 32, device="meta"))["pool5"].shape == (1, 512, 1, 1)
    with pytest.raises(UsageError, match="32x32 or more, these are 31x40"):
        model(torch.empty(1, 2, 31, 40, device="meta"))
    for wrong in (3, 0, 64):
        with pytest.raises(UsageError, match=f"output_stride must be one of 1, 2, 4, 8, 16, 32, not {wrong}"):
            build("vgg11", output_stride=wrong)


@pytest.mark.parametrize(("name", "output_stride"), [("vgg11_bn", 32), ("vgg11_lrn", 8)])
def test_one_graph_in_any_memory_format(name, output_stride):
    model = trunk(name, output_stride=output_stride)
    images = torch.rand(2, 3, 40, 33)
    with torch.no_grad():
        expected = model(images)
        exported = torch.export.export(model, (images,)).module()(images)
        compiled = torch.compile(model, fullgraph=True, backend="eager")(images)
        last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    for found in (exported, compiled, last):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not any(getattr(module, "inplace", False) for module in model.modules())
