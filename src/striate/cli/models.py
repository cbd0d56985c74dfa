"""`striate models`: list the networks, or search them."""

from __future__ import annotations

from striate.cli.terminal import print_json, print_table, wrote
from striate.errors import UsageError, did_you_mean


def models(pattern: str | None = None, /, weights: bool = False, json: bool = False) -> None:
    """List the networks, or search them. Any network can also be written as one line: conv8-relu-pool-fc10.

    Parameters
    ----------
    pattern
        A part of the name (cifar), or a pattern ("resnet*").
    weights
        Instead, the public weights that --weights imagenet stands for: accuracy, licence, preprocessing.
    json
        Print JSON.
    """
    import torch

    from striate.backbones import MODELS, create_model, list_models

    names = list_models(pattern)
    if not names:
        raise UsageError(f'no network\'s name matches "{pattern}".{did_you_mean(str(pattern), MODELS)}')
    if weights:
        _weights(names, json)
        return
    rows: list[dict[str, object]] = []
    for name in names:
        entry = MODELS[name]
        channels, size, classes = entry.canonical
        with torch.device("meta"):  # counted, never filled
            network = create_model(name, num_classes=classes, in_chans=channels, image_size=size)
        rows.append(
            {
                "name": name,
                "parameters": sum(parameter.numel() for parameter in network.parameters()),
                "input": f"{channels}×{size[0]}×{size[1]}",
                "classes": classes,
                "what": entry.about,
                "source": entry.source,
            }
        )
    if json:
        print_json(rows)
        return
    columns = ["name", "parameters", "what", "source"]
    print_table(columns, [[row[column] for column in columns] for row in rows])
    wrote([], f"striate summary {names[0]}")


def _weights(names: list[str], json: bool) -> None:
    from striate.backbones.public_weights import find_weights

    rows: list[dict[str, object]] = []
    for name in names:
        try:
            found = find_weights("imagenet", name)
        except UsageError:
            continue
        preprocess = found.preprocess
        rows.append(
            {
                "name": name,
                "top-1": found.top1,
                "licence": found.license,
                "size": preprocess.size[0] if preprocess else None,
                "place": found.place,
            }
        )
    if not rows:
        raise UsageError("none of these networks has public weights that we know of")
    if json:
        print_json(rows)
        return
    columns = ["name", "top-1", "size", "licence", "place"]
    print_table(columns, [["" if row[column] is None else row[column] for column in columns] for row in rows])
    wrote([], f"striate train DATA --model {rows[0]['name']} --weights imagenet")
