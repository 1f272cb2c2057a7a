"""README.md's set-ups of two and of four machines: what is killed there costs no fix, and both nodes show all."""

from __future__ import annotations

import json
import shutil
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.outage import newest_sent
from tests.faults.press import Press
from tests.faults.spectator import Spectator
from tests.kit.certificate import CERTIFICATE, contexts
from tests.kit.commands import run_commands
from tests.kit.daemon import Running, started, until
from tests.kit.live_state import last
from tests.kit.metrics import conserved
from tests.kit.redis_servers import ask
from tests.kit.servers import Server, free_port, running, start_redis
from tests.kit.standby import sql
from tests.kit.station import conninfo
from tests.readme import machines, proxies
from tests.readme.machines import NODES, TRACKERS, run_sql
from tests.readme.production import role_and_database

pytestmark = pytest.mark.live
RACE = "R"
KILLED_S = 5.0
"""After so long another node reads, at the latest."""


@attrs.define(eq=False)
class Nodes:
    """The two, and what trackers and dashboards see of them."""

    running: list[Running]
    press: Press
    dashboards: Sequence[Spectator] = ()

    def reader(self, within_s: float = 60.0) -> Running:
        """Wait until one reads and the other one, if it lives, could."""

        def settled() -> bool:
            for node in self.running:
                assert node.process.poll() is None, node.log[-3000:]
            return sorted(node.ingest() for node in self.running) == ["reading", "waiting"][: len(self.running)]

        until(settled, "one reads", within_s)
        return next(node for node in self.running if node.ingest() == "reading")

    def live_on_both(self) -> None:
        """What was sent until now is shown by all."""
        self.press.pause()
        sent = newest_sent(self.press)
        for dashboard in self.dashboards:
            until(lambda dashboard=dashboard: dashboard.shown() == sent, "the dashboard shows what was sent")  # type: ignore[misc]
        for node in self.running:
            until(lambda node=node: shown(node) == sent, "and so does the API")  # type: ignore[misc]
        self.press.resume()

    def flows(self, more: int = 100) -> None:
        """So many more messages are settled: by whichever node."""

        def settled() -> float:
            return sum(node.metrics()["tracking_acks_total"] for node in self.running)

        goal = settled() + more
        until(lambda: settled() >= goal, f"acknowledgements go on: {self.running[0].log[-2000:]}", 60.0)

    def check_command(self) -> None:
        """Finds all servers, nothing that fails, and both nodes."""
        settings = self.running[0].log_file.with_name("settings.ini")
        (checked,) = run_commands([["--settings", str(settings), "check"]])
        assert "race1, race2 can be heard" in checked.stdout

    def check(self, rows: Callable[[], list[str]]) -> None:
        """All that was sent is a row, nothing is there twice, each node accounts for all that it took."""
        self.press.finish()
        until(lambda: set(rows()) >= self.press.acknowledged, "all that was acknowledged is stored")
        assert sorted(rows()) == sorted(self.press.sent)
        for node in self.running:
            until(lambda node=node: conserved(node.metrics()), "it accounts for all")  # type: ignore[misc]


def shown(node: Running) -> dict[tuple[str, str], Any]:
    return {(RACE, who): position["timestamp"] for who, position in node.live(RACE).items()}


def ids(address: PostgresAddress) -> list[str]:
    with psycopg.connect(conninfo(address), autocommit=True) as db:
        return [str(row[0]) for row in db.execute("select id from tracking_positions")]


@contextmanager
def two_nodes(folder: Path, broker: Server, texts: Sequence[str]) -> Iterator[Nodes]:
    """One reads, the other waits, trackers publish; nobody watches yet."""
    with ExitStack() as stack:
        found = []
        for name in NODES:
            port = free_port()
            settings = machines.write_node(folder, name, port, *texts)
            found.append(stack.enter_context(started(settings, port)))
        nodes = Nodes(found, Press(broker.port, race=RACE, participants=5, login=TRACKERS))
        nodes.reader()  # before that the broker keeps nothing for them
        with nodes.press:
            yield nodes


