from __future__ import annotations

import io

import torch
from PIL import Image

from striate.explain.units.sheets import (
    NOTHING,
    TILE,
    as_grey,
    as_tile,
    beside,
    crop_of,
    cut,
    grid,
    number,
    sheet,
    webp,
)
from striate.layers.receptive_fields import Place


def test_crop_at_the_edge_is_filled():
    picture = torch.arange(100, dtype=torch.uint8).view(1, 10, 10)
    place = Place((4, 4), (3, 3), (-2, -2))
    inside = crop_of(picture, place, 1, 1)
    assert torch.equal(inside, picture[:, 1:5, 1:5])
    corner = crop_of(picture, place, 0, 3)
    assert torch.equal(corner[:, 2:, :3], picture[:, :2, 7:])
    assert (corner[:, :2] == NOTHING).all()
    assert (corner[:, :, 3:] == NOTHING).all()


def test_fields_larger_than_the_picture_show_all_of_it():
    picture = torch.rand(3, 10, 12)
    assert torch.equal(crop_of(picture, None, 0, 0), picture)
    assert torch.equal(crop_of(picture, Place((30, 30), (2, 2), (-14, -14)), 2, 5), picture)


def test_grey_is_zero_and_signs_are_kept():
    grey = as_grey(torch.tensor([[[0.0, 2.0, -2.0, 1.0]]]))
    assert grey.flatten().tolist() == [128, 255, 1, 191] or grey.flatten().tolist() == [128, 255, 1, 192]
    assert (as_grey(torch.zeros(3, 4, 4)) == NOTHING).all()


def test_grid_and_webp():
    tiles = [as_tile(torch.zeros(1, 7, 9, dtype=torch.uint8)) for _ in range(5)]
    assert max(tiles[0].size) == TILE
    sheet = grid(tiles, [f"{at} a rather long name of a file" for at in range(5)])
    both = beside([sheet, sheet])
    assert both.width > 2 * sheet.width
    assert both.getpixel((both.width // 2, 5)) == (0, 0, 0, 0)
    assert Image.open(io.BytesIO(webp(both))).size == both.size


def test_words():
    from striate.drawing import caption_font

    assert [number(value) for value in (1234.6, 0.012345, 99.95, -3)] == ["1,235", "0.0123", "100", "-3"]
    long = cut("12 n02123045_some_very_long_name_tabby", caption_font(12), TILE)
    assert long.startswith("12 …")
    assert long.endswith("tabby")
    assert cut("12 cat", caption_font(12), TILE) == "12 cat"


def test_a_sheet_has_its_tiles_in_order():
    tiles = [torch.full((1, 4, 4), level, dtype=torch.uint8) for level in (10, 90, 170, 250)]
    drawn = Image.open(io.BytesIO(sheet(tiles, list("abcd"), side=40))).convert("RGBA")
    assert [drawn.getpixel((20 + 46 * column, 20)) for column in range(4)] == [
        (v, v, v, 255) for v in (10, 90, 170, 250)
    ]
    assert drawn.getpixel((43, 20))[3] == 0  # clear between them
