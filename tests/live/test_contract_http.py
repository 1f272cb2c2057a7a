"""CONTRACT section 7, and the names of section 8, as a stranger's clients find them in a running daemon."""

from __future__ import annotations

import csv
import io
import json
import re
from urllib.parse import quote

import gpxpy
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.live.outsider import LISTED, Json, Place, World, fix, iso, now_ms, token
from tests.live.outsider import world as world
from tests.live.test_contract_websocket import BAD_TOKENS, POSITION

pytestmark = pytest.mark.live

COMPONENTS = {"broker", "postgres", "redis", "spool", "websocket"}
API = (
    "/api/races",
    "/api/races/R1/positions",
    "/api/races/R1/history",
    "/api/races/R1/export?format=csv",
    "/api/rejections",
)
PROBES = ("/healthz", "/readyz", "/readyz/ingest", "/metrics")


@pytest.fixture(scope="module")
def listed(world: World) -> Place:
    """Pages of one other origin may call, with credentials."""
    return world.start(ws={"cors_origin": LISTED, "cors_credentials": "yes"})


@pytest.fixture(scope="module")
def anyone(world: World) -> Place:
    """Pages of any origin may call; credentials are asked for, and must never be allowed."""
    return world.start(ws={"cors_origin": "*", "cors_credentials": "yes", "path": "/live/feed"})


async def ask(place: Place, target: str, races: object = None) -> Json:
    """The JSON of a 200."""
    answer = await place.request(target, token=token(races))
    assert answer.status == 200, answer
    found: Json = answer.json
    return found


# --- probes and metrics ---


@pytest.mark.parametrize("path", PROBES)
async def test_probes_need_no_token(listed: Place, path: str) -> None:
    assert (await listed.request(path)).status == 200


@pytest.mark.parametrize("path", ["/readyz", "/readyz/ingest"])
async def test_readiness_names_each_component(listed: Place, path: str) -> None:
    text = json.dumps((await listed.request(path)).json)
    assert {name for name in COMPONENTS if f'"{name}"' in text} == COMPONENTS


async def test_without_its_broker_dashboards_are_served_and_no_fixes_taken(listed: Place) -> None:
    listed.broker.stop()
    try:
        with trio.fail_after(10):
            while (await listed.request("/readyz/ingest")).status != 503:
                await trio.sleep(0.05)
        assert (await listed.request("/readyz")).status == 200
        assert (await listed.request("/healthz")).status == 200
        assert await listed.metric("component_up", component="broker") == 0
        assert await listed.metric("component_up", component="websocket") == 1
    finally:
        await trio.to_thread.run_sync(listed.broker.start)
    with trio.fail_after(30):
        while (await listed.request("/readyz/ingest")).status != 200:
            await trio.sleep(0.05)


async def test_all_metrics_are_there(listed: Place) -> None:
    await listed.stored(fix(listed.race(), "P1", now_ms()))
    await listed.publish("no object", {})
    await listed.until_metric("fixes_rejected_total", lambda value: value >= 2)
    answer = await listed.request("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    kinds = {
        "counter": [
            "messages_received", "acks", "fixes_late", "fixes_rejected", "mqtt_session_lost", "actor_restarts",
            "ws_frames", "ws_resyncs", "ws_dropped",
            "fixes_received", "fixes_recovered", "fixes_committed", "fixes_duplicate",
        ],
        "gauge": [
            "messages_unacked", "mailbox_depth", "ws_connections", "component_up", "fixes_spooled", "fixes_in_flight",
        ],
        "histogram": ["commit_seconds", "arrival_to_socket_seconds"],
    }  # fmt: skip
    for kind, names in kinds.items():
        for name in names:
            assert families[f"tracking_{name}"].type == kind, name
    samples = await listed.samples()
    for name in (
        "messages_received_total",
        "acks_total",
        "fixes_recovered_total",
        "ws_frames_total",
        "commit_seconds_count",
    ):
        assert (f"tracking_{name}", ()) in samples
    labels: dict[str, set[str]] = {}
    for name, having in samples:
        for label, value in having:
            labels.setdefault(f"{name}{{{label}}}", set()).add(value)
    assert labels["tracking_component_up{component}"] == COMPONENTS
    assert labels["tracking_fixes_rejected_total{code}"] >= {"bad_type", "missing_field"}
    assert {"reader", "race", "persistence"} <= labels["tracking_mailbox_depth{actor}"]
    assert "R-" not in answer.body.decode()  # never races
    assert await listed.metric("commit_seconds_count") >= 1


