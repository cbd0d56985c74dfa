"""Objects and landmarks: targets that lie at places in the picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from striate.data.geometry import Affine, hflip, warp
from striate.data.masks import rasterize
from striate.data.targets.target import Stratum, Target, content

if TYPE_CHECKING:
    from PIL import Image

PLAIN, CROWD, DIFFICULT = 0, 1, 2  # kinds of objects
REMARKS = {CROWD: " (crowd)", DIFFICULT: " (difficult)"}
LEAST_SEEN = 0.25  # of an object's box that must be left in the picture for it to be learnt
LEAST_SIDE = 2.0  # pixels
POINTS_INK = "#f97316"


@dataclass(frozen=True, slots=True, eq=False)
class Points(Target):
    """Landmarks of one picture: float32 [K, 3]: x and y in its pixels, and 1 where the point is known, else 0."""

    values: Tensor

    spatial: ClassVar[bool] = True

    def warp(self, by: Affine, size: tuple[int, int]) -> Points:
        """Points outside are still known, for a network may well say where they are."""
        return Points(torch.cat((by.points(self.values[:, :2]), self.values[:, 2:]), 1))

    def hflip(self, size: tuple[int, int], pairs: tuple[int, ...] | None = None) -> Points | None:
        return None if pairs is None else Points(self.values[list(pairs)]).warp(hflip(size[1]), size)

    def class_ids(self) -> tuple[int, ...]:
        return ()

    def remap(self, index: Sequence[int], count: int) -> Points:
        values = torch.zeros(count, 3)
        values[list(index)] = self.values
        return Points(values)

    def digest(self) -> bytes:
        return content(self.values)

    def draw(self, image: Image.Image, scale: tuple[float, float], classes: Sequence[str]) -> Image.Image:
        from striate.drawing import draw_points

        known = self.values[:, 2] > 0
        at = torch.cat((self.values[:, :2] * torch.tensor(scale), known[:, None].float()), 1)
        return draw_points(image, at, (), POINTS_INK, known)


@dataclass(frozen=True, slots=True, eq=False)
class Objects(Target):
    """What is on one picture, object by object, in pixels of the picture as `read_image` gives it.

    Attributes:
        boxes: float32 [N, 4], x1 y1 x2 y2: the outer edges, so a box is x2 - x1 wide; 0 is the left or upper edge.
        labels: int64 [N], class indices.
        kinds: int64 [N]: PLAIN; CROWD, a region of many (COCO's iscrowd); DIFFICULT (VOC). Only plain ones are learnt,
            and the others are neither hits nor misses when detections are evaluated.
        areas: float32 [N], of the mask where the file says so, else of the box.
        masks: of each object a list of polygons ([x, y, x, y, …]), COCO's RLE (`{"size", "counts"}`) or None; once
            loaded, bool [N, H, W].
        keypoints: float32 [N, K, 3]: x, y, and 0 not there, 1 hidden, 2 seen.
    """

    boxes: Tensor
    labels: Tensor
    kinds: Tensor
    areas: Tensor
    masks: tuple[Any, ...] | Tensor | None = None
    keypoints: Tensor | None = None

    spatial: ClassVar[bool] = True

    @classmethod
    def of(cls, boxes: Any, labels: Any, **more: Any) -> Objects:
        """From rows of numbers; plain objects with the areas of their boxes where nothing else is said."""
        boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        labels = torch.as_tensor(labels, dtype=torch.int64).reshape(-1)
        width, height = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).unbind(1)
        kinds = more.pop("kinds", None)
        areas = more.pop("areas", None)
        return cls(
            boxes,
            labels,
            torch.zeros_like(labels) if kinds is None else torch.as_tensor(kinds, dtype=torch.int64),
            width * height if areas is None else torch.as_tensor(areas, dtype=torch.float32),
            **more,
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lazy(self) -> bool:
        return self.masks is not None

    def load(self, size: tuple[int, int]) -> Objects:
        """Outlines become pixels. A task that learns boxes drops them first (`without_masks`)."""
        if self.masks is None or isinstance(self.masks, Tensor):
            return self
        drawn = [rasterize(mask, size) for mask in self.masks]
        return replace(self, masks=torch.stack(drawn) if drawn else torch.zeros(0, *size, dtype=torch.bool))

    def without_masks(self) -> Objects:
        return self if self.masks is None else replace(self, masks=None)

    def warp(self, by: Affine, size: tuple[int, int]) -> Objects:
        """Boxes become the upright boxes around their corners, cut at the edge; an object of which less than a quarter
        is left is dropped. Masks are loaded before."""
        if not len(self):
            return replace(self, masks=None if self.masks is None else torch.zeros(0, *size, dtype=torch.bool))
        x1, y1, x2, y2 = self.boxes.unbind(1)
        corners = torch.stack((torch.stack((x1, x2, x1, x2), 1), torch.stack((y1, y1, y2, y2), 1)), 2)  # [N, 4, 2]
        corners = by.points(corners)
        whole = torch.cat((corners.amin(1), corners.amax(1)), 1)
        height, width = size
        cut = torch.stack(
            (
                whole[:, 0].clamp(0, width),
                whole[:, 1].clamp(0, height),
                whole[:, 2].clamp(0, width),
                whole[:, 3].clamp(0, height),
            ),
            1,
        )
        sides, whole_sides = cut[:, 2:] - cut[:, :2], whole[:, 2:] - whole[:, :2]
        seen = sides.prod(1) >= LEAST_SEEN * whole_sides.prod(1)
        kept = seen & (sides.amin(1) >= torch.minimum(whole_sides.amin(1), torch.tensor(LEAST_SIDE)))
        keypoints = self.keypoints
        if keypoints is not None:
            keypoints = torch.cat((by.points(keypoints[..., :2]), keypoints[..., 2:]), -1)[kept]
        masks = self.masks
        if masks is not None:
            assert isinstance(masks, Tensor), "masks are loaded before their picture moves"
            masks = warp(masks[kept].to(torch.uint8), by, size, mode="nearest").bool()
        return Objects(cut[kept], self.labels[kept], self.kinds[kept], self.areas[kept], masks, keypoints)

    def joined(self, others: Sequence[Objects]) -> Objects:
        """The objects of all; keypoints and masks only where all have as many, or have any."""
        found = [self, *others]
        keypoints = [one.keypoints for one in found if one.keypoints is not None]
        same = len(keypoints) == len(found) and len({points.shape[1] for points in keypoints}) == 1
        masks = [one.masks for one in found if isinstance(one.masks, Tensor)]
        return Objects(
            torch.cat([one.boxes for one in found]),
            torch.cat([one.labels for one in found]),
            torch.cat([one.kinds for one in found]),
            torch.cat([one.areas for one in found]),
            torch.cat(masks) if len(masks) == len(found) else None,
            torch.cat(keypoints) if same else None,
        )

    def class_ids(self) -> tuple[int, ...]:
        return tuple(self.labels.tolist())

    def objects(self) -> Objects:
        return self

    def stratum(self) -> Stratum:
        return tuple(sorted(set(self.class_ids())))

    def remap(self, index: Sequence[int], count: int) -> Objects:
        return replace(self, labels=torch.tensor(list(index), dtype=torch.int64)[self.labels])

    def digest(self) -> bytes:
        tensors = (self.boxes, self.labels, self.kinds, self.areas, self.keypoints)
        return b"".join(content(values) for values in tensors if values is not None) + repr(self.masks).encode()

    def describe(self, classes: Sequence[str]) -> str:
        """`3 cat, 1 dog`: the objects of a picture by class."""
        counts = Counter(self.class_ids()).most_common()
        return ", ".join(f"{count} {classes[label]}" for label, count in counts) or "nothing"

    def draw(self, image: Image.Image, scale: tuple[float, float], classes: Sequence[str]) -> Image.Image:
        """The first box of each class is named, the others have its colour."""
        from striate.drawing import draw_boxes

        told = [
            f"{classes[label]}{REMARKS.get(kind, '')}"
            for label, kind in zip(self.labels.tolist(), self.kinds.tolist(), strict=True)
        ]
        names = ["" if name in told[:at] else name for at, name in enumerate(told)]
        boxes = self.boxes * torch.tensor(scale).repeat(2)
        return draw_boxes(image, boxes, names, None, self.labels.tolist(), side=max(image.size))
