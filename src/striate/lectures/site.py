"""The lectures as pages that need no network: one an id, an index, and every drawing as a file of its own."""

from __future__ import annotations

import html
import importlib
import io
import json
import keyword
import re
import time
import tokenize
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

from striate.errors import StriateError, UsageError
from striate.files import refuse_overwrite, write_atomic
from striate.lectures import LECTURES, PARTS, is_there
from striate.lectures.page import Lecture, Setting, Shown
from striate.lectures.thumbnails import file_of, thumbnails

STATE = "lectures.json"  # what the pages of a folder say, so that later runs can add to its index
PICTURES = "pictures"

Status = Literal["agrees", "differs", "missing", "failed", "planned"]


@dataclass(frozen=True)
class Outcome:
    """What running one id gave.

    Attributes:
        idea, python: the module's docstring and its lines.
        status: planned: no module yet; failed: it broke, `error` says how; missing: data were not there and nothing
            could be shown; else whether every check agrees.
        seconds: how long it took.
    """

    key: str
    lecture: Lecture
    status: Status
    idea: str = ""
    python: str = ""
    shown: Shown = field(default_factory=Shown)
    error: str = ""
    seconds: float = 0.0

    def summary(self) -> dict[str, Any]:
        """What the index and `--json` say of it."""
        return {
            "id": self.key,
            "title": self.lecture.title,
            "status": self.status,
            "agree": sum(check.agrees for check in self.shown.checks),
            "differ": sum(not check.agrees for check in self.shown.checks),
            "checks": [asdict(check) for check in self.shown.checks],
            "notes": list(self.shown.notes),
            "missing": list(self.shown.missing),
            "error": self.error,
            "seconds": round(self.seconds, 2),
        }


def run(key: str, setting: Setting) -> Outcome:
    """Run one id; whatever goes wrong in it becomes part of the outcome."""
    lecture = LECTURES[key]
    if not is_there(lecture):
        return Outcome(key, lecture, "planned")
    started = time.perf_counter()
    idea = python = ""
    try:
        module = importlib.import_module(f"striate.lectures.{lecture.module}")
        idea, python = (module.__doc__ or "").strip(), module.PYTHON.strip()
        shown = module.show(setting)
    except Exception as error:  # one broken id must not take the others with it
        if not isinstance(error, StriateError):
            setting.say(traceback.format_exc().rstrip())
        what = str(error) if isinstance(error, StriateError) else f"{type(error).__name__}: {error}"
        return Outcome(key, lecture, "failed", idea, python, error=what, seconds=time.perf_counter() - started)
    status: Status = "agrees" if all(check.agrees for check in shown.checks) else "differs"
    if shown.missing and not shown.checks and not shown.sections:
        status = "missing"
    return Outcome(key, lecture, status, idea, python, shown, seconds=time.perf_counter() - started)


def build(
    keys: Sequence[str], out: Path, setting: Setting, overwrite: bool = False
) -> Iterator[tuple[Outcome, list[Path]]]:
    """Run ids one after the other and write each one's page as soon as it is there, the index last; ids without a
    module are left out. Pages of other ids that an earlier run left in `out` stay, and stay in the index.

    Yields:
        What each id gave, and the files written for it.

    Raises:
        UsageError: a page exists already and may not be overwritten, or another's index.html stands there.
        StriateError: the folder cannot be written.
    """
    keys = [key for key in keys if is_there(LECTURES[key])]
    state = read_state(out)
    for path in (*(out / f"{key}.html" for key in keys), *([] if state is not None else [out / "index.html"])):
        refuse_overwrite(path, overwrite)
    done = {} if state is None else state
    write_atomic(
        out / STATE, json.dumps(done, ensure_ascii=False, indent=1)
    )  # a folder that cannot be written says so now
    there = sorted({*done, *keys}, key=list(LECTURES).index)
    for key in keys:
        setting.say(f"{key} {LECTURES[key].title} …")
        outcome = run(key, setting)
        files = [write_atomic(out / f"{key}.html", render(outcome, there))]
        files += write_pictures(outcome, out / PICTURES)
        done[key] = {name: value for name, value in outcome.summary().items() if name not in ("checks", "notes")}
        write_atomic(out / STATE, json.dumps(done, ensure_ascii=False, indent=1))
        yield outcome, files
    write_atomic(out / "index.html", render_index(done, out))


def read_state(out: Path) -> dict[str, Any] | None:
    """What an earlier run left in a folder; None where it is not ours.

    Raises:
        UsageError: its lectures.json is damaged.
    """
    path = out / STATE
    if not path.is_file():
        return None
    try:
        state = json.loads(path.read_text())
        return {key: state[key] for key in LECTURES if key in state and (out / f"{key}.html").is_file()}
    except (ValueError, TypeError):
        raise UsageError(f"{path} is damaged: remove it, or choose another folder") from None


