"""A daemon in this process: its log, its data_dir, its embedded servers, the signals that end it."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Protocol

import structlog
import trio

from actors.commands.early_stop import hand_over
from actors.core.addresses import in_url
from actors.data_dir import DataDir, open_data_dir
from actors.embedded.addresses import uses_embedded
from actors.embedded.process import end_leftovers
from actors.embedded.servers import EmbeddedServers
from actors.ingest.state import ReaderState
from actors.settings.load import Settings
from actors.supervision.cycles import look_at_new_ones
from actors.supervision.serving import live
from actors.supervision.tree import Tree
from actors.telemetry import log as logging_setup
from actors.telemetry.metrics import Metrics

log = structlog.get_logger("supervisor")


class Served(Protocol):
    """supervisor.py's daemon: nothing imports that file."""

    metrics: Metrics
    tree: Tree
    reader_state: ReaderState

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None: ...


Make = Callable[[Settings, DataDir, EmbeddedServers | None], Served]
"""Everything real around the actors. May raise NotStarted."""


def serve_here(settings: Settings, make: Make, beside: Callable[[], Awaitable[None]] | None = None) -> int:
    """As Serve in actors/commands/run.py."""
    look_at_new_ones()
    os.umask(0o077)  # as root, data_dir lets others pass through it
    writer = logging_setup.set_up(settings.app.log_format, settings.app.log_level, sys.stderr)
    with ExitStack() as stack:
        stack.callback(writer.close)
        data_dir = stack.enter_context(open_data_dir(settings.app.data_dir))
        if not uses_embedded(settings):
            trio.run(end_leftovers, data_dir.folder)  # of a killed daemon with other settings
        return trio.run(_serve, settings, data_dir, make, beside, strict_exception_groups=True)


async def _serve(
    settings: Settings, data_dir: DataDir, make: Make, beside: Callable[[], Awaitable[None]] | None
) -> int:
    embedded = EmbeddedServers(settings, data_dir) if uses_embedded(settings) else None
    daemon = make(settings, data_dir, embedded)
    trio.lowlevel.add_instrument(daemon.metrics.loop)

    def abandon(signal_name: str) -> None:
        log.error(
            "second signal, ending at once: the broker keeps what is not acknowledged",
            signal=signal_name,
            messages_left=daemon.reader_state.ledger.messages_unacked,
        )
        if embedded is not None:
            embedded.abandon()
        os._exit(1)

    def ready() -> None:
        http = ", ".join(f"{in_url(host)}:{settings.app.port}" for host in settings.ws.host)
        log.info("ready", http=http, websocket=settings.ws.path)

    try:
        return await live(daemon.run, daemon.tree, abandon, ready, beside)
    finally:
        hand_over()  # signals that come while Python ends are not told "stopped while starting"
