"""HTTP: what the API tells whom."""

from __future__ import annotations

import csv
import io
import json
from urllib.parse import quote

import gpxpy
import pytest
import trio

from tests.contract.bad_tokens import BAD_TOKENS
from tests.contract.http.paths import API
from tests.kit.expected import POSITION
from tests.kit.outsider import Json, Place, fix, iso, now_ms
from tests.kit.tokens import token

pytestmark = pytest.mark.live


async def ask(place: Place, target: str, races: object = None) -> Json:
    """The JSON of a 200."""
    answer = await place.request(target, token=token(races))
    assert answer.status == 200, answer
    found: Json = answer.json
    return found


@pytest.mark.parametrize("path", API)
async def test_the_api_needs_a_token(listed: Place, path: str) -> None:
    (await listed.request(path)).error(401)
    for make in BAD_TOKENS.values():
        answer = await listed.request(path, token=make())
        answer.error(401)
        join = "&" if "?" in path else "?"
        (await listed.request(f"{path}{join}token={make()}")).error(401)
    assert (await listed.request(path, token=token())).status == 200
    assert (await listed.request(path, headers={"Authorization": f"bearer {token()}"})).status == 200
    assert (await listed.request(f"{path}{join}token={token()}")).status == 200
    # The header is found first.
    (await listed.request(f"{path}{join}token={token()}", token="bad")).error(401)
    assert (await listed.request(f"{path}{join}token=bad", token=token())).status == 200


@pytest.mark.parametrize("races", [["other"], []])
async def test_a_race_that_the_token_may_not_see(listed: Place, races: list[str]) -> None:
    for what in ("positions", "history", "export?format=jsonl"):
        (await listed.request(f"/api/races/R1/{what}", token=token(races))).error(403)
    (await listed.request("/api/rejections", token=token(races))).error(403)
    assert (await listed.request("/api/races", token=token(races))).json == {"races": []}


async def test_races(listed: Place) -> None:
    mine, other, hidden, start = listed.race(), listed.race(), listed.race(), now_ms()
    await listed.stored(
        fix(mine, "P1", start - 5), fix(mine, "P2", start - 9), fix(other, "P1", start), fix(hidden, "P1", start + 5)
    )
    assert await ask(listed, "/api/races", [mine, other]) == {
        "races": [
            {"raceId": other, "participants": 1, "lastTimestamp": iso(start)},
            {"raceId": mine, "participants": 2, "lastTimestamp": iso(start - 5)},
        ]
    }
    everything = (await ask(listed, "/api/races"))["races"]
    assert [race["raceId"] for race in everything[:3]] == [hidden, other, mine]


async def test_an_unknown_race_is_200_and_empty(listed: Place) -> None:
    race = listed.race()
    positions = await ask(listed, f"/api/races/{race}/positions")
    assert positions["raceId"] == race
    assert positions["positions"] == []
    assert await ask(listed, f"/api/races/{race}/history") == {"positions": [], "nextCursor": None}
    for form in ("jsonl", "csv", "geojson", "gpx"):
        answer = await listed.request(f"/api/races/{race}/export?format={form}", token=token())
        assert answer.status == 200
    assert race not in str(await ask(listed, "/api/races"))


async def test_positions_are_as_in_a_snapshot(listed: Place) -> None:
    race, start = listed.race(), now_ms()
    await listed.stored(*[fix(race, f"P{i}", start + k, latitude=k) for i in range(3) for k in range(1, 3)])
    found = await ask(listed, f"/api/races/{race}/positions", [race])
    assert set(found) == {"raceId", "positions", "serverTime"}
    assert all(set(position) == POSITION for position in found["positions"])
    live = {position["participantId"]: position["latitude"] for position in found["positions"]}
    assert live == {"P0": 2, "P1": 2, "P2": 2}
    async with listed.dashboard() as board:
        assert await board.subscribe(race) == found["positions"]


