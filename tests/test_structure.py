"""The house's rules: which room may import which, how long a module may be, what a cheap command may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "striate"

# room -> its floor; an import may only go to the same room or to a lower floor
FLOORS = {
    "errors": 0,
    "config": 0,
    "quiet": 0,
    "files": 1,
    "drawing": 1,
    "device": 1,
    "download": 1,
    "picture_headers": 1,
    "remote": 1,
    "images": 2,
    "model_file": 2,
    "data": 3,
    "layers": 3,
    "backbones": 4,
    "results": 5,
    "network_summary": 5,
    "tasks": 6,
    "report": 7,
    "inference": 8,
    "profiling": 9,
    "robustness": 9,
    "explain": 9,
    "model": 10,
    "create": 11,
    "train": 11,
    "lectures": 12,
    "cli": 13,
}


def room(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> set[str]:
    """What a module imports of striate, those under `if TYPE_CHECKING:` left out: modules, or names in them
    (`striate.data.sample.Sample`)."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("striate.")}


MODULES = [path for path in sorted(SOURCE.rglob("*.py")) if path.parent != SOURCE or not path.stem.startswith("__")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_arrows_point_down(path: Path):
    here = room(path)
    assert here in FLOORS, f"{here} is a new room: say in FLOORS where it stands"
    rooms = {name.split(".")[1] for name in imports(path)} & set(FLOORS)
    wrong = {there for there in rooms if there != here and FLOORS[there] >= FLOORS[here]}
    assert not wrong, f"{here} (floor {FLOORS[here]}) imports {wrong}"


def name_of(path: Path) -> str:
    return ".".join(("striate", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    """Names that lead back to the first, or none."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        found = next((cycle for there in sorted(graph[name]) if (cycle := walk(there, [*way, name]))), [])
        done.add(name)
        return found

    return next((cycle for name in sorted(graph) if (cycle := walk(name, []))), [])


def test_no_module_imports_itself_by_way_of_others():
    """Over all imports, those inside functions too: what two modules share belongs in one of them, or in a third."""
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert not cycle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    modules = {name_of(path) for path in MODULES}
    graph = {
        name_of(path): {name if name in modules else name.rpartition(".")[0] for name in imports(path)} & modules
        for path in MODULES
    }
    cycle = cycle_in(graph)
    assert not cycle, " → ".join(cycle)


def test_modules_are_one_room_each():
    long = {path.name: count for path in MODULES if (count := len(path.read_text().splitlines())) > 350}
    assert not long


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["trian", "x"], ["train", "digits", "--epoch", "3"], ["train", "--help"]]
)
def test_no_torch_for_help_version_and_usage_errors(arguments: list[str]):
    code = (
        "import sys\nfrom striate.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as stop:\n    status = stop.code\n"
        "print('torch' in sys.modules, status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, status = done.stdout.split()[-2:]
    assert loaded == "False"
    assert status == ("0" if arguments[-1] in ("--help", "--version") else "2")


def test_importing_striate_is_cheap():
    code = "import sys, striate; print('torch' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_every_public_name_is_there():
    import striate

    for name in striate.__all__:
        assert getattr(striate, name) is not None
    assert callable(striate.train)
    with pytest.raises(AttributeError):
        striate.no_such_name  # noqa: B018