async def test_the_conservation_law(listed: Place) -> None:
    one = fix(listed.race(), "P1", now_ms())
    await listed.publish(one, one, [one, {"bad": 1}, one], "rubbish", [])
    await listed.until_metric("fixes_in_flight", lambda value: value == 0)
    samples = {name: value for (name, _), value in (await listed.samples()).items()}
    rejected = await listed.metric("fixes_rejected_total")
    came = samples["tracking_fixes_received_total"] + samples["tracking_fixes_recovered_total"]
    gone = sum(
        samples[f"tracking_fixes_{name}"] for name in ("committed_total", "duplicate_total", "spooled", "in_flight")
    )
    assert came == gone + rejected
    assert came > 0


# --- who may ---


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


# --- shapes ---


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
    with trio.fail_after(10):
        while who not in str(found := await ask(listed, "/api/rejections")):
            await trio.sleep(0.05)
    assert list(found) == ["rejections"]
    newest = found["rejections"][0]
    assert newest["code"] == "missing_field"
    assert newest["topic"] == f"{listed.topic}/x/position"
    times = [row["receivedAt"] for row in found["rejections"]]
    assert times == sorted(times, reverse=True)


# --- HTTP itself ---


async def test_a_connection_takes_request_after_request(listed: Place) -> None:
    race = listed.race()
    await listed.stored(fix(race, "P1", now_ms()))
    async with await trio.open_tcp_stream("127.0.0.1", listed.port) as stream:
        for path in [f"/api/races/{race}/export?format={form}" for form in ("csv", "gpx", "jsonl")] + [
            *API,
            "/nothing",
        ]:
            lines = [f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token()}", "", ""]
            await stream.send_all("\r\n".join(lines).encode())
            received = b""
            with trio.fail_after(5):
                while not _complete(received):
                    received += await stream.receive_some()
            assert received.startswith(b"HTTP/1.1 404" if path == "/nothing" else b"HTTP/1.1 200")


def _complete(received: bytes) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    if length := re.search(rb"content-length: (\d+)", head.lower()):
        return len(body) == int(length[1])
    return bool(end) and body.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(
    "path", ["/nothing", "/api", "/api/", "/api/race", "/api/races/", "/api/races/R1", "/static/no.js", "/..", "/%00"]
)
async def test_what_is_not_there_is_404(listed: Place, path: str) -> None:
    assert (await listed.request(path, token=token())).error(404) == "not_found"


@pytest.mark.parametrize("path", ["/", *API, *PROBES])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_405(listed: Place, path: str, method: str) -> None:
    answer = await listed.request(path, method=method, token=token(), headers={"Content-Length": "0"})
    assert answer.error(405) == "method_not_allowed"
    assert {name.strip() for name in answer.headers["allow"].split(",")} >= {"GET", "HEAD"}


@pytest.mark.parametrize("path", ["/", *API, *PROBES, "/nothing"])
async def test_head_is_get_without_a_body(listed: Place, path: str) -> None:
    get = await listed.request(path, token=token())
    head = await listed.request(path, method="HEAD", token=token())
    assert head.body == b""
    assert head.status == get.status
    assert head.headers["content-type"] == get.headers["content-type"]
    assert (await listed.request(path, method="HEAD")).status == (401 if path.startswith("/api") else get.status)


