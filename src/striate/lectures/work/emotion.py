"""A face of 48×48 grey pixels, and seven words for it: FER2013's photographs were named by a search engine and checked
by people, who agree with one another on two faces in three. Mini-Xception does as well with some sixty thousand
weights: depthwise separable convolutions in four residual blocks, and the mean of the last maps instead of dense layers
(Arriaga, Valdenegro-Toro & Plöger, 2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.lectures.page import Check, Setting, Shown
from striate.lectures.seeing.real import absent
from striate.tasks.section import GREEN, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure as Drawing

    from striate.model import Model

PYTHON = """\
import torch
from striate.backbones import create_model

network = create_model("mini_xception", num_classes=7, in_chans=1, image_size=(64, 64)).eval()
print(f"{sum(weight.numel() for weight in network.parameters()):,} weights")
for name, maps in network.feature_maps(torch.rand(1, 1, 64, 64)).items():
    print(f"{name}: {list(maps.shape[1:])}")
"""

FACES, KEPT = "fer2013", "weights"
KERAS = "oarriaga-emotion-gender/trained_models/emotion_models/fer2013_mini_XCEPTION.102-0.66.hdf5"
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # in the Keras file's order
SHARES = (467, 56, 496, 895, 653, 415, 607)  # of these in FER2013's own test set (PublicTest of its fer2013.csv)
DRAWN = 7  # faces a row


def show(setting: Setting) -> Shown:
    checks, sections = [weights()], []
    faces, kept = setting.found(FACES), setting.found(KEPT)
    if faces is not None and kept is not None:
        inputs = {"weights": KERAS, "classes": CLASSES}
        found = setting.remembered("emotion", inputs, lambda: judged(faces, kept, setting))
        checks += claims(found)
        sections.append(said(found))
    seen = {FACES: "faces, and what a network reads in them", KEPT: "the authors' trained network"}
    return Shown(tuple(checks), tuple(sections), (TRAINED,), absent(setting, seen))


TRAINED = (
    "Training it here on the 2,100 faces takes six minutes and gives less: `python -m bench emotion` does both, and "
    "compares. Faces must be found and cut out first; these are."
)


def weights() -> Check:
    from striate.backbones import create_model

    network = create_model("mini_xception", num_classes=len(CLASSES), in_chans=1, image_size=(64, 64))
    count = sum(weight.numel() for weight in network.parameters())
    return Check(
        "weights of mini-Xception",
        "about 60,000",
        f"{count:,}",
        round(count, -4) == 60_000,
        "A tenth of the 600,000 of the same paper's plain network, section III.",
    )


def public(kept: Path) -> Model:
    """The authors' Keras file as a model of ours; pixels x / 127.5 - 1, 64×64 (what `striate convert` writes)."""
    from striate.backbones import Backbone, create_model
    from striate.backbones.weights import load_weights
    from striate.config import ModelCard, Preprocess
    from striate.model import Model

    network = create_model("mini_xception", num_classes=len(CLASSES), in_chans=1, image_size=(64, 64))
    assert isinstance(network, Backbone)
    load_weights(network, kept / KERAS, same_classes=True)
    card = ModelCard(
        task="classify",
        architecture="mini_xception",
        arguments=network.arguments,
        classes=list(CLASSES),
        preprocess=Preprocess(size=(64, 64), channels=1, crop_ratio=1.0, mean=(0.5,), std=(0.5,)),
    )
    return Model(network, card, "cpu")


def judged(faces: Path, kept: Path, setting: Setting) -> dict[str, Any]:
    """Confusion, and the faces to be shown, on the faces held out by the set."""
    from striate.data.reader import read_sample
    from striate.tasks.classify.metrics import ClassificationMetrics

    setting.say("emotions: judging the authors' weights")
    result = public(kept).evaluate(str(faces), "val")
    assert isinstance(result.metrics, ClassificationMetrics)
    shares, truth = result.metrics.probabilities(), result.metrics.gathered()[1]
    sure, answer = shares.max(1)
    good = [best(sure, (truth == label) & (answer == label)) for label in range(len(CLASSES))]
    bad = (answer != truth).nonzero()[:, 0]
    bad = bad[sure[bad].argsort(descending=True)][:DRAWN].tolist()
    return {
        "accuracy": result["accuracy"],
        "confusion": result.metrics.confusion().tolist(),
        "faces": [
            {
                "picture": read_sample(result.samples[index])[0].tolist(),
                "truth": CLASSES[int(truth[index])],
                "said": CLASSES[int(answer[index])],
                "sure": float(sure[index]),
            }
            for index in [*(index for index in good if index is not None), *bad]
        ],
    }