async def test_history(listed: Place) -> None:
    race, start = listed.race(), now_ms() - 100_000
    fixes = [fix(race, f"P{i % 2}", start + i // 4 * 1000, latitude=i) for i in range(20)]
    await listed.stored(*fixes[::-1])
    path = f"/api/races/{race}/history"
    whole: list[Json] = []
    cursor = ""
    while True:
        page = await ask(listed, f"{path}?limit=3{f'&cursor={quote(cursor)}' if cursor else ''}")
        assert set(page) == {"positions", "nextCursor"}
        whole += page["positions"]
        if page["nextCursor"] is None:
            break
        assert len(page["positions"]) == 3
        cursor = page["nextCursor"]
    assert whole == (await ask(listed, path))["positions"]
    assert [position["timestamp"] for position in whole] == [one["timestamp"] for one in fixes]
    assert sorted(position["latitude"] for position in whole) == list(range(20))
    assert not any(position["stale"] for position in whole)
    query = f"participantId=P1&from={quote(iso(start + 1000))}&to={quote(iso(start + 3000))}&limit=10000"
    assert sorted(p["latitude"] for p in (await ask(listed, f"{path}?{query}"))["positions"]) == [5, 7, 9, 11]
    assert len((await ask(listed, f"{path}?limit=1"))["positions"]) == 1


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=10001", "limit=-1", "limit=x", "limit=1.5", "limit=%C2%B2", "from=yesterday", "to=2025-07-01",
        "from=1751357730", "cursor=rubbish", "participantId=a%20b", "participantId=%FF", f"participantId={'x' * 51}",
    ],
)  # fmt: skip
async def test_wrong_parameters_are_400(listed: Place, query: str) -> None:
    assert (await listed.request(f"/api/races/R1/history?{query}", token=token())).error(400) == "bad_request"
    if not query.startswith(("limit", "cursor")):
        (await listed.request(f"/api/races/R1/export?format=csv&{query}", token=token())).error(400)


@pytest.mark.parametrize("race", ["Rénnen@2026", "سباق.٢٠٢٦", "a.b_c-d@e", "x" * 50])
async def test_race_ids_that_need_escaping(listed: Place, race: str) -> None:
    await listed.stored(fix(race, "Zoë", now_ms()))
    path = f"/api/races/{quote(race, safe='')}"
    for what in ("positions", "history", f"history?participantId={quote('Zoë')}"):
        (position,) = (await ask(listed, f"{path}/{what}", [race]))["positions"]
        assert (position["raceId"], position["participantId"]) == (race, "Zoë")
    (await listed.request(f"{path}/positions", token=token(["other"]))).error(403)
    answer = await listed.request(f"{path}/export?format=csv", token=token([race]))
    disposition = answer.headers["content-disposition"]
    assert f"{quote(race, safe='')}.csv" in disposition if not race.isascii() else f'"{race}.csv"' in disposition
    # The same name with its accents apart is the same race.
    if race.startswith("R"):
        apart = quote("Re\u0301nnen@2026")
        assert len((await ask(listed, f"/api/races/{apart}/positions", ["Re\u0301nnen@2026"]))["positions"]) == 1


async def test_exports(listed: Place) -> None:
    race, start = listed.race(), now_ms() - 100_000
    fixes = [fix(race, f"P{i % 3}", start + i * 1000, latitude=i + 0.1234567) for i in range(30)]
    await listed.stored(*fixes)

    async def export(form: str, query: str = "") -> str:
        answer = await listed.request(f"/api/races/{race}/export?format={form}{query}", token=token([race]))
        assert answer.status == 200
        assert answer.headers["content-disposition"] == f'attachment; filename="{race}.{form}"'
        return answer.body.decode()

    assert [json.loads(line) for line in (await export("jsonl")).splitlines()] == fixes
    between = f"&participantId=P1&from={iso(start + 4000)}&to={iso(start + 10_000)}"
    assert [json.loads(line) for line in (await export("jsonl", between)).splitlines()] == [fixes[4], fixes[7]]
    rows = list(csv.DictReader(io.StringIO(await export("csv"))))
    assert len(rows) == 30
    assert rows[0].keys() >= {"participant_id", "race_id", "latitude", "longitude", "timestamp", "status"}
    assert [float(row["latitude"]) for row in rows] == [one["latitude"] for one in fixes]
    collection = json.loads(await export("geojson"))
    assert collection["type"] == "FeatureCollection"
    assert [len(feature["geometry"]["coordinates"]) for feature in collection["features"]] == [10] * 3
    assert collection["features"][0]["geometry"]["coordinates"][0] == [112.6145, 0.1234567]
    gpx = gpxpy.parse(await export("gpx"))
    assert sorted(track.name or "" for track in gpx.tracks) == ["P0", "P1", "P2"]
    assert [track.get_points_no() for track in gpx.tracks] == [10] * 3
    (await listed.request(f"/api/races/{race}/export?format=xml", token=token())).error(400)


async def test_rejections(listed: Place) -> None:
    who = listed.race()
    await listed.publish({"participant_id": who, "race_id": "R1"})
    with trio.fail_after(30):
        while who not in str(found := await ask(listed, "/api/rejections")):
            await trio.sleep(0.05)
    assert list(found) == ["rejections"]
    newest = found["rejections"][0]
    assert newest["code"] == "missing_field"
    assert newest["topic"] == f"{listed.topic}/x/position"
    times = [row["receivedAt"] for row in found["rejections"]]
    assert times == sorted(times, reverse=True)
