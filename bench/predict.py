"""Images a second of predicting a folder of JPEG files, decoding included: ResNet-18, 224×224, batch 32.

ours:        `striate.load(FILE).predict(FOLDER)`, all at its default: files are decoded while the network works.
torchvision: the plain loop: Pillow decodes, Resize, CenterCrop, ToTensor, Normalize, batches of 32, inference mode,
             softmax, eager, fp32, NCHW.

Both run in this process, the whole folder (`--count` links to hymenoptera's photographs) each in turn, after one turn
that does not count. The weights are random and the same.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.harness import Comparison, Side, interleave, throughput
from bench.pictures import dataset, repeated

if TYPE_CHECKING:
    from torch import Tensor, nn

PAIRS = 3
BATCH = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--count", type=int, default=288)


def measure(options: argparse.Namespace) -> list[Comparison]:
    import torch
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.get_model(options.model, weights=None).eval()
    with tempfile.TemporaryDirectory(prefix="striate-bench-") as where:
        folder = repeated(dataset("hymenoptera") / "train", options.count, Path(where) / "pictures")
        paths = sorted(folder.glob("*/*"))
        file = Path(where) / "model.safetensors"
        sides = {
            "striate": ours(network.state_dict(), options, file, folder, len(paths)),
            "torchvision": theirs(network, options, paths),
        }
        figures = interleave(sides, options.pairs, warmup=1)
    return [Comparison("img/s", figures, facts={"pictures": len(paths)}, case=options.model)]


def ours(weights: dict[str, Tensor], options: argparse.Namespace, file: Path, folder: Path, count: int) -> Side:
    import striate
    from striate.config import ModelCard, Preprocess
    from striate.model_file import write_model

    classes = [f"class {index}" for index in range(1000)]
    card = ModelCard(task="classify", architecture=options.model, classes=classes, preprocess=Preprocess())
    write_model(file, weights, card)
    model = striate.load(file, device=options.device)

    def predict() -> None:
        found = len(model.predict(folder))
        assert found == count, f"{found} results for {count} pictures"

    return throughput(predict, count, 1, options.device)


def theirs(network: nn.Module, options: argparse.Namespace, paths: list[Path]) -> Side:
    import torch
    from PIL import Image
    from torchvision import transforms

    network = network.to(options.device)
    prepare = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        ]
    )

    @torch.inference_mode()
    def predict() -> None:
        for start in range(0, len(paths), BATCH):
            files = [Image.open(path).convert("RGB") for path in paths[start : start + BATCH]]
            images = torch.stack([torch.as_tensor(prepare(file)) for file in files])
            network(images.to(options.device)).softmax(1).topk(5).indices.cpu()

    return throughput(predict, len(paths), 1, options.device)
