"""Options of the whole suite, and plain logs: structlog draws all locals of a traceback, which takes seconds.

Hypothesis draws the same examples in every run, so that a change is judged by its own faults; new ones are looked for
with `--hypothesis-profile explore`. A deadline would time the machine, not the code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import nullcontext
from pathlib import Path

import hypothesis
import pytest
import structlog

from tests.kit.durations import Durations
from tests.kit.stores import database as database
from tests.kit.stores import postgres_server as postgres_server
from tests.kit.stores import redis_process as redis_process
from tests.kit.stores import writer as writer
from tests.kit.tracing import untraced

FROM_OUTSIDE = ("brokers", "contract", "faults", "page", "readme")
"""Folders whose tests look at daemons and servers from outside: their own process runs little of ours."""

# What is compiled is kept, as where a daemon runs. Without that each of the hundreds of daemons and commands of a run
# compiles all files anew, half a second of a processor, and so does each worker with the tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

hypothesis.settings.register_profile("steady", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="run the random simulations with this seed only")


def pytest_configure(config: pytest.Config) -> None:
    """Coverage is measured where tests run, and not in the daemons and commands that they start.

    Those would take twice the time for all they do. Of what only they run there is little: `run` and `demo`.
    """
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):  # the others start the workers
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    else:
        config.pluginmanager.register(Durations())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Coverage's tracer costs time wherever it is, most of all where messages and frames are made and read."""
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    with untraced() if folder in FROM_OUTSIDE else nullcontext():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A soak run may take hours."""
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.timeout(0))


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """One line an event, tracebacks as Python writes them."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
        ],
        wrapper_class=structlog.BoundLogger,
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
