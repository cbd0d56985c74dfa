"""The lectures' site: whole, offline, honest about what failed or is not there."""

from __future__ import annotations

import json
import sys
import types
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from striate.errors import DataError, StriateError, UsageError
from striate.lectures import LECTURES, PARTS, find_lectures, is_there
from striate.lectures.page import Check, Lecture, Setting, Shown
from striate.lectures.site import Outcome, build, coloured, marked, read_state, render, run
from striate.tasks.section import PictureCard, Section

ATTRIBUTES = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")


class References(HTMLParser):
    """Every address of a page, and every id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.images: list[dict] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        found = dict(attrs)
        self.addresses += [found[name] for name in ATTRIBUTES if found.get(name)]
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "img":
            self.images.append(found)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three ids, one of them between two that are not there."""
    folder = tmp_path_factory.mktemp("site")
    list(build(["A2", "A4", "A5"], folder, Setting(folder / "cache")))
    return folder


def test_no_link_is_broken_and_nothing_is_fetched(site: Path):
    pages = {path.name: References(path.read_text()) for path in site.glob("*.html")}
    assert set(pages) == {"index.html", "A2.html", "A4.html", "A5.html"}
    for name, page in pages.items():
        assert page.addresses
        for address in page.addresses:
            if address.startswith("data:"):
                continue
            assert "//" not in address
            file, _, anchor = address.partition("#")
            target = pages[file or name]  # a page of this site
            assert not anchor or anchor in target.ids, f"{name}: {address}"


def test_no_id_stands_twice_on_a_page(site: Path):
    for path in site.glob("*.html"):
        ids = References(path.read_text()).ids
        assert len(ids) == len(set(ids)), path.name


def test_pages_are_locked_against_requests(site: Path):
    for path in site.glob("*.html"):
        page = path.read_text()
        assert "default-src 'none'; img-src data:" in page
        assert "@import" not in page
        assert "url(" not in page.replace("url(#", "")


def test_every_picture_of_a_page_has_a_text(site: Path):
    for name in ("A2", "A4", "A5"):
        assert all(image.get("alt") for image in References((site / f"{name}.html").read_text()).images)


def test_the_index_lists_every_id_and_says_what_is_not_there(site: Path):
    page = (site / "index.html").read_text()
    assert set(LECTURES) <= set(References(page).ids)
    assert set(PARTS) <= set(References(page).ids)
    assert "no page yet" in page
    assert "not run here" in page  # A1: written, not asked for
    assert f"3 of {len(LECTURES)} ideas" in page


def test_a_page_has_its_idea_checks_command_and_python(site: Path):
    page = (site / "A5.html").read_text()
    for part in ("A network is a table", "64×4×14×14 40", "✓ agrees", "striate summary lenet5", "striate lectures A5"):
        assert part in page
    assert '<span class="k">from</span> torch <span class="k">import</span> nn' in page
    assert 'href="A4.html"' in page
    assert 'href="index.html#A6"' in page  # the next one has no page here


def test_drawings_are_files_too(site: Path):
    names = {path.name for path in (site / "pictures").iterdir()}
    assert {"A2-1.png", "A2-2.png", "A4-1.png", "A5-1.png", "A5-small-light.png", "A5-small-dark.png"} <= names


def test_a_later_run_adds_to_the_index(site: Path, tmp_path: Path):
    list(build(["A4"], tmp_path, Setting(tmp_path / "cache")))
    list(build(["A5"], tmp_path, Setting(tmp_path / "cache")))
    assert set(read_state(tmp_path) or {}) == {"A4", "A5"}
    page = (tmp_path / "index.html").read_text()
    assert 'href="A4.html"' in page
    assert 'href="A5.html"' in page


def test_nothing_is_overwritten_unasked(site: Path, tmp_path: Path):
    before = (site / "A4.html").read_bytes()
    with pytest.raises(UsageError, match=r"A4\.html exists already.*--overwrite"):
        list(build(["A3", "A4"], site, Setting(tmp_path)))
    assert not (site / "A3.html").exists()  # found out before anything was run
    assert (site / "A4.html").read_bytes() == before
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UsageError, match=r"index\.html exists already"):
        list(build(["A4"], tmp_path, Setting(tmp_path)))
    assert (tmp_path / "index.html").read_text() == "mine"
    list(build(["A4"], tmp_path, Setting(tmp_path), overwrite=True))
    assert "The lectures, run" in (tmp_path / "index.html").read_text()


def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(tmp_path: Path):
    (tmp_path / "file").write_text("")
    lines: list[str] = []
    with pytest.raises(StriateError, match="could not be written"):
        list(build(["A4"], tmp_path / "file" / "site", Setting(tmp_path, say=lines.append)))
    assert lines == []


