"""All of MODELS: counts, published twins, learning, features, output strides, sizes, channels, being built again."""

from __future__ import annotations

import inspect
import json
from math import ceil
from typing import Any

import pytest
import torch
from referee import (
    TWINS,
    as_trained,
    chance_agrees,
    cross_entropy,
    dilated_holds_strided,
    hold_gates,
    is_one_graph,
    names_and_settings_agree,
    outputs_agree,
    stages_agree,
    starts_agree,
    steps_agree,
    trained,
    twin_of,
)
from torch import nn

from striate.backbones import FAMILIES, MODELS, canonical_of, create_model
from striate.backbones.backbone import WithAuxiliary
from striate.errors import UsageError
from striate.network_summary import summarize

# parameters and giga-multiply-adds at the canonical size: ../shared/NUMBERS.md, where nothing else is said
NUMBERS: dict[str, tuple[int, float | None]] = {
    "lenet5": (61_706, None),
    "mlp": (235_146, None),  # the lecture's: 784-256-128-10 with biases
    "alexnet": (61_100_840, 0.714),
    "vgg11": (132_863_336, 7.609),
    "vgg11_lrn": (132_863_336, 7.609),  # A: the norm has no weights
    "vgg11_bn": (132_868_840, 7.609),
    "vgg13": (133_047_848, 11.308),
    "vgg13_bn": (133_053_736, 11.308),
    "vgg16c": (138_357_544 - 8 * (256**2 + 512**2 + 512**2), None),  # D less 8 of 9 of three kernels
    "vgg16": (138_357_544, 15.47),
    "vgg16_bn": (138_365_992, 15.47),
    "vgg19": (143_667_240, 19.632),
    "vgg19_bn": (143_678_248, 19.632),
    "squeezenet1_0": (1_248_424, 0.819),
    "squeezenet1_1": (1_235_496, 0.349),
    "googlenet": (6_624_904, 1.498),
    "inception_v3": (27_161_264, 5.713),
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 4.089),
    "resnet101": (44_549_160, 7.801),
    "resnet152": (60_192_808, 11.514),
    "resnext50_32x4d": (25_028_904, 4.23),
    "resnext101_32x8d": (88_791_336, 16.414),
    "resnext101_64x4d": (83_455_272, 15.46),
    "wide_resnet50_2": (68_883_240, 11.398),
    "wide_resnet101_2": (126_886_696, 22.753),  # torchvision's metadata
    "plain18": (11_689_512 - 172_032 - 1_792, None),  # resnet18 less three projections and their norms
    "plain34": (21_797_672 - 172_032 - 1_792, None),
    "resnet20_cifar": (269_722, None),
    "resnet32_cifar": (464_154, None),  # 6n + 2 layers, summed by hand; table 6: 0.46M and 0.66M
    "resnet44_cifar": (658_586, None),
    "resnet56_cifar": (853_018, None),
    "resnet110_cifar": (1_727_962, None),
    "plain20_cifar": (269_722, None),  # padded shortcuts have no weights
    "plain56_cifar": (853_018, None),
    # resnetv2_50: ../shared/NUMBERS.md, the others as timm 1.0 counts them; the convolutions of their older twins
    "resnetv2_18": (11_687_720, 1.814),
    "resnetv2_34": (21_795_880, 3.664),
    "resnetv2_50": (25_549_352, 4.089),
    "resnetv2_101": (44_541_480, 7.801),
    "resnetv2_152": (60_185_128, 11.514),
    # as many as their older twins: every convolution still has one norm of its width beside it
    "preact_resnet20_cifar": (269_722, None),
    "preact_resnet56_cifar": (853_018, None),
    "preact_resnet110_cifar": (1_727_962, None),
    "preact_resnet164_cifar": (1_703_258, None),  # table 4: 1.7M
    "convnext_tiny": (28_589_128, 4.456),
    "convnext_small": (50_223_688, 8.684),
    "convnext_base": (88_591_464, 15.355),
    "convnext_large": (197_767_336, 34.361),
    # timm's, counted by hooks; table 2 of the paper: 18.7 giga-operations at 256x256, two a multiply-add, norms too
    "darknet53": (41_609_928, 9.285),
    "darknet_tiny": (7_319_416, None),  # by hand: 9 a pair of channels, norms, the classifier
    # table 6 of the paper: 4.2, 2.6, 1.3 and 0.5 million; to the last parameter as timm counts them
    "mobilenet_v1": (4_231_976, 0.569),
    "mobilenet_v1_075": (2_585_560, 0.325),
    "mobilenet_v1_050": (1_331_592, 0.149),
    "mobilenet_v1_025": (470_072, 0.041),
    "mobilenet_v2": (3_504_872, 0.301),
    # multiply-adds: tensorflow/models, research/slim/nets/mobilenet; parameters: as torchvision counts them
    "mobilenet_v2_075": (2_636_424, 0.209),
    "mobilenet_v2_050": (1_968_680, 0.097),
    "mobilenet_v2_140": (6_108_776, 0.582),
    "mobilenet_v3_small": (2_542_856, 0.057),
    "mobilenet_v3_large": (5_483_032, 0.217),
    "efficientnet": (5_288_548, 0.386),  # phi = 0 is B0
    "efficientnet_b0": (5_288_548, 0.386),
    "efficientnet_b1": (7_794_184, 0.687),
    "efficientnet_b2": (9_109_994, 1.088),
    "efficientnet_b3": (12_233_232, 1.827),
    "efficientnet_b4": (19_341_616, 4.394),
    "efficientnet_b5": (30_389_784, 10.266),
    "efficientnet_b6": (43_040_704, 19.068),
    "efficientnet_b7": (66_347_960, 37.746),
    "nasnetalarge": (88_753_150, None),  # table 2: 23.8 giga-multiply-adds, checked with the family
    "nasnetamobile": (5_289_978, 0.564),  # pretrained-models.pytorch; table 3: 564 M, 5.3 M
    "mini_xception": (58_423 - 2 * (8 + 8 + 3 * (16 + 32 + 64 + 128)), None),  # Keras counts norms' statistics too
}
ELSEWHERE = {"alexnet_original", "googlenet_naive"}  # counted layer by layer in the files of their families

