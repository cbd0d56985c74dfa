"""SqueezeNet against torchvision's, table 1 of its paper, and real weights on real pictures."""

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2.functional import center_crop, resize

from conftest import DATA
from striate.backbones.squeezenet import MODELS
from striate.errors import UsageError
from striate.network_summary import summarize

NUMBERS = {"squeezenet1_0": (1_248_424, 0.819), "squeezenet1_1": (1_235_496, 0.349)}  # ../shared/NUMBERS.md
TABLE_1 = {  # "# parameters before pruning" of squeezenet1_0
    "conv1": 14_208,
    "fire2": 11_920,
    "fire3": 12_432,
    "fire4": 45_344,
    "fire5": 49_440,
    "fire6": 104_880,
    "fire7": 111_024,
    "fire8": 188_992,
    "fire9": 197_184,
    "conv10": 513_000,
}
STAGES = {
    "squeezenet1_0": {"conv1": (96, 2), "fire4": (256, 4), "fire8": (512, 8), "fire9": (512, 16)},
    "squeezenet1_1": {"conv1": (64, 2), "fire3": (128, 4), "fire5": (256, 8), "fire9": (512, 16)},
}
NAMES = list(NUMBERS)


def build(name, device="cpu", **arguments):
    with torch.device(device):
        return MODELS[name].build(**arguments)


