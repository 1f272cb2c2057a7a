"""`run`: the daemon in the foreground, with real drivers, servers and ports."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack

import structlog
import trio

from actors import log as logging_setup
from actors.access import Access, load_secret
from actors.commands.early_stop import hand_over
from actors.control import ControlSocket
from actors.core.settings_values import in_url
from actors.data_dir import DataDir, open_data_dir
from actors.drivers.history import PostgresHistory
from actors.drivers.mqtt import MqttLink
from actors.drivers.postgres import PostgresWriter
from actors.drivers.process import end_leftovers
from actors.drivers.redis import RedisStore
from actors.drivers.spool import Spool
from actors.embedded import Addresses, EmbeddedServers, addresses
from actors.errors import NotStarted
from actors.http_api import build_app
from actors.listener import Listener
from actors.outside import Outside
from actors.settings import Settings
from actors.status import tree_status
from actors.supervision import Start
from supervisor import Daemon

log = structlog.get_logger("supervisor")

MIB = 1024 * 1024
COLLECT_AT = 20_000
"""New objects until Python looks for cycles among them. At its own 700, a daemon of 1,000 races spent a tenth of its
time on looking, up to 0.1 s at once; what is made for each message is in no cycle."""

Beside = Callable[[Daemon], Awaitable[None]]
"""Something to run beside the daemon, from when it serves until it stops."""


def wall_clock_ms() -> int:
    """Unix ms."""
    return time.time_ns() // 1_000_000


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser("run", help="the daemon in the foreground, logs to stderr (the default)")
    parser.set_defaults(run=run)


def run(_args: argparse.Namespace, settings: Settings) -> int:
    """0 after a complete drain, 1 when the supervisor gave up or the drain was cut short."""
    return serve(settings)


def serve(settings: Settings, beside: Beside | None = None) -> int:
    """Run the daemon until it is stopped; `beside` runs while it serves."""
    gc.freeze()
    gc.set_threshold(COLLECT_AT)
    os.umask(0o077)  # as root, data_dir lets others pass through it
    writer = logging_setup.set_up(settings.app.log_format, settings.app.log_level, sys.stderr)
    with ExitStack() as stack:
        stack.callback(writer.close)
        data_dir = stack.enter_context(open_data_dir(settings.app.data_dir))
        if not uses_embedded(settings):
            trio.run(end_leftovers, data_dir.folder)  # of a killed daemon with other settings
        return trio.run(_serve, settings, data_dir, beside, strict_exception_groups=True)


async def _serve(settings: Settings, data_dir: DataDir, beside: Beside | None) -> int:
    embedded = EmbeddedServers(settings, data_dir) if uses_embedded(settings) else None
    daemon = make_daemon(settings, data_dir, embedded)
    code = 1
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_listen_for_signals, daemon, embedded)

            async def run_daemon(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
                nonlocal code
                code = await daemon.run(task_status=task_status)
                nursery.cancel_scope.cancel()

            await nursery.start(run_daemon)
            if not daemon.stop_asked.is_set():
                http = ", ".join(f"{in_url(host)}:{settings.app.port}" for host in settings.ws.host)
                log.info("ready", http=http, websocket=settings.ws.path)
            if beside is not None and not daemon.stop_asked.is_set():
                async with trio.open_nursery() as guests:
                    guests.start_soon(beside, daemon)
                    await daemon.stop_asked.wait()
                    guests.cancel_scope.cancel()
    except* NotStarted as failed:
        for line in _messages(failed):
            print(line, file=sys.stderr)
        code = 1
    finally:
        hand_over()  # signals that come while Python ends are not told "stopped while starting"
    return code


def make_daemon(settings: Settings, data_dir: DataDir, embedded: EmbeddedServers | None) -> Daemon:
    """The tree of supervisor.py with everything real around it."""
    access = Access(
        load_secret(settings), settings.ws.auth == "token", settings.ws.cors_origin, settings.ws.cors_credentials
    )
    tls = _tls_context(settings)
    started_at = time.monotonic()

    def open_outside(told: Addresses | None) -> Outside:
        where = told or addresses(settings)
        link = MqttLink(settings.mqtt, where.broker, data_dir.folder)
        history = PostgresHistory(where.postgres, settings.app.max_clock_skew_ms)
        cache = RedisStore(where.redis, ttl_s=settings.redis.ttl_s, node_id=settings.app.node_id)
        pg = settings.postgres
        spool = Spool(data_dir.path("spool.sqlite"), pg.spool_max_mb * MIB) if pg.spool else None
        return Outside(link, PostgresWriter(where.postgres), history, cache, spool)

    def edges(daemon: Daemon) -> Sequence[tuple[str, Start]]:
        history = daemon.outside.history
        app = build_app(
            settings=settings,
            access=access,
            history=history,
            races_live=daemon.races,
            health=daemon.health,
            metrics=daemon.metrics,
            clock=wall_clock_ms,
        )
        listener = Listener(
            settings, access, daemon.races, history, daemon.metrics, daemon.health, wall_clock_ms, app, tls
        )
        control = ControlSocket(
            data_dir.socket_path("control.sock"),
            lambda: tree_status(daemon.children, daemon.races, daemon.health, settings.app.node_id, started_at),
        )
        return [
            ("control", control.run),
            ("listener", listener.run),
        ]

    return Daemon(
        settings,
        wall_clock_ms,
        open_outside,
        edges,
        embedded=embedded.run if embedded else None,
    )


def uses_embedded(settings: Settings) -> bool:
    """Whether any server is to be started by the daemon."""
    return "embedded" in (settings.mqtt.broker_url, settings.redis.host, settings.postgres.host)


async def _listen_for_signals(
    daemon: Daemon, embedded: EmbeddedServers | None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """SIGTERM and SIGINT drain, a second one ends at once with 1; SIGHUP only says what it cannot do yet."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if number == signal.SIGHUP:
                log.warning("settings are read at the start only: restart the daemon to apply them", signal=name)
            elif daemon.stop_asked.is_set():
                log.error(
                    "second signal, ending at once: the broker keeps what is not acknowledged",
                    signal=name,
                    messages_left=daemon.desk.ledger.messages_unacked,
                )
                if embedded is not None:
                    embedded.abandon()
                os._exit(1)
            else:
                log.info("stopping", signal=name)
                daemon.stop()


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls.cert_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls.cert_file, settings.tls.key_file)
    except OSError as error:
        raise NotStarted(f"[tls] cert_file or key_file cannot be used: {error}") from error
    return context


def _messages(group: BaseExceptionGroup[NotStarted]) -> list[str]:
    found: list[str] = []
    for inner in group.exceptions:
        found += _messages(inner) if isinstance(inner, BaseExceptionGroup) else [str(inner)]
    return found
