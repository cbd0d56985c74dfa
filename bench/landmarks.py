"""68 points of faces, on people never seen, against the best guess that looks at no picture: the mean face.

`facial-keypoints` has 240 pictures of 143 people; every fifth (48) is held out with whoever is on it. The mean face is
the mean of the training faces' points, as shares of their pictures' width and height. Reported is the normalised mean
error (distance in units of the outer eye corners) of ours, of the mean face, and their ratio. Fails when ours is not
three times better.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.harness import Comparison
from bench.pictures import SHARED, dataset
from striate.config import Preprocess
from striate.data.formats import landmarks_csv
from striate.data.geometry import fitting, moved
from striate.data.loaders import read_sample
from striate.data.sample import Sample
from striate.data.transforms import Normalize, eval_transform
from striate.tasks.keypoints.metrics import KeypointMetrics
from striate.tasks.keypoints.task import HEADS, Keypoints

PAIRS = 3  # seeds
BATCH = 8
SQUEEZENET = "squeezenet1_0-imagenet.safetensors"
MEAN, STD = (0.48235, 0.45882, 0.40784), (0.0039216, 0.0039216, 0.0039216)  # of its pixels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--head", choices=HEADS, default="soft")
    parser.add_argument("--stages", type=int, default=1)
    parser.add_argument("--model", default="squeezenet1_0")
    parser.add_argument("--from-scratch", action="store_true", help="without the ImageNet weights")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--keep", help="write drawn pictures here")


def measure(options: argparse.Namespace) -> list[Comparison]:
    ours: list[float] = []
    mean: list[float] = []
    facts: dict[str, object] = {}
    for seed in range(options.pairs):
        start = time.perf_counter()
        metrics, guess = trained(options, seed)
        values = metrics.compute()
        ours.append(values["nme"])
        mean.append(guess.compute()["nme"])
        facts[f"seed {seed}"] = {
            **{name: round(value, 4) for name, value in values.items()},
            "ratio": round(mean[-1] / ours[-1], 2),
            "minutes": round((time.perf_counter() - start) / 60, 2),
        }
        print(facts[f"seed {seed}"], file=sys.stderr)
    holds = all(guess / one >= 3 for guess, one in zip(mean, ours, strict=True))
    return [Comparison("NME", {"striate": ours, "mean face": mean}, False, facts, options.head, holds)]


def trained(options: argparse.Namespace, seed: int) -> tuple[KeypointMetrics, KeypointMetrics]:
    """Metrics on held-out people: ours, and the mean face's."""
    torch.manual_seed(seed)
    found = landmarks_csv.read(str(dataset("facial-keypoints")), 0.2, seed, False)
    pretrained = options.model == "squeezenet1_0" and not options.from_scratch
    preprocess = Preprocess(size=(options.size, options.size), fit="pad")
    if pretrained:
        preprocess = preprocess.model_copy(update={"mean": MEAN, "std": STD})
    task = Keypoints(found.classes, head=options.head, stages=options.stages)
    weights = {"weights": SHARED / SQUEEZENET} if pretrained else {}
    network = task.build(options.model, 3, **weights).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pictures, targets, _ = prepared(found.splits["train"], task, preprocess)
    normalize = Normalize(preprocess)
    old = [p for name, p in network.named_parameters() if pretrained and name.startswith("backbone")]
    new = [p for name, p in network.named_parameters() if not (pretrained and name.startswith("backbone"))]
    groups = [{"params": new, "lr": options.lr}] + ([{"params": old, "lr": 0.3 * options.lr}] if old else [])
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-2)
    steps = options.epochs * (len(pictures) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [g["lr"] for g in groups], total_steps=steps, pct_start=0.1
    )
    mirror = torch.tensor(task.pairs)
    network.train()
    for epoch in range(options.epochs):
        order, total = torch.randperm(len(pictures)), 0.0
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            images, points = augmented(pictures[rows], targets[rows], mirror)
            images = normalize(images).contiguous(memory_format=torch.channels_last)
            loss = task.loss(network(images), points)["loss"]
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        if epoch % 5 == 4:
            print(f"seed {seed} epoch {epoch + 1} loss {total / (len(order) // BATCH):.4f}", file=sys.stderr)
    return judged(found.splits, task, network, normalize, preprocess, options.keep)


