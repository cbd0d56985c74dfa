"""Every network through torch.export, ONNX with ONNX Runtime, and torch.compile(fullgraph=True): a table of all.

Evaluation mode, random weights (He et al. 2015), a dynamic batch; ONNX Runtime answers for another batch size than the
export saw, and its output is compared with torch's. `compile` captures the whole graph (backend `eager`: a break would
raise). A row of `bench/results/exports.jsonl` holds the largest difference of each; fails when one is above 1e-4.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

from bench.harness import Comparison

PAIRS = 1
TOLERANCE = 1e-4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="+", help="names; all when not given")


def measure(options: argparse.Namespace) -> list[Comparison]:
    from striate.backbones import MODELS

    names = options.models or list(MODELS)
    facts: dict[str, str] = {}
    passed = 0
    for name in names:
        facts[name] = tried(name)
        passed += facts[name].startswith("all")
        print(f"{name:24} {facts[name]}", file=sys.stderr, flush=True)
    found = {"striate": [float(passed)]}
    return [Comparison("networks", found, facts={"of": len(names), **facts}, ok=passed == len(names))]


def tried(name: str) -> str:
    """`all, ONNX within …`, or what failed."""
    import torch

    from striate.backbones import MODELS, Backbone, create_model

    channels, size, classes = MODELS[name].canonical
    torch.manual_seed(0)
    model = create_model(name, num_classes=min(classes, 100), in_chans=channels, image_size=size).eval()
    assert isinstance(model, Backbone)
    for parameter in model.parameters():  # at birth GoogLeNet's signal fades to nothing, and nothing would differ
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    side = max(64, model.smallest) if model.image_size is None else size[0]
    images = torch.rand(2, channels, side, side)
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    stage = "export"
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = model(images)
            exported = torch.export.export(model, (images,), dynamic_shapes=(batch,))
            torch.testing.assert_close(exported.module()(images), expected, rtol=1e-4, atol=1e-4)
            stage = "compile"
            compiled = torch.compile(model, fullgraph=True, backend="eager")(images)
            torch.testing.assert_close(compiled, expected, rtol=1e-4, atol=1e-4)
            torch.compiler.reset()
            stage = "onnx"
            return f"all, ONNX within {onnx_difference(exported, model, images):.1e}"
    except Exception as error:  # whatever it is, it belongs into the table
        return f"{stage} failed: {str(error).strip().splitlines()[0][:100] if str(error) else type(error).__name__}"


def onnx_difference(exported, model, images) -> float:
    """The largest |ONNX Runtime - torch|, relative to the largest output, for three pictures."""
    import logging

    import onnxruntime
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(exported, verbose=False)
    assert program is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        program.save(path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    three = torch.cat([images, images[:1].flip(-1)])
    answer = session.run(None, {session.get_inputs()[0].name: three.numpy()})[0]
    expected = model(three)
    difference = float((torch.from_numpy(answer) - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
    if difference > TOLERANCE:
        raise AssertionError(f"ONNX differs by {difference:.1e}")
    return difference
