"""The HTTP API as its clients see it, called as ASGI in memory."""

from __future__ import annotations

import json
from functools import partial
from urllib.parse import quote

import attrs
import pytest
from starlette.types import Message

from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.history.queries import HistoryQuery
from tests.http.http_site import API, BEARER, Incoming, Site, note, scope
from tests.kit.making import BASE_MS, make_fix


async def test_races_are_listed_for_the_token() -> None:
    site = Site()
    answer = await site.get("/api/races", BEARER)
    assert answer.status == 200
    assert answer.json == {"races": [{"raceId": "R1", "participants": 2, "lastTimestamp": "2025-07-01T08:15:30.000Z"}]}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    await site.get("/api/races?token=one")
    assert site.history.asked[0] is None
    assert list(site.history.asked[1]) == ["R1"]


async def test_positions_are_the_live_ones_with_stale() -> None:
    answer = await Site().get("/api/races/R1/positions", BEARER)
    assert [(p["participantId"], p["stale"]) for p in answer.json["positions"]] == [("P1", True), ("P2", False)]
    assert answer.json["raceId"] == "R1"
    assert answer.json["serverTime"] == "2025-07-01T08:15:35.000Z"
    assert set(answer.json) == {"raceId", "positions", "serverTime"}


async def test_an_unknown_race_is_empty() -> None:
    site = Site()
    assert (await site.get("/api/races/R9/positions", BEARER)).json["positions"] == []
    assert (await site.get("/api/races/R9/history", BEARER)).json == {"positions": [], "nextCursor": None}
    answer = await site.get("/api/races/R9/export", BEARER)
    assert (answer.status, answer.body) == (200, b"")


async def test_history_takes_every_parameter_and_gives_a_cursor_to_go_on() -> None:
    site = Site()
    site.history.fixes = [make_fix("P1"), make_fix("P1", 1)]
    site.history.next = (BASE_MS + 1000, bytes(range(16)))
    target = "/api/races/R1/history?participantId=P1&from=2025-07-01T08:15:30Z&to=2025-07-01T10:15:31%2B02:00&limit=2"
    answer = await site.get(target, BEARER)
    assert [p["stale"] for p in answer.json["positions"]] == [False, False]
    await site.get(f"{target}&cursor={answer.json['nextCursor']}", BEARER)
    first, second = site.history.asked
    assert first == HistoryQuery("R1", "P1", BASE_MS, BASE_MS + 1000, 2)
    assert second == attrs.evolve(first, after=site.history.next)


async def test_empty_and_unknown_parameters_ask_for_nothing() -> None:
    site = Site()
    await site.get("/api/races/R1/history?participantId=&from=&to=&limit=&cursor=&colour=red", BEARER)
    assert site.history.asked == [HistoryQuery("R1")]


async def test_the_plus_of_an_offset_may_stand_unescaped() -> None:
    site = Site()
    await site.get("/api/races/R1/history?from=2025-07-01T10:15:30+02:00", BEARER)
    assert site.history.asked == [HistoryQuery("R1", from_ms=BASE_MS)]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=10001",
        "limit=-1",
        "limit=1.0",
        "limit=1e2",
        "limit=%2B1",
        "limit=%D9%A1",
        "limit=99999999999999999999",
        "from=yesterday",
        "from=2025-07-01",
        "to=1751357730000",
        "to=1999-12-31T23:59:59Z",
        "participantId=%2e",
        "participantId=a%20b",
        "participantId=" + "x" * 51,
        "participantId=%FF",
        "cursor=abc",
        "cursor=%00",
        "limit=1&limit=2",
        "&".join(f"x{n}=1" for n in range(101)),
    ],
)
async def test_bad_parameters_are_refused(query: str) -> None:
    site = Site()
    answer = await site.get(f"/api/races/R1/history?{query}", BEARER)
    assert (answer.status, answer.error) == (400, "bad_request")
    assert site.history.asked == []


@pytest.mark.parametrize("race_id", ["R-José@1", "R-Jose\u0301@1", "レース2025", "र1", "a.b_c-d@e", "سباق"])
async def test_race_ids_are_unescaped_and_normalised(race_id: str) -> None:
    site = Site()
    answer = await site.get(f"/api/races/{quote(race_id)}/history", BEARER)
    assert answer.status == 200
    assert site.history.asked == [HistoryQuery(race_id.replace("e\u0301", "é"))]


