"""Nodes that read in turns what mosquitto deals them: one is killed, one leaves, all are restarted, under load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.checker import check
from tests.faults.nodes import Node, nodes_of
from tests.faults.outage import own_servers
from tests.faults.press import Press
from tests.faults.spectator import Spectator
from tests.kit.daemon import until
from tests.kit.expected import fix, now_ms, utc
from tests.kit.station import Station, station

pytestmark = pytest.mark.live

SHARED: dict[str, dict[str, object]] = {
    "cluster": {"ingest": "shared", "relay": "yes"},
    "mqtt": {"client_id": "tracking-{node_id}", "keepalive_s": 5},
}
RATE = 200.0
WITHIN_S = 90.0
WAITING = 1500
"""Messages in the session of a node that is away."""


def more(press: Press, messages: int = 300) -> None:
    """That many more fixes are acknowledged to the trackers."""
    enough = len(press.acknowledged) + messages
    until(lambda: len(press.acknowledged) >= enough, "fixes come in", WITHIN_S)


def taken(node: Node) -> float:
    return node.running.metrics()["tracking_messages_received_total"]


def send(at: Station, times: int) -> None:
    """Each of a moment that no other has."""
    begin_ms = now_ms() + at.published
    at.send_all([("tracking/P1/position", fix("R", f"P{n % 5}", utc(begin_ms + n))) for n in range(times)])


@contextmanager
def sharing(at: Station, *names: str, **more: dict[str, object]) -> Iterator[tuple[Node, ...]]:
    """Nodes that take fixes."""
    with nodes_of(at, names, **(SHARED | more)) as nodes:
        for node in nodes.all:
            node.ready()
        yield nodes.all


def test_one_is_killed_one_leaves_all_are_restarted(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    with station(tmp_path, postgres_server) as at, sharing(at, "n1", "n2", "n3") as (first, second, third):
        boards = [Spectator(node.port, ("R",)) for node in (first, second, third)]
        with Press(at.broker.port, rate=RATE) as press, boards[0], boards[1]:
            with boards[2]:
                more(press)
                until(lambda: all(taken(node) > 50 for node in (first, second, third)), "each takes some")
                press.pause()
                shown = boards[0].shown
                until(lambda: len(shown()) == 10, "all participants are shown")
                until(lambda: shown() == boards[1].shown() == boards[2].shown(), "on each node the same")
                press.resume()

                second.kill()
                more(press)
                second.ready()
                more(press)

            leaving = third.begin("leave")
            more(press)
            out, err = leaving.communicate(timeout=WITHIN_S)
            assert (leaving.returncode, err) == (0, ""), (out, err, third.running.log[-3000:])
            assert out.startswith("left the broker: ")
            assert third.left() == 0
            more(press)

            for node in (first, second):
                assert node.stop() == 0
                more(press)
                node.ready()
                more(press)
            seen = check(at, first.running, press, boards[:2], within_s=WITHIN_S)
            copies = sum(node.running.metrics().get("tracking_fixes_duplicate_total", 0) for node in (first, second))
            print(f"{len(press.acknowledged)} acknowledged, {len(seen.rows)} rows, none lost, none twice;")
            print(f"{copies:g} came again; {out.strip()}")
            assert known(third) == {"tracking-n3": {"asked": []}}
            for node in (first, second):
                assert node.running.metrics()["tracking_mqtt_session_lost_total"] == 0
                assert node.stop() == 0


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_node_that_is_away_leaves(tmp_path: Path, postgres_server: PostgresAddress, protocol: str) -> None:
    """What waits in its session becomes rows; of a session that just ended it would be gone."""
    mqtt = SHARED["mqtt"] | {"protocol": protocol}
    with station(tmp_path, postgres_server) as at, sharing(at, "n1", "n2", mqtt=mqtt) as (first, second):
        assert second.stop() == 0
        send(at, 2 * WAITING)
        until(lambda: len(at.rows()) == WAITING, "one half; the other waits")
        done = second.command("leave")
        late = int(done.stdout.removeprefix("left the broker: ").split()[0])
        assert late > 0  # the rest came before it was asked for
        assert len(at.rows()) == 2 * WAITING
        send(at, 100)
        until(lambda: len(at.rows()) == 2 * WAITING + 100, "all of it goes to the other")
        again = second.command("leave")  # there is nothing left to leave
        assert again.stdout.startswith("left the broker: 0 messages")
        assert "the broker forgot our session" not in again.stderr
        assert first.stop() == 0


def test_rows_that_stay_on_its_disk(tmp_path: Path) -> None:
    keys: dict[str, dict[str, object]] = {"postgres": {"spool_after_s": 0}, "supervisor": {"drain_timeout_s": 3}}
    with own_servers(tmp_path) as own, sharing(own.at, "n1", **keys) as (node,):
        own.server.stop()
        send(own.at, 50)
        until(lambda: node.running.metrics()["tracking_fixes_spooled"] == 50, "in the spool")
        done = node.command("leave", check=1)
        assert done.stdout.startswith("left the broker: ")
        assert done.stderr.startswith("leave: 50 rows stay in ")
        assert node.left() == 1
        own.server.start()
        assert node.command("leave").stdout.startswith("left the broker: ")
        assert own.sql("select count(*) from tracking_positions") == [(50,)]


def test_a_broker_that_is_away(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    with (
        station(tmp_path, postgres_server) as at,
        sharing(at, "n1", supervisor={"drain_timeout_s": 3}) as (node,),
    ):
        at.broker.stop()
        done = node.command("leave", check=1)
        assert (done.stdout, node.left()) == ("", 1)
        assert done.stderr.startswith("leave: still at the broker: nothing went on for 3 s; 0 messages were taken")
        at.broker.start()
        assert node.command("leave").returncode == 0
        assert known(node) == {"tracking-n1": {"asked": []}}


def test_two_that_both_take_everything(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    alone = {"ingest": "alone", "relay": "yes"}
    with station(tmp_path, postgres_server) as at, sharing(at, "n1", "n2", cluster=dict(alone)) as (first, second):
        with Press(at.broker.port, rate=RATE) as press:
            more(press)
            assert second.command("leave").stdout.startswith("left the broker: ")
            more(press)
            check(at, first.running, press, within_s=WITHIN_S)
        assert first.stop() == 0


@pytest.mark.parametrize(("ingest", "said"), [("none", "has no session"), ("standby", "stays, for the other nodes")])
def test_a_node_without_a_session_of_its_own(
    tmp_path: Path, postgres_server: PostgresAddress, ingest: str, said: str
) -> None:
    mqtt = SHARED["mqtt"] | {"client_id": "ours"}
    cluster: dict[str, object] = {"ingest": ingest, "relay": "yes"}
    with station(tmp_path, postgres_server) as at, sharing(at, "n1", cluster=cluster, mqtt=mqtt) as (node,):
        done = node.command("leave")
        assert (done.stdout[:5], said in done.stdout, done.stderr) == ("left:", True, "")
        assert node.left() == 0
        assert "asked" not in str(known(node))


def known(node: Node) -> object:
    """What it remembers of its session."""
    path = node.folder / "var" / "mqtt_topics.json"
    return json.loads(path.read_text()) if path.exists() else {}
