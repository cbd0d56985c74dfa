"""A network of the zoo that classifies: what classification and scoring put their loss on."""

from __future__ import annotations

from typing import Any

from torch import nn

from striate.backbones import Backbone, create_model
from striate.layers.neighbours import NearestNeighbours


def create_classifier(
    architecture: str, num_classes: int, in_chans: int, neighbours: dict[str, Any] | None = None, **arguments: Any
) -> nn.Module:
    """Images float [B, in_chans, H, W] → logits [B, num_classes].

    Args:
        neighbours: instead of a learnt classifier one by nearest neighbours, with room for what it remembers:
            `count`, `k` and `independent` of `NearestNeighbours`.
        arguments: of `create_model`.
    """
    if neighbours is None:
        return create_model(architecture, num_classes=num_classes, in_chans=in_chans, **arguments)
    backbone = create_model(architecture, num_classes=0, in_chans=in_chans, **arguments)
    assert isinstance(backbone, Backbone)  # a feature list has no head
    backbone.give_head(
        "neighbours", NearestNeighbours(num_features=backbone.num_features, num_classes=num_classes, **neighbours)
    )
    return backbone
