"""Sets of points: mirrors that undo themselves, and that real faces confirm."""

from __future__ import annotations

import pytest
import torch

from striate.data.formats import landmarks_csv
from striate.errors import UsageError
from striate.tasks.keypoints.schemes import BODY_17, FACE_68, scheme_of

NUMBERS = tuple(str(i) for i in range(68))
COCO = ("nose", *(f"{side}_{part}" for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")))  # fmt: skip


@pytest.mark.parametrize(("scheme", "count"), [(FACE_68, 68), (BODY_17, 17)])
def test_a_mirror_undoes_itself_and_lines_stay_lines(scheme, count: int):
    mirror = scheme.mirror
    assert len(mirror) == count
    assert [mirror[i] for i in mirror] == list(range(count))
    lines = {frozenset(line) for line in scheme.lines}
    assert {frozenset((mirror[a], mirror[b])) for a, b in lines} == lines


def test_a_mirrored_mean_face_is_the_mean_face(shared_data):
    """Were a pair wrong, it would lie on the wrong side: tens of per cent of the eyes' distance away."""
    data = landmarks_csv.read(str(shared_data("facial-keypoints") / "facial-keypoints-ytf"), 0.0, 0, False)
    shapes = torch.stack([sample.target.values[:, :2] for sample in data.splits["train"]])
    shapes = shapes - shapes.mean(1, keepdim=True)
    shapes = shapes / (shapes[:, 36] - shapes[:, 45]).norm(dim=1)[:, None, None]
    mean = shapes.mean(0)
    assert FACE_68.mirror is not None
    flipped = mean[list(FACE_68.mirror)] * torch.tensor([-1.0, 1.0])
    assert float((mean - flipped).norm(dim=1).max()) < 0.08


def test_names_with_sides_say_their_mirror():
    assert scheme_of(COCO).mirror == BODY_17.mirror
    assert scheme_of(["Eye.L", "Eye.R", "tail"]).mirror == (1, 0, 2)
    assert scheme_of(["left eye", "nose"]).mirror is None  # its twin is missing
    assert scheme_of(["bright", "leftover"]).mirror is None  # no words of their own
    assert scheme_of(NUMBERS).mirror == FACE_68.mirror
    assert scheme_of(["a", "b"]).mirror is None


def test_what_the_data_says_comes_first_and_must_pair_points():
    assert scheme_of(COCO[:3], [2, 1, 0]).mirror == (2, 1, 0)
    for wrong in ([1, 2, 0], [0, 1], [0, 1, 3], [0, -1, 2]):
        with pytest.raises(UsageError, match="symmetry"):
            scheme_of(COCO[:3], wrong)