def best(sure: Any, among: Any) -> int | None:
    """The surest of those that `among` holds true of."""
    rows = among.nonzero()[:, 0]
    return int(rows[sure[rows].argmax()]) if len(rows) else None


def recalls(confusion: list[list[int]]) -> list[float]:
    return [row[at] / max(sum(row), 1) for at, row in enumerate(confusion)]


def claims(found: dict[str, Any]) -> list[Check]:
    each, total = recalls(found["confusion"]), sum(map(sum, found["confusion"]))
    weighted = sum(share * recall for share, recall in zip(SHARES, each, strict=True)) / sum(SHARES)
    # a standard error of each class's recall, weighted as the recalls are
    variance = sum(
        (share / sum(SHARES)) ** 2 * recall * (1 - recall) / max(sum(row), 1)
        for share, recall, row in zip(SHARES, each, found["confusion"], strict=True)
    )
    chance = max(map(sum, found["confusion"])) / total
    return [
        Check(
            "accuracy at FER2013's own mixture of emotions",
            "66 % (in the file's name)",
            f"{weighted:.1%}",
            abs(weighted - 0.66) < 2 * variance**0.5,
            f"Its recalls here, weighted as emotions are in FER2013's test set. {total} faces judge, so within two "
            f"standard errors is ± {2 * variance**0.5:.1%}. The faces here are smoothed JPEG copies, and the file's "
            "name tells the best of 102 epochs.",
        ),
        Check(
            "accuracy where all emotions are as frequent",
            "far above the largest class alone",
            f"{found['accuracy']:.1%} against {chance:.1%}",
            found["accuracy"] > 2 * chance,
            "Happy and surprised faces, the easy ones, weigh less here than in FER2013.",
        ),
    ]


def said(found: dict[str, Any]) -> Section:
    import torch

    from striate.tasks.classify.figures import draw_confusion

    confusion = torch.tensor(found["confusion"])
    rows = [
        [name, int(row.sum()), f"{float(row[at] / row.sum().clamp(min=1)):.0%}", mistaken(row.tolist(), at)]
        for at, (name, row) in enumerate(zip(CLASSES, confusion, strict=True))
    ]
    figures = [
        Figure(
            draw_faces(found["faces"]),
            "Above: the surest right answer of each emotion. Below: the surest mistakes, with the truth.",
            "Two rows of grey faces with a word and a share under each.",
            wide=True,
        ),
        Figure(draw_confusion(confusion, CLASSES), "Rows are the truth, columns what was said.", "A table of counts."),
    ]
    text = (
        "The authors’ Keras weights in our network, on faces held out. Disgust, of which FER2013 "
        "has few faces to learn from, is the hardest; fear, sadness and no emotion are mistaken for one another."
    )
    table = Table(("emotion", "faces", "recognised", "most often taken for"), rows)
    return Section("Seven emotions", text, figures, [table])


def mistaken(row: list[int], at: int) -> str:
    others = [(count, name) for place, (count, name) in enumerate(zip(row, CLASSES, strict=True)) if place != at]
    count, name = max(others)
    return f"{name} ({count})" if count else "none"


def draw_faces(faces: list[dict[str, Any]]) -> Drawing:
    import numpy as np

    from striate.lectures.diagrams import LETTERS, new_figure

    lines = max(1, -(-len(faces) // DRAWN))
    figure = new_figure(9.6, 1.85 * lines)
    grid = figure.subplots(lines, DRAWN, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, face in zip(grid, faces, strict=False):
        right = face["said"] == face["truth"]
        axes.imshow(np.array(face["picture"]), cmap="gray", vmin=0, vmax=255)
        words = f"{face['said']} {face['sure']:.0%}" + ("" if right else f"\nit is {face['truth']}")
        axes.set_title(words, fontsize=LETTERS, color=GREEN if right else ORANGE, pad=3)
    return figure
