"""PostgreSQL or the disk in trouble while messages flow: servers of a test's own, and what is looked at meanwhile."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest

from actors.core.addresses import PostgresAddress
from actors.settings.load import Secret
from tests.faults.checker import Seen, check
from tests.faults.press import Press
from tests.faults.spectator import Shown, Spectator
from tests.kit.daemon import Running, until
from tests.kit.metrics import conserved
from tests.kit.postgres import start_postgres
from tests.kit.servers import Server
from tests.kit.station import StartBroker, Station, conninfo, station

WRITERS = "from pg_stat_activity where application_name = 'race-tracking writer'"


@attrs.define(eq=False)
class Own:
    """A PostgreSQL that may be killed, and a station on it."""

    server: Server
    at: Station

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        """One statement on a new connection: old ones do not outlive what happens here."""
        with psycopg.connect(conninfo(self.at.postgres), autocommit=True) as db:
            cursor = db.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def race(self, name: str, rate: float = 50.0, **keys: dict[str, object]) -> Iterator[RaceDay]:
        """The daemon with more settings, trackers that publish, a dashboard; rows are stored already."""
        with self.settings(**keys), self.at.daemon() as running, race_day(self.at, running, name, rate) as day:
            yield day

    @contextmanager
    def settings(self, **keys: dict[str, object]) -> Iterator[None]:
        """More settings for a while. PostgreSQL runs afterwards, also when the test failed."""
        before, self.at.keys = self.at.keys, self.at.keys | keys
        try:
            yield
        finally:
            self.at.keys = before
            if self.server.process is None:
                self.server.start()
            self.server.sigcont()


@attrs.define(eq=False)
class RaceDay:
    """One daemon at work."""

    at: Station
    running: Running
    press: Press
    spectator: Spectator

    def metric(self, name: str) -> float:
        return self.running.metrics().get(f"tracking_{name}", 0.0)

    def component(self, name: str) -> tuple[bool, str]:
        """(up, what is said about it) by /readyz."""
        part = json.loads(self.running.get("/readyz")[1])["components"][name]
        return part["up"], part["detail"]

    def until_down(self, name: str, why: str = "") -> None:
        """Until the component is down, for a reason that contains `why`."""

        def is_down() -> bool:
            up, detail = self.component(name)
            return not up and why in detail

        until(is_down, f"{name} is down: {why}")

    def flows(self, messages: int = 20) -> None:
        """Until so many more messages are acknowledged."""
        goal = self.metric("acks_total") + messages
        until(lambda: self.metric("acks_total") >= goal, f"acknowledgements go on: {self.running.log[-2000:]}")

    def dashboards_follow(self) -> None:
        """Everything sent until now gets shown."""
        self.press.pause()
        sent = newest_sent(self.press)
        try:
            until(lambda: self.spectator.shown() == sent, "the dashboard shows what was sent")
        except AssertionError as error:  # who is behind?
            told = {who: one["timestamp"] for who, one in self.running.live(self.press.races[0]).items()}
            board = self.spectator
            error.add_note(f"sent {sent}\nshown {board.shown()}\nthe API {told}\nsent now {newest_sent(self.press)}")
            error.add_note(f"connected {board.connected} times, ended {board.ends}")
            raise
        self.press.resume()

    def takes_nothing(self, component: str = "postgres", why: str = "set-up") -> None:
        """The component is down; dashboards go on, nothing is acknowledged or rejected, and /readyz/ingest says so."""
        self.until_down(component, why)
        self.dashboards_follow()  # a batch may have been on its way into the spool
        acks, rejected = self.metric("acks_total"), self.metric("fixes_rejected_total")
        goal = self.metric("messages_received_total") + 250
        while self.metric("messages_received_total") < goal:  # for longer than PostgreSQL is asked again
            self.dashboards_follow()
            status, body = self.running.get("/readyz/ingest")
            assert status == 503, body
            up, detail = json.loads(body)["components"][component]["up"], body.decode()
            assert not up, detail
        seen = self.running.metrics()
        assert conserved(seen), seen
        assert seen["tracking_acks_total"] == acks
        assert seen.get("tracking_fixes_rejected_total", 0.0) == rejected
        assert seen["tracking_messages_unacked"] > 0

    def check(self, may_be_lost: Collection[str] = (), within_s: float = 60.0) -> Seen:
        """Whatever was promised holds, in the end."""
        self.press.resume()
        return check(self.at, self.running, self.press, [self.spectator], may_be_lost=may_be_lost, within_s=within_s)


@contextmanager
def race_day(at: Station, running: Running, name: str, rate: float = 50.0, *, begun: bool = True) -> Iterator[RaceDay]:
    """Trackers and a dashboard around a daemon that runs; `begun`: rows are stored already."""
    with Press(at.broker.port, race=name, rate=rate, participants=5) as press, Spectator(at.port, [name]) as spectator:
        day = RaceDay(at, running, press, spectator)
        if begun:
            until(lambda: day.metric("fixes_committed_total") > 10, "the race has begun")
            day.dashboards_follow()
        yield day


def newest_sent(press: Press) -> Shown:
    """(race, participant) -> timestamp."""
    newest: Shown = {}
    for one in tuple(press.sent.values()):
        key = one["race_id"], one["participant_id"]
        newest[key] = max(one["timestamp"], newest.get(key, ""))
    return newest


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """Servers for a module, all its own."""
    with own_servers(tmp_path_factory.mktemp("own")) as made:
        yield made


@contextmanager
def own_servers(folder: Path, broker: str | StartBroker = "") -> Iterator[Own]:
    """PostgreSQL, broker and Redis; `broker` as for a station."""
    (folder / "postgres").mkdir()
    with start_postgres(folder / "postgres") as server:
        address = PostgresAddress(server.host, server.port, server.username, Secret(""), server.database)
        with station(folder, address, broker=broker) as at:
            yield Own(server, at)
