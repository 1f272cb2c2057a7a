"""Nodes on this machine, each a process of its own, over the servers of the first one: `demo --nodes N`.

Each has its settings, secrets and log in a folder below data_dir, so that one that was killed can be started again by
hand. None outlives this process, whatever ends it: that has the other end of their standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio

from actors.commands.early_stop import hand_over
from actors.commands.node_settings import first_node, folder_of, free_ports, other_node
from actors.core.errors import NotStarted, TrackingError
from actors.data_dir import open_data_dir, socket_path, write_private
from actors.embedded.addresses import addresses, uses_embedded
from actors.embedded.process import open_log, tail
from actors.embedded.servers import end_leftovers
from actors.settings.load import Settings
from actors.settings.table import KEYS, variable
from actors.settings.written import written

MOST = 9
PROGRAM = Path(__file__).resolve().parents[2] / "supervisor.py"
POLL_S = 0.1
END_S = 45.0
"""Beside the drain: what an orderly end of a node takes at most, the embedded servers last."""

Link = Callable[[Settings], str]


def run(settings: Settings, count: int, link: Link, race: Callable[[], Awaitable[None]]) -> int:
    """`count` nodes until SIGTERM or SIGINT, and `race` beside them. 0 when all that were there ended in order, else 1.

    Raises NotStarted.
    """
    with open_data_dir(settings.app.data_dir):
        pass  # made, and of nobody else
    fleet = Fleet(first_node(settings))
    try:
        trio.run(fleet.run, count, link, race, strict_exception_groups=True)
    finally:
        hand_over()
    return 1 if fleet.failed else 0


@attrs.define(eq=False)
class NodeProcess:
    """One node."""

    settings: Settings
    folder: Path  # of its settings, secrets and log
    process: trio.Process
    lifeline: int  # file descriptor: it stops when this is closed, also because we are dead

    @property
    def name(self) -> str:
        return self.settings.app.node_id

    @property
    def ended(self) -> bool:
        """Whoever ended it."""
        return self.process.poll() is not None

    @property
    def end(self) -> str:
        """How it ended, for people."""
        code = self.process.returncode or 0
        names = {number.value: number.name for number in signal.Signals}
        return names.get(-code, f"signal {-code}") if code < 0 else f"exit code {code}"

    @property
    def again(self) -> str:
        """What to type in a terminal to have it back."""
        return shlex.join([sys.executable, str(PROGRAM), "--settings", str(self.folder / "settings.ini")])

    async def until_it_serves(self) -> None:
        """Raises NotStarted when it ends before."""
        path = socket_path(self.settings.app.data_dir, "control.sock")
        while not self.ended:
            with contextlib.suppress(OSError, ValueError):
                status = json.loads(await _everything(path))
                # Another one may still have this data_dir: then this one is about to end.
                if status["pid"] == self.process.pid and status["components"]["websocket"]["up"]:
                    return
            await trio.sleep(POLL_S)
        log = self.folder / "daemon.log"
        raise NotStarted(f"{self.name} ended ({self.end}); the end of {log}:\n{tail(log)}")

    async def stop(self) -> None:
        """Drained; killed when that takes too long."""
        self.process.terminate()
        with trio.move_on_after(self.settings.supervisor.drain_timeout_s + END_S):
            await self.process.wait()
        if not self.ended:
            self.process.kill()
            await self.process.wait()


async def start_node(settings: Settings, folder: Path) -> NodeProcess:
    """It need not serve yet. The caller stops it, and closes its lifeline. Raises NotStarted."""
    try:
        _write(settings, folder)
        argv = [sys.executable, str(PROGRAM), "--settings", str(folder / "settings.ini"), "run", "--until-eof"]
        with open_log(folder / "daemon.log") as log:
            reading, lifeline = os.pipe()
            try:
                process = await trio.lowlevel.open_process(
                    argv, stdin=reading, stdout=log, stderr=log, env=_environment(), start_new_session=True
                )
            except BaseException:
                os.close(lifeline)
                raise
            finally:
                os.close(reading)
    except OSError as error:
        raise NotStarted(f"{settings.app.node_id} cannot be started in {folder}: {error}") from error
    return NodeProcess(settings, folder, process, lifeline)


@attrs.define(eq=False)
class Fleet:
    """Owns the nodes: the first one is started first and stopped last, because the others use its servers."""

    first: Settings
    nodes: list[NodeProcess] = attrs.field(factory=list)
    failed: bool = False
    _serving: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def run(self, count: int, link: Link, race: Callable[[], Awaitable[None]]) -> None:
        """Until a signal. Trouble is told on stderr."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._obey_signals)
            try:
                with self._serving:
                    await self._start(count)
                    self._tell(link)
                    async with trio.open_nursery() as guests:
                        guests.start_soon(self._until_it_fails, race)
                        for node in self.nodes:
                            guests.start_soon(self._watch, node)
            except NotStarted as error:
                self._give_up(error)
            finally:
                with trio.CancelScope(shield=True):
                    await self._stop()
            nursery.cancel_scope.cancel()

    async def _start(self, count: int) -> None:
        await self._add(self.first)
        await self.nodes[0].until_it_serves()
        where = addresses(self.first)
        ports = free_ports(self.first.ws.host, self.first.app.port, count - 1)
        for number, port in enumerate(ports, 2):
            await self._add(other_node(self.first, number, port, where.redis, where.postgres))
        for node in self.nodes[1:]:
            await node.until_it_serves()

    async def _add(self, settings: Settings) -> None:
        self.nodes.append(await start_node(settings, folder_of(self.first, settings.app.node_id)))

    def _tell(self, link: Link) -> None:
        print()
        for node in self.nodes:
            print(f"Dashboard of {node.name}: {link(node.settings)}")
        second = self.nodes[1]
        print(
            f"\nnode-1 reads the broker, all show the same. Open two side by side, then kill one:\n"
            f"    kill -9 {second.process.pid}    # {second.name}\n"
            f"Its page says so, the others go on. Logs: {self.nodes[0].folder.parent}/node-*/daemon.log\n\n"
            "Stop with Ctrl-C.\n",
            flush=True,
        )

    async def _until_it_fails(self, race: Callable[[], Awaitable[None]]) -> None:
        try:
            await race()
        except TrackingError as error:
            self._give_up(error)

    async def _watch(self, node: NodeProcess) -> None:
        """Say that it is gone. It is not started again: people want to see what happens without it."""
        await node.process.wait()
        without = "the race stands still without it" if node is self.nodes[0] else "the others go on"
        print(f"{node.name} is gone ({node.end}), {without}. To have it back:\n    {node.again}\n", flush=True)

    def _give_up(self, error: TrackingError) -> None:
        print(error, file=sys.stderr)
        self.failed = True
        self._serving.cancel()

    async def _stop(self) -> None:
        there = [node for node in self.nodes if not node.ended]
        async with trio.open_nursery() as nursery:
            for node in self.nodes[1:]:
                nursery.start_soon(node.stop)
        for node in self.nodes[:1]:
            await node.stop()
        for node in self.nodes:
            os.close(node.lifeline)
        self.failed = self.failed or any(node.process.returncode for node in there)
        if uses_embedded(self.first):
            # The first node may have been killed, and somebody may have started it again: then they are its.
            with contextlib.suppress(NotStarted), open_data_dir(self.first.app.data_dir) as data_dir:
                await end_leftovers(data_dir.folder)

    async def _obey_signals(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The first one drains, a second one ends all at once."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                if self._serving.cancel_called:
                    for node in self.nodes:
                        node.process.terminate()
                self._serving.cancel()


def _write(settings: Settings, folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    text, secrets = written(settings)
    for name, secret in secrets.items():
        write_private(folder / name, secret.reveal())
    write_private(folder / "settings.ini", text)


def _environment() -> dict[str, str]:
    """Ours, without what would override the settings of a node."""
    names = {variable(section, key) for section, rows in KEYS.items() for key in rows}
    names |= {f"{name}_FILE" for name in names}
    return {name: value for name, value in os.environ.items() if name not in names}


async def _everything(path: Path) -> bytes:
    """That a Unix socket gives. Raises OSError."""
    async with await trio.open_unix_socket(os.fspath(path)) as stream:
        return b"".join([part async for part in stream])