def randomised(model):
    """Biases are born 0: without other numbers in them a forgotten one would not show."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.2)
    return model


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def shapes(model):
    return [(name, tensor.shape) for name, tensor in model.state_dict().items()]


@pytest.mark.parametrize("name", NAMES)
def test_names_shapes_counts_and_work_are_torchvisions(name):
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name)
    ours = build(name, "meta")
    assert shapes(ours) == shapes(theirs)
    found = summarize(ours, (3, 224, 224))
    assert (found.parameters, round(found.multiply_adds / 1e9, 3)) == NUMBERS[name]


def test_what_the_papers_say():
    model = build("squeezenet1_0", "meta")
    weighted = [layer for layer in [*model.features, model.classifier[1]] if count(layer)]
    assert [count(layer) for layer in weighted] == list(TABLE_1.values())
    maps = model.feature_maps(torch.empty(1, 3, 227, 227, device="meta"))  # with 224, as printed, 111 cannot be
    assert [found.shape[-1] for found in maps.values()] == [111, 55, 27, 13]
    assert 61_100_840 / count(model) == pytest.approx(50, abs=1.5)  # "50x fewer parameters" than AlexNet
    work = [summarize(build(name, "meta"), (3, 224, 224)).multiply_adds for name in NAMES]
    assert work[0] / work[1] == pytest.approx(2.4, abs=0.06)  # the repository's claim for 1.1


@pytest.mark.parametrize("name", NAMES)
def test_initialisation_outputs_and_training_are_torchvisions(name):
    torch.manual_seed(3)
    ours = build(name, num_classes=7, dropout=0)
    torch.manual_seed(3)
    theirs = torchvision.models.get_model(name, num_classes=7, dropout=0)
    for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, yours)
    theirs.load_state_dict(randomised(ours).state_dict())
    nn.init.normal_(ours.classifier[1].weight, std=0.1)
    theirs.load_state_dict(ours.state_dict())
    images, targets = torch.randn(3, 3, 64, 45), torch.tensor([0, 3, 6])
    with torch.no_grad():
        logits = ours.eval()(images)
        torch.testing.assert_close(logits, theirs.eval()(images), rtol=1e-5, atol=1e-5)
    assert logits.std() > 0.1
    before = ours.features[0].weight.clone()
    for model in (ours.train(), theirs.train()):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(images), targets).backward()
            optimizer.step()
    for (key, mine), yours in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-4, msg=key)
    assert (ours.features[0].weight - before).abs().max() > 1e-3  # it did move


def test_dropout_falls_where_torchvisions_does():
    ours, theirs = build("squeezenet1_1", num_classes=7), torchvision.models.squeezenet1_1(num_classes=7)
    theirs.load_state_dict(ours.state_dict())
    outputs = []
    for model in (ours.train(), theirs.train()):
        torch.manual_seed(0)
        outputs.append(model(torch.ones(2, 3, 33, 33)))
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
    assert (outputs[0] - ours.eval()(torch.ones(2, 3, 33, 33))).abs().max() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_without_classes_it_gives_the_average_of_its_last_map(name):
    model = build(name, num_classes=0).eval()
    theirs = torchvision.models.get_model(name)
    theirs.load_state_dict(model.state_dict(), strict=False)
    images = torch.rand(2, 3, 53, 40)
    with torch.no_grad():
        pooled = model(images)
        torch.testing.assert_close(pooled, theirs.features(images).mean((2, 3)), rtol=1e-5, atol=1e-5)
    assert pooled.shape == (2, model.num_features) == (2, 512)
    assert not [key for key in model.state_dict() if key.startswith("classifier")]


@pytest.mark.parametrize("name", NAMES)
def test_stages_are_what_each_pooling_reads(name):
    model = build(name, num_classes=0).eval()
    assert {key: tuple(stage) for key, stage in model.pyramid.items()} == STAGES[name]
    images = torch.rand(1, 3, 64, 64)
    inputs = []
    for module in model.features:
        if isinstance(module, nn.MaxPool2d):
            module.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.no_grad():
        found = list(model.feature_maps(images).values())
    assert len(inputs) == 3
    assert all(torch.equal(*both) for both in zip(found[:3], inputs, strict=True))
    assert [maps.shape[1] for maps in found] == [channels for channels, _ in STAGES[name].values()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output_stride", [2, 4, 8])
def test_without_strides_the_same_values_stand_between_new_ones(name, output_stride):
    strided, dense = build(name, num_classes=0).eval(), build(name, num_classes=0, output_stride=output_stride).eval()
    dense.load_state_dict(randomised(strided).state_dict())
    side = 60 + strided.features[0].kernel_size[0]  # maps of 31, 15, 7 and 3: every pooling fits, so borders agree too
    images = torch.randn(1, 3, side, side)
    with torch.no_grad():
        coarse, fine = strided.feature_maps(images), dense.feature_maps(images)
    factor = 16 // output_stride
    centre = factor - 1  # each lost stride moves the window's centre to where padding puts it
    deepest = fine["fire9"][..., centre::factor, centre::factor]
    torch.testing.assert_close(deepest, coarse["fire9"], rtol=1e-4, atol=1e-4)
    assert coarse["fire9"].std() > 0.1
    assert [stage.reduction for stage in dense.pyramid.values()] == [min(r, output_stride) for r in (2, 4, 8, 16)]
    sizes = {2: 31, 4: 15, 8: 7, 16: 3}
    assert [maps.shape[-1] for maps in fine.values()] == [sizes[stage.reduction] for stage in dense.pyramid.values()]


@pytest.mark.parametrize(("name", "smallest"), [("squeezenet1_0", 21), ("squeezenet1_1", 17)])
def test_the_smallest_picture(name, smallest):
    assert torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].meta["min_size"] == (smallest, smallest)
    model = build(name, "meta", num_classes=3, in_chans=2)
    assert model(torch.empty(2, 2, smallest, smallest + 9, device="meta")).shape == (2, 3)
    with pytest.raises(UsageError, match=f"{smallest}x{smallest} or more, these are {smallest - 1}x60"):
        model(torch.empty(2, 2, smallest - 1, 60, device="meta"))


def test_output_strides_it_cannot_have_are_refused():
    assert build("squeezenet1_0", "meta", output_stride=32).pyramid["fire9"].reduction == 16
    for wrong in (1, 3, 64):
        with pytest.raises(UsageError, match=f"output_stride must be one of 2, 4, 8, 16, 32, not {wrong}"):
            build("squeezenet1_0", "meta", output_stride=wrong)


@pytest.mark.parametrize("output_stride", [4, 32])
def test_one_graph_in_any_memory_format(output_stride):
    model = randomised(build("squeezenet1_1", num_classes=5, output_stride=output_stride)).eval()
    images = torch.rand(2, 3, 40, 33)
    with torch.no_grad():
        expected = model(images)
        exported = torch.export.export(model, (images,)).module()(images)
        compiled = torch.compile(model, fullgraph=True, backend="eager")(images)
        last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    for found in (exported, compiled, last):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not any(getattr(module, "inplace", False) for module in model.modules())


def test_public_weights_know_real_pictures(shared_data):
    path = DATA / "squeezenet1_0-imagenet.safetensors"
    if not path.exists():
        pytest.skip(f"needs {path.name}: set STRIATE_TEST_DATA to the folder that holds it")
    weights = load_file(path)
    ours, theirs = build("squeezenet1_0", "meta").eval(), torchvision.models.squeezenet1_0().eval()
    ours.load_state_dict(weights, assign=True)
    theirs.load_state_dict(weights)

    codes = [line.split()[0] for line in (DATA / "imagenet-classes.txt").read_text().splitlines()]
    files = sorted(shared_data("imagenet-samples").rglob("*.JPEG"))[::3]
    mean = torch.tensor((0.48235, 0.45882, 0.40784))[:, None, None]
    images = torch.stack(
        [center_crop(resize(decode_image(str(path), ImageReadMode.RGB), [256]), [227]) for path in files]
    )
    targets = torch.tensor([codes.index(path.name.partition("_")[0]) for path in files])
    with torch.inference_mode():
        logits = torch.cat([ours((batch / 255 - mean) / 0.0039216) for batch in images.split(13)])
        torch.testing.assert_close(logits[:8], theirs((images[:8] / 255 - mean) / 0.0039216), rtol=1e-5, atol=1e-4)
    correct = int((logits.argmax(1) == targets).sum())
    assert correct / len(files) == pytest.approx(
        0.62, abs=0.16
    )  # two standard errors; 62.1 % of 1,000 (../shared/data/README.md)
