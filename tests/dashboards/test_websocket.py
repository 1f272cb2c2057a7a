"""The WebSocket over real TCP: what a dashboard asks, and what it is told."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing
from trio_websocket import WebSocketConnection, wrap_server_stream

from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.core.position import position_json
from actors.history.queries import HistoryPage, HistoryQuery, RaceSummary
from tests.dashboards.hostile_frames import text
from tests.kit.client import WITHIN_S
from tests.kit.dashboards import NOW_MS, make_fix, running_site, ws_settings
from tests.kit.tokens import token
from tests.kit.websocket import PING, PONG, TEXT, RawSocket, frame, request

pytestmark = pytest.mark.live

POSITION = {
    "participantId": "P001",
    "raceId": "R1",
    "latitude": -7.9456,
    "longitude": 112.6145,
    "timestamp": "2025-07-01T08:15:30.000Z",
    "receivedAt": "2025-07-01T08:15:30.512Z",
    "status": "moving",
    "stale": False,
}


async def test_snapshot_then_stream_then_nothing() -> None:
    async with running_site() as site, site.dashboard() as dashboard:
        site.races.positions = position_json(make_fix(), stale=False)
        snapshot = await dashboard.ask("subscribe_race", {"raceId": "R1"}, id="s")
        assert snapshot == {
            "event": "race_snapshot",
            "data": {"raceId": "R1", "positions": [POSITION], "serverTime": "2025-07-01T08:15:30.000Z"},
            "id": "s",
        }
        site.races.change("R1")
        assert await dashboard.receive() == {"event": "position_update", "data": POSITION}
        site.races.change("R1", "P002")
        assert (await dashboard.receive())["data"]["participantId"] == "P002"

        assert await dashboard.ask("unsubscribe_race", {"raceId": "R1"}, id=2) == {
            "event": "race_unsubscribed",
            "data": {"raceId": "R1"},
            "id": 2,
        }
        site.races.change("R1")
        assert (await dashboard.ask("list_races"))["event"] == "races"
        assert site.races.calls == [("subscribe", "R1", "s", False), ("unsubscribe", "R1")]


async def test_frames_may_come_right_behind_the_request() -> None:
    async with running_site() as site, await site.raw() as stream:
        client = RawSocket(stream)
        with trio.fail_after(WITHIN_S):
            assert await client.open(request() + frame(PING, b"early") + text(b"{}")) == 101
            assert await client.frame() == (PONG, b"early")
            assert (await client.frame() or (0, b""))[0] == TEXT


async def test_the_reader_is_what_the_library_starts_for_a_server() -> None:
    """The one thing of it that is taken without a promise."""
    started: list[Any] = []
    with trio.move_on_after(0):
        stream, _ = trio.testing.memory_stream_pair()
        await wrap_server_stream(cast(trio.Nursery, SimpleNamespace(start_soon=started.append)), stream)
    [reader] = started
    assert reader == reader.__self__._reader_task
    assert isinstance(reader.__self__, WebSocketConnection)


async def test_subscribing_twice_is_a_new_snapshot() -> None:
    async with running_site() as site, site.dashboard() as dashboard:
        assert (await dashboard.ask("subscribe_race", {"raceId": "R1"}, id=1))["id"] == 1
        assert (await dashboard.ask("subscribe_race", {"raceId": "R1"}, id=2))["id"] == 2
        site.races.change("R1")
        assert (await dashboard.receive())["event"] == "position_update"


async def test_unsubscribing_what_is_not_subscribed() -> None:
    async with running_site() as site, site.dashboard() as dashboard:
        assert (await dashboard.ask("unsubscribe_race", {"raceId": "R9"}))["event"] == "race_unsubscribed"
        assert site.races.calls == []


async def test_race_ids_are_normalised() -> None:
    async with running_site() as site, site.dashboard() as dashboard:
        answer = await dashboard.ask("subscribe_race", {"raceId": "Zu\u0308rich"})
        assert answer["data"]["raceId"] == "Z\u00fcrich"


@pytest.mark.parametrize(
    ("sent", "code", "request_id"),
    [
        ("not JSON", "bad_json", None),
        ("", "bad_json", None),
        ("[" * 4000, "bad_json", None),
        ('{"event": "list_races", "x": NaN}', "bad_json", None),
        ('{"event": "list_races", "id": "\\ud800"}', "bad_json", None),
        ("[]", "bad_request", None),
        ("null", "bad_request", None),
        ("{}", "bad_request", None),
        ('{"event": 7, "id": 1}', "bad_request", 1),
        ('{"event": "no_such_event", "id": "x"}', "unknown_event", "x"),
        ('{"event": "list_races", "data": [], "id": 1}', "bad_request", 1),
        ('{"event": "list_races", "id": true}', "bad_request", None),
        ('{"event": "list_races", "id": 1.5}', "bad_request", None),
        ('{"event": "list_races", "id": null}', "bad_request", None),
        (json.dumps({"event": "list_races", "id": "x" * 65}), "bad_request", None),
        ('{"event": "subscribe_race", "id": 1}', "bad_request", 1),
        ('{"event": "subscribe_race", "data": {"raceId": 7}, "id": 1}', "bad_request", 1),
        ('{"event": "subscribe_race", "data": {"raceId": null}, "id": 1}', "bad_request", 1),
        ('{"event": "subscribe_race", "data": {"raceId": "a/b"}, "id": 1}', "bad_request", 1),
        ('{"event": "subscribe_race", "data": {"raceId": ""}, "id": 1}', "bad_request", 1),
        (json.dumps({"event": "subscribe_race", "data": {"raceId": "R" * 51}}), "bad_request", None),
        ('{"event": "get_history", "data": {"raceId": "R1", "limit": 10001}}', "bad_request", None),
    ],
)
async def test_bad_requests_are_answered_and_the_connection_stays(
    sent: str, code: str, request_id: str | int | None
) -> None:
    async with running_site() as site, site.dashboard() as dashboard:
        await dashboard.send(sent)
        answer = await dashboard.receive()
        assert (answer["event"], answer["data"]["code"], answer.get("id")) == ("error", code, request_id)
        assert isinstance(answer["data"]["message"], str)
        assert (await dashboard.ask("list_races"))["event"] == "races"


async def test_a_binary_frame_is_a_bad_request() -> None:
    async with running_site() as site, site.dashboard() as dashboard:
        await dashboard.send(b'{"event": "list_races"}')
        assert (await dashboard.receive())["data"]["code"] == "bad_request"


async def test_a_race_id_of_10_kb_is_a_frame_too_large() -> None:
    async with running_site() as site, site.dashboard() as dashboard:
        await dashboard.say("subscribe_race", {"raceId": "R" * 10_000})
        assert await dashboard.closed() == 1009
        await site.until_dropped("too_large")


@pytest.mark.parametrize(("size", "fits"), [(4096, True), (4097, False)])
async def test_the_limit_of_a_frame_is_in_bytes(size: int, fits: bool) -> None:
    async with running_site() as site, site.dashboard() as dashboard:
        frame = '{"event": "list_races", "x": "' + "ü" * 2000
        frame += "x" * (size - len(frame.encode()) - 2) + '"}'
        await dashboard.send(frame)
        if fits:
            assert (await dashboard.receive())["event"] == "races"
        else:
            assert await dashboard.closed() == 1009


async def test_the_101st_subscription() -> None:
    settings = ws_settings(max_requests_per_s=1000)
    async with running_site(settings) as site, site.dashboard() as dashboard:
        for number in range(100):
            assert (await dashboard.ask("subscribe_race", {"raceId": f"R{number}"}))["event"] == "race_snapshot"
        assert await dashboard.refused({"event": "subscribe_race", "data": {"raceId": "R100"}}) == (
            "too_many_subscriptions",
            None,
        )
        assert (await dashboard.ask("subscribe_race", {"raceId": "R5"}))["event"] == "race_snapshot"
        await dashboard.ask("unsubscribe_race", {"raceId": "R5"})
        assert (await dashboard.ask("subscribe_race", {"raceId": "R100"}))["event"] == "race_snapshot"


async def test_a_token_for_some_races() -> None:
    ticket = token(races=["R1"])
    async with running_site() as site, site.dashboard(access=ticket) as dashboard:
        assert await dashboard.refused({"event": "subscribe_race", "data": {"raceId": "R2"}}) == (
            "forbidden_race",
            None,
        )
        assert await dashboard.refused({"event": "get_history", "data": {"raceId": "R2"}}) == ("forbidden_race", None)
        assert (await dashboard.ask("subscribe_race", {"raceId": "R1"}))["event"] == "race_snapshot"
        await dashboard.ask("list_races")
        assert site.history.queries == [["R1"]]


async def test_a_token_for_no_race() -> None:
    async with running_site() as site, site.dashboard(access=token(races=[])) as dashboard:
        assert await dashboard.refused({"event": "subscribe_race", "data": {"raceId": "R1"}}) == (
            "forbidden_race",
            None,
        )


async def test_a_race_that_refuses() -> None:
    async with running_site() as site, site.dashboard() as dashboard:
        site.races.refusing = True
        assert await dashboard.refused({"event": "subscribe_race", "data": {"raceId": "R1"}, "id": 5}) == (
            "unavailable",
            5,
        )


async def test_list_races() -> None:
    async with running_site() as site, site.dashboard() as dashboard:
        site.history.summaries = [RaceSummary("R2", 3, NOW_MS), RaceSummary("R1", 1, 0)]
        assert await dashboard.ask("list_races", id="l") == {
            "event": "races",
            "data": {
                "races": [
                    {"raceId": "R2", "participants": 3, "lastTimestamp": "2025-07-01T08:15:30.000Z"},
                    {"raceId": "R1", "participants": 1, "lastTimestamp": "1970-01-01T00:00:00.000Z"},
                ]
            },
            "id": "l",
        }
        assert site.history.queries == [None]


async def test_history_page_by_page() -> None:
    async with running_site() as site, site.dashboard() as dashboard:
        after = (NOW_MS, bytes(range(16)))
        site.history.pages = [HistoryPage((make_fix(),), after), HistoryPage((), None)]
        first = await dashboard.ask(
            "get_history",
            {
                "raceId": "R1",
                "participantId": "P001",
                "from": "2025-07-01T00:00:00Z",
                "to": "2025-07-02T00:00:00+02:00",
                "limit": 1,
                "cursor": None,
            },
            id=1,
        )
        assert first["data"]["positions"] == [POSITION]
        cursor = first["data"]["nextCursor"]
        assert isinstance(cursor, str)
        second = await dashboard.ask("get_history", {"raceId": "R1", "cursor": cursor}, id=2)
        assert second == {"event": "history", "data": {"positions": [], "nextCursor": None}, "id": 2}
        assert site.history.queries == [
            HistoryQuery("R1", "P001", 1_751_328_000_000, 1_751_407_200_000, 1, None),
            HistoryQuery("R1", after=after),
        ]


@pytest.mark.parametrize("trouble", [StoreUnavailable("away"), StoreMisconfigured("no table")])
async def test_history_while_postgres_is_away(trouble: Exception) -> None:
    async with running_site() as site, site.dashboard() as dashboard:
        site.history.trouble = trouble
        assert await dashboard.refused({"event": "get_history", "data": {"raceId": "R1"}}) == ("unavailable", None)
        assert await dashboard.refused({"event": "list_races"}) == ("unavailable", None)
        assert (await dashboard.ask("subscribe_race", {"raceId": "R1"}))["event"] == "race_snapshot"


async def test_history_is_one_at_a_time_and_answers_keep_their_order() -> None:
    async with running_site() as site, site.dashboard() as dashboard:
        site.history.gate = trio.Event()
        for number in range(3):
            await dashboard.say("get_history", {"raceId": "R1"}, id=number)
        await dashboard.say("unsubscribe_race", {"raceId": "R1"}, id=3)
        await trio.testing.wait_all_tasks_blocked()
        site.history.gate.set()
        assert [(await dashboard.receive())["id"] for _ in range(4)] == [0, 1, 2, 3]
        assert site.history.most_running == 1