CHAIN = "(conv8-bn-relu)x2-pool-conv16s2-relu-fc32-relu"
FREE_CHAIN = "conv8-relu-pool-conv16-lrn-relu-gap-drop0.1-fc12-bn-tanh"
NAMES = [*MODELS, CHAIN, FREE_CHAIN]
FAMILY = {name: family for family, members in FAMILIES.items() for name in members}

# one or two of each family, and the large ones of the slow run, at pictures that leave the last map some pixels
LEARNERS = {
    name: size
    for size, names in {
        (79, 70): ("alexnet",),
        (64, 45): ("squeezenet1_0", "squeezenet1_1"),
        (91, 80): ("inception_v3",),
        (64, 53): ("googlenet", "efficientnet_b0", "mobilenet_v1", "mobilenet_v1_025", "mobilenet_v2"),
        (53, 64): ("mobilenet_v2_050", "mobilenet_v3_small", "mobilenet_v3_large"),
        (40, 33): ("resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "resnetv2_18", "resnetv2_50"),
        (64, 37): ("convnext_tiny", "vgg11_bn", "darknet53"),
        (48, 37): ("resnext101_32x8d", "resnext101_64x4d", "wide_resnet101_2"),
    }.items()
    for name in names
}
SLOW_TO_LEARN = {"vgg11_bn", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"}
OTHERS = sorted({*TWINS} - {*LEARNERS} | SLOW_TO_LEARN)  # sorted: -n wants one order

# for each stage: its name, the layer of the published network that makes it, its channels, its reduction
STAGES = {
    "vgg11_bn": "conv1 features.2 64 1, conv2 features.6 128 2, conv3 features.13 256 4, "
    "conv4 features.20 512 8, conv5 features.27 512 16, pool5 features.28 512 32",
    "alexnet": "conv1 features.1 64 4, conv2 features.4 192 8, conv5 features.11 256 16, pool5 features.12 256 32",
    "squeezenet1_0": "conv1 features.1 96 2, fire4 features.5 256 4, fire8 features.10 512 8, fire9 features.12 512 16",
    "squeezenet1_1": "conv1 features.1 64 2, fire3 features.4 128 4, fire5 features.7 256 8, fire9 features.12 512 16",
    "googlenet": "conv1 conv1 64 2, conv3 conv3 192 4, inception3b inception3b 480 8, "
    "inception4e inception4e 832 16, inception5b inception5b 1024 32",
    "inception_v3": "Conv2d_2b_3x3 Conv2d_2b_3x3 64 2, Conv2d_4a_3x3 Conv2d_4a_3x3 192 4, Mixed_5d Mixed_5d 288 8, "
    "Mixed_6e Mixed_6e 768 16, Mixed_7c Mixed_7c 2048 32",
    "resnet50": "stem relu 64 2, layer1 layer1 256 4, layer2 layer2 512 8, "
    "layer3 layer3 1024 16, layer4 layer4 2048 32",
    "resnetv2_18": "stem stem.conv 64 2, stage1 stages.0 64 4, stage2 stages.1 128 8, "
    "stage3 stages.2 256 16, stage4 stages.3 512 32",
    "resnetv2_50": "stem stem.conv 64 2, stage1 stages.0 256 4, stage2 stages.1 512 8, "
    "stage3 stages.2 1024 16, stage4 stages.3 2048 32",
    "convnext_tiny": "stage1 features.1 96 4, stage2 features.3 192 8, "
    "stage3 features.5 384 16, stage4 features.7 768 32",
    "darknet53": "stem stem 32 1, stage1 stages.0 64 2, stage2 stages.1 128 4, "
    "stage3 stages.2 256 8, stage4 stages.3 512 16, stage5 stages.4 1024 32",
    "mobilenet_v1": "c1 blocks.0 64 2, c2 blocks.1 128 4, c3 blocks.2 256 8, c4 blocks.3 512 16, c5 blocks.4 1024 32",
    "mobilenet_v2": "c1 features.1 16 2, c2 features.3 24 4, c3 features.6 32 8, "
    "c4 features.13 96 16, c5 features.17 320 32",
    "mobilenet_v3_large": "c1 features.1 16 2, c2 features.3 24 4, c3 features.6 40 8, "
    "c4 features.12 112 16, c5 features.16 960 32",
    "mobilenet_v3_small": "c1 features.0 16 2, c2 features.1 16 4, c3 features.3 24 8, "
    "c4 features.8 48 16, c5 features.12 576 32",
    "efficientnet_b0": "c1 features.1 16 2, c2 features.2 24 4, c3 features.3 40 8, "
    "c4 features.5 112 16, c5 features.7 320 32",
}

# our arguments and those with which the published network is dilated
DILATED_TWINS = [
    ("resnet50", 16, {"replace_stride_with_dilation": [False, False, True]}),
    ("resnet50", 8, {"replace_stride_with_dilation": [False, True, True]}),
    ("resnet50", 4, {"replace_stride_with_dilation": [True, True, True]}),
    ("resnext50_32x4d", 8, {"replace_stride_with_dilation": [False, True, True]}),
    *((name, stride, {"output_stride": stride}) for name in ("resnetv2_18", "resnetv2_50") for stride in (8, 16)),
    *(("darknet53", stride, {"output_stride": stride}) for stride in (8, 16)),
    *(("mobilenet_v1_050", stride, {"output_stride": stride}) for stride in (8, 16)),
]

STRIDES = {  # the output strides of each family; the smallest is its stem's reduction
    "alexnet": (4, 8, 16, 32),
    "vgg": (1, 2, 4, 8, 16, 32),
    "squeezenet": (2, 4, 8, 16, 32),
    "googlenet": (8, 16, 32),
    "inception": (8, 16, 32),
    "resnet": (4, 8, 16, 32),
    "preact_resnet": (4, 8, 16, 32),
    "convnext": (4, 8, 16, 32),
    "darknet": (1, 2, 4, 8, 16, 32),
    "mobilenet_v1": (2, 4, 8, 16, 32),
    "mobilenet_v2": (2, 4, 8, 16, 32),
    "mobilenet_v3": (2, 4, 8, 16, 32),
    "efficientnet": (2, 4, 8, 16, 32),
    "nasnet": (8, 16, 32),
    "mini_xception": (1, 2, 4, 8, 16, 32),
}
DENSE = [  # sizes at which every pooling fits, so that borders agree too
    ("alexnet", (127, 127), (4, 8, 16)),
    ("alexnet_original", (127, 127), (4, 8, 16)),
    ("vgg11_bn", (64, 96), (4, 8, 16)),
    ("vgg16c", (64, 64), (4, 8, 16)),
    ("squeezenet1_0", (67, 67), (2, 4, 8)),
    ("squeezenet1_1", (63, 63), (2, 4, 8)),
    ("googlenet", (94, 131), (8, 16)),
    ("inception_v3", (139, 156), (8, 16)),
    ("resnet18", (96, 64), (4, 8, 16)),
    ("resnet50", (64, 96), (4, 8, 16)),
    ("resnet20_cifar", (32, 24), (1, 2)),
    ("resnetv2_18", (96, 64), (4, 8, 16)),
    ("preact_resnet20_cifar", (32, 24), (1, 2)),
    ("convnext_tiny", (96, 64), (4, 8, 16)),
    ("darknet53", (96, 64), (4, 8, 16)),
    ("mobilenet_v1_025", (96, 64), (2, 4, 8, 16)),
    ("mobilenet_v2_050", (96, 64), (2, 4, 8, 16)),
    ("mobilenet_v2_075", (96, 64), (2, 4, 8, 16)),  # 24 channels before c3, and behind it: no shortcut all the same
    ("mobilenet_v3_small", (96, 64), (2, 4, 8, 16)),
    ("mobilenet_v3_large", (96, 64), (2, 4, 8, 16)),
    ("efficientnet_b0", (96, 64), (2, 4, 8, 16)),
    ("mini_xception", (64, 64), (1, 4, 8)),
    ("mini_xception", (51, 70), (1, 4, 8)),
]

SMALLEST = {
    "alexnet": 63,
    "alexnet_original": 63,
    **dict.fromkeys((*FAMILIES["vgg"], *FAMILIES["convnext"]), 32),
    "squeezenet1_0": 21,  # torchvision's metadata
    "squeezenet1_1": 17,
    "googlenet": 15,
    "googlenet_naive": 15,
    "inception_v3": 75,
    "nasnetalarge": 3,
    "nasnetamobile": 3,
    "mini_xception": 5,
}
UNPADDED = ("lenet5", "alexnet", "squeezenet", "inception_v3", "nasnet", "mini_xception")  # in the stem, or all through

GRAPHS = [  # with compiled: True where a family's own layers make it worth the time
    ("lenet5", {}, (32, 32), False),
    (CHAIN, {}, (32, 32), False),
    ("resnet18", {}, (32, 32), False),
    ("resnet20_cifar", {}, (32, 32), False),
    ("inception_v3", {"output_stride": 16}, (80, 80), False),
    ("mobilenet_v1_025", {}, (32, 32), False),
    ("mobilenet_v2_050", {}, (32, 32), False),
    ("mobilenet_v3_small", {}, (32, 32), False),
    ("efficientnet", {"phi": -9}, (32, 32), False),
    ("darknet_tiny", {}, (40, 33), False),
    ("alexnet", {"output_stride": 8}, (71, 65), True),
    ("alexnet_original", {}, (71, 65), True),
    ("vgg11_bn", {}, (40, 33), True),
    ("vgg11_lrn", {"output_stride": 8}, (40, 33), True),
    ("squeezenet1_1", {}, (40, 33), True),
    ("squeezenet1_1", {"output_stride": 4}, (40, 33), True),
    ("mini_xception", {"output_stride": 8}, (50, 43), True),
]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def channels_of(name: str) -> int:
    return 3 if name == CHAIN else canonical_of(name).channels


def takes(name: str, argument: str) -> bool:
    return name in MODELS and argument in inspect.signature(MODELS[name].build).parameters


def device(name: str) -> str:
    """Where small networks run; what is larger runs on nothing, which checks its wiring."""
    return "cpu" if name not in MODELS or (name not in ELSEWHERE and NUMBERS[name][0] < 12e6) else "meta"


def at_least(name: str, height: int, width: int) -> tuple[int, int]:
    """The size wanted, or the next that the network takes."""
    return max(height, SMALLEST.get(name, 1)), max(width, SMALLEST.get(name, 1))


# the first of each kind walk every time; the deeper ones do where there is time, since they repeat the same blocks
FIRST = {"alexnet", "alexnet_original", "vgg11", "vgg11_lrn", "vgg11_bn", "vgg16c", "googlenet_naive", "inception_v3"}
FIRST |= {"resnet50", "resnext50_32x4d", "plain34", "resnetv2_50", "convnext_tiny"}


def slow(names: Any, marked: set[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) if name in marked else name for name in names]


@pytest.mark.parametrize("name", MODELS)
def test_counts_names_and_settings(name):
    canonical = MODELS[name].canonical
    with torch.device("meta"):
        ours = create_model(name, num_classes=canonical.classes, in_chans=canonical.channels)
        if name in TWINS:
            names_and_settings_agree(ours, TWINS[name]())
    if name not in ELSEWHERE:
        found = summarize(ours, (canonical.channels, *canonical.size))
        parameters, giga = NUMBERS[name]
        assert found.parameters == parameters
        assert giga is None or round(found.multiply_adds / 1e9, 3) == giga


def test_every_network_is_counted():
    assert {*NUMBERS, *ELSEWHERE} == {*MODELS}


@pytest.mark.parametrize("name", slow(LEARNERS, SLOW_TO_LEARN))
def test_it_starts_answers_and_learns_as_the_published_one(name):
    arguments = {"num_classes": 7} | ({"aux_logits": False} if name == "inception_v3" else {})
    if name.startswith(("mobilenet_v1", "wide")):  # timm draws for layers that it throws away; much to draw
        ours = trained(name, **arguments)
        with torch.device("meta"):
            theirs = TWINS[name](**arguments).to_empty(device="cpu")
    else:
        torch.manual_seed(3)
        ours = create_model(name, **arguments)
        torch.manual_seed(3)
        theirs = TWINS[name](**arguments)
        starts_agree(ours, theirs)
    theirs.load_state_dict(as_trained(ours).state_dict())
    torch.manual_seed(1)
    images = torch.randn(4, 3, *LEARNERS[name])
    outputs_agree(ours, theirs.eval(), images)
    if any(type(module).__name__ in ("Dropout", "StochasticDepth") for module in ours.modules()):
        chance_agrees(ours, theirs, images)
    steps_agree(ours, theirs, images, cross_entropy)


@pytest.mark.parametrize("name", slow(OTHERS, {"nasnetalarge"}))
def test_it_answers_as_the_published_one(name):
    ours = trained(name)
    outputs_agree(ours, twin_of(ours, name), torch.randn(2, 3, *at_least(name, 64, 37)))


@pytest.mark.parametrize("name", STAGES)
def test_stages_are_the_published_ones_layers(name):
    ours = trained(name, num_classes=7)
    names, layers, channels, reductions = zip(*(stage.split() for stage in STAGES[name].split(", ")), strict=True)
    expected = zip(names, map(int, channels), map(int, reductions), strict=True)
    assert [(key, *stage) for key, stage in ours.pyramid.items()] == list(expected)
    stages_agree(ours, twin_of(ours, name, num_classes=7), torch.randn(1, 3, *at_least(name, 64, 96)), layers)


@pytest.mark.parametrize(("name", "output_stride", "arguments"), DILATED_TWINS)
def test_dilation_is_the_published_ones(name, output_stride, arguments):
    ours = trained(name, num_classes=5, output_stride=output_stride)
    outputs_agree(ours, twin_of(ours, name, num_classes=5, **arguments), torch.randn(2, 3, 64, 51))


def first_pixel(name: str, step: int, output_stride: int) -> int:
    """Where windows are centred once they have lost their strides."""
    if FAMILY[name] in ("alexnet", "squeezenet"):
        return step - 1  # to where their poolings' padding moves them
    if FAMILY[name] == "vgg":
        return step // 2 - 1  # an even window has no centre pixel: half of it looks back, half ahead
    if FAMILY[name] == "googlenet":
        return int(output_stride == 8)  # maxpool3 looks around every second pixel, so without it they start at 1
    return 0


@pytest.mark.parametrize(("name", "size", "output_strides"), DENSE)
def test_dilated_features_hold_the_strided_ones(name, size, output_strides):
    strided = trained(name, num_classes=2, in_chans=channels_of(name))
    hold_gates(strided)
    images = torch.randn(1, channels_of(name), *size)
    for output_stride in output_strides:
        with torch.device("meta"):
            dilated = create_model(name, num_classes=2, in_chans=channels_of(name), output_stride=output_stride)
        dilated_holds_strided(strided, dilated, images, lambda step, s=output_stride: first_pixel(name, step, s))


@pytest.mark.parametrize("name", sorted({name for name, _, _ in DENSE} | {"nasnetamobile"}))
def test_output_strides_are_those_of_the_family(name):
    choices = STRIDES[FAMILY[name]] if "cifar" not in name else STRIDES["vgg"]
    with torch.device("meta"):
        whole = create_model(name, num_classes=2)
        dilated = create_model(name, num_classes=2, output_stride=8)
        stages = [[stage.reduction for stage in model.pyramid.values()] for model in (whole, dilated)]
        assert stages[1] == [min(reduction, 8) for reduction in stages[0]]
        listed = ", ".join(map(str, choices))
        for wrong in (choices[0] // 2, 12, 64):
            with pytest.raises(UsageError, match=f"output_stride must be one of {listed}, not {wrong}"):
                create_model(name, output_stride=wrong)


def test_every_family_that_has_strides_says_which():
    having = {FAMILY[name] for name in MODELS if takes(name, "output_stride")}
    assert having == {*STRIDES} == {*(FAMILY[name] for name, _, _ in DENSE), "nasnet"}


WALK = slow(NAMES, {name for name in MODELS if device(name) == "meta"} - FIRST)


@pytest.mark.parametrize("name", WALK)
def test_it_learns(name):
    size = (299, 299) if name == "inception_v3" else at_least(name, 33, 19)  # its auxiliary classifier's smallest
    with torch.device(device(name)):
        model = create_model(name, num_classes=5, image_size=size)
        answer = model(torch.rand(2, 3, *size))
        several = (answer.logits, *answer.auxiliary) if isinstance(answer, WithAuxiliary) else (answer,)
        assert {tuple(logits.shape) for logits in several} == {(2, 5)}
        torch.stack(several).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    if device(name) == "cpu":
        assert all(logits.isfinite().all() for logits in several)
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())  # type: ignore[union-attr]


BOUND = ("lenet5", "mlp", CHAIN, FREE_CHAIN)  # to one size, or to one that their poolings fit


@pytest.mark.parametrize("name", WALK)
def test_sizes_stages_and_what_the_last_layer_reads(name):
    """Without classes, of pictures of one channel; of the smallest size there is, and of no pixel less."""
    side = 64 if name in BOUND else SMALLEST.get(name, 1)
    size = (side, side if name in BOUND else side + 5)
    with torch.device(device(name)):
        whole = create_model(name, num_classes=5, in_chans=1, image_size=size).eval()
        body = create_model(name, num_classes=0, in_chans=1, image_size=size).eval()
        unread = (f"{whole.last_layer}.", *(f"{layer}." for layer in whole.auxiliary))
        body.load_state_dict({key: value for key, value in whole.state_dict().items() if not key.startswith(unread)})
        images = torch.rand(2, 1, *size)
        pooled = body(images)
        assert pooled.shape == (2, body.num_features)
        last = whole.get_submodule(whole.last_layer)
        if isinstance(last, nn.Linear) and device(name) == "cpu":  # else it is a convolution, before what pools
            torch.testing.assert_close(last(pooled), whole(images))
        large = 64 * ceil(side / 64)
        found = body.feature_maps(torch.rand(2, 1, large, large))
        if side > 1 and name not in BOUND:
            with pytest.raises(UsageError, match=f"{side}x{side} or more, these are {side - 1}x{side + 9}"):
                body(torch.rand(2, 1, side - 1, side + 9))
    assert [maps.shape[1] for maps in found.values()] == [stage.channels for stage in body.pyramid.values()]
    for stage, maps in found.items():
        # unpadded convolutions make maps a little smaller than the reduction says
        short = large // body.pyramid[stage].reduction - maps.shape[-1]
        assert short == 0 or (name.startswith(UNPADDED) and 0 <= short <= 6 and maps.shape[-1] >= 1)


@pytest.mark.parametrize("name", WALK)
def test_out_indices_choose_stages_and_drop_the_rest(name):
    size = (32, 32) if name in BOUND else at_least(name, 32, 32)
    with torch.device(device(name)):
        part = create_model(name, in_chans=4, image_size=size, features_only=True, out_indices=(1, 0)).eval()
        assert [part.names, part.channels(), part.reductions()] == [
            list(column)[::-1]
            for column in zip(*((key, *stage) for key, stage in part.backbone.pyramid.items()), strict=True)
        ]
        if device(name) == "cpu":
            whole = create_model(name, num_classes=4, in_chans=4, image_size=size).eval()
            names = part.backbone.state_dict()
            part.backbone.load_state_dict({key: value for key, value in whole.state_dict().items() if key in names})
            images = torch.rand(1, 4, *size)
            stages = list(whole.feature_maps(images).values())
            assert all(torch.equal(*both) for both in zip(part(images), (stages[1], stages[0]), strict=True))
        sum(maps.sum() for maps in part.train()(torch.rand(2, 4, *size))).backward()
    assert all(parameter.grad is not None for parameter in part.parameters())  # nothing is left over: DDP needs it


@pytest.mark.parametrize("name", WALK)
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


@pytest.mark.parametrize(("name", "arguments", "size", "compiled"), GRAPHS)
def test_forward_is_one_graph_in_any_memory_format(name, arguments, size, compiled):
    channels = channels_of(name)
    model = trained(name, num_classes=3, in_chans=channels, image_size=size, **arguments)
    is_one_graph(model, torch.randn(2, channels, *size), compiled)
