"""WebSocket: limits on dashboards, handshakes, subscriptions and requests, and the heartbeat."""

from __future__ import annotations

import time

import pytest
import trio

from tests.kit.client import Closed
from tests.kit.outside_world import World
from tests.kit.outsider import Place
from tests.kit.tokens import token

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def tight(world: World) -> Place:
    """Small limits."""
    return world.start(ws={"max_connections": 3, "max_handshakes": 3, "handshake_timeout_s": 2, "heartbeat_s": 1})


async def test_503_at_the_limit_of_dashboards_and_room_again_afterwards(tight: Place) -> None:
    await tight.until_metric("ws_connections", lambda value: value == 0)
    async with tight.dashboard(), tight.dashboard():
        async with tight.dashboard():
            answer = await tight.handshake(f"/tracking?token={token()}")
            answer.error(503)
            (await tight.request("/tracking")).error(503)  # who asks why, by plain HTTP, is told the same
            assert (await tight.request("/readyz")).status == 200
        await tight.until_metric("ws_connections", lambda value: value == 2)
        async with tight.dashboard() as board:
            assert await board.subscribe("nothing") == []


async def test_503_at_the_limit_of_handshakes_and_the_slow_ones_are_ended(tight: Place) -> None:
    await tight.until_metric("ws_connections", lambda value: value == 0)
    idle = [await tight.open() for _ in range(3)]
    await idle[0].send_all(b"GET /tracking HTTP/1.1\r\nHost: a\r\n")
    with trio.fail_after(30):
        while (await tight.handshake(f"/tracking?token={token()}")).status != 503:
            await trio.sleep(0.02)  # until it has accepted the three
        for stream in idle:
            while await stream.receive_some():
                pass
            await stream.aclose()
    assert (await tight.handshake(f"/tracking?token={token()}")).status == 101


async def test_the_101st_subscription(quick: Place) -> None:
    async with quick.dashboard() as board:
        for i in range(100):
            assert await board.subscribe(f"many-{i}") == []
        last = {"event": "subscribe_race", "data": {"raceId": "many-100"}, "id": "101"}
        assert await board.refused(last) == ("too_many_subscriptions", "101")
        assert await board.subscribe("many-7") == []  # twice is no further one
        await board.data("unsubscribe_race", {"raceId": "many-7"}, reply="race_unsubscribed")
        assert await board.subscribe("many-100") == []
        assert (await board.refused(last | {"data": {"raceId": "many-7"}}))[0] == "too_many_subscriptions"


async def test_a_whole_second_of_requests_at_once_is_within_the_rate(usual: Place) -> None:
    """As a dashboard of 50 races sends them after it was reconnected (max_requests_per_s is 50)."""
    races = [usual.race() for _ in range(50)]
    async with usual.dashboard() as board:
        for race in races:
            await board.say("subscribe_race", {"raceId": race}, id=race)
        answers = [await board.receive() for _ in races]
    assert [(answer["event"], answer["id"]) for answer in answers] == [("race_snapshot", race) for race in races]


async def test_over_the_rate_is_refused_and_for_3_s_it_closes_with_1008(usual: Place) -> None:
    async with usual.dashboard([]) as board, trio.open_nursery() as nursery:
        codes: list[str] = []
        closed: list[int | None] = []
        start = time.monotonic()

        async def read() -> None:
            try:
                while True:
                    message = await board.receive()
                    codes.append(message["data"].get("code", message["event"]))
            except Closed as end:
                closed.append(end.code)
                nursery.cancel_scope.cancel()

        nursery.start_soon(read)
        with trio.move_on_after(30):
            while not closed:
                for _ in range(10):
                    await board.say("list_races")
                await trio.sleep(0.05)
    lasted = time.monotonic() - start
    assert closed == [1008]
    assert 3 <= lasted < 10
    assert set(codes) == {"races", "rate_limited"}
    assert codes.count("races") <= 50 * (lasted + 1)


async def test_a_burst_over_the_rate_is_forgiven(usual: Place) -> None:
    async with usual.dashboard([]) as board:
        for i in range(80):
            await board.say("list_races", id=i)
        answers = [await board.receive() for _ in range(80)]
        assert {answer["id"] for answer in answers} == set(range(80))
        refused = [answer["data"]["code"] for answer in answers if answer["event"] == "error"]
        assert set(refused) == {"rate_limited"}
        await trio.sleep(1.1)
        assert (await board.ask("list_races"))["event"] == "races"


async def test_no_pong_for_two_heartbeats_is_dropped_without_a_close_frame(tight: Place) -> None:
    await tight.until_metric("ws_connections", lambda value: value == 0)
    dropped = await tight.metric("ws_dropped_total")
    async with tight.dashboard() as answering, trio.open_nursery() as nursery:
        nursery.start_soon(answering.frame)  # answers pings
        deaf = await tight.open()
        lines = ["Host: a", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
        await deaf.send_all("\r\n".join([f"GET /tracking?token={token()} HTTP/1.1", *lines, "", ""]).encode())
        start = time.monotonic()
        received = b""
        with trio.fail_after(30):
            try:
                while data := await deaf.receive_some():
                    received += data
            except trio.BrokenResourceError:
                pass
        lasted = time.monotonic() - start
        await deaf.aclose()
        frames = received.partition(b"\r\n\r\n")[2]
        assert frames[:1] == b"\x89"  # a ping
        assert b"\x88" not in frames[:1] + frames[-4:-3]
        assert 1.5 < lasted < 10
        nursery.cancel_scope.cancel()
    assert await tight.metric("ws_dropped_total") == dropped + 1
