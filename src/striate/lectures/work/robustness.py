"""What a network answers should not hang on what does not matter: where the object stands, its size, how it is turned,
how bright the light is, what covers it. Each can be measured: disturb the pictures by degrees, and watch the accuracy
fall (Hendrycks & Dietterich, ICLR 2019). The hardest disturbance is one made for the network: x + ε·sign(∇ₓJ), the fast
gradient sign method (Goodfellow et al., ICLR 2015), against which noise of the same strength does nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREY, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from striate.model import Model

PYTHON = """\
import striate, tempfile

with tempfile.TemporaryDirectory() as folder:
    line = "(conv32-bn-relu)x2-pool-conv64-bn-relu-gap"
    model = striate.train("digits", model=line, epochs=8, out=folder, quiet=True)
found = model.robustness("digits:val", only=["shift", "rotation", "occlusion"])
print(found.sentence)
for curve in found.curves.values():
    print(curve.name, [f"{value:.2f}" for value in (found.clean.value, *curve.values)])
"""

LINE = "(conv32-bn-relu)x2-pool-conv64-bn-relu-gap"
EPOCHS = 12
EPSILONS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)  # of pixels in 0..1


def show(setting: Setting) -> Shown:
    found = setting.remembered("robustness", {"line": LINE, "epochs": EPOCHS}, lambda: measured(setting))
    clean = found["clean"]
    ends = {name: curve["values"][-1] for name, curve in found["curves"].items()}
    gradient, noise = found["fgsm"], found["noise"]
    at = EPSILONS.index(0.1)
    worst = min(ends, key=ends.__getitem__)
    checks = (
        Check(
            "accuracy under disturbances",
            "falls with their strength",
            f"{clean:.1%} undisturbed; at the strongest {min(ends.values()):.1%} ({worst}) to {max(ends.values()):.1%}",
            all(value <= clean + 0.01 for value in ends.values()),
            f"{found['count']} handwritten digits that were not trained on.",
        ),
        Check(
            "x + ε·sign(∇ₓJ), ε = 0.1, against noise ±0.1",
            "the gradient's direction is far worse than a random one",
            f"{gradient[at]:.1%} against {noise[at]:.1%}",
            gradient[at] < noise[at] - 0.1,
            "Every pixel moves by the same amount in both.",
        ),
    )
    rows = [
        [name, curve["unit"], ", ".join(f"{value:g}" for value in curve["strengths"]), *curve["values"]]
        for name, curve in found["curves"].items()
    ]
    return Shown(
        checks,
        (
            Section(
                "Ten disturbances",
                f"{found['sentence'][0].upper()}{found['sentence'][1:]}. The network was trained without augmentation.",
                [
                    Figure(
                        draw_curves(found),
                        "Accuracy against strength, weak to strong; dotted: undisturbed.",
                        "Ten small panels of falling curves.",
                        wide=True,
                    )
                ],
                [Table(("disturbance", "unit", "strengths", "1", "2", "3", "4", "5"), rows)],
            ),
            Section(
                "One made for the network",
                "Both change each pixel by ε, one along the gradient's sign, the other by the toss of a coin.",
                [
                    Figure(
                        draw_gradient(found),
                        "Accuracy against ε.",
                        "Two curves: along the gradient it falls at once, with coin tosses slowly.",
                    ),
                    Figure(
                        draw_examples(found),
                        "A digit, the change (grey is none), and what the network then says.",
                        "Rows of digits: as they are, the change, changed.",
                    ),
                ],
            ),
        ),
    )


def measured(setting: Setting) -> dict[str, Any]:
    """Train on digits, then all that the page shows: disturbances, the gradient's sign, coin tosses, examples."""
    import tempfile

    import striate
    from striate.robustness import measure_robustness

    setting.say("digits: training")
    with tempfile.TemporaryDirectory(prefix="striate-lecture-") as where:
        model = striate.train("digits", model=LINE, epochs=EPOCHS, augment="none", out=where, quiet=True, seed=0)
        setting.say("digits: disturbing")
        result = measure_robustness(model, "digits", "val")
        found = result.to_dict()
        return {
            "clean": found["clean"],
            "count": found["count"],
            "sentence": found["sentence"],
            "curves": found["disturbances"],
            **attacked(model),
        }


