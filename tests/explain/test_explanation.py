"""The table of methods, requests, and the page that an explanation becomes."""

from __future__ import annotations

import html
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.explain.models import Sides, model_of, picture

from striate.errors import UsageError
from striate.explain import METHODS
from striate.explain.explanation import Explanation, Request
from striate.tasks import Task
from striate.tasks.section import Section


@pytest.mark.parametrize("how", METHODS)
def test_every_method_is_there(how: str):
    module, _, name = METHODS[how].function.partition(":")
    found = importlib.util.find_spec(f"striate.explain.{module}")
    if found is None:
        pytest.skip(f"striate.explain.{module} is not written yet")
    assert callable(getattr(importlib.import_module(f"striate.explain.{module}"), name))
    assert METHODS[how].about


def test_the_table_costs_no_torch():
    code = "import sys, striate.explain; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


class Silent:
    """A task with all of another's methods that is not Explainable."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)


def test_a_task_that_does_not_say_what_speaks_for_a_class_is_refused():
    model = model_of(Sides())
    model.task = Silent(model.task)  # type: ignore[assignment]
    for how in ("gradcam", "occlusion", "sanity", "features"):
        with pytest.raises(UsageError, match="task classify does not say how much speaks for a class"):
            model.explain(picture(), how)
    assert model.explain(how="filters").values["weights"].shape == (2, 3, 1, 1)


def test_requests_are_checked():
    assert Request("x", limit=3, steps=1, epsilon=0.5).limit == 3
    for wrong in ({"limit": 0}, {"steps": 0}, {"steps": 1.5}, {"epsilon": 2.0}, {"epsilon": -0.1}):
        with pytest.raises(UsageError):
            Request("x", **wrong)  # type: ignore[arg-type]


def test_a_page_is_written_once_and_asks_for_nothing(tmp_path: Path):
    found = model_of(Sides()).explain(picture(), "occlusion", steps=2)
    path = found.save(tmp_path / "page.html")
    page = path.read_text()
    assert "Occlusion of small" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "Model(small" in page
    with pytest.raises(UsageError, match=r"exists already.*overwrite=True"):
        found.save(path)
    found.save(path, overwrite=True)
    with pytest.raises(UsageError, match=r"\.html"):
        found.save(tmp_path / "page.pdf")


def test_a_notebook_gets_the_page_and_a_terminal_one_line(monkeypatch, tmp_path: Path):
    found = model_of(Sides()).explain(picture(), "occlusion", steps=2)
    assert repr(found) == "Explanation(Occlusion of small: picture; values sources, labels, evidence, maps, squares)"
    frame = found._repr_html_()
    assert frame.startswith("<iframe srcdoc=")
    assert html.unescape(frame.split('"')[1]) == found.to_html()
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found.show()
    assert next(tmp_path.iterdir()).as_uri() == opened[0]


def test_names_are_escaped():
    page = Explanation("<script>", [Section("a & <b>", "x < y")]).to_html()
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert "a &amp; &lt;b&gt;" in page
