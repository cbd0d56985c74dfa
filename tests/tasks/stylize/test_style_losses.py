"""Gram matrices and losses against explicit loops and the paper's own formulas."""

from __future__ import annotations

import pytest
import torch

from striate.tasks.stylize.style_losses import content_loss, gram_matrix, mean_gram, style_loss, total_variation


@pytest.fixture
def features() -> torch.Tensor:
    return torch.rand(2, 5, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_gram_matrix_is_inner_products_of_maps(features: torch.Tensor) -> None:
    found = gram_matrix(features)
    for picture in range(2):
        for k in range(5):
            for other in range(5):
                product = 0.0
                for row in range(4):
                    for column in range(3):
                        product += float(features[picture, k, row, column] * features[picture, other, row, column])
                assert float(found[picture, k, other]) == pytest.approx(product, abs=1e-12)


def test_style_loss_has_the_papers_normalisation(features: torch.Tensor) -> None:
    """E = 1/(4 N² M²) Σ_ij (G_ij - A_ij)² with N = 5 maps of M = 12 positions, G and A not divided by anything."""
    ours, theirs = gram_matrix(features[:1]), gram_matrix(features[1:])
    written_out = sum(float((ours[0, i, j] - theirs[0, i, j]) ** 2) for i in range(5) for j in range(5))
    expected = written_out / (4 * 5**2 * 12**2)
    assert float(style_loss(mean_gram(features[:1]), mean_gram(features[1:]))) == pytest.approx(expected, rel=1e-12)


def test_style_of_a_tiled_picture_is_the_same(features: torch.Tensor) -> None:
    tiled = torch.cat((features, features), dim=3)
    torch.testing.assert_close(mean_gram(tiled), mean_gram(features))


def test_style_knows_nothing_of_places(features: torch.Tensor) -> None:
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    shuffled = features.flatten(2)[:, :, order].view_as(features)
    torch.testing.assert_close(gram_matrix(shuffled), gram_matrix(features))
    assert float(content_loss(shuffled, features)) > 0.1


def test_content_loss_is_half_the_squared_distance(features: torch.Tensor) -> None:
    ours, theirs = features[:1], features[1:]
    expected = 0.5 * sum(float(a - b) ** 2 for a, b in zip(ours.flatten(), theirs.flatten(), strict=True))
    assert float(content_loss(ours, theirs)) == pytest.approx(expected, rel=1e-12)


def test_total_variation_against_loops(features: torch.Tensor) -> None:
    down = [
        float(features[b, c, row + 1, column] - features[b, c, row, column]) ** 2
        for b in range(2)
        for c in range(5)
        for row in range(3)
        for column in range(3)
    ]
    across = [
        float(features[b, c, row, column + 1] - features[b, c, row, column]) ** 2
        for b in range(2)
        for c in range(5)
        for row in range(4)
        for column in range(2)
    ]
    expected = sum(down) / len(down) + sum(across) / len(across)
    assert float(total_variation(features)) == pytest.approx(expected, rel=1e-12)
    assert float(total_variation(torch.full((1, 3, 6, 6), 0.4))) == 0


def test_gradients_against_finite_differences(features: torch.Tensor) -> None:
    target = mean_gram(features[1:])
    ours = features[:1].clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: style_loss(mean_gram(x), target), (ours,))
    assert torch.autograd.gradcheck(lambda x: content_loss(x, features[1:]), (ours,))
    assert torch.autograd.gradcheck(total_variation, (ours,))


def test_the_papers_gradient_of_the_style_loss(features: torch.Tensor) -> None:
    """∂E/∂F = 1/(N² M²) (Fᵀ (G - A))ᵀ where F is [N, M] (equation 6, without the rectifier's zeros)."""
    ours = features[:1].clone().requires_grad_(True)
    style_loss(mean_gram(ours), mean_gram(features[1:])).backward()
    maps = features[0].flatten(1)
    difference = gram_matrix(features[:1])[0] - gram_matrix(features[1:])[0]
    expected = (maps.T @ difference).T / (5**2 * 12**2)
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad[0].flatten(1), expected)


def test_sums_are_not_made_in_bf16() -> None:
    ones = torch.ones(1, 1, 64, 64, dtype=torch.bfloat16)
    assert float(mean_gram(ones)) == 1  # in bf16 the sum would stop growing at 256
    assert mean_gram(ones).dtype == torch.float32
