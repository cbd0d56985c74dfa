"""The content of one picture in the style of another: pixels are changed until a trained network's deep answers are
those to the content, and how its maps go together is as in the style (Gatys, Ecker & Bethge, CVPR 2016). What goes
together is a Gram matrix a layer, G_kk' = ⟨a_k, a_k'⟩, sums over all places, which forget where anything was; what
falls is αL_content + βL_style.
"""

from __future__ import annotations

import base64
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from striate.lectures.page import Check, Setting, Shown
from striate.lectures.seeing.real import WEIGHTS, absent
from striate.tasks.section import BLUE, GREY, ORANGE, Figure, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

PYTHON = """\
import torch
from striate.tasks.stylize.style_losses import gram_matrix, mean_gram, style_loss

features = torch.tensor([[[[1.0, 2], [3, 4]], [[0, 1], [1, 0]]]])  # two maps of 2×2
print(gram_matrix(features))                   # [[30, 5], [5, 2]]
moved = features.flip(3)                       # the same in another place
print(torch.equal(gram_matrix(moved), gram_matrix(features)), "style forgets where")
flat = torch.ones_like(features)
print(style_loss(mean_gram(flat), mean_gram(features)))  # 682/256
"""

PICTURES = "style-images"
SIZE, STEPS = 384, 60  # of the pair; steps at each of two scales, 192 pixels and 384
SMALL, FEW, STRENGTHS = 128, 50, (0.1, 1.0, 10.0)  # of the row that weighs style against content
RISES = 1e-6  # of a loss: what rounding may add


def show(setting: Setting) -> Shown:
    """Gram matrices by hand; with the weights, a photograph painted."""
    checks, sections = by_hand(), [Section("A Gram matrix, by hand", BY_HAND, [draw_gram()])]
    weights = setting.found(WEIGHTS)
    notes: tuple[str, ...] = ()
    if weights is not None:
        content, style, notes = pair(setting)
        more, found = painted(str(weights), content, style, setting)
        checks, sections = [*more, *checks], [*found, *sections]
    seen = {WEIGHTS: "a photograph painted, through the eyes of that network"}
    if weights is not None:
        seen[PICTURES] = "the Starry Night on a town, in place of pictures of scikit-image"
    return Shown(tuple(checks), tuple(sections), notes, absent(setting, seen))


def pair(setting: Setting) -> tuple[Any, Any, tuple[str, ...]]:
    """What is painted and how: the picture set's town and painting, or two pictures of scikit-image."""
    folder = setting.found(PICTURES)
    town, night = (None, None) if folder is None else (folder / "tubingen.jpg", folder / "starry_night.jpg")
    if town is not None and night is not None and town.is_file() and night.is_file():
        return town, night, ("Tübingen, and Van Gogh’s Starry Night (1889): the pair of the paper’s figure 2.",)
    from skimage.data import chelsea, immunohistochemistry

    return (
        chelsea(),
        immunohistochemistry(),
        ("The cat and the stained tissue are pictures that scikit-image carries.",),
    )


def painted(weights: str, content: Any, style: Any, setting: Setting) -> tuple[list[Check], list[Section]]:
    """The pair, how its losses fell, and the same with style counting for less and for more."""
    names = [picture.name if isinstance(picture, Path) else "of scikit-image" for picture in (content, style)]
    inputs = {"weights": WEIGHTS, "pictures": names, "size": SIZE, "steps": STEPS, "strengths": STRENGTHS}
    kept = setting.remembered("H1", inputs, lambda: paint_all(weights, content, style, setting))
    losses, row = kept["losses"], kept["row"]
    rises = sum(
        after["total"] > before["total"] * (1 + RISES)
        for before, after in pairwise(losses)
        if before["size"] == after["size"]
    )
    last = [one for one in losses if one["size"] == SIZE]
    styles, contents = ([one[name] for one in row] for name in ("style", "content"))
    checks = [
        Check(
            "the loss under L-BFGS",
            "falls",
            f"{rises} of {len(losses)} steps rise; {last[0]['total']:.3g} → {last[-1]['total']:.3g} at {SIZE} pixels",
            rises == 0 and last[-1]["total"] < last[0]["total"],
            "Within each of the two scales, which have losses of their own.",
        ),
        Check(
            "β for style against α for content",
            "one at the other’s cost",
            f"×{', ×'.join(f'{strength:g}' for strength in STRENGTHS)}: style {', '.join(f'{x:.3g}' for x in styles)}; "
            f"content {', '.join(f'{x:.3g}' for x in contents)}",
            styles == sorted(styles, reverse=True) and contents == sorted(contents),
        ),
    ]
    left, middle = (shown(picture) for picture in (content, style))
    triple = [
        Figure(left, "The content.", "A photograph."),
        Figure(middle, "The style.", "A painting."),
        Figure(
            base64.b64decode(kept["picture"]),
            f"{SIZE} pixels; {STEPS} steps at half that size, then {STEPS} at that size.",
            "The photograph’s things in the painting’s strokes and colours.",
        ),
        Figure(draw_losses(losses), "The loss, step by step, of the first scale and the next.", "Falling curves"),
    ]
    strengths = [
        Figure(base64.b64decode(one["picture"]), f"Style ×{strength:g}", f"Painted, style counting {strength:g} times.")
        for strength, one in zip(STRENGTHS, row, strict=True)
    ]
    text = "Through SqueezeNet’s eyes: content is compared in one deep layer, style in seven, from the first on."
    return checks, [
        Section("A photograph, painted", text, triple),
        Section("How much style", f"{SMALL} pixels; only β changes.", strengths),
    ]


