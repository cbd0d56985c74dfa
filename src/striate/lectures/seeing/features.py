"""The first layer of a trained network can be looked at as it is: its filters are small pictures, of oriented edges and
of colours against each other, whatever it was trained for (Krizhevsky, Sutskever & Hinton, NIPS 2012, figure 3).
Deeper layers are seen by their maps: layer by layer they are coarser, and each value of fewer things.

Nobody drew these filters. Simple cells of the visual cortex answer to much the same bars and edges (Hubel & Wiesel
1962), and so did the kernels that people designed by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from striate.lectures.page import Check, Setting, Shown
from striate.lectures.seeing.real import PHOTOS, WEIGHTS, absent, photos, squeezenet
from striate.tasks.section import BLUE, GREY, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from striate.lectures.foundations.digits import Digits
    from striate.model import Model

PYTHON = """\
import striate, torch
from skimage.data import astronaut
from striate.explain.layers import read_maps, readable_copy, stage_layers

network = readable_copy(striate.create_model("squeezenet1_0"))  # weights="imagenet" to see what it has learnt
photo = torch.from_numpy(astronaut()).permute(2, 0, 1)[None] / 255
print(tuple(network.features[0].weight.shape), "the first filters, each a picture")
for layer in stage_layers(network):
    maps = read_maps(network, layer, photo)  # [1, C, h, w]
    print(layer, tuple(maps.shape[1:]), f"{(maps > 0).float().mean():.0%} of the values are above 0")
