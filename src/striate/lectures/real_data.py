"""What lectures say and do about real data: where its folders are, and what to do where it is not there."""

from __future__ import annotations

from pathlib import Path


def missing(name: str, seen: str) -> str:
    """One line: which file is not there, what to do, what would then be seen."""
    file = name if Path(name).suffix else f"{name}.zip"
    return f"{file} is not among the data: put it into the folder that --data names, and this page also shows {seen}."


def inside(folder: Path, part: str) -> Path:
    """The folder called `part` somewhere in an unpacked archive, the outermost first.

    Raises:
        DataError: there is none.
    """
    from striate.errors import DataError

    found = sorted((path for path in folder.rglob(part) if path.is_dir()), key=lambda path: (len(path.parts), path))
    if not found:
        raise DataError(f"{folder}: holds no folder {part}; unpack the archive again")
    return found[0]