def prepared(samples: list[Sample], task: Keypoints, preprocess: Preprocess) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures uint8 [N, 3, H, W] and points [N, K, 3] as the network sees them, and sizes [N, 2] as they were read."""
    fit = eval_transform(preprocess)
    images = [read_sample(sample) for sample in samples]
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    places = [
        moved(sample.target, fitting(size, preprocess), preprocess.size)
        for sample, size in zip(samples, sizes, strict=True)
    ]
    return torch.stack([fit(image) for image in images]), task.collate(places), torch.tensor(sizes)  # type: ignore[arg-type]


def augmented(images: Tensor, points: Tensor, mirror: Tensor) -> tuple[Tensor, Tensor]:
    """Turned by up to 25 degrees, 0.8 to 1.2 times as large, shifted, half of them mirrored, brighter or darker."""
    count, _, height, width = images.shape
    angle = (torch.rand(count) * 2 - 1) * math.radians(25)
    scale = torch.empty(count).uniform_(0.8, 1.2)
    flip = (torch.rand(count) < 0.5).float() * -2 + 1
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack((torch.stack((cos * flip, -sin), 1), torch.stack((sin * flip, cos), 1)), 1)  # [B, 2, 2]
    shift = (torch.rand(count, 2, 1) * 2 - 1) * 0.16  # in half pictures, as grid_sample counts (they are square)
    inverse = torch.linalg.inv(matrix)
    grid = F.affine_grid(torch.cat((inverse, -inverse @ shift), 2), [count, 3, height, width], align_corners=False)
    moved_images = F.grid_sample(images.float(), grid, align_corners=False)
    contrast, bright = torch.empty(count, 1, 1, 1).uniform_(0.7, 1.3), torch.empty(count, 1, 1, 1).uniform_(-30, 30)
    moved_images = ((moved_images - 128) * contrast + 128 + bright).clamp(0, 255)
    size = torch.tensor([width, height])
    middle = points[..., :2] / size * 2 - 1
    there = (middle @ matrix.transpose(1, 2) + shift.transpose(1, 2) + 1) / 2 * size
    there = torch.cat((there, points[..., 2:]), 2)
    return moved_images, torch.where(flip[:, None, None] < 0, there[:, mirror], there)


@torch.inference_mode()
def judged(
    splits: dict[str, list[Sample]],
    task: Keypoints,
    network: nn.Module,
    normalize: Normalize,
    preprocess: Preprocess,
    keep: str | None,
) -> tuple[KeypointMetrics, KeypointMetrics]:
    network.eval()
    pictures, _, sizes = prepared(splits["val"], task, preprocess)
    truth = task.collate([sample.target for sample in splits["val"]])
    metrics, guess = task.metrics(), task.metrics()
    for start in range(0, len(pictures), BATCH):
        rows = slice(start, start + BATCH)
        metrics.update(task.settle(network(normalize(pictures[rows])), sizes[rows], preprocess), truth[rows])
    train_sizes = torch.tensor([read_sample(sample).shape[1:] for sample in splits["train"]])
    shares = task.collate([sample.target for sample in splits["train"]])[..., :2] / train_sizes.flip(1)[:, None]
    mean = shares.mean(0) * sizes.flip(1)[:, None]
    guess.update(torch.cat((mean, torch.ones_like(mean[..., :1])), 2), truth)
    if keep:
        folder = Path(keep)
        folder.mkdir(parents=True, exist_ok=True)
        for section in task.sections(metrics, splits["val"], read_sample)[2:]:
            for number, card in enumerate(section.pictures):
                if isinstance(card.picture, bytes):
                    (folder / f"{section.title.replace(' ', '_')}_{number:02}.png").write_bytes(card.picture)
    return metrics, guess
