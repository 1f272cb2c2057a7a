"""Options of the whole suite, and plain logs: structlog draws all locals of a traceback, which takes seconds."""

from __future__ import annotations

import pytest
import structlog


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="run the random simulations with this seed only")


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
