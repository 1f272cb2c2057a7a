"""The project as text and as syntax trees. `python -m tests.kit.source` prints the pure files, for coverage."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]
ACTORS = ROOT / "actors"


@attrs.frozen
class Module:
    """One Python file of the project, without `__init__` files."""

    path: str  # from the root
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        return self.path.removesuffix(".py").replace("/", ".")

    @property
    def room(self) -> str:
        """`history.spool` for actors/history/spool/file.py; the file's own name where it is in no room."""
        inner = self.name.removeprefix("actors.")
        return inner.rpartition(".")[0] or inner


@cache
def modules() -> dict[str, Module]:
    """Name -> file, of actors and supervisor.py."""
    paths = [ROOT / "supervisor.py", *sorted(ACTORS.rglob("*.py"))]
    texts = {path: path.read_text("utf-8") for path in paths if path.name != "__init__.py"}
    found = [Module(str(path.relative_to(ROOT)), text, ast.parse(text)) for path, text in texts.items()]
    return {module.name: module for module in found}


@cache
def imports() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports, for types and within functions too."""
    ours = modules()
    found: dict[str, set[str]] = {name: set() for name in ours}
    for name, module in ours.items():
        for source, names in imported(module.tree):
            if source == "actors" or source.startswith("actors."):
                inner = {f"{source}.{each}" for each in names} & ours.keys()
                found[name] |= inner or {source}
    return found


def imported(tree: ast.AST) -> Iterator[tuple[str, set[str]]]:
    """(module, names from it) of every import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, set()
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, {alias.name for alias in node.names}


@cache
def maps() -> dict[str, str]:
    """Path from actors/ -> its line in the map of its room, with the mark. Lines of the first map may be rooms."""
    found = {}
    for init in sorted(ACTORS.rglob("__init__.py")):
        folder = init.parent.relative_to(ACTORS)
        doc = ast.get_docstring(ast.parse(init.read_text("utf-8"))) or ""
        for name, line in re.findall(r"^ {0,2}(\S+[/.]\w*)  +(\S.*)$", doc, re.MULTILINE):
            found[str(folder / name)] = line
    return found


def marked(mark: str) -> list[str]:
    """The files whose line in a map begins with ACTOR, pure or driver; paths from the root."""
    return [f"actors/{name}" for name, line in maps().items() if line.startswith(f"{mark}: ")]


if __name__ == "__main__":
    print(",".join(marked("pure")))
