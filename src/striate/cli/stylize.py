"""`striate stylize`: paint a photo like another picture."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from striate.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from striate.create import Painting, Progress, Styled
    from striate.tasks.stylize.network import PerceptualNetwork

Words = Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable="")]
Numbers = Annotated[list[float] | None, Parameter(consume_multiple=True, negative_iterable="")]


app = App(name="stylize", help="Paint a picture in the style of another, or teach a network to do it at once.")
app.command("striate.cli.stylize_train:train", name="train", help="Teach a network a style, or any.")


@app.default
def stylize(
    content: str | None = None,
    /,
    *styles: str,
    out: Path | None = None,
    size: int | None = None,
    steps: int | None = None,
    strength: float = 1.0,
    mix: Numbers = None,
    network: str | None = None,
    keep_colours: Literal["luminance", "histogram"] | None = None,
    style_scale: float = 1.0,
    smooth: float = 1.0,
    scales: int | None = None,
    start: Literal["content", "noise"] = "content",
    optimizer: Literal["lbfgs", "adam"] = "lbfgs",
    pooling: Literal["auto", "average", "max"] = "auto",
    style_layers: Words = None,
    content_layers: Words = None,
    preview: Path | None = None,
    preview_every: int = 20,
    json: bool = False,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    accept_license: bool = False,
    seed: int = 0,
    overwrite: bool = False,
) -> int:
    """Paint CONTENT in the style of one or several other pictures; or by a network that `striate stylize train` made.

    Parameters
    ----------
    content
        A photo. With a trained network also a folder, a pattern, or a video.
    styles
        Pictures whose style to take, or a model file that `striate stylize train` wrote.
    out
        The picture to write; CONTENT-STYLE.png when not given.
    size
        Longer side of the result; 512 when not given, with a trained network the photo's own.
    steps
        Of the optimiser at each scale, 60 when not given.
    strength
        How much of the style: 0.1 faint, 1 as meant, 10 wild.
    mix
        How much each of several styles counts: --mix 0.7 0.3
    network
        Whose eyes compare the pictures: a model file, a file of weights (vgg19-dcbb9e9d.pth), or the name of a network
        with public weights. squeezenet1_0 when not given.
    keep_colours
        The photo's own: luminance paints brightness alone, histogram recolours the style first.
    style_scale
        Size of the style pictures over that of the result: 2 for strokes twice as broad.
    smooth
        How much smoothness counts (total variation), times what is usual.
    scales
        From coarse to fine, each half as large as the next.
    start
        Paint over the photo, or from noise.
    optimizer
        lbfgs never lets the loss rise; adam is the other usual one.
    pooling
        Average instead of largest, as in the paper; auto: for a VGG.
    style_layers
        Where style is compared: conv1_1 conv2_1 …, fire2 fire3 …, a stage, any module.
    content_layers
        Where content is.
    preview
        A folder for pictures of the work in progress.
    preview_every
        Steps between these.
    json
        Print size, seconds and losses as JSON.
    device
        auto, cpu, cuda, cuda:0 …
    precision
        auto: bf16 where the device has it natively.
    accept_license
        Take weights whose licence forbids commercial use.
    seed
        Of noise.
    overwrite
        Replace files that exist.
    """
    if content is None or not styles:
        raise UsageError("what to paint, and like what? As in: striate stylize town.jpg starry_night.jpg")
    from striate.create.style import Painting, shares_of, split_model_file

    file, pictures = split_model_file(styles)
    shares = shares_of(mix, len(pictures)) if pictures or file is None else []
    if file is not None:
        from striate.cli.stylize_trained import paint_at_once
        from striate.create.painted import load_painter

        return paint_at_once(
            load_painter(file, device), content, pictures, shares, strength, size, precision, out, json, overwrite
        )
    how = Painting(
        size=512 if size is None else size,
        steps=60 if steps is None else steps,
        scales=scales,
        strength=strength,
        style_scale=style_scale,
        smooth=smooth,
        keep_colours=keep_colours,
        start=start,
        optimizer=optimizer,
        pooling=pooling,
        style_layers=style_layers,
        content_layers=content_layers,
        seed=seed,
        device=device,
        precision=precision,
    )
    from striate.cli.terminal import print_json, say, wrote
    from striate.create.pictures import one_picture
    from striate.files import refuse_overwrite
    from striate.results import picture_format
    from striate.tasks.stylize.network import find_network

    target = refuse_overwrite(out or Path(f"{Path(content).stem}-{Path(pictures[0]).stem}.png"), overwrite)
    picture_format(target)
    previews = Previews(preview, preview_every, overwrite) if preview is not None else None
    photo, *looks = (one_picture(source) for source in (content, *pictures))
    perceptual = find_network(network, accept_license)
    done = _watched(photo, looks, shares, perceptual, how, previews)
    done.save(target, overwrite)
    if json:
        print_json({**done.to_dict(), "out": str(target)})
    height, width = done.image.shape[1:]
    lasts = {row["size"]: row for row in done.losses}.values()  # the last row of every scale
    told = [f"at {row['size']:.0f} px loss {row['total']:,.1f} after {row['step']:.0f} steps" for row in lasts]
    say(f"{width} x {height}, seen by {perceptual.name}, {done.seconds:.0f} s; {'; '.join(told)}")
    if previews is not None:
        say(f"{previews.count} previews in {preview}")
    wrote([target], shlex.join(["striate", "stylize", "train", *pictures, "--content", "PHOTOS"]))
    return 0


class Previews:
    """Writes the picture so far as `<scale>-<size>px-<step>.jpg`, every so many steps and at the end of a scale."""

    def __init__(self, folder: Path, every: int, overwrite: bool) -> None:
        if every < 1:
            raise UsageError(f"--preview-every must be at least 1, not {every}")
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise UsageError(f"{folder} holds files already: choose another folder, or pass --overwrite")
        self.folder, self.every, self.count = folder, every, 0

    def __call__(self, now: Progress) -> None:
        if now.step % self.every and now.step != now.steps:
            return
        from striate.results import as_pillow, save_picture
        from striate.tasks.stylize.pictures import as_uint8

        name = f"{now.scale + 1}-{now.size}px-{now.step:04d}.jpg"
        save_picture(as_pillow(as_uint8(now.image())), self.folder / name)
        self.count += 1


def _watched(
    photo: Tensor,
    looks: list[Tensor],
    shares: list[float],
    perceptual: PerceptualNetwork,
    how: Painting,
    previews: Previews | None,
) -> Styled:
    """Paints under a bar on stderr."""
    from dataclasses import replace

    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from striate.cli.terminal import err
    from striate.create.style import paint

    columns = (
        TextColumn("{task.fields[size]} px"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:,.1f}  left"),
        TimeRemainingColumn(compact=True),
    )
    with Bar(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        row = bar.add_task("", total=how.steps, size=how.sizes()[0], loss=0.0)

        def watch(now: Progress) -> None:
            bar.update(row, completed=now.step, size=now.size, loss=now.loss)
            if previews is not None:
                previews(now)

        return paint(photo, looks, shares, perceptual, replace(how, watch=watch))
