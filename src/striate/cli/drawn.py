"""What `striate predict --draw` makes: one contact sheet, one drawn picture each, or of a video a video."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from striate.cli.terminal import say
from striate.data.inspect.contact_sheet import contact_sheet
from striate.errors import UsageError
from striate.files import refuse_overwrite
from striate.inference.video import VideoWriter, is_video, read_clip
from striate.results import Failure, Result, save_picture, visible

SHEET_MOST = 64  # pictures on one sheet
THUMBNAIL = 256  # pixels, longer side


class Sheet:
    """Collects the first pictures and draws them side by side, captioned by what was predicted."""

    def __init__(self, path: Path, overwrite: bool, title: str) -> None:
        self.path, self.title = refuse_overwrite(path, overwrite), title
        if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
            raise UsageError(f'--draw {path}: "{path.suffix}" is not a picture format; use .png, or a folder')
        self.pictures: list[Tensor] = []
        self.captions: list[str] = []
        self.left_out = 0
        self.only: Image.Image | None = None
        self.large = False

    def add(self, result: Result | Failure) -> None:
        if isinstance(result, Failure):
            return
        if len(self.pictures) == SHEET_MOST:
            self.left_out += 1
            return
        if result.placed:
            drawn = result.draw()
            self.only, self.large = None if self.pictures else drawn, True
            self.pictures.append(_thumbnail(F.pil_to_tensor(drawn)))
        else:
            self.pictures.append(_thumbnail(result.source.load()))
        self.captions.append(result.caption())

    def finish(self) -> Path | None:
        """Write the sheet; nothing when no picture could be read."""
        if not self.pictures:
            return None
        if self.only is not None:  # one picture of places is not made small
            return save_picture(self.only, self.path)
        if self.left_out:
            say(
                f"the sheet shows the first {SHEET_MOST}; {self.left_out:,} more are left out (--draw FOLDER draws all)"
            )
        columns = min(8, max(2, round(len(self.pictures) ** 0.5 * 1.2)))
        tile = THUMBNAIL if self.large else 128
        sheet = contact_sheet(self.pictures, self.captions, columns, self.title, tile=tile)
        return save_picture(sheet, self.path)


class Folder:
    """Writes each drawn result as `<number>-<name>.png` (photos: `.jpg`)."""

    def __init__(self, path: Path, overwrite: bool) -> None:
        if path.is_dir() and any(path.iterdir()) and not overwrite:
            raise UsageError(f"{path} holds files already: choose another folder, or pass --overwrite")
        self.path, self.count = path, 0

    def add(self, result: Result | Failure) -> None:
        self.count += 1
        if isinstance(result, Failure):
            return
        stem = re.sub(r'[\\/:*?"<>|\s]+', "_", visible(Path(result.source.name).stem))[-80:]
        picture = result.draw()
        suffix = ".png" if max(picture.size) <= 1024 else ".jpg"
        save_picture(picture, self.path / f"{self.count:05d}-{stem}{suffix}")

    def finish(self) -> Path | None:
        return self.path if self.count else None


class Video:
    """Draws the result of each frame of one video into another of the same pace, without its sound.

    `writer` is a context of the caller's: the file appears when that ends well.
    """

    def __init__(self, path: Path, overwrite: bool, sources: Sequence[str]) -> None:
        if len(sources) != 1 or not is_video(sources[0]):
            raise UsageError(f"--draw {path}: a video is drawn of one video; use a folder, or .png for a sheet")
        self.clip = read_clip(sources[0])
        self.writer = VideoWriter(path, self.clip.rate, overwrite)

    def add(self, result: Result | Failure) -> None:
        if not isinstance(result, Failure):
            self.writer.add(result.draw())

    def finish(self) -> Path | None:
        if self.writer.count and self.clip.has_sound:
            say(f"{self.writer.path} has no sound: only the pictures are drawn")
        return self.writer.path if self.writer.count else None


def _thumbnail(pixels: Tensor) -> Tensor:
    """At most THUMBNAIL pixels a side, so that a sheet of photos fits in memory."""
    height, width = pixels.shape[-2:]
    shrink = THUMBNAIL / max(height, width)
    if shrink >= 1:
        return pixels
    return F.resize(pixels, [max(1, round(height * shrink)), max(1, round(width * shrink))], antialias=True)
