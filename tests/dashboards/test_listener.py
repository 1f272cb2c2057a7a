"""listener.py without sockets: connections over memory streams, a simulated clock."""

from __future__ import annotations

import errno

import pytest
import structlog.testing
import trio
import trio.testing

from actors.core.errors import NotStarted
from actors.dashboards.endings import End
from actors.dashboards.listener import ACCEPT_PAUSE_S, CLOSE_S, LINGER_S, MAX_REFUSALS, STOP_S
from actors.http.head import MAX_HEAD_BYTES
from actors.telemetry.metrics import Metrics
from tests.dashboards.listener_bench import make_listener, running
from tests.kit.client import Dashboard
from tests.kit.dashboards import ws_settings
from tests.kit.tokens import token
from tests.kit.websocket import request

settled = trio.testing.wait_all_tasks_blocked


async def silence(board: Dashboard, lasts_s: float) -> None:
    """For so long nothing comes but pings, which are answered."""
    with pytest.raises(trio.TooSlowError):
        await board.receive(lasts_s)


async def test_dashboards_are_pinged_and_stay(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        board = await bench.dashboard()
        await silence(board, 20 * 20)
        assert (await board.ask("list_races"))["event"] == "races"


async def test_pongs_are_seen_while_questions_wait_for_their_answers(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's reader stands still, and with it the pongs, once nobody takes the messages that it has read."""
    async with running(monkeypatch) as bench:
        bench.history.gate = gate = trio.Event()
        board = await bench.dashboard()
        for _ in range(5):
            await board.say("get_history", {"raceId": "R1"})
        await silence(board, 10 * 20)
        gate.set()
        for _ in range(5):
            assert (await board.receive())["event"] == "history"


async def test_without_pongs_a_dashboard_is_dropped_after_two_heartbeats(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        await bench.dashboard()
        await trio.sleep(2 * 20)
        assert len(bench.listener.dashboards) == 1
        await trio.sleep(2 * 20)
        assert not bench.listener.dashboards
        assert bench.dropped("no_pong") == 1


async def test_a_stop_takes_no_longer_than_said_whatever_dashboards_do(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        good = await bench.dashboard()
        for _ in range(3):
            await bench.dashboard()  # does not read
        started = trio.current_time()
        bench.scope.cancel()
        assert await good.closed() == 1001
        assert trio.current_time() - started < 0.1
        assert bench.listener.health.components["websocket"].up
        await trio.sleep(STOP_S)
        assert not bench.listener.health.components["websocket"].up


async def test_a_stop_sends_what_is_pending_first(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        client, server = trio.testing.memory_stream_pair()
        bench.port.send.send_nowait(server)
        board = await bench.dashboard(client)
        await board.subscribe("R1")
        room = trio.Event()
        server.send_stream.send_all_hook = room.wait
        bench.races.change("R1")
        await settled()
        bench.races.change("R1")  # behind the one that is being written
        bench.scope.cancel()
        await settled()
        room.set()
        events: list[str] = []
        assert await board.closed(events) == 1001
        assert events == ["position_update"] * 2


async def test_a_close_that_is_not_answered_is_waited_for_a_second(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        await bench.dashboard()
        [dashboard] = bench.listener.dashboards
        dashboard.end(End.TOKEN_EXPIRED)
        await trio.sleep(CLOSE_S - 0.1)
        assert bench.connected == 1
        await trio.sleep(CLOSE_S + LINGER_S)
        assert bench.connected == 0


async def test_it_can_be_run_again(autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(monkeypatch) as bench:
        await bench.dashboard()
        bench.scope.cancel()
        await trio.sleep(STOP_S)
        async with trio.open_nursery() as nursery:
            await nursery.start(bench.listener.run)
            await bench.dashboard()
            assert len(bench.listener.dashboards) == 1
            nursery.cancel_scope.cancel()
        assert not bench.listener.dashboards


async def test_running_out_of_file_descriptors_is_waited_for(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        for code in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS):
            bench.port.send.send_nowait(OSError(code, "full"))
        started = trio.current_time()
        await bench.dashboard()
        assert trio.current_time() - started == pytest.approx(3 * ACCEPT_PAUSE_S)


async def test_a_crash_of_one_connection_ends_no_other(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def curse() -> None:
        raise ZeroDivisionError("cursed")

    async with running(monkeypatch) as bench:
        good = await bench.dashboard()
        _, server = trio.testing.memory_stream_pair()
        server.receive_stream.receive_some_hook = curse
        bench.port.send.send_nowait(server)
        await settled()
        assert bench.dropped("crash") == 1
        assert (await good.ask("list_races"))["event"] == "races"


async def test_a_crash_closes_its_dashboard_with_1011_and_no_other(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        unlucky, other = await bench.dashboard(), await bench.dashboard()
        await other.subscribe("R1")
        bench.history.trouble = ZeroDivisionError("a bug")
        await unlucky.say("list_races")
        assert await unlucky.closed() == 1011
        assert bench.dropped("crash") == 1
        bench.races.change("R1")
        assert (await other.receive())["event"] == "position_update"


async def test_a_token_ends_its_dashboard_on_the_dot(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two heartbeats."""
    async with running(monkeypatch, clock=lambda: 2_000_000_000_000) as bench:
        board = Dashboard(bench.open())
        assert await board.open(request(Authorization=f"Bearer {token(exp=2_000_000_007)}")) == 101
        started = trio.current_time()
        assert await board.closed() == 4401
        assert trio.current_time() - started == pytest.approx(7)
        assert bench.dropped("token_expired") == 1


async def test_a_token_by_a_clock_that_is_set(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour forward it has expired for who comes and for who is there; after it is set back it is good again."""
    step_ms = 0
    asked = request(Authorization=f"Bearer {token(exp=2_000_001_800)}")
    async with running(monkeypatch, clock=lambda: 2_000_000_000_000 + step_ms) as bench:
        board = Dashboard(bench.open())
        assert await board.open(asked) == 101
        step_ms = -3_600_000
        assert await bench.status(asked) == 101
        step_ms = 3_600_000
        assert await bench.status(asked) == 401
        assert await board.closed() == 4401
        step_ms = 0
        assert await bench.status(asked) == 101


async def test_why_a_token_is_refused_is_logged_once_a_second(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = token(aud="https://maps.example")
    with structlog.testing.capture_logs() as logs:
        async with running(monkeypatch) as bench:
            for _ in range(3):
                assert await bench.status(request(f"/tracking?token={bad}", Authorization=None)) == 401
            assert await bench.status(request(Upgrade="websocketx")) == 426  # not worth a line
            await trio.sleep(1.1)
            assert await bench.status(request(f"/tracking?token={bad}", Authorization=None)) == 401
            assert bench.dropped("unauthorized") == 4
    refused = [line for line in logs if line["event"] == "connection refused"]
    assert [(line["status"], line["suppressed"], line["log_level"]) for line in refused] == [
        (401, 0, "info"),
        (401, 2, "info"),
    ]
    assert "aud" in refused[0]["reason"]
    assert bad not in str(logs)


async def test_another_error_of_accept_is_a_crash(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crashing() -> None:
        async with running(monkeypatch) as bench:
            bench.port.send.send_nowait(OSError(errno.EBADF, "bad"))
            await trio.sleep(10)

    with pytest.raises(ExceptionGroup) as crash:
        await crashing()
    assert crash.group_contains(OSError)


async def test_a_port_that_is_taken() -> None:
    [taken] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with taken:
        settings = ws_settings(port=taken.socket.getsockname()[1])
        with pytest.raises(NotStarted, match=r"^cannot listen on 127\.0\.0\.1 port \d+ \(Address already in use\)"):
            await make_listener(settings, Metrics()).run()


async def test_a_head_that_does_not_come(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        client = bench.open()
        await client.send_all(b"GET /tracking HTTP/1.1\r\n")
        started = trio.current_time()
        with trio.fail_after(10):
            assert (await client.receive_some()).startswith(b"HTTP/1.1 408 ")
        assert trio.current_time() - started == pytest.approx(5)
        assert len(bench.listener.waiting) == 0


async def test_a_library_that_does_not_get_through_its_handshake(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        client, server = trio.testing.memory_stream_pair()
        server.send_stream.send_all_hook = trio.sleep_forever
        bench.port.send.send_nowait(server)
        await client.send_all(request())
        await settled()
        assert bench.connected == 1
        await trio.sleep(5.1)
        assert bench.connected == 0
        assert bench.dropped("crash") == 1


@pytest.mark.parametrize(("size", "status"), [(MAX_HEAD_BYTES, b"404"), (MAX_HEAD_BYTES + 1, b"431")])
async def test_the_limit_of_a_head(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, size: int, status: bytes
) -> None:
    start = b"GET /other HTTP/1.1\r\nUpgrade: websocket\r\nX: "
    async with running(monkeypatch) as bench:
        client = bench.open()
        await client.send_all(start + b"x" * (size - len(start)) + b"\r\n\r\n")
        assert (await client.receive_some()).split(b" ")[1] == status


async def test_refusals_that_linger_are_bounded(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(monkeypatch) as bench:
        clients = [bench.open() for _ in range(MAX_REFUSALS + 5)]
        for client in clients:
            await client.send_all(b"\x16\x03\x01")
        await settled()
        answers = [await client.receive_some() for client in clients]
        assert sum(answer.startswith(b"HTTP/1.1 400 ") for answer in answers) == MAX_REFUSALS
        assert answers.count(b"") == 5
        assert bench.dropped("bad_request") == MAX_REFUSALS + 5
