"""`striate evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def evaluate(
    model: Path,
    data: str,
    *,
    split: str | None = None,
    batch: int | None = None,
    device: str = "auto",
    tile: int | Literal["auto"] | None = None,
    tile_overlap: float = 0.2,
    json: bool = False,
    out: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Judge MODEL on labelled DATA: its test split if it has one, else val, else what there is.

    Args:
        model: a model file.
        data: as for `striate train`; `photos/:val` names a split.
        split: another way to name the split.
        batch: pictures at a time.
        device: auto, cpu, cuda, cuda:0 …
        tile: look for small objects in tiles of so many pixels a side too; auto: as large as what the network sees.
        tile_overlap: what neighbouring tiles share, of their side.
        json: everything, as JSON on stdout.
        out: a folder for report.html and report.json.
        overwrite: allow OUT to hold a report already.
    """
    from striate.cli.terminal import print_json, print_table, say, wrote
    from striate.files import refuse_overwrite
    from striate.model import Model

    if out is not None:
        refuse_overwrite(out / "report.html", overwrite)
    evaluation = Model.load(model, device=device).evaluate(
        data, split=split, batch=batch, tile=tile, tile_overlap=tile_overlap
    )
    if json:
        print_json(evaluation.to_dict())
    else:
        rows = [(name, f"{value:.4f}") for name, value in evaluation.values.items()]
        print_table(("metric", "value"), rows, title=f"{evaluation.split}: {len(evaluation.samples):,} pictures")
    for message in evaluation.skipped[:5]:
        say(f"skipped: {message}")
    if len(evaluation.skipped) > 5:
        say(f"skipped: {len(evaluation.skipped) - 5} more")
    written: list[Path] = []
    if out is not None:
        from striate.report import write_report

        written += write_report(
            out,
            title=f"{model.stem} on {data}",
            facts={"Model": str(model), "Data": data, "Judged on": f"the {evaluation.split} split"},
            sections=evaluation.sections,
            history=[],
            full=evaluation.to_dict(),
            recipe_yaml="",
            commands=[f"striate evaluate {model} {data}"],
            notes=evaluation.skipped[:20],
        )
    wrote(written, None if out else f"striate evaluate {model} {data} --out DIR (a report with the worst mistakes)")
    return 0