@proxies.needs_proxies
def test_two_machines(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    """A node is killed: its dashboards come back through HAProxy, and the other one reads."""
    (tmp_path / "redis").mkdir()
    (tmp_path / "haproxy").mkdir()
    with (
        role_and_database(postgres_server) as database,
        machines.broker(tmp_path / "broker") as broker,
        start_redis(tmp_path / "redis", password=machines.REDIS_PASSWORD) as redis,
        two_nodes(tmp_path, broker, [machines.settings_of_two(broker, redis, postgres_server.port)]) as nodes,
        haproxy(tmp_path / "haproxy", [node.port for node in nodes.running]) as door,
        watching(nodes, door, door, tls=contexts(tmp_path)[1]),
    ):
        reader = nodes.reader()
        until(lambda: [connected(node) for node in nodes.running] == [1, 1], "a dashboard on each")
        nodes.live_on_both()
        nodes.check_command()
        reader.kill()
        nodes.running.remove(reader)
        nodes.reader(KILLED_S)
        until(lambda: connected(nodes.running[0]) == 2, "both dashboards are with the other one")
        nodes.flows()
        nodes.live_on_both()
        assert max(dashboard.connected for dashboard in nodes.dashboards) > 1
        nodes.check(lambda: ids(database))


@contextmanager
def haproxy(folder: Path, daemons: Sequence[int]) -> Iterator[Server]:
    (folder / "certificate.pem").write_text(CERTIFICATE)
    port = free_port()
    program, *args = proxies.haproxy_of_nodes(folder, port, daemons)
    with running(Server(folder, port, [str(shutil.which(program, path=proxies.PATH)), *args])) as door:
        yield door


@contextmanager
def watching(nodes: Nodes, *doors: Server | Running, tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """A dashboard on each."""
    with ExitStack() as stack:
        nodes.dashboards = [stack.enter_context(Spectator(door.port, (RACE,), tls)) for door in doors]
        yield


def connected(node: Running) -> float:
    """Dashboards."""
    return node.metrics()["tracking_ws_connections"]


def test_four_machines(tmp_path: Path) -> None:
    """The stores of db1 are gone, all at once; db2 is promoted; db1 comes back as its standby, and goes again."""
    with (
        machines.postgres_of_two_machines(tmp_path / "postgres") as postgres,
        machines.redis_and_sentinels(tmp_path) as redis,
        machines.broker(tmp_path / "broker") as broker,
        two_nodes(tmp_path, broker, machines.settings_of_four(broker, redis, postgres)) as nodes,
        watching(nodes, *nodes.running),
    ):
        nodes.live_on_both()
        nodes.check_command()

        db1_redis, db2_redis = redis.servers
        redis.sentinels.pop(0).kill()
        db1_redis.kill()
        postgres.db1.kill()
        run_sql(postgres.db2, "-- Promote")
        nodes.flows()
        nodes.live_on_both()
        redis.until_moved(db1_redis)
        nodes.press.pause()
        until(lambda: in_redis(db2_redis) == newest_sent(nodes.press), "live in Redis")
        nodes.press.resume()

        db1_redis.start()
        postgres.copy(postgres.db1, of=postgres.db2)
        run_sql(postgres.db2, "-- Both")
        until(lambda: sql(postgres.db2, "select 1 from pg_stat_replication where sync_state = 'sync'"), "both")
        nodes.flows()
        redis.until_copied()
        nodes.live_on_both()

        postgres.db1.kill()
        until(postgres.commits_waiting, "commits wait for db1")
        run_sql(postgres.db2, "-- One alone")
        nodes.flows()
        nodes.reader()
        nodes.check(lambda: ids(postgres.address))


def in_redis(server: Server) -> dict[tuple[str, str], Any]:
    names = ask(server, "ZRANGE", f"race:{RACE}:seen", 0, -1)
    return {(RACE, who): json.loads(ask(server, "GET", last(RACE, who)))["timestamp"] for who in names}
