"""What `striate stylize` does with networks that paint at once: teach them, use them."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from striate.errors import DataError, ImageError, UsageError

if TYPE_CHECKING:
    from striate.create.painter import Painter
    from striate.create.practice import Practice


class Lessons(NamedTuple):
    """What is to be learnt: styles, or `any`, and where the pictures for it are."""

    styles: list[str]
    content_folder: Path | None
    style_folder: Path | None
    mix: list[float] | None
    strength: float
    smooth: float
    width: int | None

    @property
    def any_style(self) -> bool:
        return self.styles == ["any"]

    def check(self) -> None:
        """Raises:
        UsageError: something is missing, or makes no sense with the rest.
        """
        if self.content_folder is None:
            raise UsageError("--train practises on photos: name a folder of them with --content-folder")
        if self.any_style and self.style_folder is None:
            raise UsageError("--train any learns from many styles: name a folder of pictures with --style-folder")
        if not self.any_style and self.style_folder is not None:
            raise UsageError("--style-folder: only with --train any")
        if self.any_style and self.mix:
            raise UsageError("--mix: of a network for any style, styles are mixed when it paints")
        if self.width is not None and not 4 <= self.width <= 256:
            raise UsageError(f"--width must be from 4 to 256, not {self.width}")


def teach(
    lessons: Lessons, how: Practice, network: str | None, accept_license: bool, out: Path | None, overwrite: bool
) -> int:
    """A network learns one style, or any, under a bar on stderr."""
    from rich.progress import BarColumn, Progress, TextColumn

    from striate.cli.terminal import err, say, wrote
    from striate.create.network import find_network
    from striate.create.painter import teach_any_style, teach_style
    from striate.create.pictures import one_picture
    from striate.create.style import shares_of
    from striate.files import refuse_overwrite

    lessons.check()
    target = refuse_overwrite(out or Path(f"{Path(lessons.styles[0]).stem}.safetensors"), overwrite)
    if target.suffix != ".safetensors":
        raise UsageError(f"--out {target}: a model file ends in .safetensors")
    assert lessons.content_folder is not None
    shares = [] if lessons.any_style else shares_of(lessons.mix, len(lessons.styles))
    pictures = [] if lessons.any_style else [one_picture(style) for style in lessons.styles]
    seeing = find_network(network, accept_license)
    told = TextColumn("{task.percentage:.0f} %  step {task.fields[step]:,}  loss {task.fields[loss]:.3f}")
    with Progress(BarColumn(bar_width=24), told, console=err, transient=True, disable=not err.is_terminal) as bar:
        row = bar.add_task("", total=1.0, step=0, loss=0.0)
        watched = replace(
            how, watch=lambda lesson: bar.update(row, completed=lesson.share, step=lesson.step, loss=lesson.loss)
        )
        if lessons.style_folder is not None:
            painter = teach_any_style(
                lessons.content_folder, lessons.style_folder, seeing, watched, lessons.width or 24
            )
        else:
            painter = teach_style(
                pictures,
                shares,
                lessons.content_folder,
                seeing,
                watched,
                strength=lessons.strength,
                smooth=lessons.smooth,
                width=lessons.width or 16,
                about=", ".join(Path(style).name for style in lessons.styles),
            )
    painter.save(target, overwrite)
    say(f"{painter.card.recipe['steps']:,} steps, loss {painter.card.metrics['loss']:.3f} over the last tenth")
    shown = ["STYLE"] if lessons.any_style else []
    wrote([target], shlex.join(["striate", "stylize", "PHOTO", *shown, str(target)]))
    return 0


def paint_at_once(
    painter: Painter,
    content: str,
    styles: list[str],
    shares: list[float],
    strength: float,
    size: int | None,
    out: Path | None,
    json: bool,
    overwrite: bool,
) -> int:
    """A trained network paints a photo, each of several, or each frame of a video."""
    from striate.cli.terminal import print_json, say, wrote
    from striate.create.pictures import as_float, one_picture
    from striate.files import refuse_overwrite
    from striate.inference.sources import expand
    from striate.inference.video import VideoWriter, is_video, read_clip

    looks = [one_picture(style) for style in styles]
    found, is_single = expand(content)
    is_film = is_video(content)
    stem = f"{Path(content).stem}-{Path(styles[0]).stem if styles else painter.name}"
    target = out or Path(stem + (".mp4" if is_film else ".png" if is_single else ""))
    if not is_film and not is_single and target.is_dir() and any(target.iterdir()) and not overwrite:
        raise UsageError(f"{target} holds files already: choose another folder, or pass --overwrite")
    seconds, count, unread = 0.0, 0, 0
    with ExitStack() as stack:
        film = stack.enter_context(VideoWriter(target, read_clip(content).rate, overwrite)) if is_film else None
        if is_single:
            refuse_overwrite(target, overwrite)
        for source in found:
            try:
                photo = as_float(source.load())
            except ImageError as error:
                if is_single:
                    raise
                say(f"skipped {error}")
                unread += 1
                continue
            done = painter.paint(photo, looks, shares, strength, size)
            seconds, count = seconds + done.seconds, count + 1
            if film is not None:
                film.add(done.to_pillow())
            else:
                done.save(target if is_single else target / f"{count:05d}-{Path(source.name).stem}.jpg", overwrite)
    if not count:
        raise DataError(f"{content}: no picture in it could be read")
    if json:
        print_json({"pictures": count, "unreadable": unread, "seconds": round(seconds, 3), "out": str(target)})
    say(f"{count:,} painted, {1000 * seconds / count:,.0f} ms each" if count > 1 else f"painted in {seconds:.2f} s")
    wrote([target])
    return 0