async def test_a_plain_get_of_the_websocket_is_426(listed: Place, anyone: Place) -> None:
    answer = await listed.request("/tracking")
    answer.error(426)
    assert answer.headers["upgrade"] == "websocket"
    (await anyone.request("/live/feed")).error(426)
    (await anyone.request("/tracking")).error(404)


async def test_the_websocket_is_where_the_settings_say(anyone: Place) -> None:
    assert (await anyone.handshake(f"/live/feed?token={token()}")).status == 101
    (await anyone.handshake(f"/tracking?token={token()}")).error(404)
    assert b"/live/feed" in (await anyone.request("/")).body


# --- CORS ---


def cross(origin: str, **more: str) -> dict[str, str]:
    return {"Origin": origin, **{name.replace("_", "-"): value for name, value in more.items()}}


PREFLIGHT = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "authorization"}


@pytest.mark.parametrize("path", ["/api/races", "/healthz", "/nothing"])
async def test_a_listed_origin_may_read_also_errors(listed: Place, path: str) -> None:
    answer = await listed.request(path, headers=cross(LISTED))
    assert answer.headers["access-control-allow-origin"] == LISTED
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "origin" in answer.headers["vary"].lower()


@pytest.mark.parametrize(
    "origin", ["https://two.example", "null", "http://one.example", "https://one.example.evil.example"]
)
async def test_no_other_origin_may(listed: Place, origin: str) -> None:
    for method, more in (("GET", {}), ("OPTIONS", PREFLIGHT)):
        answer = await listed.request("/api/races", method=method, headers=cross(origin, **more), token=token())
        assert "access-control-allow-origin" not in answer.headers


async def test_preflight(listed: Place, anyone: Place) -> None:
    for place, origin, allowed in (
        (listed, LISTED, {LISTED}),
        (anyone, "https://two.example", {"*", "https://two.example"}),
    ):
        answer = await place.request("/api/races", method="OPTIONS", headers=cross(origin, **PREFLIGHT))
        assert answer.status in (200, 204)
        assert answer.headers["access-control-allow-origin"] in allowed
        assert "GET" in answer.headers["access-control-allow-methods"]
        assert "authorization" in answer.headers["access-control-allow-headers"].lower()


async def test_with_any_origin_credentials_are_never_allowed(anyone: Place) -> None:
    for origin in ("https://two.example", "null", f"http://127.0.0.1:{anyone.port}"):
        for path in ("/", "/api/races", "/nothing", "/readyz"):
            for method, more in (("GET", {}), ("HEAD", {}), ("OPTIONS", PREFLIGHT)):
                headers = cross(origin, Cookie="a=b", **more)
                answer = await anyone.request(path, method=method, headers=headers, token=token())
                assert "access-control-allow-credentials" not in answer.headers
                assert answer.headers["access-control-allow-origin"] in ("*", origin)


# --- the page ---


async def test_the_page_and_everything_it_needs(listed: Place) -> None:
    page = await listed.request("/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = dict(part.strip().partition(" ")[::2] for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] in ("'self'", "'none'")
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    text = page.body.decode()
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", text), "the policy forbids these"
    assert "://" not in text, "nothing from elsewhere"
    wanted = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert any(name.endswith(".js") for name in wanted)
    kinds = {
        "js": "text/javascript",
        "css": "text/css",
        "svg": "image/svg+xml",
        "html": "text/html",
        "png": "image/png",
    }
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen or name.startswith("#"):
            continue
        seen.add(name)
        asset = await listed.request(f"/{name.removeprefix('/')}")
        assert asset.status == 200, name
        assert asset.headers["content-type"].partition(";")[0] == kinds[name.rpartition(".")[2]]
        assert asset.headers["x-content-type-options"] == "nosniff"
        folder = name.rpartition("/")[0]
        imports = re.findall(r'(?:from|import)\s+"\./([^"]+)"', asset.body.decode()) if name.endswith(".js") else []
        wanted += [f"{folder}/{found}" for found in imports]
    assert len(seen) >= 3
