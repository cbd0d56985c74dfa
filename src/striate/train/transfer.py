"""Transfer learning: a network that was trained on much learns the user's few pictures (lecture C2).

`features`: the body stays as it is; every picture's features are computed once, kept on disk, and a linear head is
fitted to them in seconds, or (`neighbours.py`) they are remembered. `finetune`: the same head first (Kumar et al. 2022,
arXiv:2202.10054: a random head would spoil the features before it is any good), then the body too, each stage at a
lower rate than the stage after it (Howard & Ruder 2018, section 3.2), the statistics of batch norms kept where pictures
are few.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from statistics import median
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from striate.backbones import Backbone
from striate.config import Augment, Preprocess, Recipe
from striate.data.loaders import Split
from striate.data.sample import Sample
from striate.data.seeds import seed_of
from striate.data.transforms import Normalize
from striate.download import cache_folder
from striate.errors import StriateError
from striate.files import write_atomic
from striate.tasks import Task
from striate.train.optimizers import DEFAULT_WEIGHT_DECAY, default_lr

FEW = 20  # pictures of a class, below which a body is not moved
SEPARATED = 0.98  # of held-out pictures named rightly from features alone: nothing left for a body to learn
FOLDS = 5
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the head's L2, tried by cross-validation
BN_FROZEN_UP_TO = 5_000  # pictures
GENTLE = 0.03  # of the learning rate that training from scratch would have
FINETUNE_EPOCHS = 20

Loss = Callable[[Tensor, Tensor], Tensor]


class LinearHead(NamedTuple):
    """A fitted linear layer: weight [K, F], bias [K]; the L2 chosen, and how well it did on pictures held out."""

    weight: Tensor
    bias: Tensor
    strength: float
    loss: float
    score: float


class FittedHead(NamedTuple):
    """What was put on top of the features, and how well it did on pictures held out from it."""

    what: str
    loss: float
    score: float
    seconds: float  # features included


# ---- features ----


@contextmanager
def without_classifier(model: Any) -> Iterator[nn.Module]:
    """The network ending at its pooled features [B, F]."""
    name: str = model.last_layer
    parent, _, leaf = name.rpartition(".")
    owner = model.get_submodule(parent)
    kept = getattr(owner, leaf)
    setattr(owner, leaf, nn.Identity())
    try:
        yield model
    finally:
        setattr(owner, leaf, kept)


def cached_features(
    model: Any, samples: list[Sample], preprocess: Preprocess, compute: Callable[[nn.Module], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Features float32 [N, F] and indices [N] of the readable pictures, from the disk where they lie there already.

    The key is the content: of the body's weights, the preprocessing, and every picture.
    """
    path = cache_folder() / "features" / f"{content_key(model, samples, preprocess)}.safetensors"
    if path.is_file():
        stored = load_file(path)
        return stored["features"], stored["indices"]
    with without_classifier(model) as body:
        features, indices = compute(body)
    with suppress(StriateError):  # no room for a cache is no reason to stop
        write_atomic(path, save({"features": features.contiguous(), "indices": indices}))
    return features, indices


def content_key(model: Any, samples: list[Sample], preprocess: Preprocess) -> str:
    digest = hashlib.sha256(f"1 {model.architecture} {preprocess.model_dump_json()}".encode())
    for name, tensor in model.state_dict().items():
        if not name.startswith(f"{model.last_layer}."):
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data if tensor.ndim else b"")
    for sample in samples:
        if isinstance(sample.image, Tensor):
            content = sample.image.contiguous().numpy().tobytes()
        else:
            try:
                with open(sample.image, "rb") as file:
                    content = file.read()
            except OSError:
                content = b""
        digest.update(hashlib.blake2b(content, digest_size=16).digest())
    return digest.hexdigest()[:32]


def features_of(body: nn.Module, data: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pooled features float32 [N, F] of a whole split, and which of its pictures they are, [N]."""
    normalize = Normalize(data.preprocess).to(device)
    found: list[Tensor] = []
    order: list[Tensor] = []
    body.eval()
    with torch.inference_mode():
        for part in data.eval_batches(64):
            images = part.images.to(device).contiguous(memory_format=torch.channels_last)
            found.append(body(normalize(images)).float().cpu())
            order.append(part.indices)
            data.skipped.extend(part.skipped)
    return torch.cat(found), torch.cat(order)


# ---- the head ----


def learn_head(model: Any, task: Task, data: Split, device: torch.device, seed: int) -> FittedHead:
    """Fit the model's linear classifier to its own features of these pictures, and put it in."""
    begin = time.perf_counter()
    features, indices = features_for(model, data, device)
    targets = targets_of(task, data, indices)
    loss, score = objectives(task)
    classifier = model.get_submodule(model.last_layer)
    head = fit_head(features.clone(), targets, classifier.out_features, loss, score, seed)
    with torch.no_grad():
        classifier.weight.copy_(head.weight)
        classifier.bias.copy_(head.bias)
    return FittedHead("a linear head", head.loss, head.score, time.perf_counter() - begin)


def features_for(model: Any, data: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pooled features float32 [N, F] of the readable pictures, computed or from the disk, and which they are, [N]."""
    model.to(device)
    return cached_features(model, data.samples, data.preprocess, lambda body: features_of(body, data, device))


def targets_of(task: Task, data: Split, indices: Tensor) -> Tensor:
    """The targets of these samples, as the task collates them."""
    return task.collate([data.raw_targets[index] for index in indices.tolist()])


def objectives(task: Task) -> tuple[Loss, Loss]:
    """The task's loss, and what it calls best, as functions of outputs and targets."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return task.loss(outputs, targets)["loss"]

    def score(outputs: Tensor, targets: Tensor) -> Tensor:
        metrics = task.metrics()
        metrics.update(outputs, targets)
        return torch.tensor(metrics.compute()[metrics.best])

    return loss, score


def fit_head(features: Tensor, targets: Tensor, outputs: int, loss: Loss, score: Loss, seed: int) -> LinearHead:
    """The linear layer with the least loss, its L2 chosen by cross-validation.

    Args:
        features: float [N, F]. targets: as the loss wants them, [N, ...].
        outputs: K.
        score: outputs and targets → what the task calls best; higher is better.
    """
    folds = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed_of(seed, "folds"))) % FOLDS
    tried: list[tuple[float, float, float]] = []
    for strength in STRENGTHS:
        losses, scores = [], []
        for fold in range(min(FOLDS, len(features))):
            kept, held = folds != fold, folds == fold
            if not held.any() or not kept.any():
                continue
            weight, bias = fit_linear(features[kept], targets[kept], outputs, loss, strength)
            answers = features[held] @ weight.T + bias
            losses.append(float(loss(answers, targets[held])))
            scores.append(float(score(answers, targets[held])))
        tried.append((sum(losses) / len(losses), sum(scores) / len(scores), strength))
    best_loss, best_score, strength = min(tried)
    weight, bias = fit_linear(features, targets, outputs, loss, strength)
    return LinearHead(weight, bias, strength, best_loss, best_score)