"""

ORIENTED = 0.5  # of its spectrum's anisotropy: above, a filter has a direction
GREY_ABOVE, COLOUR_BELOW = (
    0.5,
    0.2,
)  # of its energy that is the same in red, green and blue; random filters have a third
DRAWN = 2_000  # random filters to compare with
PHOTO = "n02129604_tiger.JPEG"  # stripes, fur, grass
SPECTRUM = 33  # places a side at which a filter’s spectrum is taken; odd, so that every frequency has its negative


class Kinds(NamedTuple):
    """What N filters are like, a number each: `direction` 0 (none) to 1 (one alone), `brightness` 0 (colours alone) to
    1, and the mean `frequency` in cycles a pixel."""

    direction: Tensor
    brightness: Tensor
    frequency: Tensor

    def shares(self) -> dict[str, float]:
        oriented, coloured = self.direction > ORIENTED, self.brightness < COLOUR_BELOW
        found = {
            "oriented": oriented,
            "of brightness": self.brightness > GREY_ABOVE,
            "of colour": coloured,
            "oriented or of colour": oriented | coloured,
        }
        return {name: float(which.float().mean()) for name, which in found.items()}


def kinds_of(weights: Tensor) -> Kinds:
    """Filters [N, C, h, w] judged by their spectra.

    The direction is that of a structure tensor: how much more of the spectrum's second moment lies along one axis than
    across it, (λ₁ - λ₂) / (λ₁ + λ₂).
    """
    from striate.explain.units.filters import brightness_share, strongest_pattern

    power = torch.fft.fft2(strongest_pattern(weights), s=(SPECTRUM, SPECTRUM)).abs().square()  # [N, 33, 33]
    rows = torch.fft.fftfreq(SPECTRUM)[:, None]
    columns = rows.T
    down, across, both = ((power * part).sum((1, 2)) for part in (rows * rows, columns * columns, rows * columns))
    direction = ((across - down).square() + 4 * both.square()).sqrt() / (across + down)
    frequency = (power * (rows**2 + columns**2).sqrt()).sum((1, 2)) / power.sum((1, 2))
    return Kinds(direction, brightness_share(weights), frequency)


def show(setting: Setting) -> Shown:
    """Filters and maps of a small network that learns digits here; with the data, of SqueezeNet on a photograph."""
    checks, sections = on_digits()
    model, found = squeezenet(setting), photos(setting)
    if model is not None:
        more, filters = first_filters(model)
        checks, sections = [*more, *checks], [filters, *sections]
        if found:
            setting.say("feature maps of one photograph")
            more, maps = maps_of_a_photo(model, next((path for path in found if path.name == PHOTO), found[0]))
            checks, sections = [*checks, *more], [filters, maps, *sections[1:]]
    seen = {WEIGHTS: "the filters of a network that has seen a million photographs", PHOTOS: "its maps of one"}
    return Shown(tuple(checks), tuple(sections), missing=absent(setting, seen))


def first_filters(model: Model) -> tuple[list[Check], Section]:
    """SqueezeNet's, sorted, counted, and beside random ones of the same shape."""
    from striate.explain.units.filters import painted
    from striate.explain.units.sheets import sheet

    weights = model.module.get_submodule("features.0").weight.detach().float()  # type: ignore[union-attr]
    drawn = torch.randn((DRAWN, *weights.shape[1:]), generator=torch.Generator().manual_seed(0))
    ours, chance = kinds_of(weights), kinds_of(drawn)
    shares, by_chance = ours.shares(), chance.shares()
    grey, coloured = ours.brightness > GREY_ABOVE, ours.brightness < COLOUR_BELOW
    fine, coarse = float(ours.frequency[grey].mean()), float(ours.frequency[coloured].mean())
    order = torch.where(grey, 2 + ours.direction, ours.brightness).argsort(descending=True).tolist()
    checks = [
        Check(
            "filters of SqueezeNet’s first layer (Iandola et al. 2016, table 1)",
            "96 of 7×7",
            f"{len(weights)} of {weights.shape[2]}×{weights.shape[3]}",
            weights.shape == (96, 3, 7, 7),
        ),
        Check(
            "filters that have a direction: edges and bars",
            "most",
            f"{shares['oriented']:.0%}; of random filters {by_chance['oriented']:.1%}",
            shares["oriented"] > 0.5 > 10 * by_chance["oriented"],
            f"Anisotropy of the spectrum above {ORIENTED}.",
        ),
        Check(
            "oriented, or coloured",
            "orientation-selective kernels and coloured blobs",
            f"{shares['oriented or of colour']:.0%}; of random filters {by_chance['oriented or of colour']:.1%}",
            shares["oriented or of colour"] > 0.67 > 10 * by_chance["oriented or of colour"],
            f"{shares['of colour']:.0%} see colour: less than {COLOUR_BELOW:.0%} of them is brightness. The rest are "
            "grey blobs, and a few that learnt little.",
        ),
        Check(
            "colour is seen coarsely, brightness finely",
            "coloured blobs, fine edges",
            f"{coarse:.2f} against {fine:.2f} cycles a pixel on average",
            coarse < 0.7 * fine,
            "As in the eye, and as in JPEG, which keeps a quarter of the colours.",
        ),
    ]
    figures = [
        Figure(
            sheet([painted(weights[index]) for index in order], [str(index) for index in order]),
            "First those that see brightness, the most oriented before others. Mid grey is 0.",
            "96 small squares: stripes and edges at many angles, in grey first, then blobs and edges in colours.",
            wide=True,
        ),
        Figure(
            draw_kinds(ours, chance),
            "Each dot is a filter; grey: random ones, which are all in one heap.",
            "Scatter of filters by their share of brightness and by how much direction they have.",
            wide=True,
        ),
    ]
    rows = [(name, f"{share:.0%}", f"{by_chance[name]:.1%}") for name, share in shares.items()]
    table = Table(("filters that are", "SqueezeNet", f"{DRAWN:,} random ones"), rows)
    text = (
        "A filter has a direction where its spectrum lies along one axis more than across it. It sees brightness where "
        f"more than {GREY_ABOVE:.0%} of its energy is the same in red, green and blue, colour where less than "
        f"{COLOUR_BELOW:.0%} is: of random numbers a third is."
    )
    return checks, Section("The first filters of SqueezeNet, learnt on ImageNet", text, figures, [table])


