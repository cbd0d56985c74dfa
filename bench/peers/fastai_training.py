"""fastai's training from a folder of pictures: its DataLoaders, its Learner, its defaults; fp32.

`RandomResizedCrop` on Pillow pictures in the loader's workers, flip and normalisation on batches, Adam, accuracy as the
metric, torchvision's network: what its tutorial does, with the augmentation that the other sides use.
Prints {"images_per_second": …} over `--steps` steps after `--warmup` steps.

Runs in an environment of its own: python -m venv /tmp/venv-fastai && /tmp/venv-fastai/bin/pip install fastai
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import fastai  # pyright: ignore[reportMissingImports]
import torch
import torchvision
from fastai.vision.all import (  # pyright: ignore[reportMissingImports]
    Callback,
    CancelFitException,
    Flip,
    ImageDataLoaders,
    Learner,
    Normalize,
    RandomResizedCrop,
    accuracy,
    imagenet_stats,
)


class Stopwatch(Callback):
    """Starts after `warmup` training steps, stops the fit `steps` later."""

    def __init__(self, warmup: int, steps: int) -> None:
        self.warmup, self.steps = warmup, steps
        self.done, self.start, self.seconds = 0, 0.0, 0.0

    def after_batch(self) -> None:
        if not self.learn.training:  # pyright: ignore[reportAttributeAccessIssue]
            return
        self.done += 1
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if self.done == self.warmup:
            self.start = time.perf_counter()
        if self.done == self.warmup + self.steps:
            self.seconds = time.perf_counter() - self.start
            raise CancelFitException


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
    loaders = ImageDataLoaders.from_folder(
        Path(options.folder),
        valid_pct=0.01,
        seed=0,
        item_tfms=RandomResizedCrop(options.size),
        batch_tfms=[Flip(), Normalize.from_stats(*imagenet_stats)],
        bs=options.batch,
        num_workers=options.workers,
        device=torch.device(options.device),
    )
    stopwatch = Stopwatch(options.warmup, options.steps)
    model = torchvision.models.get_model(options.model, weights=None, num_classes=2)
    learner = Learner(loaders, model, metrics=accuracy, cbs=stopwatch)
    with learner.no_bar(), learner.no_logging():
        learner.fit(1)
    if not stopwatch.seconds:
        raise SystemExit("the folder has too few pictures for this many steps")
    speed = options.steps * options.batch / stopwatch.seconds
    print(json.dumps({"images_per_second": speed, "torch": torch.__version__, "fastai": fastai.__version__}))


if __name__ == "__main__":
    main()