def fit_linear(features: Tensor, targets: Tensor, outputs: int, loss: Loss, strength: float) -> tuple[Tensor, Tensor]:
    """weight [K, F], bias [K] with the least mean loss + strength / 2 · |w|², on features of unit spread (L-BFGS)."""
    mean, std = features.mean(0), features.std(0, correction=0).clamp_min(1e-6)
    inputs = (features - mean) / std
    weight = torch.zeros(outputs, features.shape[1], requires_grad=True)
    bias = torch.zeros(outputs, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(inputs @ weight.T + bias, targets) + strength / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[arg-type]
    final = (weight / std).detach()
    return final, (bias - final @ mean).detach()


# ---- what to move ----


def choose(counts: Tensor, score: float, best: str) -> tuple[str, str]:
    """`features` or `finetune`, and why.

    Args:
        counts: pictures of each class.
        score: of the fitted head on pictures held out from it; how alike these pictures are to those of the weights.
        best: the name of that score.
    """
    typical = median(counts.tolist())
    if typical < FEW:
        return "features", f"only {typical:g} pictures of a typical class: the body stays as it is, a head is fitted"
    if score >= SEPARATED:
        return "features", f"features alone reach {best} {score:.3f} on pictures held out: the body stays as it is"
    return (
        "finetune",
        f"{typical:g} pictures of a typical class, features alone reach {best} {score:.3f}: the body learns too",
    )


def resolve_transfer(recipe: Recipe, asked: Recipe, head: FittedHead, counts: Tensor, best: str) -> tuple[Recipe, str]:
    """The recipe with `transfer` decided and what follows from it where the user did not say, and the reason."""
    if recipe.transfer != "auto":
        how, why = recipe.transfer, "as asked"
    elif recipe.head == "neighbours":
        how, why = "features", "neighbours are looked up among features"
    else:
        how, why = choose(counts, head.score, best)
    update: dict[str, Any] = {"transfer": how}
    if how == "features":
        update |= {"epochs": 1, "augment": Augment()}
    else:
        # steps of AdamW do not depend on the scale of the pixels, which public weights disagree on
        optimizer = "adamw" if asked.optimizer == "auto" else asked.optimizer
        update["optimizer"] = optimizer
        if asked.lr is None:
            update["lr"] = GENTLE * default_lr(optimizer, int(recipe.batch) * recipe.accumulate)
        if asked.weight_decay is None:
            update["weight_decay"] = DEFAULT_WEIGHT_DECAY.get(optimizer, 5e-4)
        if not asked.epochs:
            update["epochs"] = min(recipe.epochs, FINETUNE_EPOCHS)
        if recipe.freeze_bn == "auto":
            update["freeze_bn"] = int(counts.sum()) <= BN_FROZEN_UP_TO
    told = f"transfer: {how} ({why}); {head.what} on features: {best} {head.score:.4f} by cross-validation"
    return recipe.model_copy(update=update), told


def finetune_all(recipe: Recipe, asked: Recipe, count: int) -> tuple[Recipe, str]:
    """As `resolve_transfer`, for a task that no linear layer on pooled features can do: the body moves, slowly."""
    update: dict[str, Any] = {"transfer": "finetune"}
    if asked.freeze_bn == "auto":
        update["freeze_bn"] = count <= BN_FROZEN_UP_TO
    return recipe.model_copy(update=update), "transfer: finetune (places need maps: body and head learn together)"


def rate_scales(model: nn.Module, decay: float, frozen_stages: int) -> dict[str, float]:
    """Parameter name → share of the learning rate: 1 in the head, `decay` in the last stage, `decay`² before it, …

    Parameters of the first `frozen_stages` stages ask for no gradient any more.
    """
    prefix, body = next((name, module) for name, module in model.named_modules() if isinstance(module, Backbone))
    prefix += "." if prefix else ""
    stages = [tuple(prefix + layer for layer in layers) for layers in body.stage_layers.values()]
    scales: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        stage = next((number for number, layers in enumerate(stages) if _is_in(name, layers)), len(stages))
        if stage < frozen_stages and stage < len(stages):
            parameter.requires_grad_(False)
        scales[name] = decay ** (len(stages) - stage)
    return scales


def keep_still(model: nn.Module, recipe: Recipe) -> None:
    """After `train()`: batch norms that are to keep their statistics go back to judging mode."""
    if recipe.freeze_bn is not True:
        return
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _is_in(name: str, layers: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{layer}.") for layer in layers)