def test_a_damaged_state_is_one_line(tmp_path: Path):
    (tmp_path / "lectures.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        list(build(["A4"], tmp_path, Setting(tmp_path)))


# what goes wrong


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """A module of a lecture, made up: `pretend("A4", show)`."""

    def put(key: str, show) -> None:
        module = types.ModuleType("striate.lectures.made_up", "An idea with `code` & <tags>.")
        module.PYTHON, module.show = "print('<b>')", show  # type: ignore[attr-defined]
        module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(LECTURES, key, Lecture("Made <up>", "S0", "made_up", "striate train <DATA>"))

    return put


def test_one_that_fails_leaves_a_page_and_the_others(tmp_path: Path, pretend):
    def broken(setting: Setting) -> Shown:
        raise ZeroDivisionError("of <all> things")

    pretend("A3", broken)
    said: list[str] = []
    outcomes = [outcome for outcome, _ in build(["A3", "A4"], tmp_path, Setting(tmp_path, say=said.append))]
    assert [outcome.status for outcome in outcomes] == ["failed", "agrees"]
    page = (tmp_path / "A3.html").read_text()
    assert "This page could not be made." in page
    assert "ZeroDivisionError: of &lt;all&gt; things" in page
    assert any("Traceback" in line for line in said)
    assert "failed" in (tmp_path / "index.html").read_text()


def test_missing_data_are_said_and_are_no_failure(tmp_path: Path, pretend):
    pretend("A3", lambda setting: Shown(missing=("mnist: name its folder with --data",)))
    outcome = run("A3", Setting(tmp_path))
    assert outcome.status == "missing"
    assert "mnist: name its folder with --data" in render(outcome)


def test_what_modules_say_is_escaped(tmp_path: Path, pretend):
    nasty = "<script>alert(1)</script>"
    pretend(
        "A3",
        lambda setting: Shown(
            (Check(nasty, nasty, nasty, False, nasty),),
            (Section(nasty, nasty, pictures=[PictureCard(None, nasty)]),),
            (nasty,),
            (nasty,),
        ),
    )
    list(build(["A3"], tmp_path, Setting(tmp_path)))
    for path in tmp_path.glob("*.html"):
        assert nasty not in path.read_text()
        assert "Made &lt;up&gt;" in path.read_text()
    assert "<b>" not in (tmp_path / "A3.html").read_text().partition('id="again"')[2].partition("<b>A")[0]


def test_one_not_written_yet_is_planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(LECTURES, "E1", Lecture("FCN", "S3", "nowhere.fcn"))
    assert not is_there(LECTURES["E1"])
    assert run("E1", Setting(tmp_path)).status == "planned"
    assert is_there(LECTURES["A1"])


# names, data, memory


def test_ids_and_parts_are_found_in_order():
    assert find_lectures(["a10", "A2", "A2"]) == ["A2", "A10"]
    assert find_lectures(["g"]) == [key for key in LECTURES if key[0] == "G"]
    with pytest.raises(UsageError, match='Did you mean "A1'):
        find_lectures(["A111"])


def test_every_id_of_the_lectures_is_listed():
    counts = {"A": 10, "B": 11, "C": 6, "D": 10, "E": 6, "F": 4, "G": 5, "H": 5}
    assert list(LECTURES) == [f"{part}{number}" for part, count in counts.items() for number in range(1, count + 1)]


def packed(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")


def test_data_are_found_in_zips_folders_and_files(tmp_path: Path):
    data, cache = tmp_path / "data", tmp_path / "cache"
    (data / "unpacked" / "train").mkdir(parents=True)
    (data / "unpacked" / "val").mkdir()
    (data / "net.safetensors").write_bytes(b"x")
    packed(data / "ants.zip", "ants/_NOTE", "ants/ants_data/train/1.png", "ants/ants_data/val/2.png")
    packed(data / "weights.zip", "imdn/a.pth", "weights/b.pth", "weights/more/c.pth")
    (data / "broken.zip").write_bytes(b"no zip")
    setting = Setting(cache, data)
    assert setting.found("net.safetensors") == data / "net.safetensors"
    assert setting.found("unpacked") == data / "unpacked"
    found = setting.found("ants")
    assert found is not None
    assert sorted(path.name for path in found.iterdir()) == ["train", "val"]
    assert setting.found("ants") == found
    weights = setting.found("weights")
    assert weights is not None
    assert (weights / "b.pth").is_file()
    assert setting.found("nothing") is None
    assert Setting(cache).found("ants") is None
    with pytest.raises(DataError, match=r"broken\.zip.*could not be unpacked"):
        setting.found("broken")


def test_long_runs_are_remembered_by_what_went_in(tmp_path: Path):
    runs = []

    def compute() -> dict:
        runs.append(1)
        return {"pair": (1, 2), "count": len(runs)}

    setting = Setting(tmp_path)
    assert setting.remembered("x", {"a": 1}, compute) == {"pair": [1, 2], "count": 1}  # as JSON gives it, at once
    assert setting.remembered("x", {"a": 1}, compute)["count"] == 1
    assert setting.remembered("x", {"a": 2}, compute)["count"] == 2
    assert Setting(tmp_path, fresh=True).remembered("x", {"a": 1}, compute)["count"] == 3
    assert setting.remembered("x", {"a": 1}, compute)["count"] == 3
    for path in (tmp_path / "results").iterdir():
        path.write_text("{half")
    assert setting.remembered("x", {"a": 1}, compute)["count"] == 4


def test_text_is_marked_and_python_coloured():
    assert marked("a `b < c`\n d") == "a <code>b &lt; c</code> d"
    code = 'x = "a < b"  # why\nfor y in 1, 2:\n    f(y)'
    page = coloured(code)
    assert '<span class="s">&quot;a &lt; b&quot;</span>' in page
    assert '<span class="c"># why</span>' in page
    import html
    import re

    assert html.unescape(re.sub(r"<[^>]+>", "", page)) == code
    assert coloured("(") == "("


def test_the_summary_is_json(tmp_path: Path):
    shown = Shown((Check("a", "1", "1", True), Check("b", "1", "2", False, "because")))
    row = Outcome("A1", LECTURES["A1"], "differs", shown=shown).summary()
    assert (row["agree"], row["differ"], row["status"]) == (1, 1, "differs")
    assert json.loads(json.dumps(row))["checks"][1]["why"] == "because"
