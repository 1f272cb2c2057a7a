"""Who imports whom, read from the text of every file, imports for types and within functions too."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imports() -> dict[str, set[str]]:
    """module -> the modules of ours that it imports."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "supervisor.py", *(ROOT / "actors").rglob("*.py"))
    }
    found: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names} & files.keys()
            elif isinstance(node, ast.ImportFrom) and node.module in files:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= inner & files.keys() or {node.module}
    return found


def test_no_two_files_need_each_other() -> None:
    graph = imports()
    assert sum(map(len, graph.values())) > 400
    TopologicalSorter(graph).prepare()  # raises CycleError, which names a circle


def test_nobody_imports_the_entry() -> None:
    """`python supervisor.py` would execute it a second time, as another module of other classes."""
    assert [name for name, wanted in imports().items() if "supervisor" in wanted] == []


def test_addresses_know_no_settings() -> None:
    """Where a server is comes from the settings, from an embedded server, or from a test."""
    assert imports()["actors.core.address"] == set()
