"""torchvision's classification reference pipeline, as its `references/classification` trains: eager, fp32, NCHW.

Pillow decodes; RandomResizedCrop, RandomHorizontalFlip, PILToTensor, ToDtype and Normalize run in the DataLoader's
workers; SGD with momentum 0.9 and weight decay 1e-4; accuracy and loss are read at every step, as the reference logs.
Prints {"images_per_second": …} over `--steps` steps after `--warmup` steps.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2


def loader(folder: str, batch: int, size: int, workers: int) -> DataLoader:
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, interpolation=v2.InterpolationMode.BILINEAR, antialias=True),
            v2.RandomHorizontalFlip(0.5),
            v2.PILToTensor(),
            v2.ToDtype(torch.float, scale=True),
            v2.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        ]
    )
    pictures = ImageFolder(folder, transform)
    return DataLoader(pictures, batch, shuffle=True, num_workers=workers, pin_memory=torch.cuda.is_available())


def train(model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], steps: int, device: torch.device) -> None:
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    model.train()
    for number, (images, targets) in enumerate(batches, 1):  # images float [B, 3, H, W]
        images, targets = images.to(device), targets.to(device)
        output = model(images)
        loss = criterion(output, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        (output.argmax(1) == targets).float().mean().item()
        loss.item()
        if number == steps:
            return
    raise SystemExit("the folder has too few pictures for this many steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    torch.manual_seed(0)
    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = True
    pictures = loader(options.folder, options.batch, options.size, options.workers)
    model = torchvision.models.get_model(options.model, weights=None, num_classes=2).to(device)
    batches = iter(pictures)
    train(model, batches, options.warmup, device)
    start = time.perf_counter()
    train(model, batches, options.steps, device)  # ends with an .item(), which waits for the GPU
    seconds = time.perf_counter() - start
    print(json.dumps({"images_per_second": options.steps * options.batch / seconds, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
