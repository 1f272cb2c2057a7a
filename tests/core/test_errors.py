"""The tree that actors/core/errors.py draws is all there is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from actors.core import errors

ACTORS = Path(errors.__file__).parents[1]


def drawn() -> dict[str, tuple[str, str]]:
    """name -> (base, file) as the docstring draws it."""
    found: dict[str, tuple[str, str]] = {}
    line_up: list[str] = []
    for indent, name, file in re.findall(
        r"^    ( *)([\w.]+)(?: {2,}(\S+\.py))?", "    " + (errors.__doc__ or "").partition("\n\n    ")[2], re.M
    ):
        depth = len(indent) // 2
        line_up[depth:] = [name]
        if depth:
            found[name] = (line_up[depth - 1].rpartition(".")[2], file or "core/errors.py")
    return found


def test_it_names_every_exception_its_base_and_its_file() -> None:
    there: dict[str, tuple[str, str]] = {}
    for path in ACTORS.rglob("*.py"):
        names = re.findall(r"^class ([A-Za-z]\w*)\(", path.read_text("utf-8"), re.M)
        file = path.relative_to(ACTORS)
        if names:
            module = importlib.import_module(".".join(("actors", *file.with_suffix("").parts)))
            for kind in (getattr(module, name) for name in names):
                if issubclass(kind, Exception) and kind is not errors.TrackingError:
                    there[kind.__name__] = (kind.__bases__[0].__name__, str(file))
    assert drawn() == there
