"""The sheet shows every picture, unharmed, in the place its group and order give it."""

from __future__ import annotations

import io

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.data.inspect.contact_sheet import contact_sheet, dataset_sheet, png_bytes
from striate.data.sample import Dataset, Sample


def flat(colour: tuple[int, int, int], height: int = 40, width: int = 40) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1).expand(3, height, width).clone()


def place_of(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of all pixels of one colour."""
    ys, xs = np.nonzero((np.asarray(sheet) == colour).all(2))
    return int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())


RED, GREEN, BLUE = (250, 1, 1), (1, 250, 1), (1, 1, 250)


def test_pictures_stand_in_reading_order_and_each_group_begins_a_row() -> None:
    sheet = contact_sheet([flat(RED), flat(GREEN), flat(BLUE)], ["a", "b", "c"], columns=5, groups=["x", "x", "y"])
    red, green, blue = (place_of(sheet, colour) for colour in (RED, GREEN, BLUE))
    assert red[1] == green[1]
    assert red[2] < green[0]
    assert blue[1] > red[3]
    assert blue[0] == red[0]


def test_columns_wrap() -> None:
    sheet = contact_sheet([flat(RED), flat(GREEN), flat(BLUE)], [""] * 3, columns=2)
    assert place_of(sheet, BLUE)[1] > place_of(sheet, RED)[3]


def test_small_pictures_are_enlarged_by_whole_factors() -> None:
    image = torch.zeros(3, 28, 28, dtype=torch.uint8)
    image[:, 10, 20] = torch.tensor(RED, dtype=torch.uint8)
    left, top, right, bottom = place_of(contact_sheet([image], [""], tile=128), RED)
    assert (right - left + 1, bottom - top + 1) == (4, 4)  # 128 // 28


def test_wide_pictures_keep_their_shape() -> None:
    left, top, right, bottom = place_of(contact_sheet([flat(RED, 100, 400)], [""], tile=128), RED)
    assert (right - left + 1, bottom - top + 1) == (128, 32)


@given(
    shapes=st.lists(st.tuples(st.sampled_from([1, 3]), st.integers(1, 300), st.integers(1, 300)), max_size=7),
    caption=st.text(max_size=60),
    title=st.text(max_size=80),
    columns=st.integers(1, 9),
)
@example(shapes=[], caption="", title="\r", columns=1)  # Raqm refuses control codes
@settings(max_examples=25, deadline=None)
def test_any_pictures_and_any_words_make_a_sheet(shapes, caption, title, columns) -> None:
    pictures = [torch.zeros(shape, dtype=torch.uint8) for shape in shapes]
    sheet = contact_sheet(pictures, [caption] * len(pictures), columns, title, groups=[caption] * len(pictures))
    assert Image.open(io.BytesIO(png_bytes(sheet))).size == sheet.size


def test_sheet_of_a_set_has_a_row_a_class_and_passes_over_what_cannot_be_read(tmp_path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no")
    samples = [Sample(flat(RED), 0, "r"), Sample(str(tmp_path / "broken.png"), 0, "broken"), Sample(flat(BLUE), 1, "b")]
    dataset = Dataset("set", "folder", "classify", ("first", "second"), {"train": samples})
    sheet = dataset_sheet(dataset)
    assert place_of(sheet, BLUE)[1] > place_of(sheet, RED)[3]
