"""Regularisation keeps a network from learning its training pictures by heart. L2 shrinks every weight, L1 sets most
to exactly zero, stopping early does nearly what L2 does, augmentation and mixup make more pictures of those there are,
label smoothing and dropout forbid it to be too sure of anything.

Where there is a formula it is checked to rounding; where there is only experience it is tried, with several seeds, and
what lies within noise is said to.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.lectures.cells import compared
from striate.lectures.foundations import regularization_pictures as pictures
from striate.lectures.foundations import shrinkage
from striate.lectures.foundations.regularization_runs import CONFIGURATIONS, effects, verdicts
from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import PictureCard, Section, Table

PYTHON = """
import torch
from striate.data.mixing import mix
from striate.tasks.classify.task import Classify
from striate.layers.penalties import l1_norm
from striate.train.optimizers import make_optimizer

images, labels = torch.rand(8, 1, 8, 8), torch.eye(10)[:8]
mixed, mixed_labels = mix(images, labels, mixup=0.2, cutmix=0.0)
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.3), torch.nn.Linear(64, 10))
optimizer = make_optimizer(network, "sgd", lr=0.1, momentum=0.9, weight_decay=1e-4)  # L2
loss = Classify(list("0123456789")).loss(network(mixed), mixed_labels, label_smoothing=0.1)["loss"]
(loss + 1e-4 * l1_norm(network)).backward()
optimizer.step()
"""

ALPHAS = tuple(10 ** (step / 8) for step in range(-24, 9))  # 0.001 … 10


def smoothed_target() -> list[float]:
    """What the trainer's loss really aims at, ten classes, smoothing 0.1: its gradient is softmax − target."""
    from striate.tasks.classify.task import Classify

    logits = torch.randn(1, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    loss = Classify([str(digit) for digit in range(10)]).loss(logits, F.one_hot(torch.tensor([3]), 10).double(), 0.1)
    (gradient,) = torch.autograd.grad(loss["loss"], logits)
    return [round(value, 6) for value in (logits.detach().softmax(1) - gradient)[0].tolist()]  # the loss is in float32


def mixed_by_formula() -> tuple[float, float]:
    """λ of one batch that `mix` made, read off its labels, and how far its pictures are from λx₁ + (1−λ)x₂."""
    from striate.data.mixing import mix

    draw = torch.Generator().manual_seed(2)
    images, labels = torch.rand(10, 1, 4, 4, generator=draw, dtype=torch.float64), torch.eye(10, dtype=torch.float64)
    mixed, targets = mix(images, labels, 1.0, 0.0, draw)
    share = float(targets[0, 0])
    partner = [int(row.clone().index_fill_(0, torch.tensor(index), 0).argmax()) for index, row in enumerate(targets)]
    return share, float((mixed - (share * images + (1 - share) * images[partner])).abs().max())


def after_one_step(decay: float) -> float:
    """How far one SGD step of the trainer, with L2, is from w − ε(g + αw)."""
    from striate.train.optimizers import make_optimizer

    layer = nn.Linear(5, 3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    before = layer.weight.detach().clone()
    stepper = make_optimizer(layer, "sgd", 0.1, 0.0, decay)
    layer(torch.ones(2, 5, dtype=torch.float64)).square().sum().backward()
    assert layer.weight.grad is not None
    gradient = layer.weight.grad.clone()
    stepper.step()
    return float((layer.weight.detach() - (before - 0.1 * (gradient + decay * before))).abs().max())


def checks(problem: shrinkage.Quadratic) -> list[Check]:
    """What has a formula, to rounding."""
    rate = problem.rate()
    stopped = shrinkage.descent(problem, rate, 50)[-1]
    by_formula = float((stopped - shrinkage.descent_by_directions(problem, rate, 50)).abs().max())
    by_directions = float((shrinkage.l2(problem, 0.1) - shrinkage.l2_by_directions(problem, 0.1)).abs().max())
    ridge = shrinkage.l2(problem, 1 / (rate * 50))
    likeness = float(F.cosine_similarity(stopped, ridge, dim=0))
    sparse, even = shrinkage.l1(problem, 0.05), shrinkage.l2(problem, 0.05)
    inked = problem.hessian.diagonal() > 0
    share, off = mixed_by_formula()
    target = smoothed_target()
    dropped = nn.Dropout(0.3)(torch.ones(100_000))
    step = after_one_step(0.01)
    return [
        Check("L2 α/2·wᵀw: a step of the trainer", "w − ε(g + αw)", f"largest difference {step:.0e}", step < 1e-12),
        Check(
            "L2 keeps each direction of w* to",
            "λ/(λ+α)",
            f"largest difference {by_directions:.0e}",
            by_directions < 1e-10,
        ),
        Check(
            "L1 α‖w‖₁, α = 0.05: weights exactly zero",
            "many; with L2 none",
            f"{int((sparse[inked] == 0).sum())} of {int(inked.sum())}; with L2 {int((even[inked] == 0).sum())}",
            int((sparse[inked] == 0).sum()) > int(inked.sum()) / 2 and bool((even[inked] != 0).all()),
            "Of the pixels that ever carry ink; the others weigh nothing either way.",
        ),
        Check(
            "Descent stopped after τ reaches w* to",
            "1 − (1−ελ)^τ",
            f"largest difference {by_formula:.0e}",
            by_formula < 1e-10,
        ),
        Check(
            "Stopping at τ is like L2 with α = 1/(ετ)",
            "τ ≈ 1/(εα)",
            f"τ = 50: cosine of the two weight vectors {likeness:.3f}, "
            f"lengths {float(stopped.norm()):.3f} and {float(ridge.norm()):.3f}",
            likeness > 0.98,
            "A likeness, not an equality: 1 − e^(−λ/α) against λ/(λ+α) in every direction.",
        ),
        Check(
            "mixup x̃ = λx₁ + (1−λ)x₂, ỹ alike",
            "the same λ",
            f"λ = {share:.3f}, largest difference {off:.0e}",
            off < 1e-12,
        ),
        compared("Label smoothing 0.1, ten classes", [[0.91, 0.01]], [[target[3], target[0]]]),
        Check(
            "Dropout 0.3 in training",
            "mean stays 1",
            f"{float((dropped == 0).double().mean()):.3f} dropped, the others times {float(dropped.max()):.4f}, "
            f"mean {float(dropped.mean()):.3f}",
            abs(float(dropped.mean()) - 1) < 0.02,
        ),
        normalised(),
    ]


def normalised() -> Check:
    """Channels of three photographs after normalisation by their own statistics."""
    from striate.config import Preprocess
    from striate.data.statistics import channel_statistics
    from striate.data.transforms import Normalize

    photos = photographs()
    mean, std = channel_statistics(photos, 3)
    layer = Normalize(Preprocess(mean=mean, std=std))
    pixels = torch.cat([layer(photo[None])[0].flatten(1) for photo in photos], dim=1).double()
    means, spreads = pixels.mean(1).tolist(), pixels.std(1, correction=0).tolist()
    return Check(
        "Normalised by the data's own statistics: each channel",
        "mean 0, deviation 1",
        f"{', '.join(f'{abs(value):.3f}' for value in means)}; {', '.join(f'{value:.3f}' for value in spreads)}",
        all(abs(value) < 1e-3 for value in means) and all(abs(value - 1) < 1e-3 for value in spreads),
    )


def photographs() -> list[Tensor]:
    """Chelsea the cat, Eileen Collins, a cup of coffee (scikit-image; public domain): uint8 [3, 200, 200]."""
    from skimage import data
    from torchvision.transforms.v2 import functional as vision

    found = []
    for load in (data.chelsea, data.astronaut, data.coffee):
        photo = torch.from_numpy(load().copy()).movedim(2, 0)
        side = min(photo.shape[1:])
        found.append(vision.resize(vision.center_crop(photo, [side, side]), [200, 200], antialias=True))
    return found


def augmented() -> list[PictureCard]:
    """One photograph, changed as in training: by Striate's own transforms, one kind at a time."""
    from striate.config import Augment, Preprocess
    from striate.data.transforms import train_transform

    kinds = {
        "mirror": Augment(hflip=1),
        "crop": Augment(crop="resized", crop_scale=(0.25, 0.6)),
        "rotate": Augment(rotate=30),
        "shear": Augment(shear=25),
        "scale": Augment(scale=(0.6, 1.5)),
        "colour and brightness": Augment(color_jitter=0.5),
        "erase": Augment(erase=1),
        "TrivialAugment": Augment(policy="trivial"),
    }
    photo = photographs()[0]
    cards = [PictureCard(photo, "as it is")]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        for name, augment in kinds.items():
            change = train_transform(augment, Preprocess(size=(200, 200)))
            times = 1 if name == "mirror" else 2
            cards += [PictureCard(change(photo), name) for _ in range(times)]
    shifted = photo + torch.tensor([25, -25, 25]).view(3, 1, 1)
    cards.append(PictureCard(shifted.clamp(0, 255).byte(), "colour shift\nred, blue +25, green −25"))
    return cards


def mixtures() -> list[PictureCard]:
    """Two photographs and what is between them, with the label of each."""
    cat, person, _ = photographs()
    cards = []
    for share in (1.0, 0.75, 0.5, 0.25, 0.0):
        mixed = (cat.float() * share + person.float() * (1 - share)).round().byte()
        label = " + ".join(f"{part:g} {name}" for part, name in ((share, "cat"), (1 - share, "person")) if part)
        cards.append(PictureCard(mixed, f"λ = {share:g}\nỹ = {label}"))
    return cards


def show(setting: Setting) -> Shown:
    """Paths, sheets, and what each really does on a small set."""
    problem = shrinkage.threes_and_eights()
    found = setting.remembered("A10-effects", {"configurations": CONFIGURATIONS}, effects)
    heads, rows, sentences = verdicts(found)
    ridge = torch.stack([shrinkage.l2(problem, alpha) for alpha in ALPHAS])
    lasso = torch.stack([shrinkage.l1(problem, alpha) for alpha in ALPHAS])
    return Shown(
        tuple(checks(problem)),
        (
            Section(
                "L2 shrinks, L1 selects",
                "The 64 weights of a linear classifier, 3 against 8, as the penalty grows. Under L2 all get small and "
                "none zero; under L1 one after the other becomes exactly zero and a few pixels decide.",
                [pictures.paths(ALPHAS, ridge, lasso), pictures.maps(ALPHAS, ridge, lasso)],
            ),
            Section(
                "Early stopping is like L2",
                "Descent from zero goes first where the loss is steep, which is where L2 shrinks least. After τ steps "
                "at rate ε it has come about as far as L2 with α = 1/(ετ) would let it.",
                [pictures.two_weights(), pictures.factors(), pictures.likeness(problem)],
            ),
            Section("Augmentation", "What one photograph becomes in training.", pictures=augmented()),
            Section(
                "mixup",
                "A picture between two pictures, and the label between their labels. λ comes from Beta(α, α): mostly "
                "near 0 or 1 where α is small.",
                [pictures.beta_densities()],
                pictures=mixtures(),
            ),
            Section(
                "What it does, measured",
                "A small convolutional network on 150 digits, judged on the other 1,647; every way with the same "
                "seeds. " + " ".join(sentences),
                [pictures.effects(found)],
                [Table(heads, rows)],
            ),
        ),
        notes=("The photographs are scikit-image's: Chelsea (CC0), Eileen Collins (NASA), coffee (CC0).",),
    )
