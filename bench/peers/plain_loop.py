"""An ordinary training loop: ImageFolder, transforms on Pillow, DataLoader, SGD, cosine; fp32, NCHW.

Trains on FOLDER/train and judges on FOLDER/val after every epoch. With `--size` up to 64, pictures are taken to be of
that size, padded by 4, cropped and flipped, as for CIFAR; larger ones get RandomResizedCrop and a flip, and Resize and
CenterCrop to be judged. The network is torchvision's when it has one of that name, else Striate's, so that both sides
train the same. Prints {"accuracy": of the last epoch, "best_accuracy": …, "seconds": of training and judging}.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2


def transforms(size: int) -> tuple[v2.Transform, v2.Transform]:
    to_tensor = [
        v2.PILToTensor(),
        v2.ToDtype(torch.float, scale=True),
        v2.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    ]
    if size <= 64:
        return v2.Compose([v2.RandomCrop(size, padding=4), v2.RandomHorizontalFlip(), *to_tensor]), v2.Compose(
            to_tensor
        )
    training = v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), *to_tensor])
    return training, v2.Compose([v2.Resize(round(size / 0.875)), v2.CenterCrop(size), *to_tensor])


def build(name: str, classes: int) -> nn.Module:
    if name in torchvision.models.list_models():
        return torchvision.models.get_model(name, weights=None, num_classes=classes)
    import striate

    return striate.create_model(name, num_classes=classes)


@torch.inference_mode()
def accuracy(model: nn.Module, batches: DataLoader, device: torch.device) -> float:
    model.eval()
    right = count = 0
    for images, targets in batches:
        outputs = model(images.to(device))
        right += int((outputs.argmax(1).cpu() == targets).sum())
        count += len(targets)
    return right / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    device = torch.device(options.device)
    training, judging = transforms(options.size)
    train_set = ImageFolder(options.folder / "train", training)
    train_batches = DataLoader(train_set, options.batch, shuffle=True, num_workers=options.workers)
    val_batches = DataLoader(ImageFolder(options.folder / "val", judging), options.batch, num_workers=options.workers)

    start = time.perf_counter()
    model = build(options.model, len(train_set.classes)).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), options.lr, momentum=0.9, weight_decay=options.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs * len(train_batches))
    scores: list[float] = []
    for _ in range(options.epochs):
        model.train()
        for images, targets in train_batches:
            images, targets = images.to(device), targets.to(device)
            optimizer.zero_grad()
            loss = criterion(model(images), targets)
            loss.backward()
            optimizer.step()
            scheduler.step()
        scores.append(accuracy(model, val_batches, device))
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {"accuracy": scores[-1], "best_accuracy": max(scores), "seconds": seconds, "torch": torch.__version__}
        )
    )


if __name__ == "__main__":
    main()
