"""The lectures' worked examples (A4), and torch itself as referee."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from striate.errors import UsageError
from striate.layers.sizes import (
    conv_multiply_adds,
    conv_output,
    conv_parameters,
    dense_parameters,
    exact_output,
    pool_output,
    receptive_field,
    same_padding,
    uneven_stride,
)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "expected"),
    [
        (32, 5, 1, 2, 32),  # ten 5x5 filters
        (32, 5, 1, 0, 28),
        (227, 11, 4, 0, 55),  # AlexNet's first layer
        (224, 11, 4, 2, 55),
        (5, 4, 1, 2, 6),
        (5, 3, 2, 1, 3),
        (7, 3, 1, 0, 5),
        (7, 3, 2, 0, 3),
        (7, 3, 3, 0, 2),
    ],
)
def test_output_sizes_of_the_lectures(size, kernel, stride, padding, expected):
    assert conv_output(size, kernel, stride, padding) == expected


def test_a_stride_that_does_not_fit_is_told():
    assert exact_output(7, 3, 3) == pytest.approx(2.33, abs=0.005)
    remark = uneven_stride(7, 3, 3)
    assert remark is not None
    assert "2.33" in remark
    assert "floored to 2" in remark
    assert "last 1 pixel is never seen" in remark
    assert uneven_stride(7, 3, 2) is None


def test_counts_of_the_lectures():
    assert conv_parameters(3, 3, 2) == 56
    assert conv_parameters(11, 3, 96) == 34_944
    assert dense_parameters((784, 256, 128, 10)) == 235_146
    assert dense_parameters((224 * 224 * 3, 55 * 55 * 96), bias=False) == pytest.approx(43.7e9, rel=1e-3)
    assert dense_parameters((200 * 200, 40_000), bias=False) == 1_600_000_000  # "about 2 billion"
    assert conv_multiply_adds(5, 192, 32, (28, 28)) == pytest.approx(120e6, rel=0.01)  # GoogLeNet's argument
    assert [pool_output(4, 2), pool_output(55, 3, 2), pool_output(5, 2)] == [2, 27, 2]


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(0, 4), st.integers(1, 3))
def test_output_size_agrees_with_torch(size, kernel, stride, padding, dilation):
    layer = nn.Conv2d(1, 1, kernel, stride, padding, dilation, device="meta")
    try:
        expected = layer(torch.empty(1, 1, size, size, device="meta")).shape[-1]
    except RuntimeError:
        with pytest.raises(UsageError, match="does not fit"):
            conv_output(size, kernel, stride, padding, dilation)
        return
    assert conv_output(size, kernel, stride, padding, dilation) == expected


@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 6), st.integers(0, 3))
def test_unseen_pixels_are_those_without_a_gradient(size, kernel, stride, padding):
    if size + 2 * padding < kernel or kernel < stride:  # wide strides leave holes between, not only at the end
        return
    pixels = torch.zeros(1, 1, size, requires_grad=True)
    nn.functional.conv1d(pixels, torch.ones(1, 1, kernel), stride=stride, padding=padding).sum().backward()
    assert pixels.grad is not None
    unseen = int((pixels.grad == 0).sum())
    remark = uneven_stride(size, kernel, stride, padding)
    assert (f"last {unseen} pixel" in remark) if unseen and remark else (remark is None or "never seen" not in remark)


@given(st.integers(1, 7), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_parameters_agree_with_torch(kernel, groups, into, out_of, bias):
    layer = nn.Conv2d(into * groups, out_of * groups, kernel, groups=groups, bias=bias, device="meta")
    expected = sum(parameter.numel() for parameter in layer.parameters())
    assert conv_parameters(kernel, into * groups, out_of * groups, bias, groups) == expected


def test_same_padding_keeps_the_size_and_refuses_even_kernels():
    for kernel in (1, 3, 5, 7, 11):
        assert conv_output(20, kernel, 1, same_padding(kernel)) == 20
    assert conv_output(20, 3, 1, same_padding(3, dilation=4), dilation=4) == 20
    with pytest.raises(UsageError, match="no middle"):
        same_padding(4)


def test_receptive_fields_of_known_networks():
    assert receptive_field([(3, 1)] * 3) == (7, 1)  # VGG's argument: three 3x3 see as much as one 7x7
    vgg16 = [(3, 1), (3, 1), (2, 2)] * 2 + [(3, 1), (3, 1), (3, 1), (2, 2)] * 3
    assert receptive_field(vgg16) == (212, 32)  # Araujo et al. 2019, table of architectures
    alexnet = [(11, 4), (3, 2), (5, 1), (3, 2), (3, 1), (3, 1), (3, 1), (3, 2)]
    assert receptive_field(alexnet) == (195, 32)
    assert receptive_field([(3, 1, 2)]) == (5, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: conv_output(0, 3),
        lambda: conv_output(3, 5),
        lambda: conv_output(8, 3, stride=0),
        lambda: conv_output(8, 3, padding=-1),
        lambda: conv_parameters(3, 0, 1),
        lambda: conv_parameters(3, 3, 4, groups=2),
        lambda: dense_parameters((3,)),
        lambda: dense_parameters((3, -1)),
        lambda: receptive_field([(3,)]),
        lambda: receptive_field([(3, 0)]),
    ],
)
def test_nonsense_is_refused(call):
    with pytest.raises(UsageError):
        call()
