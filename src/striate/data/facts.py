"""What choices about training rest on: how many pictures, how large, grey or coloured."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from striate.data.reader import read_sample
from striate.data.sample import Sample
from striate.errors import ImageError

SMALL = 64  # pixels: up to here pictures are used as they are, and kept in memory


@dataclass(frozen=True)
class Facts:
    """What the choices rest on."""

    count: int  # training pictures
    classes: int
    height: int
    width: int
    one_size: bool
    grey: bool

    @property
    def small(self) -> bool:
        return self.one_size and max(self.height, self.width) <= SMALL


def look(samples: list[Sample], classes: int, most: int = 64) -> Facts:
    """Facts from up to `most` pictures spread over the split."""
    sizes: list[tuple[int, int]] = []
    grey = True
    for sample in samples[:: max(1, len(samples) // most)][:most]:
        try:
            picture = read_sample(sample)
        except ImageError:
            continue
        sizes.append((picture.shape[-2], picture.shape[-1]))
        grey = grey and (picture.shape[0] == 1 or bool((picture == picture[:1]).all()))
    if not sizes:
        read_sample(samples[0])  # raises, naming the picture
    heights, widths = zip(*sizes, strict=True)
    return Facts(len(samples), classes, int(median(heights)), int(median(widths)), len(set(sizes)) == 1, grey)