@pytest.mark.parametrize("segment", ["R-%3Cb%3E", "%2e%2e", "a%2Fb", "%FF", "%ED%A0%80", "-R", "a%0A", "x" * 51, "%00"])
async def test_race_ids_that_no_fix_can_have_are_refused(segment: str) -> None:
    answer = await Site().get(f"/api/races/{segment}/positions", BEARER)
    assert (answer.status, answer.error) == (400, "bad_request")


@pytest.mark.parametrize(
    "path",
    ["/api", "/api/", "/api/races/", "/api/races//positions", "/api/races/a/b/positions", "/nothing", "/API/races"],
)
async def test_what_is_not_there_is_404_as_json(path: str) -> None:
    answer = await Site().get(path, BEARER)
    assert (answer.status, answer.error) == (404, "not_found")


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/healthz", "/metrics", "/api/races", "/api/races/R1/export"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
async def test_other_methods_are_405_with_allow(path: str, method: str) -> None:
    answer = await Site().get(path, BEARER, method)
    assert (answer.status, answer.error, answer.headers["allow"]) == (405, "method_not_allowed", "GET, HEAD")


@pytest.mark.parametrize("path", API)
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic YWxs"}])
async def test_without_a_good_token_it_is_401(path: str, headers: dict[str, str]) -> None:
    answer = await Site().get(path, headers)
    assert (answer.status, answer.error, answer.headers["www-authenticate"]) == (401, "unauthorized", "Bearer")


@pytest.mark.parametrize("path", API[1:4])
async def test_a_race_that_the_token_may_not_see_is_403(path: str) -> None:
    site = Site()
    assert (await site.get(f"{path}?token=one")).status == 200
    answer = await site.get(path.replace("R1", "R2") + "?token=one")
    assert (answer.status, answer.error) == (403, "forbidden_race")


async def test_rejections_need_a_token_for_all_races() -> None:
    site = Site()
    answer = await site.get("/api/rejections?token=one")
    assert (answer.status, answer.error) == (403, "forbidden")
    answer = await site.get("/api/rejections?race=R1&code=bad_encoding&limit=5", BEARER)
    assert site.history.asked == [("R1", "bad_encoding", 5)]
    assert answer.json == {
        "rejections": [
            {
                "id": "00000000-0000-0000-0000-000000000000",
                "receivedAt": "2025-07-01T08:15:30.000Z",
                "topic": "tracking/x/position",
                "payload": "\\xff{",
                "code": "bad_encoding",
                "detail": "not UTF-8",
            }
        ]
    }
    for query in ("code=nonsense", "limit=0", "race=%ff"):
        assert (await site.get(f"/api/rejections?{query}", BEARER)).error == "bad_request"


async def test_rejections_of_a_race_that_cannot_be() -> None:
    site = Site()
    for sent, race in (("City%20Run", "City Run"), ("Cafe%CC%81+1", "Café 1"), ("%00", "\0"), ("", None)):
        assert (await site.get(f"/api/rejections?race={sent}", BEARER)).status == 200
        assert site.history.asked.pop() == (race, None, 100)


@pytest.mark.parametrize("path", [API[0], *API[2:]])
@pytest.mark.parametrize("trouble", [StoreUnavailable("secret host"), StoreMisconfigured("secret role")])
async def test_a_store_that_is_away_is_503(path: str, trouble: Exception) -> None:
    site = Site()
    site.history.trouble = trouble
    answer = await site.get(path, BEARER)
    assert (answer.status, answer.error, answer.headers["retry-after"]) == (503, "unavailable", "5")
    assert b"secret" not in answer.body


async def test_a_bug_is_500_as_json_and_is_raised_for_the_log() -> None:
    site = Site()
    site.history.trouble = ZeroDivisionError("a bug")
    sent: list[Message] = []
    with pytest.raises(ZeroDivisionError):
        await site.app(scope("/api/races", BEARER), Incoming().receive, partial(note, sent))
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"])["error"]["code"] == "internal_error"
    assert (b"x-content-type-options", b"nosniff") in sent[0]["headers"]


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", *API])
async def test_head_is_get_without_a_body_to_speak_of(path: str) -> None:
    site = Site()
    site.history.fixes = [make_fix()]
    get, head = await site.get(path, BEARER), await site.get(path, BEARER, "HEAD")
    assert head.status == get.status == 200
    if path == "/metrics":  # CPU time has passed between them
        assert abs(int(head.headers.pop("content-length")) - int(get.headers.pop("content-length"))) < 100
    assert head.headers == get.headers
