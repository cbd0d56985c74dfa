"""timm's networks behind our interface: timm's own numbers, from one copy of the weights."""

import json
import subprocess
import sys

import pytest
import timm
import torch
from referee import as_trained, is_one_graph
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones.backbone import FeatureList
from striate.backbones.timm_backbone import TimmBackbone, timm_entry
from striate.errors import UsageError

NAMES = ["resnet18", "convnext_atto", "efficientnet_lite0", "regnetx_002", "vit_tiny_patch16_224"]
PYRAMIDS = NAMES[:-1]


def pictures(name: str, channels: int = 3) -> Tensor:
    side = 224 if name.startswith("vit") else 64
    return torch.randn(2, channels, side, side)


def twins(name: str, **arguments: object) -> tuple[TimmBackbone, nn.Module]:
    """Ours and timm's own with one set of weights, batch norms as training leaves them."""
    theirs = as_trained(timm.create_model(name, **arguments))
    ours = timm_entry(f"timm/{name}").build(**arguments).eval()
    assert isinstance(ours, TimmBackbone)
    ours.network.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_pooled_features_are_timms(name):
    images = pictures(name, channels=1)
    ours, theirs = twins(name, num_classes=5, in_chans=1)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
        pooled, expected = (model(images) for model in twins(name, num_classes=0, in_chans=1))
    assert torch.equal(pooled, expected)
    assert pooled.shape == (2, ours.num_features)
    assert tuple(ours.get_submodule(ours.last_layer).weight.shape) == (5, ours.num_features)
    assert isinstance(timm_entry(name).build(num_classes=0).get_submodule(ours.last_layer), nn.Identity)


