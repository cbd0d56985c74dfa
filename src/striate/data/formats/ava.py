"""AVA's list of votes: `AVA.txt` beside a folder of pictures (Murray et al., 2012, "AVA: a large-scale database").

A line is `index image_id n1 … n10 tag1 tag2 challenge`: how many people gave each grade from 1 to 10. Pictures are
`<image_id>.jpg` in `images/`, `image/` or beside the list. The authors' partition is followed where
`aesthetics_image_lists/generic_test.jpgl` lies beside it; otherwise some are held out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from striate.data.sample import Dataset, Sample
from striate.data.split import hold_out
from striate.data.targets import Votes
from striate.errors import DataError

GRADES = tuple(str(grade) for grade in range(1, 11))
COLUMNS = 15
FOLDERS = ("images", "image", ".")
TEST = Path("aesthetics_image_lists") / "generic_test.jpgl"


def recognises(source: str) -> bool:
    path = Path(source)
    if path.is_dir():
        return (path / "AVA.txt").is_file()
    return path.suffix.lower() == ".txt" and path.is_file() and _is_list(path)


def read(source: str, val_fraction: float, seed: int, download: bool) -> Dataset:
    """Listed pictures that are not there are left out and told: some of AVA's have vanished from the net.

    Raises:
        DataError: names the file and the line; or no picture is there.
    """
    path = Path(source)
    file = path / "AVA.txt" if path.is_dir() else path
    test = set(_identities(file.parent / TEST))
    splits: dict[str, list[Sample]] = {"train": [], "test": []}
    missing = 0
    where: dict[str, int] = {}
    files = _files(file.parent)
    for line, identity, counts in _rows(file):
        if identity in where:
            raise DataError(f"{file}, line {line}: picture {identity} stands in line {where[identity]} already")
        where[identity] = line
        if identity not in files:
            missing += 1
            continue
        sample = Sample(files[identity], Votes(counts), os.path.relpath(files[identity], file.parent))
        splits["test" if identity in test else "train"].append(sample)
    splits = {split: samples for split, samples in splits.items() if samples}
    if not splits:
        looked = file.parent / "images"
        raise DataError(f"{file}: none of its {len(where):,} pictures is there; put them into {looked} as ID.jpg")
    found = sum(len(samples) for samples in splits.values())
    notes = [f"Read as AVA's votes ({file.name}): grades 1 to 10; task: score, {found:,} pictures."]
    if missing:
        notes.append(f"{missing:,} of {len(where):,} listed pictures are not there: left out.")
    splits, note = hold_out(splits, val_fraction, seed)
    return Dataset(source, "ava", "score", GRADES, splits, notes + ([note] if note else []))


def _is_list(path: Path) -> bool:
    try:
        with open(path, encoding="ascii") as file:
            cells = file.readline().split()
    except (OSError, UnicodeDecodeError):
        return False
    return len(cells) == COLUMNS and all(cell.isdecimal() for cell in cells)


def _rows(file: Path) -> Iterator[tuple[int, str, tuple[float, ...]]]:
    """(line, image id, votes) of every line."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise DataError(f"{file}: could not be read ({error.strerror}); check its permissions") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: holds more than numbers; a line is: index id n1 … n10 tag1 tag2 challenge") from None
    for line, text in enumerate(lines, start=1):
        cells = text.split()
        if not cells:
            continue
        if len(cells) != COLUMNS:
            raise DataError(
                f"{file}, line {line}: {len(cells)} numbers, there must be {COLUMNS}: "
                "index id n1 … n10 tag1 tag2 challenge"
            )
        odd = next((cell for cell in cells if not cell.isdecimal()), None)
        if odd is not None:
            raise DataError(f'{file}, line {line}: "{odd}" is not a whole number from 0 on')
        counts = tuple(float(cell) for cell in cells[2:12])
        if not any(counts):
            raise DataError(f"{file}, line {line}: nobody voted for picture {cells[1]}; remove the line")
        yield line, cells[1], counts


def _files(root: Path) -> dict[str, str]:
    """Image id → path of its picture."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    stem, suffix = os.path.splitext(entry.name)
                    if stem.isdecimal() and suffix.lower() in (".jpg", ".jpeg", ".png"):
                        found.setdefault(stem, str(root / folder / entry.name))
        except OSError:
            continue
    return found


def _identities(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []
