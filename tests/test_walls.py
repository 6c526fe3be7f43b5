"""The walls of the house: imports run downwards only, and what judges does not know what made."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "tenure"
ORDER = [
    "ground",
    "store",
    "model",
    "context",
    "modules",
    "weights",
    "gates",
    "sleep",
    "conversation",
    "runtime",
    "serve",
    "bench",
    "cli",
]
GROUND = {"types", "errors", "config", "__init__", "__version__"}
DOORSTEP = {"__main__"}
SILENT = {"utils", "helpers", "base", "manager", "common", "misc"}


def floor_of(module: str) -> str:
    """The floor that `tenure.x.y` belongs to."""
    first = module.split(".")[1] if "." in module else "__init__"
    if first in DOORSTEP:
        return "cli"
    return "ground" if first in GROUND else first


def imports_of(path: Path) -> set[str]:
    """Every `tenure...` module that a file imports, late imports included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "tenure"}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tenure":
            found |= {f"{node.module}.{alias.name}" if node.module == "tenure" else node.module for alias in node.names}
    return found


def files() -> list[Path]:
    """Every source file of the package."""
    return sorted(SRC.rglob("*.py"))


def name_of(path: Path) -> str:
    """`tenure.store.ledger` for src/tenure/store/ledger.py."""
    parts = ["tenure", *path.relative_to(SRC).with_suffix("").parts]
    return ".".join(parts if parts[-1] != "__init__" else parts[:-1] or parts)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SRC)))
def test_imports_run_downwards(path: Path) -> None:
    here = floor_of(name_of(path))
    for target in imports_of(path):
        there = floor_of(target)
        assert ORDER.index(there) <= ORDER.index(here), f"{path.name} ({here}) imports {target} ({there})"


def parts_imported(path: Path) -> set[str]:
    """`tenure.serve.wire` of `from tenure.serve import wire`."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text("utf8"))) if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}


def test_no_import_comes_back_to_where_it_began() -> None:
    names = {name_of(path) for path in files()}
    graph = {name_of(path): (imports_of(path) | parts_imported(path)) & names - {name_of(path)} for path in files()}
    for name, found in graph.items():
        found.discard(name.rpartition(".")[0])  # what a package says of itself it says before its parts are imported
    TopologicalSorter(graph).prepare()  # raises CycleError with the cycle
    with pytest.raises(CycleError):
        TopologicalSorter({**graph, "tenure.types": {"tenure.cli"}}).prepare()


@pytest.mark.parametrize("path", sorted((SRC / "gates").rglob("*.py")), ids=lambda p: p.name)
def test_gates_do_not_know_what_made(path: Path) -> None:
    assert not {floor_of(t) for t in imports_of(path)} & {"sleep", "modules", "weights"}


GENERATORS = [p for p in (SRC / "bench").rglob("*.py") if p.parent.name in {"worlds", "exams", "attacks"}]


@pytest.mark.parametrize("path", GENERATORS, ids=lambda p: p.name)
def test_exam_generators_import_neither_sleep_nor_defences(path: Path) -> None:
    assert not {floor_of(t) for t in imports_of(path)} & {"sleep", "gates", "modules", "weights", "context"}


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SRC)))
def test_files_are_named_by_nouns_and_stay_short(path: Path) -> None:
    assert path.stem not in SILENT
    assert path.read_text("utf8").count("\n") <= 450, "look for the missing noun"
    if path.name != "__init__.py":
        assert ast.get_docstring(ast.parse(path.read_text("utf8"))), f"{path} has no module docstring"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SRC)))
def test_the_environment_is_read_once(path: Path) -> None:
    if path.name != "config.py":
        assert "os.environ" not in path.read_text("utf8") and "getenv" not in path.read_text("utf8")