def maps_of_a_photo(model: Model, path: Path) -> tuple[list[Check], Section]:
    """What each stage makes of one photograph: a sheet of the strongest maps each, and numbers of all."""
    from striate.data.transforms import Normalize, eval_transform
    from striate.explain.layers import backbone_in, place_of, read_maps, readable_copy
    from striate.explain.units.sheets import as_tile, webp
    from striate.images import read_image

    page = model.explain(str(path), "features", limit=1).sections[0]
    network, photo = readable_copy(model.module), eval_transform(model.card.preprocess)(read_image(path))
    images = Normalize(model.card.preprocess)(photo[None])
    backbone = backbone_in(network)
    assert backbone is not None
    rows, silent = [], []
    with torch.inference_mode():
        for stage, layers in backbone.stage_layers.items():
            layer = layers[-1]
            maps, place = read_maps(network, layer, images), place_of(network, layer, images)
            height, width = maps.shape[2:]
            assert place is not None
            field = f"{place.field[0]}×{place.field[1]}"
            silent.append(float((maps == 0).float().mean()))
            rows.append((f"{stage} ({layer})", maps.shape[1], f"{height}×{width}", field, f"{silent[-1]:.0%}"))
    checks = [
        Check(
            "deeper: coarser, and more maps",
            "smaller and more",
            " → ".join(f"{row[1]} of {row[2]}" for row in rows),
            [row[1] for row in rows] == sorted(row[1] for row in rows),
        ),
        Check(
            "deeper: fewer places answer",
            "ever sparser",
            " → ".join(f"{share:.0%}" for share in silent) + " of the values are 0",
            silent == sorted(silent),
            "Of the maps of this photograph, after each stage’s rectifier.",
        ),
    ]
    heads = ("layer", "maps", "size", "pixels that a value sees", "share of zeros")
    seen = Figure(webp(as_tile(photo, 227)), "The photograph, as the network sees it.", "A tiger walks over grass.")
    title = "Feature maps, layer by layer"
    return checks, Section(title, page.text, [seen, *page.figures], [Table(heads, rows)])


def on_digits() -> tuple[list[Check], list[Section]]:
    """A small network that learns scikit-learn's digits in a second: its filters before and after, and its maps."""
    from striate.explain.layers import read_maps, readable_copy
    from striate.explain.units.filters import painted, shaded
    from striate.explain.units.sheets import sheet
    from striate.lectures.foundations.digits import accuracy, digits, fit, seeded

    data: Digits = digits(1_200)
    network = seeded("conv16k5-relu-conv32-relu-gap", 0)
    first = network.get_submodule("conv1").get_parameter("weight").detach()
    before = first.clone()
    losses = fit(network, data, steps=300, lr=0.05)
    after = first.clone()
    right = accuracy(network, data.test_images, data.test_labels)
    digit = int((data.test_labels == 3).nonzero()[0])
    image = data.test_images[digit : digit + 1]
    read = readable_copy(network)
    with torch.inference_mode():
        maps = [read_maps(read, layer, image)[0] for layer in ("relu1", "relu2")]
    moved = float((after - before).norm() / before.norm())
    check = Check(
        "filters are learnt, not designed",
        "start random",
        f"moved by {moved:.0%} of their length; {right:.1%} of unseen digits are right",
        right > 0.9 and moved > 0.1,
        f"A network of {sum(value.numel() for value in network.parameters()):,} weights, {len(losses)} steps.",
    )
    names = [str(index) for index in range(len(after))]
    figures = [
        Figure(
            sheet([painted(one) for one in before], names, 56), "5×5 filters as they were drawn.", "16 filters", True
        ),
        Figure(sheet([painted(one) for one in after], names, 56), "The same, trained.", "16 filters, trained", True),
        *(
            Figure(
                sheet([painted(image[0]), *(shaded(one) for one in shown[:15])], ["a 3", *names[:15]], 56),
                f"A digit, and maps of layer {number} that it excites.",
                f"A digit and 15 maps of layer {number}",
                True,
            )
            for number, shown in enumerate(maps, start=1)
        ),
    ]
    text = "scikit-learn’s digits are of 8×8 pixels: no colours, hardly an edge. Still the filters leave their start."
    return [check], [Section("Learnt here, on digits", text, figures)]


def draw_kinds(ours: Kinds, chance: Kinds) -> Drawing:
    """Direction against brightness, a dot a filter."""
    from matplotlib.figure import Figure as Canvas

    drawing = Canvas(figsize=(7.6, 3.6), layout="constrained")
    axes = drawing.add_subplot()
    axes.scatter(chance.brightness, chance.direction, s=4, color=GREY, alpha=0.3, linewidths=0, label="random")
    axes.scatter(ours.brightness, ours.direction, s=22, color=BLUE, alpha=0.85, linewidths=0, label="SqueezeNet")
    axes.axhline(ORIENTED, color=GREY, linewidth=0.8, linestyle=":")
    for share in (COLOUR_BELOW, GREY_ABOVE):
        axes.axvline(share, color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="share of brightness", ylabel="direction")
    axes.text(0.99, 0.97, "grey edges", ha="right", va="top")
    axes.text(0.01, 0.97, "coloured edges", va="top")
    axes.text(0.01, 0.03, "coloured blobs")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawing
