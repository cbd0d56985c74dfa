"""Part A of the lectures: every printed answer, typed here from the lectures, to the last digit."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg, ndimage, signal
from torch.nn import functional as F

from striate.lectures import LECTURES
from striate.lectures.foundations import convolution, counting, kernels, layer_table, normalization, pooling, toeplitz
from striate.lectures.page import Check
from striate.network_summary import summarize

IDS = [key for key in LECTURES if key[0] == "A"]


def tensor(rows: list) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def by_name(checks: list[Check] | tuple[Check, ...]) -> dict[str, Check]:
    assert len({check.what for check in checks}) == len(checks)
    return {check.what: check for check in checks}


# A1


def test_cross_correlation_starts_61_59():
    image = tensor([[2, 7, 1, 8], [2, 8, 1, 8], [2, 8, 4, 5], [9, 0, 4, 5]])
    assert convolution.correlate(image, tensor([[3, 1], [4, 5]]))[0, :2].tolist() == [61, 59]


def test_convolution_flips_the_kernel():
    image, kernel = tensor([[0, 80, 40], [20, 40, 0], [0, 0, 40]]), tensor([[0, 0.25], [0.5, 1]])
    assert convolution.convolve(image, kernel).tolist() == [[45, 110], [40, 40]]


def test_edges():
    upright = tensor([[1, 0, -1]] * 3)
    bright_left = tensor([[10, 10, 10, 0, 0, 0]] * 6)
    quarters = tensor([[10, 10, 10, 0, 0, 0]] * 3 + [[0, 0, 0, 10, 10, 10]] * 3)
    level = tensor([[1, 1, 1], [0, 0, 0], [-1, -1, -1]])
    assert convolution.correlate(bright_left, upright).tolist() == [[0, 30, 30, 0]] * 4
    assert convolution.correlate(bright_left.flip(1), upright).tolist() == [[0, -30, -30, 0]] * 4
    rows = [[0, 0, 0, 0], [30, 10, -10, -30], [30, 10, -10, -30], [0, 0, 0, 0]]
    assert convolution.correlate(quarters, level).tolist() == rows


def test_cartesian_axes():
    axes = tensor([[0, 1, 0, 1], [0, 1, 0, 1], [1, 1, 1, 1], [0, -2, 0, -2]])
    upright, level, pooled, score = convolution.axes_or_not(axes)
    assert upright.tolist() == [[2, -2], [-1, 1]]
    assert level.tolist() == [[-1, -1 / 2], [7 / 2, 4]]
    assert pooled.tolist() == [2, 4]
    assert score > 0


@pytest.mark.parametrize("name", ["blank", "upright line", "level line", "diagonal"])
def test_what_is_no_axes_is_refused(name: str):
    image = torch.zeros(4, 4, dtype=torch.float64)
    if name == "upright line":
        image[:, 1] = 1
    if name == "level line":
        image[2] = 1
    if name == "diagonal":
        image = torch.eye(4, dtype=torch.float64)
    assert convolution.axes_or_not(image)[3] <= 0


def test_letters():
    rows = convolution.correlate_letters(["abc", "def", "ghi", "jkl"], ["αβ", "γδ"])
    assert rows[0] == ["aα+bβ+dγ+eδ", "bα+cβ+eγ+fδ"]
    assert rows == [
        ["aα+bβ+dγ+eδ", "bα+cβ+eγ+fδ"],
        ["dα+eβ+gγ+hδ", "eα+fβ+hγ+iδ"],
        ["gα+hβ+jγ+kδ", "hα+iβ+kγ+lδ"],
    ]


def test_letters_stand_for_numbers():
    values = {letter: float(index * 3 % 7) for index, letter in enumerate("abcdefghijklαβγδ")}
    image = tensor([[values[letter] for letter in row] for row in ("abc", "def", "ghi", "jkl")])
    kernel = tensor([[values[letter] for letter in row] for row in ("αβ", "γδ")])
    letters = convolution.correlate_letters(["abc", "def", "ghi", "jkl"], ["αβ", "γδ"])
    sums = [[sum(values[a] * values[b] for a, b in text.split("+")) for text in row] for row in letters]
    assert convolution.correlate(image, kernel).tolist() == sums


@pytest.mark.parametrize(("padding", "mode"), [(0, "valid"), (1, "same"), (2, "full")])
def test_both_ways_agree_with_scipy(padding: int, mode: str):
    image, kernel = torch.rand(7, 9, dtype=torch.float64), torch.rand(3, 3, dtype=torch.float64)
    assert np.allclose(convolution.convolve(image, kernel, 1, padding), signal.convolve2d(image, kernel, mode))
    assert np.allclose(convolution.correlate(image, kernel, 1, padding), signal.correlate2d(image, kernel, mode))
    strided = convolution.correlate(image, kernel, 2, padding)
    assert torch.equal(strided, convolution.correlate(image, kernel, 1, padding)[::2, ::2])


def test_convolution_is_the_printed_sum():
    """(x*k)[i,j] = Σ x[m,n]·k[i-m+H, j-n+W], with k counted from 1."""
    image, kernel = torch.rand(4, 5, dtype=torch.float64), torch.rand(2, 3, dtype=torch.float64)
    height, width = kernel.shape
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            for m in range(i, i + height):
                for n in range(j, j + width):
                    expected[i, j] += image[m, n] * kernel[i - m + height - 1, j - n + width - 1]
    assert torch.allclose(convolution.convolve(image, kernel), expected, atol=1e-15)


def test_channels_are_summed_and_the_bias_added():
    image, filters, biases, answer = convolution.volume()
    padded = F.pad(image, [1] * 4)
    for which in range(2):
        for y in range(3):
            for x in range(3):
                total = float(biases[which])
                for channel in range(3):
                    for dy in range(3):
                        for dx in range(3):
                            total += float(padded[channel, 2 * y + dy, 2 * x + dx] * filters[which, channel, dy, dx])
                assert float(answer[which, y, x]) == total
    assert filters.numel() + biases.numel() == 56


# A2


def test_toeplitz_is_scipys():
    kernel = torch.tensor([1.0, 2, 3])
    expected = linalg.toeplitz([1, 2, 3, 0, 0, 0, 0], [1, 0, 0, 0, 0])
    assert toeplitz.toeplitz(kernel, 5).tolist() == expected.tolist()


def test_matrix_equals_convolution_to_rounding():
    image, kernel = np.random.default_rng(0).random((6, 7)), np.random.default_rng(1).random((3, 2))
    matrix = toeplitz.doubly_blocked(torch.from_numpy(kernel), (6, 7)).numpy()
    assert matrix.shape == (8 * 8, 6 * 7)
    assert np.allclose(matrix @ image.ravel(), signal.convolve2d(image, kernel).ravel(), atol=1e-14)
    blocks = matrix.reshape(8, 8, 6, 7).transpose(0, 2, 1, 3)  # [block row, block column, 8, 7]
    for row in range(8):
        for column in range(6):
            within = 0 <= row - column < 3
            expected = (
                linalg.toeplitz([*kernel[row - column], *[0] * 6], [kernel[row - column, 0], *[0] * 6]) if within else 0
            )
            assert np.array_equal(blocks[row, column], np.zeros((8, 7)) + expected)
    assert max(value for name, value in toeplitz.differences().items() if "single" not in name) < 1e-13


# A3

PRINTED_KERNELS = {
    "box 5×5": np.full((5, 5), 1 / 25),
    "tent 3×3": np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16,
    "binomial 5×5": np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256,
    "Sobel": np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8,
    "corner": np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 4,
    "level line": np.array([[-1], [2], [-1]]),
    "upright line": np.array([[-1, 2, -1]]),
    "upright edge": np.array([[1, 0, -1]] * 3),
    "level edge": np.array([[1, 1, 1], [0, 0, 0], [-1, -1, -1]]),
}


@pytest.mark.parametrize("name", PRINTED_KERNELS)
def test_kernels_as_printed(name: str):
    assert np.array_equal(kernels.KERNELS[name].weights, PRINTED_KERNELS[name])


@pytest.mark.parametrize("name", kernels.KERNELS)
def test_filtering_is_scipys(name: str):
    photo, weights = kernels.photograph()[40:90, 60:120], kernels.KERNELS[name].weights
    expected = ndimage.correlate(photo.numpy(), weights.numpy(), mode="nearest")
    assert np.allclose(kernels.filtered(photo, weights), expected, atol=1e-12)


def test_each_line_excites_its_own_detector():
    for name, answers in kernels.line_answers().items():
        assert max(answers, key=lambda detector: answers[detector]) == name


def test_gaussian_is_scipys():
    photo = kernels.photograph()
    expected = ndimage.gaussian_filter(photo.numpy(), 3, mode="nearest", radius=9)
    assert np.allclose(kernels.filtered(photo, kernels.gaussian(3, 9)), expected, atol=1e-12)


# A4


def test_sizes_and_counts_as_printed():
    found = by_name(counting.checks())
    expected = {
        "32×32×3, ten 5×5 filters, stride 1, pad 2": "32×32×10",
        "32×32×3, six 5×5 filters": "28×28×6",
        "227×227×3, 96 filters 11×11, stride 4 (AlexNet)": "55×55×96",
        "5×5, kernel 4×4, pad 2": "6×6",
        "5×5, kernel 3×3, stride 2, pad 1": "3×3",
        "7×7, 3×3, stride 3: (7−3)/3+1": "2.33, floored to 2",
        "Two 3×3×3 filters: parameters": "56",
        "AlexNet’s first layer: parameters": "34,944",
        "The same as a dense layer: weights": "43,713,331,200 = 43.7·10⁹",
        "MLP 784-256-128-10: parameters": "235,146",
        "200×200 pixels to 40,000 hidden units: weights": "1,600,000,000 = 1.6·10⁹",
    }
    assert {what: found[what].ours for what in expected} == expected
    assert "does not fit evenly" in found["7×7, 3×3, stride 3: (7−3)/3+1"].why


def test_counts_are_torchs():
    first = torch.nn.Conv2d(3, 96, 11, stride=4)
    assert sum(parameter.numel() for parameter in first.parameters()) == 34_944
    assert first(torch.zeros(1, 3, 227, 227)).shape == (1, 96, 55, 55)
    mlp = torch.nn.Sequential(torch.nn.Linear(784, 256), torch.nn.Linear(256, 128), torch.nn.Linear(128, 10))
    assert sum(parameter.numel() for parameter in mlp.parameters()) == 235_146


# A5


def test_layer_table_as_printed():
    found = summarize(layer_table.network(), (64, 1, 28, 28))
    rows = [(row.kind, "×".join(map(str, row.output)), row.parameters) for row in found.rows if row.kind != "ReLU"]
    assert rows == [
        ("Conv2d", "64×4×14×14", 40),
        ("Conv2d", "64×8×7×7", 296),
        ("Conv2d", "64×16×4×4", 1_168),
        ("Conv2d", "64×32×2×2", 4_640),
        ("Conv2d", "64×2×1×1", 578),
        ("Flatten", "64×2", 0),
    ]
    assert all(row.trainable == row.parameters for row in found.rows)
    assert found.rows[1].kind == "ReLU"
    # 9·1·4·14² + 9·4·8·7² + 9·8·16·4² + 9·16·32·2² + 9·32·2
    assert found.multiply_adds == 64 * (7_056 + 14_112 + 18_432 + 18_432 + 576)


# A6


def test_pooling_as_printed():
    image = tensor([[[1, 2, 5, 3], [3, 0, 1, 2], [2, 1, 3, 4], [1, 1, 2, 0]]])
    assert torch.equal(pooling.example(), image)
    assert F.max_pool2d(image, 2, 2)[0].tolist() == [[3, 5], [2, 4]]
    assert by_name(pooling.checks())["2×2, stride 2, max"].ours == "3 5\n2 4"


def test_pooling_is_the_maximum_of_blocks():
    values = kernels.photograph()
    expected = values.numpy().reshape(64, 4, 64, 4).max(axis=(1, 3))
    assert np.array_equal(F.max_pool2d(values[None], 4)[0], expected)


def test_larger_windows_care_less():
    shares = [pooling.unchanged(size)["max"] for size in (2, 4, 8)]
    assert pooling.unchanged(2)["not pooled"] < shares[0] < shares[1] < shares[2]


# A8


def test_batch_norm_formulas_agree_with_autograd():
    x, gamma, beta, upstream = normalization.example(5)
    ours = normalization.backward(upstream, x, gamma, normalization.forward(x, gamma, beta)[1])
    leaf, scale, shift = (value.clone().requires_grad_() for value in (x, gamma, beta))
    F.batch_norm(leaf, None, None, scale, shift, training=True, eps=1e-5).backward(upstream)
    for name, expected in (("x", leaf.grad), ("gamma", scale.grad), ("beta", shift.grad)):
        assert (ours[name] - expected).abs().max() < 1e-10
    autograd = normalization.by_autograd(x, gamma, beta, upstream)
    assert ours.keys() == autograd.keys()
    for name, expected in autograd.items():
        assert (ours[name] - expected.view_as(ours[name])).abs().max() < 1e-10


def test_batch_norm_gradient_by_finite_differences():
    x, gamma, beta, upstream = normalization.example(6)
    ours = normalization.backward(upstream, x, gamma, normalization.forward(x, gamma, beta)[1])["x"]
    for place in ((0, 0, 0, 0), (3, 2, 1, 4), (15, 3, 4, 0)):
        step = torch.zeros_like(x)
        step[place] = 1e-5
        up, down = (normalization.forward(x + sign * step, gamma, beta)[0] for sign in (1, -1))
        assert float(((up - down) * upstream).sum()) / 2e-5 == pytest.approx(float(ours[place]), abs=1e-7)


def test_running_averages_are_torchs():
    _, off = normalization.running()
    assert off < 1e-10


def test_local_response_by_loops():
    x = torch.rand(1, 7, 2, 2, dtype=torch.float64) * 50
    for channel in range(7):
        near = x[0, max(0, channel - 2) : channel + 3]
        expected = x[0, channel] / (2 + 1e-4 * (near**2).sum(0)) ** 0.75
        assert torch.allclose(normalization.local_response(x)[0, channel], expected, atol=1e-12)


# all


@pytest.mark.parametrize("key", IDS)
def test_the_lines_of_python_run(key: str, capsys: pytest.CaptureFixture):
    module = importlib.import_module(f"striate.lectures.{LECTURES[key].module}")
    lines = [line for line in module.PYTHON.strip().splitlines() if line.strip()]
    assert len(lines) <= 14
    exec(compile(module.PYTHON, f"{key}.PYTHON", "exec"), {})  # as it stands on the page
    assert len(re.findall(r"[.!?](?:\s|$)", module.__doc__ or "")) >= 2


@pytest.mark.parametrize("key", ["A1", "A2", "A3", "A4", "A5", "A6"])
def test_every_check_agrees_and_is_drawn(key: str, tmp_path: Path):
    from striate.lectures.page import Setting

    shown = importlib.import_module(f"striate.lectures.{LECTURES[key].module}").show(Setting(tmp_path))
    assert shown.checks
    assert [check.what for check in shown.checks if not check.agrees] == []
    assert any(section.figures for section in shown.sections)
    assert list(tmp_path.iterdir()) == []  # nothing here takes so long that it must be kept
