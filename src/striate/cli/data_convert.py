"""`striate data convert SOURCE OUT --format coco`: data of boxes in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def convert(
    source: str,
    out: Path,
    /,
    *,
    format: Literal["coco", "voc", "yolo", "csv"],
    link: bool = False,
    overwrite: bool = False,
) -> int:
    """Write boxes, masks and keypoints in another format, with their pictures and splits.

    Parameters
    ----------
    source
        COCO's JSON, a folder of PASCAL VOC's or YOLO's, a data.yaml, a CSV of boxes; SOURCE:val is that split alone.
    out
        The folder to write.
    format
        coco, voc, yolo or csv.
    link
        Link to the pictures instead of copying them; the new set then needs the old one.
    overwrite
        Replace what stands in OUT.
    """
    from striate.cli.terminal import say, wrote
    from striate.data import open_dataset
    from striate.data.convert import convert as write

    dataset = open_dataset(source, val_fraction=0)
    notes = write(dataset, out, format, overwrite=overwrite, link=link)
    for note in [*dataset.notes, *notes]:
        say(note)
    wrote([out], f"striate train {out}")
    return 0
