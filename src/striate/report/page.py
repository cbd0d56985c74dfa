"""The report's page, filled in from its template."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from striate.report.figures import curves, embed, thumbnail
from striate.tasks.section import PictureCard, Section

if TYPE_CHECKING:
    from jinja2 import Environment

TILES = 4  # big numbers at the top

# A click on a head sorts its table; a click on a button copies the command beside it. Nothing else runs.
SCRIPT = """
document.querySelectorAll('th button').forEach(b => b.onclick = () => {
  const th = b.parentNode, body = th.closest('table').tBodies[0], up = th.ariaSort !== 'ascending';
  const key = r => r.cells[th.cellIndex].dataset.v ?? r.cells[th.cellIndex].innerText;
  const by = (a, b) => isNaN(a - b) ? a.localeCompare(b) : a - b;
  [...th.parentNode.cells].forEach(c => c.ariaSort = 'none');
  th.ariaSort = up ? 'ascending' : 'descending';
  body.append(...[...body.rows].sort((a, b) => by(key(a), key(b)) * (up ? 1 : -1)));
});
document.querySelectorAll('.copy').forEach(b => b.onclick = () =>
  navigator.clipboard.writeText(b.previousElementSibling.innerText).then(() => b.textContent = 'copied'));
"""


def page(
    title: str,
    facts: dict[str, str],
    sections: Sequence[Section],
    history: Sequence[dict[str, Any]],
    full: dict[str, Any],
    recipe_yaml: str,
    commands: Sequence[str],
    notes: Sequence[str],
    kind: str = "report",
) -> str:
    """The whole page as HTML; the arguments are those of `write_report`, `kind` is what the page calls itself."""
    return (
        environment()
        .get_template("template.html.j2")
        .render(
            title=title,
            kind=kind,
            facts=facts,
            sections=sections,
            curves=curves(history, full.get("best"), full.get("mode", "max")),
            pace=pace(history),
            tiles=tiles(full),
            sentence=full.get("sentence", ""),
            recipe=recipe_yaml.strip(),
            commands=commands,
            notes=notes,
        )
    )


def environment(*rooms: str) -> Environment:
    """Where templates come from: the report's room, and others that include its style and parts."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader

    house = Environment(
        loader=ChoiceLoader([PackageLoader("striate", room) for room in ("report", *rooms)]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    house.filters |= {"number": show_number, "paragraphs": paragraphs, "sort_key": sort_key, "slug": slug}
    fingerprint = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    house.globals |= {"embed": embed, "card": show_card, "script": Markup(SCRIPT), "script_hash": fingerprint}
    return house


def tiles(full: dict[str, Any]) -> list[dict[str, str]]:
    """The numbers of the head, the one that decides first."""
    scalars = full.get("scalars", {})
    names = sorted(scalars, key=lambda name: name != full.get("best"))
    made = []
    for name in names[:TILES]:
        value, low, high = (scalars[name].get(key) for key in ("value", "low", "high"))
        form = "{:.1%}" if scalars[name].get("share", True) and value is not None else "{:.3f}"
        spread = "" if low is None or high is None else f"{form.format(low)} to {form.format(high)}"
        made.append(
            {
                "name": "mAP" if name == "map" else name.replace("_", " "),
                "value": "–" if value is None else form.format(value),
                "spread": spread,
                "meaning": scalars[name].get("meaning", ""),
            }
        )
    return made


def pace(history: Sequence[dict[str, Any]]) -> str:
    """How long training took, in one line."""
    seconds = sum(row.get("seconds") or 0 for row in history)
    rates = [rate for row in history if (rate := row.get("images_per_second"))]
    if not history:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    took = f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
    rate = f", {sum(rates) / len(rates):,.0f} pictures a second" if rates else ""
    return f"{len(history)} epoch{'s' if len(history) > 1 else ''} in {took}{rate}."


def show_number(cell: str | int | float | None) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return str(cell)
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.4f}" if abs(cell) < 1000 else f"{cell:,.1f}"


def sort_key(cell: str | int | float | None) -> str:
    """What the script sorts by: numbers as they are, nothing before everything."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "-1e99"
    return repr(cell) if isinstance(cell, int | float) else cell


def paragraphs(text: str) -> list[str]:
    return [part for part in text.split("\n\n") if part.strip()]


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def show_card(card: PictureCard) -> dict[str, Any]:
    """A picture card as the template wants it: address, enlarged or not, first line and the others."""
    source, tiny = (None, False) if card.picture is None else thumbnail(card.picture)
    first, *rest = card.caption.split("\n")
    return {"source": source, "tiny": tiny, "first": first, "rest": rest, "tone": card.tone}
