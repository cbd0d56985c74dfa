"""Emotion from a face, as a user would do it: mini-Xception trained here, and with its authors' weights (lecture C5).

trained: `striate train` on 2,100 grey faces of 48×48, 300 for each of 7 emotions. A tenth of them chooses the epoch
         that is kept; the 342 faces it is judged on are seen once, at the end.
public:  the authors' Keras file (github.com/oarriaga/face_classification) through `striate convert`. Its name says 66 %
         on FER2013, where two faces in five are happy or neutral; here all classes weigh the same, so the recalls
         weighted as there are reported too. Whether these faces were among those it was trained on is not known.

Both model files are judged by `striate evaluate … --json` on the same faces; all are processes of the command line.
Printed are both confusion matrices; `--picture FILE` draws them. Accuracies carry the 95 % intervals of a bootstrap
over the faces: some 5 points either way. Fails when `trained` is under 35 % (14.6 % is the share of the largest class)
or `public` under 52 %: it was 53.8 % when its logits had been compared with Keras's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.harness import Comparison, run
from bench.pictures import dataset

PAIRS = 1  # seeds
KERAS = "oarriaga-emotion-gender/trained_models/emotion_models/fer2013_mini_XCEPTION.102-0.66.hdf5"
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # in the Keras file's order
SHARES = (467, 56, 496, 895, 653, 415, 607)  # of these in FER2013's own test set (PublicTest of its fer2013.csv)
LOWEST = {"trained": 0.35, "public": 0.52}

# Batch norms here forget slowly, as in Keras (1 % a step): in fewer steps their statistics stay behind the weights.
RECIPE = (
    "--size 48 --batch 16 --optimizer adamw --lr 0.002 --label-smoothing 0.1 "
    "--augment.crop pad --augment.hflip 0.5 --augment.rotate 10 --augment.scale 0.9 1.1"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=int, default=60, help="of trained; some 6 s each on one core")
    parser.add_argument("--picture", type=Path, help="draw the confusion matrices here")
    parser.add_argument("--ours", nargs=argparse.REMAINDER, default=[], help="last: more options for striate train")


def measure(options: argparse.Namespace) -> list[Comparison]:
    faces = dataset("fer2013")
    keras = dataset("weights") / KERAS
    seconds: list[float] = []
    with tempfile.TemporaryDirectory(prefix="striate-bench-") as place:
        where = Path(place)
        folder = with_test(faces, where / "faces")
        public = evaluated(converted(keras, where / "public.safetensors"), folder, options.device)
        ours: list[dict[str, Any]] = []
        for seed in range(options.pairs):
            start = time.perf_counter()
            ours.append(evaluated(trained(folder, where / f"seed-{seed}", seed, options), folder, options.device))
            seconds.append(time.perf_counter() - start)
    said = {"trained": ours, "public": [public]}
    facts: dict[str, Any] = {"recipe": f"{options.epochs} epochs, {' '.join((RECIPE, *options.ours))}"}
    for side, answers in said.items():
        print(f"{side}{', seed 0' if side == 'trained' else ''}\n{as_table(answers[0])}\n", file=sys.stderr)
        facts |= {f"{name} of {side}": values for name, values in told(answers).items()}
    if options.picture:
        draw({side: answers[0] for side, answers in said.items()}, options.picture)
    return [Comparison("s", {"trained": seconds}, False, facts, "fer2013", passed(said))]


def with_test(faces: Path, where: Path) -> Path:
    """The same pictures with `validation` named `test`, so that no epoch is chosen on what the model is judged on."""
    where.mkdir()
    for name, source in (("train", "train"), ("test", "validation")):
        (where / name).symlink_to((faces / source).resolve(), target_is_directory=True)
    return where


def trained(folder: Path, where: Path, seed: int, options: argparse.Namespace) -> Path:
    command = [sys.executable, "-m", "striate", "train", str(folder), "--model", "mini_xception", "--seed", str(seed)]
    command += ["--epochs", str(options.epochs), "--val-fraction", "0.1", "--device", options.device]
    run([*command, "--out", str(where), "--name", "trained", *RECIPE.split(), *options.ours])
    return where / "classify" / "trained" / "model.safetensors"


def converted(keras: Path, model: Path) -> Path:
    command = [sys.executable, "-m", "striate", "convert", str(keras), "--model", "mini_xception", "--out", str(model)]
    run([*command, "--classes", ",".join(CLASSES), "--mean", "0.5", "--std", "0.5", "--size", "64"])  # x / 127.5 - 1
    return model


def evaluated(model: Path, folder: Path, device: str) -> dict[str, Any]:
    """What `striate evaluate --json` says of a model on the test faces."""
    command = [sys.executable, "-m", "striate", "evaluate", str(model), str(folder), "--split", "test"]
    return json.loads(run([*command, "--device", device, "--json"]))


def told(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Facts of one side, a value a seed where there are several: accuracy, recalls, and their mean as on FER2013."""
    recalls = [recalls_of(answer) for answer in answers]
    return {
        "accuracy": [in_words(answer) for answer in answers],
        "recalls": [{name: round(recall, 3) for name, recall in one.items()} for one in recalls],
        "accuracy at FER2013's shares": [round(at_shares(one), 4) for one in recalls],
    }