@pytest.mark.parametrize("name", PYRAMIDS)
def test_maps_are_those_that_timms_layers_give(name):
    """Without the machinery that both could share: a hook on the layer that timm names for each level."""
    ours, theirs = twins(name, num_classes=5)
    images, seen = pictures(name), {}
    for level in theirs.feature_info:
        theirs.get_submodule(level["module"]).register_forward_hook(
            lambda _, given, made, name=level["module"]: seen.update({name: made})
        )
    with torch.no_grad():
        theirs(images)
        maps = ours.feature_maps(images)
    assert list(maps) == list(ours.pyramid) == list(seen)
    assert [stage.reduction for stage in ours.pyramid.values()][-4:] == [4, 8, 16, 32]
    for layer, values in maps.items():
        torch.testing.assert_close(values, seen[layer], rtol=1e-5, atol=1e-5)
        stage = ours.pyramid[layer]
        assert values.shape == (2, stage.channels, 64 // stage.reduction, 64 // stage.reduction)


def test_a_transformer_has_one_stage_a_block():
    ours, theirs = twins("vit_tiny_patch16_224", num_classes=0)
    images = pictures("vit")
    with torch.no_grad():
        maps = ours.feature_maps(images)
        tokens = theirs.forward_features(images)[:, 1:]  # the last block's, normalised, without the class token
    assert [tuple(stage) for stage in ours.pyramid.values()] == [(192, 16)] * 12
    last = theirs.norm(maps["blocks.11"].flatten(2).transpose(1, 2))
    torch.testing.assert_close(last, tokens, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_features_only_leaves_no_layer_over(name):
    whole = TimmBackbone(name, num_classes=0).eval()
    part = FeatureList(TimmBackbone(name, num_classes=0), (2, 0)).eval()
    names = part.backbone.state_dict()
    part.backbone.load_state_dict({key: value for key, value in whole.state_dict().items() if key in names})
    images = pictures(name)
    with torch.no_grad():
        found, expected = part(images), list(whole.feature_maps(images).values())
    assert torch.equal(found[0], expected[2])
    assert torch.equal(found[1], expected[0])
    sum(maps.sum() for maps in part.train()(images)).backward()
    assert all(parameter.grad is not None for parameter in part.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_before_the_head_belongs_to_one_stage(name):
    """What learning rates by depth and frozen stages go by."""
    with torch.device("meta"):
        model = TimmBackbone(name)
    layers = [layer for stage in model.stage_layers.values() for layer in stage]
    assert len(layers) == len(set(layers))
    outside = {key for key, _ in model.named_parameters() if not key.startswith(tuple(f"{layer}." for layer in layers))}
    between = {
        "convnext_atto": {"head.norm"},
        "efficientnet_lite0": {"conv_head", "bn2"},
        "vit_tiny_patch16_224": {"cls_token", "pos_embed", "norm"},
    }.get(name, set())
    head = {*between, model.last_layer.removeprefix("network.")}
    assert {key.removeprefix("network.").removesuffix(".weight").removesuffix(".bias") for key in outside} == head


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_and_knows_how_to_be_built_again(name):
    arguments = {"num_classes": 3, "in_chans": 4, "dropout": 0.25}
    if name.startswith("vit"):
        arguments["image_size"] = (48, 32)
    model = timm_entry(name).build(**arguments)
    images = torch.randn(2, 4, *(model.image_size or (64, 64)))
    F.cross_entropy(model(images), torch.tensor([0, 2])).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert 0.25 in {getattr(module, key, None) for module in model.modules() for key in ("p", "drop_rate")}
    assert not any(getattr(module, "inplace", False) for module in model.modules())

    again = timm_entry(name).build(**json.loads(json.dumps(arguments)))
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in (model, again)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "efficientnet_lite0", "regnetx_002"])
def test_output_stride_is_timms(name):
    ours, theirs = twins(name, num_classes=0, output_stride=8)
    images = pictures(name)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
        maps = ours.feature_maps(images)
    assert [stage.reduction for stage in ours.pyramid.values()][-3:] == [8, 8, 8]
    assert [values.shape[-1] for values in maps.values()][-3:] == [8, 8, 8]


def test_a_linear_head_can_be_put_on_it():
    model = TimmBackbone("resnet18", num_classes=0)
    model.give_head("linear_head", torch.nn.Linear(model.num_features, 6))
    assert model(pictures("resnet18")).shape == (2, 6)
    assert model.last_layer == "linear_head"


def test_a_transformer_is_bound_to_its_size():
    model = TimmBackbone("vit_tiny_patch16_224", num_classes=2)
    assert model.image_size == (224, 224)
    model.architecture = "timm/vit_tiny_patch16_224"
    with pytest.raises(UsageError, match=r"built for pictures of 224x224, these are 64x64.*image_size=\(64, 64\)"):
        model(torch.rand(1, 3, 64, 64))
    assert TimmBackbone("resnet18", num_classes=2, image_size=(64, 64)).image_size is None


def test_what_a_network_was_made_for():
    entry = timm_entry("timm/resnet18")
    assert (entry.canonical.channels, entry.canonical.size, entry.canonical.classes) == (3, (224, 224), 1000)
    assert timm_entry("timm/nasnetalarge").canonical.size == (331, 331)
    assert timm_entry("timm/vit_base_patch16_384").canonical.size == (384, 384)
    with torch.device("meta"):
        assert timm_entry("timm/resnet50.a1_in1k").build().num_features == 2048


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("timm/restnet50", {}, 'timm has no network called "restnet50". Did you mean "resnet50"?'),
        ("timm/", {}, 'timm has no network called ""'),
        ("timm/hf-hub:timm/resnet18", {}, "timm has no network called"),
        ("timm/local-dir:/tmp/model", {}, "timm has no network called"),
        ("timm/resnet50.a1_in1", {}, 'timm has no weights called "resnet50.a1_in1". Did you mean "resnet50.a1_in1k"?'),
        ("timm/deepseek_vit_412m_enc", {}, "has no classifier"),
        (
            "timm/resnet18",
            {"output_stride": 5},
            "timm cannot build resnet18 with num_classes=1000, in_chans=3, output_stride=5",
        ),
        ("timm/vit_tiny_patch16_224", {"output_stride": 8}, "output_stride"),
    ],
)
def test_what_cannot_be_is_refused(name, arguments, message):
    with torch.device("meta"), pytest.raises(UsageError) as error:
        timm_entry(name).build(**arguments)
    assert message in str(error.value)


def test_timm_is_imported_when_it_is_asked_for():
    code = "import sys, striate.backbones.timm_backbone; print('timm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_forward_is_one_graph_in_any_memory_format(name):
    model, _ = twins(name, num_classes=3)
    images = pictures(name)
    is_one_graph(model, images)
    torch.compiler.reset()
    maps = torch.compile(model.feature_maps, fullgraph=True, backend="eager")(images)
    for mine, yours in zip(maps.values(), model.feature_maps(images).values(), strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-4)
