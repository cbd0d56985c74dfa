"""The k-NN classifier against scikit-learn's and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from striate.layers.neighbours import TEMPERATURE, NearestNeighbours


def filled(count: int, width: int, classes: int, k: int, **own) -> tuple[NearestNeighbours, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    features = torch.randn(count, width, generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    head = NearestNeighbours(count, width, classes, k, **own)
    head.remember(features, torch.nn.functional.one_hot(labels, classes).float())
    return head, features, labels


@pytest.mark.parametrize("k", [1, 3, 10])
def test_votes_are_scikit_learns(k):
    head, features, labels = filled(60, 8, 4, k)
    queries = torch.randn(25, 8, generator=torch.Generator().manual_seed(1))
    referee = KNeighborsClassifier(k, metric="cosine", weights=lambda d: np.exp((1 - d) / TEMPERATURE))
    referee.fit(features.numpy(), labels.numpy())
    shares = head(queries).softmax(1)
    prior = torch.bincount(labels, minlength=4) / 60
    expected = (k * torch.from_numpy(referee.predict_proba(queries.numpy())) + prior) / (k + 1)
    assert torch.allclose(shares, expected.float(), atol=1e-5)


def test_several_labels_hold_apart():
    head = NearestNeighbours(2, 2, 2, k=1, independent=True)
    head.remember(torch.eye(2), torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
    chances = head(torch.tensor([[5.0, 0.1]])).sigmoid()
    assert torch.allclose(chances, torch.tensor([[0.75, 1.0]]), atol=1e-4)  # (1 * 1 + 0.5) / 2


def test_it_remembers_in_its_state_dict_and_never_asks_for_more_neighbours_than_there_are():
    head, _, _ = filled(5, 3, 2, k=50)
    assert head.k == 5
    other = NearestNeighbours(5, 3, 2, k=5)
    other.load_state_dict(head.state_dict())
    queries = torch.randn(4, 3)
    assert torch.equal(head(queries), other(queries))
    assert not list(head.parameters())
