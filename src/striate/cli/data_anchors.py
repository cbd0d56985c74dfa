"""`striate data anchors SOURCE`: the widths and heights that stand for a set's boxes."""

from __future__ import annotations

from pathlib import Path

from striate.errors import DataError, UsageError


def anchors(
    source: str,
    /,
    *,
    count: int = 9,
    size: int = 416,
    out: Path | None = None,
    seed: int = 0,
    json: bool = False,
    overwrite: bool = False,
) -> int:
    """Cluster the boxes of a data set by their shape (YOLO's dimension clusters), and draw them.

    Parameters
    ----------
    source
        A data set of boxes; its train split is looked at.
    count
        How many anchors.
    size
        Side of the square that pictures are fitted into; anchors are in its pixels.
    out
        Draw them here; runs/data/NAME/anchors.png when not given.
    seed
        Of the starts.
    json
        Print JSON.
    overwrite
        Replace a file that stands at --out.
    """
    from striate.cli.data import own_folder
    from striate.cli.terminal import out as console
    from striate.cli.terminal import print_json, print_table, wrote
    from striate.config import Preprocess
    from striate.data import open_dataset
    from striate.data.anchor_clusters import cluster, draw, mean_iou, sizes_of
    from striate.files import refuse_overwrite, write_atomic

    if count < 1 or size < 32:
        raise UsageError(f"--count must be at least 1 and --size at least 32, not {count} and {size}")
    target = refuse_overwrite(out, overwrite) if out else own_folder(source) / "anchors.png"
    dataset = open_dataset(source, val_fraction=0)
    samples = dataset.splits.get("train") or next(iter(dataset.splits.values()))
    sizes = sizes_of(samples, Preprocess(size=(size, size), fit="pad"))
    if len(sizes) < count:
        raise DataError(f"{source}: {len(sizes)} boxes cannot be clustered into {count} anchors; lower --count")
    curve = [mean_iou(sizes, cluster(sizes, k, seed)) for k in range(1, count + 1)]
    found = cluster(sizes, count, seed)
    write_atomic(target, draw(sizes, found, curve, f"{dataset.source}: {len(sizes):,} boxes at {size} px"))
    pairs = [[round(width, 1), round(height, 1)] for width, height in found.tolist()]
    if json:
        print_json({"anchors": pairs, "size": size, "boxes": len(sizes), "mean_iou": [round(v, 4) for v in curve]})
        return 0
    print_table(["anchors", "mean IoU"], [[k, f"{value:.4f}"] for k, value in enumerate(curve, 1)])
    console.print("\n" + "  ".join(f"{width:g}×{height:g}" for width, height in pairs), markup=False)
    wrote([target], f"striate train {source} --model yolov3_tiny")
    return 0
