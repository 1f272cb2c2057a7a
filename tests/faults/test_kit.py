"""The kit itself: the proxy cuts where it is told to, and the checker goes red for each thing that can be wrong."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from actors.core.addresses import PostgresAddress
from tests.faults.checker import Seen, View, check, judge
from tests.faults.press import Press
from tests.faults.proxy import How, Proxy, proxy_to
from tests.faults.spectator import Spectator
from tests.kit.daemon import until
from tests.kit.expected import fix, fix_id, row
from tests.kit.station import Station, station

pytestmark = pytest.mark.live

LENGTH = 1_000_000


@attrs.define(eq=False)
class Echo:
    """A server that keeps what it gets and says it back."""

    port: int
    got: list[bytearray] = attrs.field(factory=list)  # by connection
    ends: list[str] = attrs.field(factory=list)  # how each connection ended


@pytest.fixture
def echo() -> Iterator[Echo]:
    listener = socket.create_server(("127.0.0.1", 0))
    made = Echo(listener.getsockname()[1])

    def serve(connection: socket.socket, got: bytearray) -> None:
        end = "fin"
        with connection:
            while True:
                try:
                    data = connection.recv(65_536)
                    got += data
                    if not data:
                        break
                    connection.sendall(data)
                except OSError as error:
                    end = errno.errorcode[error.errno or 0]
                    break
            made.ends.append(end)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            made.got.append(bytearray())
            threading.Thread(target=serve, args=(connection, made.got[-1]), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield made
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with proxy_to(echo.port) as made:
        yield made


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as made:
        yield made


def said_back(client: socket.socket, count: int) -> bytes:
    """At most `count` bytes; fewer when the connection ended, "RST" after them when it was reset."""
    got = b""
    try:
        while len(got) < count and (data := client.recv(count - len(got))):
            got += data
    except ConnectionResetError:
        got += b"RST"
    return got


def test_it_passes_everything_on(client: socket.socket, echo: Echo, proxy: Proxy) -> None:
    text = bytes(range(256)) * (LENGTH // 256)
    threading.Thread(target=client.sendall, args=(text,), daemon=True).start()
    assert said_back(client, len(text)) == text
    assert (proxy.connections, proxy.accepted) == (1, 1)
    proxy.delay_s = 0.1
    started = time.monotonic()
    client.sendall(b"x")
    assert said_back(client, 1) == b"x"
    assert time.monotonic() - started >= 2 * proxy.delay_s
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    until(lambda: proxy.connections == 0)
    assert echo.ends == ["fin"]


@pytest.mark.parametrize("offset", [0, 1, 7, 70_001])
@pytest.mark.parametrize("how", ["reset", "fin", "hole"])
def test_it_cuts_at_the_byte(client: socket.socket, echo: Echo, proxy: Proxy, offset: int, how: How) -> None:
    client.sendall(b"before")
    assert said_back(client, 6) == b"before"
    trap = proxy.cut_after(to_server=offset, how=how)
    client.sendall(bytes(100_000))
    trap.wait()
    if how == "hole":
        until(lambda: len(echo.got[0]) == len(b"before") + offset)
        assert echo.ends == []
        proxy.black_hole(False)  # closes the hole: what lost bytes cannot go on
        assert said_back(client, LENGTH).endswith(b"RST")
    until(lambda: len(echo.ends) == 1)
    if how == "reset":  # a reset may overtake what the server has not read yet
        assert len(b"before") <= len(echo.got[0]) <= len(b"before") + offset
        assert echo.ends[0] in ("ECONNRESET", "EPIPE")
    else:
        assert len(echo.got[0]) == len(b"before") + offset


@pytest.mark.parametrize(("how", "end"), [("reset", b"RST"), ("fin", b"")])
def test_it_cuts_replies_at_the_byte(client: socket.socket, echo: Echo, proxy: Proxy, how: How, end: bytes) -> None:
    trap = proxy.cut_after(to_client=5, how=how)
    client.sendall(b"123")
    assert said_back(client, 3) == b"123"
    client.sendall(b"4567")
    trap.wait()
    said = said_back(client, 100)
    assert said == b"45" + end or (said == end == b"RST")
    assert bytes(echo.got[0]) == b"1234567"


def test_a_reply_is_dropped_or_held(client: socket.socket, echo: Echo, proxy: Proxy) -> None:
    held = proxy.hold("client", b"COMMIT")
    client.sendall(b"COMMIT")
    held.wait()
    until(lambda: echo.got[0] == b"COMMIT")
    client.sendall(b" and more")
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.recv(1)
    proxy.release()
    client.settimeout(30)
    assert said_back(client, 15) == b"COMMIT and more"
    dropped = proxy.drop_reply(b"COMMIT")
    client.sendall(b"this is not it")
    assert said_back(client, 14) == b"this is not it"
    client.sendall(b"COMMIT")
    dropped.wait()
    assert said_back(client, 1) == b"RST"


def test_a_hole_swallows_old_and_new_connections_until_it_closes(
    client: socket.socket, echo: Echo, proxy: Proxy
) -> None:
    with (
        socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as idle,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as gone,
    ):
        until(lambda: len(echo.got) == 3)
        proxy.black_hole(True)
        client.sendall(b"lost")
        gone.close()
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as late:
            late.sendall(b"lost too")
            until(lambda: sum(link.swallowing for link in tuple(proxy._links)) == 3)
            assert not any(echo.got)
            assert echo.ends == []
            proxy.black_hole(False)
            assert said_back(client, 1) == said_back(late, 1) == b"RST"
        idle.sendall(b"nothing was lost")
        assert said_back(idle, 16) == b"nothing was lost"
    until(lambda: sorted(echo.ends) == ["ECONNRESET", "ECONNRESET", "fin"])


def test_it_refuses_and_resets(client: socket.socket, proxy: Proxy) -> None:
    client.sendall(b"x")
    assert said_back(client, 1) == b"x"
    proxy.refuse(True)
    with (
        pytest.raises(ConnectionResetError),
        socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as refused,
    ):
        refused.recv(1)
    proxy.refuse(False)
    client.sendall(b"x")
    assert said_back(client, 1) == b"x"
    proxy.reset()
    assert said_back(client, 1) == b"RST"


def test_the_judge_names_what_is_wrong() -> None:
    older, newer, other = fix("R", "P1", 1_000), fix("R", "P1", 2_000), fix("R", "P2", 1_000)
    sent = {fix_id(one): one for one in (older, newer, other)}
    rows = sorted(row(one) for one in sent.values())
    shown = {("R", "P1"): "1970-01-01T00:00:02.000Z", ("R", "P2"): "1970-01-01T00:00:01.000Z"}
    names = ("received", "recovered", "committed", "duplicate", "rejected")
    metrics = {f"tracking_fixes_{name}_total": 3.0 * (name in ("received", "committed")) for name in names}
    metrics |= {"tracking_fixes_in_flight": 0.0, "tracking_fixes_spooled": 0.0}
    good = Seen(rows, {"Redis": View(["R"], shown)}, metrics)
    assert judge(sent, sent, good) == []

    def red(seen: Seen) -> str:
        (complaint,) = judge(sent, sent, seen)
        return complaint

    lost, kept = fix_id(older), set(sent) - {fix_id(older)}
    without = attrs.evolve(good, rows=[one for one in rows if one[0] != lost])
    assert red(without).startswith("acknowledged, not stored: 1")
    assert judge(sent, kept, without) == judge(sent, sent, without, {lost}) == []
    assert red(attrs.evolve(good, rows=sorted([*rows, rows[0]]))).startswith("stored twice: 1")
    again = (fix_id(fix("R", "P1", 1_500)), *row(older)[1:])
    assert red(attrs.evolve(good, rows=[*rows, again])).startswith("stored, never sent: 1")
    moved = [(*one[:3], "47.6000000", *one[4:]) if one[0] == lost else one for one in rows]
    assert red(attrs.evolve(good, rows=moved)).startswith("stored otherwise than sent: 1")
    for wrong in (shown | {("R", "P1"): "1970-01-01T00:00:01.000Z"}, {}, shown | {("R", "P3"): "x"}):
        assert red(attrs.evolve(good, live={"Redis": View(["R"], wrong)})).startswith("not the newest stored in Redis")
    assert red(attrs.evolve(good, metrics=metrics | {"tracking_fixes_duplicate_total": 1.0})).startswith(
        "the conservation law is broken"
    )
    assert judge(sent, sent, attrs.evolve(good, live={"a dashboard of another race": View(["S"], {})})) == []
    waiting = metrics | {"tracking_fixes_spooled": 1.0, "tracking_fixes_committed_total": 2.0}
    assert red(attrs.evolve(good, metrics=waiting)).startswith("not at rest")


def damage(at: Station, sql: str) -> None:
    at.db.execute(sql.encode())


def test_the_checker_goes_red_against_the_real_thing(tmp_path: Path, postgres_server: PostgresAddress) -> None:
    """A row that is gone, an acknowledged one that never arrived, a live position that is older in one place only."""
    with (
        station(tmp_path, postgres_server) as at,
        at.daemon() as running,
        Press(at.broker.port, race=("A", "B"), rate=200) as press,
        Spectator(at.port, ("A", "B")) as spectator,
    ):
        until(lambda: len(press.acknowledged) > 300)
        seen = check(at, running, press, [spectator])
        assert len(seen.rows) == len(press.sent) == len(press.acknowledged)
        assert len(seen.live["the API"].shown) == 20
        assert spectator.connected == 1

        def red() -> str:
            with pytest.raises(AssertionError) as complaint:
                check(at, running, press, [spectator], within_s=0)
            return str(complaint.value)

        newest, oldest = seen.rows[-1], seen.rows[0]
        ghost = fix("A", "ghost")
        press.acknowledged.add(fix_id(ghost))
        press.sent[fix_id(ghost)] = ghost
        assert "acknowledged, not stored: 1" in red()
        press.acknowledged.remove(fix_id(ghost))
        del press.sent[fix_id(ghost)]
        key = f"race:{newest[2]}:participant:{newest[1]}:last"
        value = str(at.cache.get(key))
        at.cache.set(key, value.replace(value.partition('"timestamp":"')[2][:24], "2001-01-01T00:00:00.000Z"))
        assert "not the newest stored in Redis: 1" in red()
        at.cache.set(key, value)
        spectator._shown[(newest[2], newest[1])] = "2001-01-01T00:00:00.000Z"
        assert "not the newest stored in dashboard 0: 1" in red()
        damage(at, f"insert into tracking_positions select gen_random_uuid(), {COLUMNS} where id = '{oldest[0]}'")
        assert "stored, never sent: 1" in red()
        damage(at, f"delete from tracking_positions where id = '{oldest[0]}'")
        assert "acknowledged, not stored: 1" in red()
        spectator._show({"raceId": newest[2], "participantId": newest[1], "timestamp": "2000-01-01T00:00:00.000Z"})
        with pytest.raises(AssertionError, match="back to 2000"):
            spectator.shown()
        spectator._backward.clear()


COLUMNS = """participant_id, race_id, latitude, longitude, client_timestamp, server_received_at, status
from tracking_positions"""
