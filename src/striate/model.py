"""A trained network with all that is needed to use it: what `striate.load` returns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from striate.backbones.weights import mismatches
from striate.config import ModelCard
from striate.device import pick_device
from striate.errors import DataError, UsageError
from striate.files import refuse_overwrite
from striate.inference.predictor import Predictor, automatic_batch, automatic_workers
from striate.inference.sources import expand
from striate.model_file import read_model, write_model
from striate.results import Failure, Result
from striate.tasks import create_task
from striate.tasks.outputs import Coded

if TYPE_CHECKING:
    from striate.explain.explanation import Explanation
    from striate.inference.evaluate import Evaluation
    from striate.robustness import Robustness


class Model:
    """A network in evaluation mode, its card and its task.

    Attributes:
        module: float [B, C, h, w], normalised, → outputs.
        card: what the model file says of itself.
        task: turns outputs into results.
        device: where it computes.
        name: of the run or file that it was loaded from; otherwise its architecture.
    """

    def __init__(self, module: nn.Module, card: ModelCard, device: str = "auto") -> None:
        self.card = card
        self.task = create_task(card.task, classes=card.classes, **card.task_arguments)
        if isinstance(self.task, Coded):
            self.task.adopt(module)
        self.device = pick_device(device)
        self.name = card.architecture
        self.module = module.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Model:
        """As `striate.load`."""
        path = Path(path)
        if (path / "model.safetensors").is_file():
            path = path / "model.safetensors"
        weights, card = read_model(path)
        task = create_task(card.task, classes=card.classes, **card.task_arguments)
        with torch.random.fork_rng(devices=[]):  # weights drawn only to be replaced must not disturb the caller
            module = task.build(card.architecture, card.preprocess.channels, **card.arguments)
        if problems := mismatches(module.state_dict(), weights):
            raise DataError(
                f"{path}: its weights do not fit {card.architecture}: {'; '.join(problems)}. Made by another version?"
            )
        module.load_state_dict(weights)
        model = cls(module, card, device)
        model.name = path.resolve().parent.name if path.name == "model.safetensors" else path.stem
        return model

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write weights and card as one `.safetensors`.

        Raises:
            UsageError: a file stands there, or the name has another ending.
        """
        path = refuse_overwrite(path, overwrite)
        if path.suffix != ".safetensors":
            raise UsageError(f"{path}: a model file ends in .safetensors")
        return write_model(path, self.module.state_dict(), self.card)

    @property
    def predictor(self) -> Predictor:
        """Prepare, run, postprocess: what `predict` and `evaluate` go through."""
        return Predictor.of(self.module, self.task, self.card.preprocess, self.device)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.card.classes)

    def predict(
        self,
        sources: Any,
        *,
        batch: int | Literal["auto"] = "auto",
        workers: int | Literal["auto"] = "auto",
        on_error: Literal["skip", "raise"] = "skip",
        threshold: float | None = None,
        tile: int | Literal["auto"] | None = None,
        tile_overlap: float = 0.2,
    ) -> Any:
        """Results for pictures: one picture in, one result out; several in, a list out, in their order.

        Args:
            sources: path, folder, glob, URL, bytes, PIL image, array, tensor, `digits:test`, or a list of these.
            batch: pictures computed at once.
            workers: threads that read pictures; 0, or one picture: read without.
            on_error: `skip` puts a Failure where a picture of several could not be read.
            threshold: from which probability on a label holds, instead of the thresholds stored in the model.
            tile: look for objects in tiles of so many pixels a side too; `auto`: as large as what the network sees.
            tile_overlap: what neighbouring tiles share, of their side.

        Raises:
            DataError: nothing is there; the one picture cannot be read, or with `on_error="raise"` any of several.
            UsageError: this cannot be a picture; a threshold outside 0..1, or for a model that has none.
        """
        found, is_single = expand(sources)
        workers = 0 if is_single and workers == "auto" else workers
        results = list(
            self._stream(found, batch, workers, "raise" if is_single else on_error, threshold, tile, tile_overlap)
        )
        return results[0] if is_single else results

    def predict_stream(
        self,
        sources: Any,
        *,
        batch: int | Literal["auto"] = "auto",
        workers: int | Literal["auto"] = "auto",
        on_error: Literal["skip", "raise"] = "skip",
        threshold: float | None = None,
        tile: int | Literal["auto"] | None = None,
        tile_overlap: float = 0.2,
    ) -> Iterator[Result | Failure]:
        """As `predict`, one by one in bounded memory: `sources` may be a generator of millions."""
        return self._stream(expand(sources)[0], batch, workers, on_error, threshold, tile, tile_overlap)

    def _stream(
        self,
        found: Any,
        batch: int | str,
        workers: int | str,
        on_error: Any,
        threshold: float | None,
        tile: int | Literal["auto"] | None,
        tile_overlap: float,
    ) -> Iterator[Result | Failure]:
        if on_error not in ("skip", "raise"):
            raise UsageError(f'on_error "{on_error}" is not known; use "skip" or "raise"')
        if tile is not None:
            from striate.inference.tiles import predict_tiled_stream

            return predict_tiled_stream(self.predictor, found, tile, tile_overlap, threshold, on_error)
        size = self.card.preprocess.size
        return self.predictor.stream(
            found,
            batch=automatic_batch(size, self.device) if batch == "auto" else _whole("batch", batch),
            workers=automatic_workers() if workers == "auto" else _whole("workers", workers, 0),
            threshold=threshold,
            on_error=on_error,
        )

    def evaluate(self, data: str, split: str | None = None, **options: Any) -> Evaluation:
        """Judge on labelled pictures: see `striate.inference.evaluate.evaluate_model`."""
        from striate.inference.evaluate import evaluate_model

        return evaluate_model(self, data, split, **options)

    def robustness(self, data: str, split: str | None = None, **options: Any) -> Robustness:
        """How the best metric falls when pictures get harder: see `striate.robustness.measure_robustness`."""
        from striate.robustness import measure_robustness

        return measure_robustness(self, data, split, **options)

    def explain(self, sources: Any = None, how: str = "gradcam", **options: Any) -> Explanation:
        """Why, and what is inside: `how` is a key of `striate.explain.METHODS`, `options` are the fields of
        `striate.explain.explanation.Request`."""
        from striate.explain import explain

        return explain(self, sources, how, **options)

    def summary(self) -> str:
        """The network's layers, shapes, parameters and costs, as a table."""
        from striate.network_summary import summarize

        channels, size = self.card.preprocess.channels, self.card.preprocess.size
        return str(summarize(self.module, (channels, *size)))

    def __repr__(self) -> str:
        height, width = self.card.preprocess.size
        names = ", ".join(self.classes[:4]) + (" …" if len(self.classes) > 4 else "")
        count = sum(parameter.numel() for parameter in self.module.parameters())
        metrics = "".join(f", {name} {value:.4g}" for name, value in list(self.card.metrics.items())[:1])
        return (
            f"Model({self.card.architecture}, {self.card.task}: {len(self.classes)} classes ({names}), "
            f"{count:,} parameters, {self.card.preprocess.channels} x {height} x {width}, {self.device}{metrics})"
        )


def load(path: str | Path, device: str = "auto") -> Model:
    """The model in a file that `striate train` or `Model.save` wrote; of a run's folder, its best.

    Raises:
        DataError: no such file, no card in it, or weights that do not fit the network it names.
        UsageError: no such device here.
    """
    return Model.load(path, device)


def _whole(name: str, value: int | str, least: int = 1) -> int:
    if not isinstance(value, int) or value < least:
        raise UsageError(f'{name} must be a whole number from {least}, or "auto"; got {value!r}')
    return value
