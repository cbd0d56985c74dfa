"""Which objects are on a picture, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from striate.drawing import draw_boxes
from striate.errors import MissingExtra, UsageError
from striate.results.result import Result, as_pillow
from striate.results.words import finite, visible

if TYPE_CHECKING:
    import supervision

    from striate.inference.sources import Source


@dataclass(frozen=True, slots=True, eq=False)
class Detections(Result):
    """Objects found on one picture, best first; `len(found)` of them, and `for name, score, box in found`.

    Attributes:
        source: the picture; it is read again to be drawn.
        classes: K names.
        boxes: float32 [N, 4], x1 y1 x2 y2 in pixels of the picture as `read_image` gives it, on the CPU; outer edges.
        scores: float32 [N] in 0..1, never rising.
        labels: int64 [N], class indices.
        masks: bool [N, H, W], where the model gives them.

    In a table a picture is one row: how many objects, the best one's label and score, the count of each class, and all
    objects in one cell (JSON in CSV, a list of structs in Parquet).
    """

    source: Source
    classes: tuple[str, ...]
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None

    columns: ClassVar[tuple[str, ...]] = ("source", "count", "label", "confidence", "counts", "error", "objects")
    placed: ClassVar[bool] = True
    has_confidence: ClassVar[bool] = True
    has_threshold: ClassVar[bool] = True

    @classmethod
    def of(cls, source: Source, classes: Sequence[str], rows: Tensor, threshold: float = 0.0) -> Detections:
        """From what a detector gives of one picture.

        Args:
            rows: float [K, 6], x1 y1 x2 y2 score class, as in `striate.tasks.detect.outputs`; those of class -1 only
                fill up.
            threshold: from which score on an object is kept.
        """
        rows = rows.detach().float().cpu()
        rows = rows[(rows[:, 5] >= 0) & (rows[:, 4] >= threshold)]
        rows = rows[rows[:, 4].argsort(descending=True, stable=True)]
        return cls(source, tuple(classes), rows[:, :4], rows[:, 4], rows[:, 5].long())

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[tuple[str, float, tuple[float, float, float, float]]]:
        """Name, score and box (x1, y1, x2, y2), best first."""
        for label, score, box in zip(self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True):
            yield self.classes[label], score, (box[0], box[1], box[2], box[3])

    def counts(self) -> dict[str, int]:
        """How many of each class that is there at all, the most frequent first; ties in the order of the classes."""
        found = Counter(self.labels.tolist())
        return {self.classes[label]: found[label] for label in sorted(found, key=lambda one: (-found[one], one))}

    def filter(self, threshold: float) -> Detections:
        """Those with at least this score.

        Raises:
            UsageError: the threshold is not in 0..1.
        """
        if not 0 <= threshold <= 1:
            raise UsageError(f"a threshold must be in 0..1, not {threshold}")
        keep = self.scores >= threshold
        masks = self.masks[keep] if self.masks is not None else None
        return replace(self, boxes=self.boxes[keep], scores=self.scores[keep], labels=self.labels[keep], masks=masks)

    def confidence_of(self, label: int) -> float:
        """The best score of the class."""
        scores = self.scores[self.labels == label]
        return float(scores.max()) if len(scores) else 0.0

    def strongest(self, label: int) -> Detections:
        """The best object of the class alone; none where there is none."""
        rows = (self.labels == label).nonzero().flatten()[:1]
        masks = self.masks[rows] if self.masks is not None else None
        return replace(self, boxes=self.boxes[rows], scores=self.scores[rows], labels=self.labels[rows], masks=masks)

    def box_of(self, label: int) -> tuple[float, float, float, float] | None:
        return next((box for name, _, box in self.strongest(label)), None)

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """JSON-able (RFC 8259: no NaN): source, count, the best one's label and confidence, counts, objects.

        Boxes are rounded to a hundredth of a pixel, which no metric sees; `to_coco` gives them whole.

        Args:
            top: so many objects, the best ones; all by default. The counts are of all.
        """
        objects = [
            {"label": name, "score": finite(round(score, 5)), "box": [finite(round(edge, 2)) for edge in box]}
            for name, score, box in self
        ]
        best = objects[0] if objects else {"label": None, "score": None}
        found: dict[str, Any] = {"source": self.source.name, "count": len(self)}
        found |= {"label": best["label"], "confidence": best["score"], "counts": self.counts()}
        return found | {"objects": objects[:top]}

    def describe(self, top: int = 5) -> str:
        """One line, with the `top` most frequent classes: `street.jpg: 3 person, 1 dog (best 0.98)`."""
        return f"{visible(self.source.name)}: {self._said(top)}"

    def caption(self) -> str:
        """A few words to stand under a small picture: `3 person, 1 dog`."""
        return self._said(2).partition(" (best")[0]

    def _said(self, top: int) -> str:
        counts = self.counts()
        if not counts:
            return "nothing found"
        named = [f"{number} {visible(name)}" for name, number in list(counts.items())[:top]]
        rest = sum(list(counts.values())[top:])
        more = [f"{rest} more"] if rest else []
        return f"{', '.join(named + more)} (best {float(self.scores[0]):.2f})"

    def draw(self, image: Image.Image | Tensor | None = None) -> Image.Image:
        """The picture with a box around every object, its name and score."""
        picture = as_pillow(self.source.load() if image is None else image)
        names = [self.classes[label] for label in self.labels.tolist()]
        return draw_boxes(picture, self.boxes, names, self.scores, self.labels.tolist())

    def draw_places(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        names = [self.classes[label] for label in self.labels.tolist()]
        boxes = self.boxes * (image.width / size[1])
        return draw_boxes(image, boxes, names, self.scores, self.labels.tolist(), side=1)

    def to_supervision(self) -> supervision.Detections:
        """As roboflow's supervision takes them, for its annotators, trackers and zones.

        Raises:
            MissingExtra: supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise MissingExtra("supervision", "supervision", "to_supervision()") from None
        import numpy as np

        names = np.array([self.classes[label] for label in self.labels.tolist()], dtype=str)
        return supervision.Detections(
            xyxy=self.boxes.numpy().reshape(-1, 4),
            mask=None if self.masks is None else self.masks.numpy(),
            confidence=self.scores.numpy(),
            class_id=self.labels.numpy().astype(int),
            data={"class_name": names},
        )

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Rows of a COCO results file: boxes as x, y, width, height; masks as compressed RLE.

        Args:
            image_id: of the picture in the annotation file.
            category_ids: of each class there; by default 1 for the first class, 2 for the second …
        """
        ids = list(category_ids) if category_ids is not None else range(1, len(self.classes) + 1)
        rows: list[dict[str, Any]] = []
        for index, (label, (x1, y1, x2, y2)) in enumerate(zip(self.labels.tolist(), self.boxes.tolist(), strict=True)):
            row = {"image_id": image_id, "category_id": ids[label], "bbox": [x1, y1, x2 - x1, y2 - y1]}
            rows.append(row | {"score": float(self.scores[index])})
            if self.masks is not None:
                rows[-1]["segmentation"] = _run_lengths(self.masks[index])
        return rows


def _run_lengths(mask: Tensor) -> dict[str, Any]:
    """bool [H, W] as COCO's compressed RLE, with text that JSON can hold."""
    import numpy as np
    from hotcoco import mask as run_lengths

    found = run_lengths.encode(np.asfortranarray(mask.to(torch.uint8).numpy()))
    counts = found["counts"]
    return {"size": list(found["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}
