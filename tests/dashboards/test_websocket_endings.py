"""The WebSocket over real TCP: dashboards that are too fast, too slow, or whose time is over."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.kit.client import WITHIN_S
from tests.kit.dashboards import running_site, until, ws_settings
from tests.kit.tokens import token

pytestmark = pytest.mark.live


async def test_a_burst_over_the_rate_is_limited_and_stays() -> None:
    settings = ws_settings(max_requests_per_s=5)
    async with running_site(settings) as site, site.dashboard() as dashboard:
        for number in range(8):
            await dashboard.say("unsubscribe_race", {"raceId": "R1"}, id=number)
        answers = [await dashboard.receive() for _ in range(8)]
        assert [answer["id"] for answer in answers] == list(range(8))
        assert [answer["event"] for answer in answers[:5]] == ["race_unsubscribed"] * 5
        assert [answer["data"].get("code") for answer in answers[5:]] == ["rate_limited"] * 3


async def test_a_flood_is_closed_with_1008() -> None:
    settings = ws_settings(max_requests_per_s=5)
    async with running_site(settings) as site, site.dashboard() as dashboard, trio.open_nursery() as nursery:

        async def flood() -> None:
            while True:
                await dashboard.say("list_races")
                await trio.sleep(0.02)

        nursery.start_soon(flood)
        started = trio.current_time()
        assert await dashboard.closed() == 1008
        assert trio.current_time() - started > 2.5
        nursery.cancel_scope.cancel()
        await site.until_dropped("flooding")


async def test_an_expired_token_closes_with_4401() -> None:
    ticket = token(ttl_s=3)  # long enough to connect with on a busy machine
    async with running_site() as site, site.dashboard(access=ticket) as dashboard:
        await dashboard.ask("subscribe_race", {"raceId": "R1"})
        assert await dashboard.closed() == 4401
        await site.until_dropped("token_expired")
        assert ("unsubscribe", "R1") in site.races.calls


async def test_a_slow_dashboard_is_resynced_and_others_are_not_delayed() -> None:
    settings = ws_settings(outbox_bytes=50_000, send_timeout_ms=60_000)
    async with running_site(settings) as site, site.dashboard() as slow, site.dashboard() as fast:
        for dashboard in (slow, fast):
            await dashboard.ask("subscribe_race", {"raceId": "R1"})
        sent = 0
        while site.metrics.registry.get_sample_value("tracking_ws_resyncs_total") == 0:
            for _ in range(5):
                site.races.change("R1", padding=8_000)
            sent += 5
            for _ in range(5):
                with trio.fail_after(30):  # half of what the slow one is given
                    assert (await fast.receive())["event"] == "position_update"
            assert sent < 10_000
            # The slow one's client takes one message and its kernel what fits; it drains once, below, to be resynced.
            if site.races.calls.count(("subscribe", "R1", None, True)) == 0 and sent >= 3_000:
                break
        updates = 0
        while (event := await slow.receive())["event"] == "position_update":
            updates += 1
        assert updates < sent
        assert event["event"] == "race_snapshot"
        assert event["data"]["resync"] is True
        site.races.change("R1", "after the resync")
        assert (await slow.receive())["data"]["participantId"] == "after the resync"


async def test_a_dashboard_that_takes_nothing_is_dropped_without_a_close_frame() -> None:
    settings = ws_settings(send_timeout_ms=300, outbox_bytes=64 * 1024 * 1024)
    async with running_site(settings) as site, site.dashboard() as dashboard:
        await dashboard.ask("subscribe_race", {"raceId": "R1"})
        for _ in range(200):
            site.races.change("R1", padding=100_000)
        await site.until_dropped("slow")
        assert await dashboard.closed() is None
        await until(lambda: site.metrics.registry.get_sample_value("tracking_ws_connections") == 0)


async def test_a_stop_flushes_and_closes_with_1001() -> None:
    async with running_site() as site, site.dashboard() as one, site.dashboard() as two:
        for dashboard in (one, two):
            await dashboard.ask("subscribe_race", {"raceId": "R1"})
        site.races.change("R1")
        site.scope.cancel()
        for dashboard in (one, two):
            assert (await dashboard.receive())["event"] == "position_update"
            assert await dashboard.closed() == 1001
        with trio.fail_after(WITHIN_S):
            await site.stopped.wait()


async def test_a_crash_closes_one_dashboard_with_1011(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_site() as site, site.dashboard() as unlucky, site.dashboard() as other:
        await other.ask("subscribe_race", {"raceId": "R1"})
        site.history.trouble = RuntimeError("a bug")
        await unlucky.say("list_races")
        assert await unlucky.closed() == 1011
        site.races.change("R1")
        assert (await other.receive())["event"] == "position_update"
        await site.until_dropped("crash")


async def test_metrics_count_connections_and_frames() -> None:
    async with running_site() as site:
        async with site.dashboard() as dashboard:
            await dashboard.ask("list_races")
            value: Any = site.metrics.registry.get_sample_value
            assert value("tracking_ws_connections") == 1
            assert value("tracking_ws_frames_total") == 1
        await until(lambda: value("tracking_ws_connections") == 0)
        assert not site.listener.dashboards
