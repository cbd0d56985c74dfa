"""The lectures as a gallery: one module an idea, each computes, checks against what was printed, and draws."""

from __future__ import annotations

from striate.lectures.page import Lecture

# id -> what it is; the modules are imported when they are run, so that the list costs nothing
LECTURES: dict[str, Lecture] = {}
