"""`striate bench models`: what networks cost, side by side."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

if TYPE_CHECKING:
    from striate.profiling.measure import Cost
    from striate.profiling.networks import Network

app = App(name="bench", help="Measure what networks cost, side by side.")


@app.command
def models(
    *names: str,
    size: str | None = None,
    batch: int = 8,
    device: str = "auto",
    threads: int | None = None,
    seconds: float = 3.0,
    json: bool = False,
    picture: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Parameters, multiply-adds, file size, peak memory, latency and throughput of networks, and their accuracy.

    Parameters
    ----------
    names
        Networks (`striate models`), patterns ("resnet*"), timm/NAME, lines such as "conv8s2-relu-fc10", model files or
        the folders of runs; ten usual networks when not given.
    size
        224, or 224x160 (height x width); what each network was made for when not given.
    batch
        Pictures at once, for memory and throughput.
    device
        auto, cpu, cuda, cuda:0 …
    threads
        Of arithmetic on a processor; all when not given.
    seconds
        How long each network is timed, about.
    json
        Print JSON.
    picture
        Draw accuracy against cost into this file (PNG).
    overwrite
        Replace a file that stands at --picture.
    """
    from striate.cli.summary import read_size
    from striate.cli.terminal import err, say, wrote
    from striate.errors import UsageError
    from striate.files import refuse_overwrite, write_atomic

    for name, value in (("batch", batch), ("threads", threads), ("seconds", seconds)):
        if value is not None and not value > 0:
            raise UsageError(f"--{name} must be above 0, not {value}")
    shape = read_size(size)
    if picture is not None:
        if picture.suffix.lower() != ".png":
            raise UsageError(f"--picture {picture}: the picture is a PNG, so its name must end in .png")
        refuse_overwrite(picture, overwrite)

    from striate.device import pick_device
    from striate.profiling.figure import accuracies, draw_costs, png_bytes
    from striate.profiling.measure import measure
    from striate.profiling.networks import USUAL, find_networks

    networks = find_networks(names or USUAL, shape)
    if picture is not None:
        accuracies(networks)  # refused now rather than after minutes
    chosen = pick_device(device)
    if not names:
        say(f"no networks named: these {len(USUAL)} usual ones are measured")
    setting = _setting(str(chosen), threads, batch)
    say(f"measuring {len(networks)} network{'s' * (len(networks) != 1)} on {setting}: {_about(networks, seconds)}")
    if shape is not None and any(network.top1 is not None for network in networks):
        say(f"top-1 is as published, for each network's own size of picture, not for {size}")
    with err.status("loading") as status:
        costs = measure(
            networks, batch=batch, device=str(chosen), threads=threads, seconds=seconds, progress=status.update
        )
    costs.sort(key=lambda cost: cost.network.multiply_adds)
    _print(costs, setting, json)
    if picture is not None:
        write_atomic(picture, png_bytes(draw_costs(costs, setting)))
    wrote([picture] if picture else [], _next_command(costs, names, picture))


def _setting(device: str, threads: int | None, batch: int) -> str:
    """`Intel(R) Xeon(R), 2 threads, fp32, batch 8`"""
    import torch

    from striate.train.run_report import processor_name

    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, fp32, batch {batch}"
    count = threads or torch.get_num_threads()
    return f"{processor_name()}, {count} thread{'s' * (count != 1)}, fp32, batch {batch}"


def _about(networks: Sequence[Network], seconds: float) -> str:
    """Each has its time and some to be built, warmed up and weighed; torch is loaded once more."""
    total = 8 + len(networks) * (seconds + 3)
    return f"about {total:.0f} s" if total < 100 else f"about {total / 60:.0f} minutes"


def _print(costs: Sequence[Cost], setting: str, json: bool) -> None:
    from striate.cli.terminal import out, print_json, print_table

    if json:
        print_json({"setting": setting, "models": [cost.to_dict() for cost in costs]})
        return
    sizes = ["×".join(map(str, cost.network.size)) for cost in costs]
    columns = {
        "network": [cost.network.name for cost in costs],
        "pictures": sizes,
        "parameters M": _three([cost.network.parameters / 1e6 for cost in costs]),
        "multiply-adds M": _three([cost.network.multiply_adds / 1e6 for cost in costs]),
        "file MiB": _three([cost.network.file_bytes / 2**20 for cost in costs]),
        "memory MiB": _three([None if cost.memory_bytes is None else cost.memory_bytes / 2**20 for cost in costs]),
        "latency ms": _three([cost.latency_ms for cost in costs]),
        "half of runs": ["–".join(_three(cost.latency_quartiles_ms)) for cost in costs],
        "img/s": _three([cost.images_per_second for cost in costs]),
        "top-1 %": ["–" if cost.network.top1 is None else f"{cost.network.top1:.1f}" for cost in costs],
    }
    if any(cost.network.metrics for cost in costs):
        columns["own metric"] = [
            ", ".join(f"{name} {value:.4g}" for name, value in list(cost.network.metrics.items())[:1]) or "–"
            for cost in costs
        ]
    left = ("network", "pictures", "own metric")
    cells = [values if head in left else _flush_right(head, values) for head, values in columns.items()]
    heads = [head if head in left else head.rjust(len(column[0])) for head, column in zip(columns, cells, strict=True)]
    print_table(heads, list(zip(*cells, strict=True)))
    out.print(
        "\nmemory: weights and a batch; latency: one picture, median; top-1: as published on ImageNet", markup=False
    )


def _three(values: Sequence[float | None]) -> list[str]:
    """Three digits that count: 0.819, 12.3, 4,089."""
    return [
        "–" if value is None else f"{value:,.{min(3, max(0, 2 - floor(log10(value)))) if value > 0 else 0}f}"
        for value in values
    ]


def _flush_right(head: str, cells: Sequence[str]) -> list[str]:
    width = max(len(head), *map(len, cells))
    return [cell.rjust(width) for cell in cells]


def _next_command(costs: Sequence[Cost], names: Sequence[str], picture: Path | None) -> str:
    """The picture first; then to train what is most accurate, or to use a model file."""
    networks = [cost.network for cost in costs]
    best = max(networks, key=lambda network: network.top1 or 0)
    if picture is None and (best.top1 is not None or any(network.metrics for network in networks)):
        return shlex.join(["striate", "bench", "models", *names, "--picture", "costs.png"])
    if best.architecture != best.name:
        return f"striate predict {shlex.quote(best.name)} PICTURES"
    published = " --weights imagenet" if best.top1 is not None else ""
    return f"striate train DATA --model {shlex.quote(best.name)}{published}"