def attacked(model: Model) -> dict[str, Any]:
    """Accuracy under FGSM and under coin tosses at each ε, and three digits that it turns."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    from striate.data.loaders import Split
    from striate.inference.evaluate import labelled_samples

    _, samples = labelled_samples(model, "digits", "val", False)
    preprocess = model.card.preprocess
    batch = next(iter(Split(samples, model.task.collate, preprocess).eval_batches(len(samples))))
    pixels, labels = batch.images.float() / 255, batch.targets
    mean, std = torch.tensor(preprocess.mean).view(-1, 1, 1), torch.tensor(preprocess.std).view(-1, 1, 1)
    network = model.module.float().eval()
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False

    def logits(images: torch.Tensor) -> torch.Tensor:
        return network((images - mean) / std)

    images = pixels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits(images), labels, reduction="sum"), images)
    tosses = torch.rand(pixels.shape, generator=torch.Generator().manual_seed(0)).sub(0.5).sign()
    accuracy: dict[str, list[float]] = {"fgsm": [], "noise": []}
    with torch.no_grad():
        for epsilon in EPSILONS:
            for name, direction in (("fgsm", gradient.sign()), ("noise", tosses)):
                answers = logits((pixels + epsilon * direction).clamp(0, 1)).argmax(1)
                accuracy[name].append(float((answers == labels).float().mean()))
        changed = (pixels + 0.1 * gradient.sign()).clamp(0, 1)
        before, after = (logits(one).softmax(1) for one in (pixels, changed))
    turned = ((before.argmax(1) == labels) & (after.argmax(1) != labels)).nonzero()[:, 0][:3].tolist()
    examples = [
        {
            "picture": pixels[index, 0].tolist(),
            "changed": changed[index, 0].tolist(),
            "before": [int(before[index].argmax()), float(before[index].max())],
            "after": [int(after[index].argmax()), float(after[index].max())],
        }
        for index in turned
    ]
    return {**accuracy, "examples": examples}


def draw_curves(found: dict[str, Any]) -> Drawing:
    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes

    curves = found["curves"]
    figure = new_figure(10, 3.7)
    panels = figure.subplots(2, -(-len(curves) // 2), sharey=True).ravel()
    for axes, (name, curve) in zip(panels, curves.items(), strict=False):
        plain_axes(axes)
        values = [100 * value for value in curve["values"]]
        axes.axhline(100 * found["clean"], color=GREY, linewidth=0.8, linestyle=":")
        axes.plot(range(1, len(values) + 1), values, color=BLUE, marker="o", markersize=3.5, linewidth=1.5)
        axes.set_title(name, fontsize=LETTERS + 0.5, loc="left")
        axes.set(ylim=(0, 104), xlim=(0.6, len(values) + 0.4))
        axes.set_xticks(range(1, len(values) + 1), [f"{value:g}" for value in curve["strengths"]])
        axes.tick_params(labelsize=LETTERS - 2)
        axes.set_xlabel(curve["unit"], fontsize=LETTERS - 1.5)
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    figure.supylabel("accuracy (%)", fontsize=LETTERS)
    return figure


def draw_gradient(found: dict[str, Any]) -> Drawing:
    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes

    figure = new_figure(4.8, 3.4)
    axes = plain_axes(figure.add_subplot())
    for name, told, colour in (("noise", "coin tosses", BLUE), ("fgsm", "sign of the gradient", ORANGE)):
        values = [100 * value for value in found[name]]
        axes.plot(EPSILONS, values, color=colour, marker="o", markersize=4.5, linewidth=1.6, label=told)
    axes.set(ylim=(0, 104), xlim=(-0.01, 0.31))
    axes.set_xlabel("ε, of pixels in 0..1", fontsize=LETTERS)
    axes.set_ylabel("accuracy (%)", fontsize=LETTERS)
    axes.legend(frameon=False, fontsize=LETTERS)
    return figure


def draw_examples(found: dict[str, Any]) -> Drawing:
    import numpy as np

    from striate.lectures.diagrams import LETTERS, new_figure

    examples = found["examples"]
    figure = new_figure(4.4, 1.35 * max(1, len(examples)) + 0.3)
    grid = figure.subplots(max(1, len(examples)), 3, squeeze=False)
    for row, example in zip(grid, examples, strict=False):
        picture, changed = np.array(example["picture"]), np.array(example["changed"])
        for axes, values, low, high in (
            (row[0], picture, 0, 1),
            (row[1], changed - picture, -0.2, 0.2),
            (row[2], changed, 0, 1),
        ):
            axes.imshow(values, cmap="gray", vmin=low, vmax=high)
            axes.set(xticks=[], yticks=[])
        for axes, (answer, sure) in ((row[0], example["before"]), (row[2], example["after"])):
            axes.set_title(f"{answer}, {sure:.0%}", fontsize=LETTERS)
    return figure
