"""Fetching a file that the user asked for: resumed where it broke off, checked, put in place when whole."""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from striate.errors import DataError

CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte


def cache_folder() -> Path:
    """`$STRIATE_CACHE`, else `~/.cache/striate`."""
    return Path(os.environ.get("STRIATE_CACHE") or Path.home() / ".cache" / "striate")


def download(url: str, target: Path, sha256: str = "", license: str = "") -> Path:
    """The file at `target`, fetched from `url` unless it is there already.

    Args:
        sha256: the digest, or its first digits; empty: not checked.
        license: told when fetching begins.

    Raises:
        DataError: not reachable, or other content than was promised; says where to put the file by hand.
    """
    if target.is_file():
        return target
    part = target.with_name(target.name + ".part")
    by_hand = f"Fetch it elsewhere and put it at {target}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        print(f"fetching {url}" + (f" (licence: {license})" if license else ""), file=sys.stderr)
        _fetch(url, part)
        found = _digest(part)
        if not found.startswith(sha256.lower()):
            part.unlink()
            raise DataError(f"{url}: its SHA-256 is {found[:16]}…, not {sha256}…: damaged or changed. {by_hand}")
        os.replace(part, target)
    except OSError as error:  # URLError and time-outs are OSErrors too
        reason = getattr(error, "reason", None) or error.strerror or error
        raise DataError(f"{url}: could not be fetched ({reason}). {by_hand}") from None
    return target


def _fetch(url: str, part: Path) -> None:
    """Append to `part` what is missing of the file at `url`."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "striate"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is missing
            return
        raise
    with response:
        resumed = response.status == 206
        length = int(response.headers.get("Content-Length") or 0)
        total = length + (have if resumed else 0)
        with open(part, "ab" if resumed else "wb") as file, _bar(total, have if resumed else 0) as advance:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                advance(len(chunk))
            size = file.tell()
        if length and size < total:
            raise OSError(f"ended after {size:,} of {total:,} bytes; the next try goes on from there")


@contextmanager
def _bar(total: int, done: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, nothing elsewhere; gives a function to call with every count of bytes."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("fetching", total=total or None, completed=done)
        yield lambda count: progress.advance(task, count)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