def in_words(answer: dict[str, Any]) -> str:
    accuracy = answer["scalars"]["accuracy"]
    return f"{accuracy['value']:.4f} ({accuracy['low']:.3f} – {accuracy['high']:.3f}) on {answer['samples']} faces"


def recalls_of(answer: dict[str, Any]) -> dict[str, float]:
    """Class → share of its faces that were recognised; classes without a face are left out."""
    rows = {name: row for name, row in zip(answer["classes"], answer["confusion"], strict=True) if sum(row)}
    return {name: row[answer["classes"].index(name)] / sum(row) for name, row in rows.items()}


def at_shares(recalls: dict[str, float]) -> float:
    """The accuracy that these recalls would give on FER2013's own test set."""
    there = {name: count for name, count in zip(CLASSES, SHARES, strict=True) if name in recalls}
    return sum(recalls[name] * count for name, count in there.items()) / sum(there.values())


def passed(said: dict[str, list[dict[str, Any]]]) -> bool:
    return all(
        answer["scalars"]["accuracy"]["value"] >= LOWEST[side] for side, answers in said.items() for answer in answers
    )


def as_table(answer: dict[str, Any]) -> str:
    """The confusion matrix with recalls; rows are the truth."""
    names, recalls = answer["classes"], recalls_of(answer)
    width = max(map(len, names))
    lines = [" " * width + "".join(f"{name[:7]:>9}" for name in names) + "   recall"]
    for name, row in zip(names, answer["confusion"], strict=True):
        lines.append(f"{name:{width}}" + "".join(f"{count:9}" for count in row) + f"{recalls.get(name, 0):9.2f}")
    return "\n".join([*lines, f"accuracy {in_words(answer)}"])


def draw(answers: dict[str, dict[str, Any]], path: Path) -> None:
    """Both confusion matrices, shaded by the share of a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(answers), 4.8), layout="constrained")
    panels = figure.subplots(1, len(answers), squeeze=False)[0]
    for axes, (side, answer) in zip(panels, answers.items(), strict=True):
        names = answer["classes"]
        shares = [[count / max(sum(row), 1) for count in row] for row in answer["confusion"]]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for y, row in enumerate(answer["confusion"]):
            for x, count in enumerate(row):
                axes.text(x, y, str(count), ha="center", va="center", color="white" if shares[y][x] > 0.5 else "black")
        axes.set_xticks(range(len(names)), names, rotation=45)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="said", ylabel="true", title=f"{side}: {100 * answer['scalars']['accuracy']['value']:.1f} %")
    figure.savefig(path, dpi=120)
