"""ultralytics' nano model from scratch on a YOLO data set, for so many seconds of wall clock.

Prints {"detections": FILE, "seconds": …}: a safetensors file with a float [N, 6] a picture of the test split: x1 y1 x2
y2 score class, in pixels. All is at its defaults but the picture size, the clock, fp32, and the threads: by itself it
takes one less than there are cores.

AGPL: it runs in an environment of its own and is no part of this project:
python -m venv /tmp/venv-ul && /tmp/venv-ul/bin/pip install ultralytics
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
import ultralytics.utils.torch_utils as torch_utils  # pyright: ignore[reportMissingImports]
from safetensors.torch import save_file
from ultralytics import YOLO  # pyright: ignore[reportMissingImports]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--model", default="yolo11n.yaml")
    options = parser.parse_args()
    torch_utils.NUM_THREADS = torch.get_num_threads()
    start = time.perf_counter()
    model = YOLO(options.model)
    model.train(
        data=str(options.data),
        imgsz=options.size,
        time=options.seconds / 3600,
        pretrained=False,
        amp=False,
        device="cpu",
        workers=2,
        plots=False,
        project=str(options.out.parent),
        name="ultralytics",
        verbose=False,
    )
    seconds = time.perf_counter() - start
    best = YOLO(str(options.out.parent / "ultralytics" / "weights" / "best.pt"))
    found = {}
    for picture in sorted((options.data.parent / "images" / "test").iterdir()):
        boxes = best.predict(picture, imgsz=options.size, conf=0.001, iou=0.7, max_det=100, verbose=False)[0].boxes
        found[picture.name] = torch.cat((boxes.xyxy, boxes.conf[:, None], boxes.cls[:, None]), 1).cpu().contiguous()
    save_file(found, options.out)
    print(json.dumps({"detections": str(options.out), "seconds": seconds}))


if __name__ == "__main__":
    main()
