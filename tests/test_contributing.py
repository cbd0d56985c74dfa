"""The family that CONTRIBUTING shows is a family: it goes through what every network goes through."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from striate import backbones


def test_the_toy_family_works(monkeypatch) -> None:
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.S)
    made: dict[str, Any] = {"__name__": "toy"}
    exec(compile(block, "CONTRIBUTING.md", "exec"), made)
    for name, entry in made["MODELS"].items():
        monkeypatch.setitem(backbones.MODELS, name, entry)
    images = torch.rand(2, 4, 33, 19)
    model = backbones.create_model("toy_small", num_classes=5, in_chans=4)
    model(images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    dense = backbones.create_model("toy_small", in_chans=4, features_only=True, output_stride=2)
    assert [maps.shape for maps in dense(images)] == [(2, 16, 17, 10), (2, 32, 17, 10)]
    assert dense.channels() == [16, 32]  # type: ignore[operator]
    assert backbones.create_model("toy_large", num_classes=0)(torch.rand(1, 3, 8, 8)).shape == (1, 128)
