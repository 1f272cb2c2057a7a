"""The embedded servers: PostgreSQL, Valkey and a broker as child processes, for machines without servers of their own.

Owns: the child processes. Takes in: nothing. Sends out: where the servers are, once all of them answer.
A server that ends is started again; a crash of this actor ends and restarts all three, their data stays. After kill -9
of the daemon the next start ends what was left. Stops within STOP_S for each server, the broker first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import structlog
import trio

from actors.core.errors import CacheUnavailable, NotStarted, StoreMisconfigured, StoreUnavailable
from actors.data_dir import DataDir
from actors.embedded import broker, postgres, postgres_home, process, valkey
from actors.embedded import nats as embedded_nats
from actors.embedded.addresses import Addresses, addresses, embeds_broker
from actors.settings.load import Settings

log = structlog.get_logger("embedded")

START_S = 60.0
RECOVERING = ("starting up", "not yet accepting connections", "LOADING")
"""What PostgreSQL and Valkey say while they read back what a kill left: that may take its time."""
STOP_S = 10.0
PROBE_S = 0.1
AGAIN_S = (0.25, 10.0)
"""Half of the first, and the longest wait before a server that ended is started again."""


async def _never(_plan: process.Plan) -> None:
    await trio.sleep_forever()


@attrs.frozen
class Server:
    """One of the three."""

    prepare: Callable[[], Awaitable[process.Plan]]
    probe: Callable[[], Awaitable[None]]  # raises while it does not answer
    sick: Callable[[process.Plan], Awaitable[None]] = _never  # returns when nothing but a restart helps


@attrs.define(eq=False)
class EmbeddedServers:
    """Owns the child processes."""

    settings: Settings
    data_dir: DataDir
    running: set[process.Running] = attrs.field(factory=set, init=False)

    def abandon(self) -> None:
        """The daemon ends at once: ask the servers to stop, and do not wait for it."""
        for running in self.running:
            if not running.ended:
                running.process.send_signal(running.plan.stop_signal)

    async def run(self, *, task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Raises NotStarted when one of them cannot be started."""
        await end_leftovers(self.data_dir.folder)
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as starting:
                for server in self._servers():
                    starting.start_soon(nursery.start, self._keep, server)
            task_status.started(addresses(self.settings))

    def _servers(self) -> list[Server]:
        """Those that settings ask for; the broker last, because they are stopped side by side anyway."""
        settings, folder = self.settings, self.data_dir.folder
        servers: list[Server] = []
        if settings.postgres.host == "embedded":
            servers.append(
                Server(
                    lambda: postgres.prepare(folder),
                    lambda: postgres.make_database(postgres.address(folder, settings.postgres)),
                )
            )
        if settings.redis.host == "embedded":
            servers.append(
                Server(
                    _at_once(lambda: valkey.prepare(folder, settings.redis)),
                    lambda: valkey.answers(valkey.address(folder, settings.redis)),
                )
            )
        if embeds_broker(settings):
            nats = broker.kind() == "nats"
            servers.append(Server(self._broker, self._broker_answers, embedded_nats.until_sick if nats else _never))
        return servers

    async def _broker(self) -> process.Plan:
        await trio.lowlevel.checkpoint()
        broker.check_port(self.settings.mqtt)
        return broker.prepare(self.data_dir.folder, self.settings.mqtt)

    async def _broker_answers(self) -> None:
        where = broker.address(self.settings.mqtt)
        async with await trio.open_tcp_stream(where.host, where.port):
            pass

    async def _keep(self, server: Server, *, task_status: trio.TaskStatus[None]) -> None:
        """Run one server, again whenever it ends. Raises NotStarted when it cannot be started the first time."""
        wait_s = AGAIN_S[0]
        answered = False
        while True:
            began = trio.current_time()
            try:
                running = await process.start(await server.prepare())
                self.running.add(running)
                name = running.plan.name
                try:
                    await _until_it_answers(server, running)
                    log.info("embedded server is up", server=name, pid=running.process.pid)
                    if not answered:
                        answered = True
                        task_status.started()
                    await _until_it_ends(server, running)
                finally:
                    with trio.CancelScope(shield=True):
                        await running.stop(STOP_S)
                    self.running.discard(running)
                log.error("embedded server ended", server=name, exit_code=running.process.returncode)
            except NotStarted as error:
                if not answered:
                    raise
                # The killed one's own children may still hold its memory or its port: that passes.
                log.error("embedded server cannot be started again yet", reason=str(error))
            lived = trio.current_time() - began > START_S
            wait_s = AGAIN_S[0] if lived else min(wait_s * 2, AGAIN_S[1])
            await trio.sleep(wait_s)


async def end_leftovers(folder: Path) -> None:
    """End servers that a killed daemon left behind. Call it with the data_dir `folder` locked. Raises NotStarted."""
    await process.end_leftovers(folder, valkey.socket_folder(folder), *postgres_home.elsewhere(folder))


async def _until_it_ends(server: Server, running: process.Running) -> None:
    """Or is sick."""
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await server.sick(running.plan)
            log.error("embedded server could not write: restarting it", server=running.plan.name)
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await running.process.wait()
        nursery.cancel_scope.cancel()


async def _until_it_answers(server: Server, running: process.Running) -> None:
    trouble = "no answer"
    with trio.move_on_after(START_S) as scope:
        while not running.ended:
            try:
                await server.probe()
            except StoreMisconfigured as error:  # a lost password: waiting does not help
                trouble = str(error)
                break
            except (StoreUnavailable, CacheUnavailable, OSError) as error:
                trouble = str(error)
                if any(word in trouble for word in RECOVERING):
                    scope.deadline = trio.current_time() + START_S
                await trio.sleep(PROBE_S)
            else:
                return
    state = "ended" if running.ended else f"does not answer ({trouble})"
    raise NotStarted(f"embedded {running.plan.name} {state}; the end of {running.plan.log}:\n{running.why()}")


def _at_once(make: Callable[[], process.Plan]) -> Callable[[], Awaitable[process.Plan]]:
    async def prepare() -> process.Plan:
        await trio.lowlevel.checkpoint()
        return make()

    return prepare
