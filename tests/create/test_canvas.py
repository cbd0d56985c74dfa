"""The canvas: every picture can be put on it and taken off again."""

from __future__ import annotations

import pytest
import torch

from striate.create.canvas import EDGE, put_on_canvas, take_off_canvas


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (12, 7), (9, 16)])
def test_what_is_put_on_comes_off(size: tuple[int, int]) -> None:
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * (1 - 2 * EDGE) + EDGE
    torch.testing.assert_close(take_off_canvas(put_on_canvas(picture), size[1]), picture, atol=1e-5, rtol=1e-5)


def test_black_and_white_come_off_a_little_grey() -> None:
    picture = torch.tensor([0.0, 1.0]).expand(1, 3, 2, 2).contiguous()
    found = take_off_canvas(put_on_canvas(picture), 2)
    torch.testing.assert_close(found, picture.clamp(EDGE, 1 - EDGE), atol=1e-5, rtol=1e-5)


def test_anything_on_it_is_a_picture() -> None:
    wild = 100 * torch.randn(1, 3, 6, 4, 2, generator=torch.Generator().manual_seed(0))
    found = take_off_canvas(wild, 7)
    assert found.shape == (1, 3, 6, 7)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_gradient_against_finite_differences() -> None:
    variable = torch.randn(1, 3, 4, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: (take_off_canvas(x, 5) * weights).sum(), (variable.requires_grad_(),))


def test_equal_steps_move_broad_washes_more_than_grain() -> None:
    grey = torch.full((1, 3, 16, 16), 0.5)
    broad, fine = put_on_canvas(grey), put_on_canvas(grey)
    broad[0, 0, 0, 1, 0] += 1
    fine[0, 0, 8, 8, 0] += 1
    moved = [(take_off_canvas(variable, 16) - grey).abs().max() for variable in (broad, fine)]
    assert moved[0] > 3 * moved[1]