def render(outcome: Outcome, there: Sequence[str] = ()) -> str:
    """One id's page; `there` are the ids that have pages, for the way on and back."""
    keys = list(LECTURES)
    at = keys.index(outcome.key)

    def link(key: str | None) -> dict[str, str] | None:
        if key is None:
            return None
        return {
            "key": key,
            "title": LECTURES[key].title,
            "href": f"{key}.html" if key in there else f"index.html#{key}",
        }

    first, *others = [part for part in outcome.idea.split("\n\n") if part.strip()] or [""]
    return (
        environment()
        .get_template("lecture.html.j2")
        .render(
            outcome=outcome,
            shown=outcome.shown,
            part=PARTS[outcome.key[0]],
            lead=first,
            paragraphs=others,
            agree=sum(check.agrees for check in outcome.shown.checks),
            python=coloured(outcome.python),
            command=outcome.lecture.command,
            again=f"striate lectures {outcome.key}",
            before=link(keys[at - 1] if at else None),
            after=link(keys[at + 1] if at + 1 < len(keys) else None),
        )
    )


def render_index(done: dict[str, Any], out: Path) -> str:
    """The index: a card an id, by part; ids without a page are listed as such."""
    parts = []
    for letter, name in PARTS.items():
        cards = []
        for key, lecture in LECTURES.items():
            if key[0] == letter:
                small = [out / PICTURES / f"{key}-small-{ink}.png" for ink in ("light", "dark")]
                cards.append(
                    {
                        "key": key,
                        "lecture": lecture,
                        "found": done.get(key),
                        "planned": not is_there(lecture),
                        "small": small,
                    }
                )
        parts.append({"letter": letter, "name": name, "cards": cards})
    agree, differ = (sum(row[name] for row in done.values()) for name in ("agree", "differ"))
    return (
        environment()
        .get_template("index.html.j2")
        .render(parts=parts, done=done, agree=agree, differ=differ, total=len(LECTURES))
    )


def environment() -> Any:
    from striate.report.figures import data_uri
    from striate.report.page import environment as report

    house = report("lectures")
    house.filters |= {"marked": marked}
    house.globals |= {"picture": lambda path: data_uri(path.read_bytes()), "is_file": lambda path: path.is_file()}
    return house


def write_pictures(outcome: Outcome, folder: Path) -> list[Path]:
    """Every figure as a file, and two small ones of the first for the index: with dark ink and with light ink."""
    figures = [figure for section in outcome.shown.sections for figure in section.figures]
    written = []
    for number, figure in enumerate(figures, start=1):
        ending, content = file_of(figure)
        written.append(write_atomic(folder / f"{outcome.key}-{number}.{ending}", content))
    cards = [
        card.picture for section in outcome.shown.sections for card in section.pictures if card.picture is not None
    ]
    source = figures[0].content if figures else cards[0] if cards else None
    if source is not None:
        for ink, content in thumbnails(source).items():
            write_atomic(folder / f"{outcome.key}-small-{ink}.png", content)
    return written


def marked(text: str) -> Markup:
    """Text with `code` between backticks."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(" ".join(text.split()))))


def coloured(python: str) -> Markup:
    """Python with its comments, words and strings in colours of their own."""
    kinds = {tokenize.COMMENT: "c", tokenize.STRING: "s", tokenize.NUMBER: "m"}
    lines, made, at = python.splitlines(), [], (1, 0)

    def between(start: tuple[int, int], end: tuple[int, int]) -> str:
        if start[0] == end[0]:
            return lines[start[0] - 1][start[1] : end[1]] if start[0] <= len(lines) else ""
        rest = [lines[start[0] - 1][start[1] :], *lines[start[0] : end[0] - 1]]
        return "\n".join([*rest, lines[end[0] - 1][: end[1]] if end[0] <= len(lines) else ""])

    try:
        tokens: Iterable[tokenize.TokenInfo] = list(tokenize.generate_tokens(io.StringIO(python).readline))
    except (tokenize.TokenError, SyntaxError):
        return Markup(html.escape(python))
    for token in tokens:
        kind = kinds.get(token.type) or ("k" if token.type == tokenize.NAME and keyword.iskeyword(token.string) else "")
        if kind:
            made.append(html.escape(between(at, token.start)))
            made.append(f'<span class="{kind}">{html.escape(token.string)}</span>')
            at = token.end
    made.append(html.escape(between(at, (len(lines) + 1, 0))))
    return Markup("".join(made).rstrip())
