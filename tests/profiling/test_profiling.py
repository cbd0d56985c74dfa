"""Costs against published counts, saved files and known activations; the picture's labels against one another."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import combinations
from math import prod
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from striate.backbones import create_model
from striate.cli import main
from striate.config import ModelCard, Preprocess
from striate.errors import DataError, UsageError
from striate.model_file import write_model
from striate.profiling.figure import accuracies, draw_costs
from striate.profiling.measure import Cost, measure
from striate.profiling.networks import USUAL, Network, find_networks

# parameters, giga-multiply-adds, top-1: torchvision's metadata; the last two from their papers
KNOWN = {
    "resnet50": (25_557_032, 4.089, 76.13),
    "mobilenet_v3_small": (2_542_856, 0.057, 67.668),
    "efficientnet_b2": (9_109_994, 1.088, 80.608),
    "squeezenet1_0": (1_248_424, 0.819, 58.092),
    "inception_v3": (27_161_264, 5.713, 77.294),
    "mobilenet_v1": (4_231_976, 0.569, 70.6),
}


def striate(capsys, *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["bench", "models", *arguments])
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def trained(path: Path, name: str = "conv4-relu-pool-flatten", **metrics: float) -> Path:
    model = create_model(name, num_classes=2, in_chans=1, image_size=(28, 28))
    preprocess = Preprocess(size=(28, 28), channels=1, mean=(0.5,), std=(0.5,))
    card = ModelCard(
        task="classify",
        architecture=name,
        arguments=model.arguments,
        classes=["ant", "bee"],
        preprocess=preprocess,
        metrics=metrics,
    )
    return write_model(path, model.state_dict(), card)


def made_up(name: str, parameters: int, multiply_adds: int, latency: float, top1: float, family: str = "x") -> Cost:
    network = Network(name, name, family, 3, (224, 224), 1000, {}, parameters, multiply_adds, 4 * parameters, top1=top1)
    return Cost(network, 2**20, latency, (latency, latency), 5, 100.0)


@pytest.mark.parametrize("name", KNOWN)
def test_counts_and_accuracies_are_the_published_ones(name):
    (found,) = find_networks([name])
    parameters, giga, top1 = KNOWN[name]
    assert found.parameters == parameters
    assert round(found.multiply_adds / 1e9, 3) == giga
    assert found.top1 == top1


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet20_cifar", "lenet5"])
def test_file_bytes_are_those_of_a_saved_file(name, tmp_path: Path):
    (found,) = find_networks([name])
    model = create_model(name, num_classes=found.classes, in_chans=found.channels)
    weights = model.state_dict()
    save_file(weights, tmp_path / "saved.safetensors")
    header = (tmp_path / "saved.safetensors").stat().st_size - found.file_bytes
    assert 8 < header < 200 * len(weights)
    with open(tmp_path / "saved.safetensors", "rb") as file:
        assert header == 8 + int.from_bytes(file.read(8), "little")


def test_patterns_spread_and_names_come_once():
    names = [network.name for network in find_networks(["resnet1?", "resnet18", "plain*"], (64, 64))]
    assert names == ["resnet18", "plain18", "plain34", "plain20_cifar", "plain56_cifar"]


def test_size_changes_what_depends_on_it():
    (small,), (usual,) = find_networks(["resnet18"], (112, 112)), find_networks(["resnet18"])
    assert small.size == (112, 112)
    assert small.parameters == usual.parameters
    assert small.multiply_adds < usual.multiply_adds / 3


def test_a_model_file_is_described_by_its_card(tmp_path: Path):
    file = trained(tmp_path / "model.safetensors", accuracy=0.75)
    for name in (str(file), str(tmp_path)):
        (found,) = find_networks([name])
        assert found.metrics == {"accuracy": 0.75}
        assert (found.channels, found.size, found.classes, found.family) == (1, (28, 28), 2, "chain")
        assert found.parameters == 4 * 9 + 4 + 4 * 14 * 14 * 2 + 2
        assert found.top1 is None


@pytest.mark.parametrize(
    ("names", "size", "words"),
    [
        (["resnet81"], None, 'Did you mean "resnet18"'),
        (["resnet18", "mobilnet_v2"], None, 'Did you mean "mobilenet_v2"'),
        (["rsenet*"], None, "no network's name matches"),
        (["timm/resnett18"], None, "timm has no network"),
        (["inception_v3"], (32, 32), "inception_v3"),
    ],
)
def test_what_cannot_be_meant_is_refused(names, size, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        find_networks(names, size)


def test_files_that_are_none_are_refused(tmp_path: Path):
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    for name in ("junk.safetensors", "missing.safetensors"):
        with pytest.raises(DataError, match=name):
            find_networks([str(tmp_path / name)])


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"threads": 0}, {"seconds": 0}, {"device": "cuda:99"}])
def test_settings_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(UsageError):
        measure(find_networks(["lenet5"]), **wrong)


def test_memory_is_that_of_the_largest_activation():
    wide, narrow = "conv128k1-relu-conv1k1-gap-fc2", "conv4k1-relu-conv1k1-gap-fc2"
    costs = measure(find_networks([wide, narrow], (192, 192)), batch=8, threads=1, seconds=0.05)
    held = [cost.memory_bytes for cost in costs]
    activation = [8 * channels * 192 * 192 * 4 for channels in (128, 4)]  # 151 and 4.7 MB
    assert held[0] is not None
    assert held[1] is not None
    assert activation[0] <= held[0] < 4 * activation[0]
    assert activation[1] <= held[1] < activation[0] / 2  # the second does not see what the first has held
    for cost in costs:
        low, high = cost.latency_quartiles_ms
        assert 0 < low <= cost.latency_ms <= high
        assert cost.latency_runs >= 3
        assert cost.images_per_second > 0


def test_measuring_leaves_threads_and_random_numbers_as_they_were():
    before = torch.get_num_threads()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    measure(find_networks(["lenet5"]), batch=2, threads=before + 1, seconds=0.01)
    assert torch.get_num_threads() == before
    assert torch.equal(torch.rand(2), expected)


def labels(figure) -> list[list]:
    """Texts and bubbles of each panel, as boxes in pixels."""
    renderer = figure.canvas.get_renderer()
    return [[text.get_window_extent(renderer) for text in panel.texts] for panel in figure.axes]


@pytest.mark.parametrize("count", [1, 2, 6, 25])
def test_labels_overlap_neither_each_other_nor_the_border(count: int):
    generator = torch.Generator().manual_seed(count)
    costs = [
        made_up(
            f"network_{i}_{'x' * (i % 9)}",
            int(10 ** (6 + 2 * torch.rand((), generator=generator))),
            int(10 ** (8 + 1.5 * torch.rand((), generator=generator))),
            float(10 ** (1 + torch.rand((), generator=generator))),
            float(60 + 20 * torch.rand((), generator=generator)),
            family=f"family {i % 12}",
        )
        for i in range(count)
    ]
    figure = draw_costs(costs, "somewhere")
    assert [len(panel) for panel in labels(figure)] == [count, count]
    whole = figure.bbox
    for boxes in labels(figure):
        for one, other in combinations(boxes, 2):
            assert not one.overlaps(other)
        for box in boxes:
            assert whole.x0 <= box.x0 < box.x1 <= whole.x1
            assert whole.y0 <= box.y0 < box.y1 <= whole.y1


def test_area_is_parameters_and_places_are_the_numbers():
    costs = [made_up("a", 40_000_000, 10**9, 20.0, 70.0), made_up("b", 10_000_000, 10**8, 5.0, 60.0)]
    left, right = draw_costs(costs).axes
    bubbles = left.collections[-1]
    sizes = bubbles.get_sizes()
    assert sizes[0] / sizes[1] == pytest.approx(4)
    assert bubbles.get_offsets().tolist() == [[1000.0, 70.0], [100.0, 60.0]]
    assert right.collections[-1].get_offsets().tolist() == [[20.0, 70.0], [5.0, 60.0]]
    assert left.get_xscale() == right.get_xscale() == "log"


def test_own_metrics_are_drawn_where_nothing_is_published(tmp_path: Path):
    file = trained(tmp_path / "mine.safetensors", accuracy=0.75)
    label, heights = accuracies(find_networks([str(file), "lenet5"]))
    assert "accuracy" in label
    assert heights == [0.75, None]
    with pytest.raises(UsageError, match="picture"):
        accuracies(find_networks(["lenet5"]))


def test_command_measures_prints_and_draws(capsys, tmp_path: Path):
    drawn = tmp_path / "costs.png"
    arguments = ["squeezenet1_1", "mobilenet_v3_small", "lenet5", "--seconds", "0.05", "--batch", "2"]
    code, out, err = striate(capsys, *arguments, "--threads", "1", "--picture", str(drawn))
    assert code == 0
    rows = [line.split()[0] for line in out.splitlines() if line and line.split()[0] in arguments]
    assert rows == ["lenet5", "mobilenet_v3_small", "squeezenet1_1"]  # by multiply-adds
    assert "58.2" in out  # squeezenet1_1's
    assert f"wrote {drawn}" in err
    assert "next: striate train DATA --model mobilenet_v3_small --weights imagenet" in err
    picture = Image.open(drawn).convert("L")
    assert min(picture.size) > 500
    assert len(set(picture.tobytes())) > 50
    before = drawn.read_bytes()
    code, _, err = striate(capsys, "resnet18", "--picture", str(drawn))
    assert code == 2
    assert "--overwrite" in err
    assert drawn.read_bytes() == before


def test_json_has_every_number(capsys, tmp_path: Path):
    file = trained(tmp_path / "model.safetensors", accuracy=0.75)
    code, out, _ = striate(capsys, str(file), "mlp", "--json", "--seconds", "0.02", "--batch", "3", "--threads", "1")
    assert code == 0
    found = json.loads(out)
    assert "batch 3" in found["setting"]
    assert "1 thread," in found["setting"]
    rows = {row["name"]: row for row in found["models"]}
    assert rows[str(file)]["metrics"] == {"accuracy": 0.75}
    mlp = rows["mlp"]
    assert mlp["parameters"] == 235_146
    assert mlp["file_bytes"] == 4 * 235_146
    assert mlp["multiply_adds"] == 784 * 256 + 256 * 128 + 128 * 10  # every weight once
    assert mlp["top1"] is None
    for name in ("latency_ms", "images_per_second", "latency_runs", "memory_bytes"):
        assert mlp[name] > 0
    assert len(mlp["latency_quartiles_ms"]) == 2
    assert prod(mlp["size"]) == 28 * 28


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resnet81"], "resnet18"),
        (["--batch", "0"], "--batch"),
        (["--seconds", "nan"], "--seconds"),
        (["--threads", "-1"], "--threads"),
        (["--size", "big"], "--size"),
        (["--picture", "costs.jpg"], ".png"),
        (["lenet5", "--picture", "costs.png"], "accuracy"),
        (["lenet5", "--device", "gpu"], "gpu"),
    ],
)
def test_wrong_commands_are_told_before_anything_is_measured(capsys, arguments, words):
    code, out, err = striate(capsys, *arguments)
    assert code == 2
    assert words in err
    assert "measuring" not in err
    assert out == ""
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["models", "--help"], ["models", "--batch", "0"], ["models", "--size", "x"]])
def test_no_torch_for_help_and_wrong_options(arguments):
    code = (
        "import sys\nfrom striate.cli import main\n"
        f"try:\n    main(['bench', *{arguments!r}])\nexcept SystemExit:\n    pass\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_interrupted_it_exits_130_and_leaves_nothing(tmp_path: Path):
    drawn = tmp_path / "costs.png"
    mark = f"STRIATE_TEST_MARK={tmp_path.name}-{os.getpid()}"
    environment = {**os.environ, **dict([mark.split("=")])}
    command = [sys.executable, "-m", "striate", "bench", "models", "resnet18", "--seconds", "60"]
    running = subprocess.Popen(
        [*command, "--picture", str(drawn)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # tests in the background inherit none
    )
    assert running.stderr is not None
    while "measuring" not in running.stderr.readline():
        assert running.poll() is None
    while len(marked(mark)) < 2:  # until the process that weighs is there
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    assert "Traceback" not in running.stderr.read()
    assert list(tmp_path.iterdir()) == []
    deadline = time.monotonic() + 20
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marked(mark) == []


def marked(mark: str) -> list[str]:
    """Processes whose environment has the mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(folder.name)
        except OSError:
            pass
    return found


def test_the_usual_set_has_published_accuracies():
    assert len(USUAL) == 10
    assert all(network.top1 is not None for network in find_networks(USUAL))
