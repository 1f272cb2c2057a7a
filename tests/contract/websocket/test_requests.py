"""WebSocket: what a dashboard asks, rightly or wrongly."""

from __future__ import annotations

import json

import pytest

from tests.kit.outsider import Place, fix, now_ms

pytestmark = pytest.mark.live


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", "bad_json"),
        ("not json", "bad_json"),
        ('{"event":"list_races"', "bad_json"),
        ('{"event":"list_races"} x', "bad_json"),
        ('{"event":"list_races","data":{"a":NaN}}', "bad_json"),
        ("[" * 4000, "bad_json"),
        ("\ufeff{}", "bad_json"),
        (b'{"event":"list_races","data":{}}', "bad_request"),
        (b"", "bad_request"),
        ("null", "bad_request"),
        ("5", "bad_request"),
        ("[]", "bad_request"),
        ("{}", "bad_request"),
        ({"event": 5, "data": {}}, "bad_request"),
        ({"event": None, "data": {}}, "bad_request"),
        ({"event": "", "data": {}}, "unknown_event"),
        ({"event": "no_such_event", "data": {}}, "unknown_event"),
        ({"event": "position_update", "data": {}}, "unknown_event"),
        ({"event": "SUBSCRIBE_RACE", "data": {"raceId": "R"}}, "unknown_event"),
        ({"event": "subscribe_race"}, "bad_request"),
        ({"event": "subscribe_race", "data": {}}, "bad_request"),
        ({"event": "subscribe_race", "data": []}, "bad_request"),
        ({"event": "subscribe_race", "data": "R"}, "bad_request"),
        *(
            ({"event": event, "data": {"raceId": race}}, "bad_request")
            for event in ("subscribe_race", "unsubscribe_race", "get_history")
            for race in (
                5,
                None,
                True,
                ["R"],
                {"a": 1},
                "",
                "a b",
                "a/b",
                "a:b",
                "a#",
                "+",
                "-a",
                "a\n",
                "x" * 51,
                "x" * 3000,
            )
        ),
    ],
)
async def test_bad_requests(usual: Place, message: object, code: str) -> None:
    async with usual.dashboard() as board:
        assert await board.refused(message) == (code, None)
        await board.silent()


async def test_a_race_id_of_10_kb(usual: Place, quick: Place) -> None:
    message = {"event": "subscribe_race", "data": {"raceId": "x" * 10_000}, "id": 1}
    async with usual.dashboard() as board:  # the frame alone is over max_message_bytes
        await board.send(message)
        assert await board.closed() == 1009
    async with quick.dashboard() as board:
        assert await board.refused(message) == ("bad_request", 1)
        await board.silent()


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
async def test_the_largest_frame_and_one_byte_more(usual: Place, letter: str) -> None:
    empty = len(json.dumps({"event": "list_races", "data": {"x": ""}}))
    room = 4096 - empty
    size = len(letter.encode())
    text = letter * (room // size) + "x" * (room % size)
    async with usual.dashboard([]) as board:
        await board.send(json.dumps({"event": "list_races", "data": {"x": text}}, ensure_ascii=False))
        assert (await board.receive())["data"] == {"races": []}
        await board.send(json.dumps({"event": "list_races", "data": {"x": text + "x"}}, ensure_ascii=False))
        assert await board.closed() == 1009


@pytest.mark.parametrize("request_id", ["a", "", "x" * 64, "ü" * 64, '"\\\n', 0, -7, 2**53 - 1, 2**63])
async def test_replies_repeat_the_id(usual: Place, request_id: str | int) -> None:
    race = usual.race()
    async with usual.dashboard([race]) as board:
        for event, data, reply in (
            ("subscribe_race", {"raceId": race}, "race_snapshot"),
            ("subscribe_race", {"raceId": race}, "race_snapshot"),
            ("unsubscribe_race", {"raceId": race}, "race_unsubscribed"),
            ("list_races", {}, "races"),
            ("get_history", {"raceId": race}, "history"),
            ("get_history", {"raceId": race, "limit": 0}, "error"),
            ("subscribe_race", {"raceId": "other"}, "error"),
            ("nonsense", {}, "error"),
        ):
            answer = await board.ask(event, data, id=request_id)
            assert (answer["event"], answer["id"]) == (reply, request_id)


@pytest.mark.parametrize("request_id", ["x" * 65, 1.5, True, [], {}])
async def test_other_ids_are_bad_requests(usual: Place, request_id: object) -> None:
    async with usual.dashboard() as board:
        code, _ = await board.refused({"event": "list_races", "data": {}, "id": request_id})
        assert code == "bad_request"
        await board.silent()


async def test_a_reply_without_an_id_has_none(usual: Place) -> None:
    async with usual.dashboard([]) as board:
        assert await board.ask("list_races") == {"event": "races", "data": {"races": []}}


async def test_a_token_of_another_race(usual: Place) -> None:
    mine, other = usual.race(), usual.race()
    await usual.stored(fix(mine, "P1", now_ms()), fix(other, "P1", now_ms()))
    async with usual.dashboard([mine]) as board:
        for event in ("subscribe_race", "get_history"):
            assert await board.refused({"event": event, "data": {"raceId": other}, "id": 3}) == ("forbidden_race", 3)
        assert [position["raceId"] for position in await board.subscribe(mine)] == [mine]
        await usual.publish(fix(other, "P1", now_ms()), fix(mine, "P2", now_ms()))
        update = await board.receive()
        assert update["data"]["raceId"] == mine
        await board.silent()
        listed = await board.data("list_races", reply="races")
        assert [race["raceId"] for race in listed["races"]] == [mine]
    async with usual.dashboard([]) as board:
        assert await board.refused({"event": "subscribe_race", "data": {"raceId": mine}}) == ("forbidden_race", None)
        assert await board.data("list_races", reply="races") == {"races": []}


@pytest.mark.parametrize(
    ("race", "who"),
    [
        ("Rénnen@2026", "Zoë"),
        ("سباق.٢٠٢٦", "علي-٢"),
        ("競走_2026", "太郎"),
        ("हिन्दी-१", "कि"),
        ("a.b_c-d@e", "0@0"),
        ("x" * 50, "й" * 50),
    ],
)
async def test_ids_of_any_script(usual: Place, race: str, who: str) -> None:
    async with usual.dashboard([race]) as board:
        assert await board.subscribe(race) == []
        await usual.stored(fix(race, who, now_ms()))
        update = (await board.receive())["data"]
        assert (update["raceId"], update["participantId"]) == (race, who)
        history = await board.data("get_history", {"raceId": race, "participantId": who}, reply="history")
        assert len(history["positions"]) == 1


async def test_ids_are_normalised_everywhere(usual: Place) -> None:
    written, meant = "Re\u0301nnen-nfd", "R\u00e9nnen-nfd"
    async with usual.dashboard([written]) as board:
        snapshot = await board.data("subscribe_race", {"raceId": written}, reply="race_snapshot")
        assert snapshot["raceId"] == meant
        await usual.stored(fix(written, "P1", now_ms()))
        assert (await board.receive())["data"]["raceId"] == meant
        history = await board.data("get_history", {"raceId": written}, reply="history")
        assert [position["raceId"] for position in history["positions"]] == [meant]
        listed = await board.data("list_races", reply="races")
        assert [race["raceId"] for race in listed["races"]] == [meant]