def paint_all(weights: str, content: Any, style: Any, setting: Setting) -> dict[str, Any]:
    """The pair at full size, and small for each strength: pictures as WebP in base64, and the losses."""
    from striate.create import stylize

    small: dict[str, Any] = {"size": SMALL, "steps": FEW, "device": "cpu"}
    setting.say(f"painting {SIZE} pixels")
    whole = stylize(content, style, network=weights, size=SIZE, steps=STEPS, device="cpu")
    row = []
    for strength in STRENGTHS:
        setting.say(f"painting {SMALL} pixels, style × {strength:g}")
        one = stylize(content, style, network=weights, strength=strength, **small)
        row.append({**{name: one.losses[-1][name] for name in ("style", "content")}, "picture": packed(one.image)})
    return {"picture": packed(whole.image), "losses": whole.losses, "row": row}


def packed(picture: Tensor) -> str:
    """uint8 [3, H, W] as the text of a picture file, enlarged to 512 pixels."""
    from striate.explain.units.sheets import as_tile, webp

    return base64.b64encode(webp(as_tile(picture, 512))).decode()


def shown(picture: Any) -> bytes:
    from striate.create.pictures import one_picture
    from striate.explain.units.sheets import as_tile, webp
    from striate.tasks.stylize.pictures import as_uint8, scaled_to

    return webp(as_tile(as_uint8(scaled_to(one_picture(picture), SIZE)), SIZE))


BY_HAND = (
    "Two maps of two by two places. Every entry is the sum, over the four places, of the one map times the other: "
    "1·1 + 2·2 + 3·3 + 4·4 = 30, 1·0 + 2·1 + 3·1 + 4·0 = 5, 0 + 1 + 1 + 0 = 2. Move things about in both maps "
    "alike, and the sums stay: where they were is forgotten, that they go together is kept."
)
MAPS = [[[1, 2], [3, 4]], [[0, 1], [1, 0]]]


def by_hand() -> list[Check]:
    """The worked example: printed numbers were computed with pencil and paper."""
    from striate.lectures.cells import compared
    from striate.tasks.stylize.style_losses import gram_matrix, mean_gram, style_loss

    features = torch.tensor([MAPS], dtype=torch.float32)
    order = torch.tensor([2, 0, 3, 1])
    moved = features.flatten(2)[:, :, order].view_as(features)
    flat = torch.ones_like(features)
    loss = float(style_loss(mean_gram(flat), mean_gram(features)))
    same = torch.equal(gram_matrix(moved), gram_matrix(features))
    return [
        compared("the Gram matrix of two 2×2 maps", [[30, 5], [5, 2]], gram_matrix(features)[0]),
        Check("its places shuffled, in both maps alike", "the same matrix", "the same" if same else "another", same),
        Check(
            "E = 1/(4 N² M²) Σ (G − A)², against maps of ones",
            "(26² + 1² + 1² + 2²) / (4·2²·4²) = 682/256 = 2.664",
            f"{loss:.4g}",
            f"{loss:.4g}" == "2.664",
            "N = 2 maps of M = 4 places; the Gram matrix of ones is 4 everywhere.",
        ),
    ]


def draw_gram() -> Figure:
    """Both maps, written as rows, and their products."""
    from striate.lectures.cells import matrix, sheet, word

    features = torch.tensor(MAPS)
    rows = features.flatten(1)
    drawing, axes = sheet(16.6, 5.4)
    for index, (name, hue) in enumerate((("a₁", BLUE), ("a₂", ORANGE))):
        matrix(axes, features[index], 0.7 + 2.8 * index, 1.5, title=name, colour=hue, largest=6)
    word(axes, 6.3, 2.5, "→", 15)
    for index, hue in enumerate((BLUE, ORANGE)):
        matrix(axes, rows[index : index + 1], 7.2, 1.35 + 1.3 * index, colour=hue, largest=6)
    word(axes, 9.2, 0.85, "places in a row", 9, GREY)
    word(axes, 12.2, 2.5, "→", 15)
    matrix(axes, rows @ rows.T, 13.4, 1.5, title="G = ⟨aₖ, aₖ′⟩", largest=45)
    word(axes, 9.2, 4.7, "5 = 1·0 + 2·1 + 3·1 + 4·0", 10)
    return Figure(drawing, "", "Two 2×2 maps written as rows; their inner products 30, 5, 5, 2 in a matrix.", wide=True)


def draw_losses(losses: list[dict[str, float]]) -> Drawing:
    """The whole loss of each scale over its steps."""
    from matplotlib.figure import Figure as Canvas

    drawing = Canvas(figsize=(5.4, 3.4), layout="constrained")
    axes = drawing.add_subplot()
    for size, colour in zip(sorted({one["size"] for one in losses}), (GREY, BLUE, ORANGE), strict=False):
        part = [one["total"] for one in losses if one["size"] == size]
        axes.plot(range(1, len(part) + 1), part, color=colour, linewidth=1.8, label=f"{size:g} pixels")
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    axes.legend(frameon=False)
    return drawing
