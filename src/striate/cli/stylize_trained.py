"""What `striate stylize` does with networks that paint at once."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from striate.errors import DataError, ImageError, UsageError

if TYPE_CHECKING:
    from striate.model import Model


def paint_at_once(
    model: Model,
    content: str,
    styles: list[str],
    shares: list[float],
    strength: float,
    size: int | None,
    precision: str,
    out: Path | None,
    json: bool,
    overwrite: bool,
) -> int:
    """A trained network paints a photo, each of several, or each frame of a video."""
    from striate.cli.terminal import print_json, say, wrote
    from striate.create.painted import paint_with
    from striate.create.pictures import one_picture
    from striate.files import refuse_overwrite
    from striate.inference.sources import expand
    from striate.inference.video import VideoWriter, is_video, read_clip
    from striate.tasks.stylize.pictures import as_float

    looks = [one_picture(style) for style in styles]
    found, is_single = expand(content)
    is_film = is_video(content)
    stem = f"{Path(content).stem}-{Path(styles[0]).stem if styles else model.name}"
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
            done = paint_with(model, photo, looks, shares, strength, size, precision)
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
