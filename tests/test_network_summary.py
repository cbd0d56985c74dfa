"""The lecture's table (A5), published multiply-adds, and receptive fields measured with gradients."""

import json

import pytest
import torch
import torchvision
from torch import nn

from striate.backbones import create_model
from striate.cli import main
from striate.errors import UsageError
from striate.network_summary import summarize

LECTURE = "conv4s2p1-relu-conv8s2p1-relu-conv16s2p1-relu-conv32s2p1-relu-conv2s2p1-flatten"
TABLE = [
    ("Conv2d", (64, 4, 14, 14), 40),
    ("ReLU", (64, 4, 14, 14), 0),
    ("Conv2d", (64, 8, 7, 7), 296),
    ("ReLU", (64, 8, 7, 7), 0),
    ("Conv2d", (64, 16, 4, 4), 1_168),
    ("ReLU", (64, 16, 4, 4), 0),
    ("Conv2d", (64, 32, 2, 2), 4_640),
    ("ReLU", (64, 32, 2, 2), 0),
    ("Conv2d", (64, 2, 1, 1), 578),
    ("Flatten", (64, 2), 0),
]
GMAC = {"resnet18": 1.814, "resnet34": 3.664, "resnet50": 4.089, "resnet101": 7.801, "resnet152": 11.514}


def test_the_table_of_the_lecture():
    model = create_model(LECTURE, num_classes=0, in_chans=1, image_size=(28, 28))
    found = summarize(model, (64, 1, 28, 28))
    assert [(row.kind, row.output, row.parameters) for row in found.rows] == TABLE
    assert [row.trainable for row in found.rows] == [row[2] for row in TABLE]
    assert found.rows[0].activation_bytes == 64 * 4 * 14 * 14 * 4
    assert found.rows[8].receptive_field == (63, 63)  # 1 + 2·(1 + 2 + 4 + 8 + 16)


@pytest.mark.parametrize("name", GMAC)
def test_multiply_adds_and_parameters_are_torchvisions(name):
    with torch.device("meta"):
        model = create_model(name)
    found = summarize(model, (3, 224, 224))
    meta = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].meta
    assert round(found.multiply_adds / 1e9, 3) == GMAC[name] == meta["_ops"]
    assert sum(row.parameters for row in found.rows) == found.parameters == meta["num_params"]


@pytest.mark.parametrize(
    ("name", "arguments", "stage", "side"),
    [
        ("resnet18", {}, "layer2", 161),
        ("resnet20_cifar", {}, "layer2", 97),
        ("resnet50", {}, "layer1", 97),
        ("resnet18", {"output_stride": 8}, "layer3", 257),
        ("conv4k5s2-relu-maxpool3s2p1-conv4-avgpool3s1p1-conv3k1", {}, "stage2", 97),
    ],
)
def test_receptive_fields_are_where_the_gradient_reaches(name, arguments, stage, side):
    model = create_model(name, **arguments)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.01)  # positive everywhere: nothing cancels, no relu closes
    for module in model.modules():  # a maximum passes its gradient to one place only; a mean to all it sees
        for key, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, key, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    images = torch.ones(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    maps = model.double().eval().feature_maps(images)[stage]
    maps[0, 0, maps.shape[2] // 2, maps.shape[3] // 2].backward()
    assert images.grad is not None
    reached = images.grad[0, 0].abs() > 0
    measured = tuple(int(reached.any(axis).sum()) for axis in (1, 0))

    last_layer = model.stage_layers[stage][-1]
    found = [row.receptive_field for row in summarize(model, (3, side, side)).rows if row.name.startswith(last_layer)]
    assert found[-1] == measured
    assert measured[0] < side  # the picture is larger, or the measure would be cut


def test_a_summary_leaves_the_network_as_it_was():
    model = create_model("resnet20_cifar", num_classes=10).train()
    model.bn1.eval()
    model.conv1.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = summarize(model, (2, 3, 32, 32))
    assert found.parameters - found.trainable == model.conv1.weight.numel() == 432
    assert "432 of them frozen" in str(found)
    assert model.training
    assert not model.bn1.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model.conv1._forward_hooks


def test_shared_layers_are_counted_once_and_grouping_keeps_totals():
    layer = nn.Conv2d(3, 3, 3, padding=1)
    found = summarize(nn.Sequential(layer, nn.ReLU(), layer), (1, 3, 8, 8))
    assert [row.parameters for row in found.rows] == [84, 0, 0]
    assert found.rows[2].receptive_field == (5, 5)
    whole = summarize(create_model("resnet18"), (3, 64, 64))
    grouped = whole.grouped(1)
    assert [row.name for row in grouped.rows][:5] == ["conv1", "bn1", "relu", "maxpool", "layer1"]
    for field in ("parameters", "multiply_adds", "activation_bytes"):
        assert sum(getattr(row, field) for row in grouped.rows) == sum(getattr(row, field) for row in whole.rows)


def test_sizes_a_network_cannot_take_are_refused():
    model = create_model("conv3k11p0-relu")
    with pytest.raises(UsageError, match="cannot take pictures of 1×3×4×4"):
        summarize(model, (3, 4, 4))
    with pytest.raises(UsageError, match="cannot take"):
        summarize(model, (1, 40, 40))
    for size in ((3, 4), (0, 3, 4, 4), (1.5, 3, 4, 4)):
        with pytest.raises(UsageError, match="input_size"):
            summarize(model, size)


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_the_commands_print_tables_and_json(capsys):
    options = ("--size", "28", "--channels", "1", "--classes", "0", "--batch", "64")
    code, printed, said = run(capsys, "summary", LECTURE, *options)
    assert code == 0
    assert "64×16×4×4" in printed
    assert "next: striate train" in said
    code, printed, _ = run(capsys, "summary", "resnet50", "--json")
    assert json.loads(printed)["multiply_adds"] == 4_089_184_256
    code, printed, _ = run(capsys, "models", "*_cifar", "--json")
    listed = {row["name"]: row["parameters"] for row in json.loads(printed)}
    assert listed["resnet110_cifar"] == 1_727_962
    code, printed, _ = run(capsys, "models")
    assert "61,706" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("summary", "resnet51"), 'Did you mean "resnet50"'),
        (("summary", "resnet50", "--size", "big"), "--size"),
        (("summary", "resnet50", "--batch", "0"), "--batch"),
        (("summary", "resnet50", "--depth", "0"), "depth"),
        (("models", "resnet5o"), 'Did you mean "resnet50"'),
    ],
)
def test_the_commands_refuse_with_a_suggestion(capsys, arguments, message):
    code, _, said = run(capsys, *arguments)
    assert code == 2
    assert message in said


def test_a_model_file_is_summarised_by_its_card(capsys, tmp_path):
    from striate.config import ModelCard, Preprocess
    from striate.model_file import write_model

    model = create_model("lenet5", num_classes=10, in_chans=1, activation="sigmoid")
    card = ModelCard(
        task="classify",
        architecture="lenet5",
        arguments=model.arguments,
        classes=[str(digit) for digit in range(10)],
        preprocess=Preprocess(size=(28, 28), channels=1, mean=(0.1,), std=(0.3,)),
    )
    path = write_model(tmp_path / "model.safetensors", model.state_dict(), card)
    code, printed, said = run(capsys, "summary", str(path))
    assert code == 0
    assert "Sigmoid" in printed
    assert "61,706" in printed
    assert "striate predict" in said
