"""CONTRACT section 6, and 'Ports' and 'auth = off' of section 2, as a stranger's dashboards find them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import random
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import jwt
import pytest
import trio
from trio_websocket import ConnectionClosed

from tests.live.certificate import CERTIFICATE
from tests.live.daemon import run_command, write_settings
from tests.live.outsider import (
    LISTED,
    SECRET,
    Client,
    Json,
    Place,
    World,
    fix,
    greatest,
    iso,
    now_ms,
    token,
    without_postgres,
)
from tests.live.outsider import world as world

pytestmark = pytest.mark.live

THRESHOLD_MS = 1500
SLOW_MS = 2500
POSITION = {"participantId", "raceId", "latitude", "longitude", "timestamp", "receivedAt", "status", "stale"}


@pytest.fixture(scope="module")
def usual(world: World) -> Place:
    """The defaults, but for one origin that may connect."""
    return world.start(ws={"cors_origin": LISTED})


@pytest.fixture(scope="module")
def quick(world: World) -> Place:
    """Two ports, any origin, no window, everything soon."""
    return world.start(
        two_ports=True,
        app={"stale_data_threshold_ms": THRESHOLD_MS},
        ws={
            "batch_window_ms": 0,
            "max_requests_per_s": 5000,
            "max_message_bytes": 16384,
            "outbox_bytes": 65536,
            "send_timeout_ms": SLOW_MS,
        },
    )


@pytest.fixture(scope="module")
def tight(world: World) -> Place:
    """Small limits."""
    return world.start(ws={"max_connections": 3, "max_handshakes": 3, "handshake_timeout_s": 1, "heartbeat_s": 1})


@pytest.fixture(scope="module")
def certificate(world: World) -> Path:
    file = world.folder / "certificate.pem"
    file.write_text(CERTIFICATE)
    return file


@pytest.fixture(scope="module")
def tls(world: World, certificate: Path) -> Place:
    return world.start(tls=certificate, ws={"cors_origin": ""})


@pytest.fixture(scope="module")
def auth_off(world: World) -> Place:
    return world.start(ws={"auth": "off"})


def seen(position: Json) -> tuple[str, str, str]:
    """What tells two positions of these tests apart."""
    return position["participantId"], position["timestamp"], position["status"]


def sent(one: Json) -> tuple[str, str, str]:
    """The same of a fix."""
    return one["participant_id"], one["timestamp"], one["status"]


async def close_code(board: Client, events: list[str] | None = None) -> int | None:
    """Read to the end; `events` takes the names of what still came."""
    try:
        while True:
            message = await board.receive(20)
            if events is not None:
                events.append(message["event"])
    except ConnectionClosed as closed:
        return closed.reason.code if closed.reason else None


# --- tokens ---


def unsigned(**claims: object) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, {"exp": time.time() + 60, **claims})]
    return ".".join([base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts]) + "."


def signed_as(algorithm: str) -> str:
    """Signed with our secret by HMAC-SHA256, whatever the header says."""
    parts = [json.dumps(part).encode() for part in ({"alg": algorithm, "typ": "JWT"}, {"exp": time.time() + 60})]
    text = ".".join([base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts])
    mac = hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


BAD_TOKENS: dict[str, Callable[[], str]] = {
    "expired": lambda: token(ttl_s=-1),
    "no exp": lambda: jwt.encode({"races": ["R1"]}, SECRET, "HS256"),
    "exp is null": lambda: jwt.encode({"exp": None}, SECRET, "HS256"),
    "exp is a string": lambda: jwt.encode({"exp": "soon"}, SECRET, "HS256"),
    "wrong key": lambda: token(secret="another secret, which is long enough too"),
    "alg none": unsigned,
    "RS256": lambda: signed_as("RS256"),
    "HS512": lambda: jwt.encode({"exp": time.time() + 60}, SECRET * 2, "HS512"),
    "HS384 with our secret": lambda: jwt.encode({"exp": time.time() + 60}, SECRET + " " * 8, "HS384"),
    "races is a string": lambda: token("R1"),
    "races is an object": lambda: token({"R1": True}),
    "races is null": lambda: jwt.encode({"exp": time.time() + 60, "races": None}, SECRET, "HS256"),
    "races holds a number": lambda: token(["R1", 5]),
    "cut short": lambda: token()[:-3],
    "changed": lambda: token().replace(".", ".A", 1),
    "not three parts": lambda: "a.b",
    "garbage": lambda: "garbage",
    "the secret": lambda: "x" * 2000,
}


@pytest.mark.parametrize("kind", BAD_TOKENS)
async def test_a_bad_token_is_401_at_each_place(usual: Place, kind: str) -> None:
    bad = BAD_TOKENS[kind]()
    for answer in (
        await usual.handshake(headers={"Authorization": f"Bearer {bad}"}),
        await usual.handshake(protocols=f"tracking.v1, bearer.{bad}"),
        await usual.handshake(f"/tracking?token={bad}"),
    ):
        answer.error(401)
        assert bad not in answer.body.decode()


async def test_no_token_is_401(usual: Place) -> None:
    for target in ("/tracking", "/tracking?token=", "/tracking?other=1"):
        (await usual.handshake(target)).error(401)
    (await usual.handshake(protocols="tracking.v1")).error(401)


async def test_a_good_token_at_each_place(usual: Place) -> None:
    for ticket in (token(), token([]), token(["R1"])):
        answers = [
            await usual.handshake(headers={"Authorization": f"Bearer {ticket}"}),
            await usual.handshake(headers={"Authorization": f"bearer {ticket}"}),
            await usual.handshake(protocols=f"tracking.v1, bearer.{ticket}"),
            await usual.handshake(protocols=f"bearer.{ticket},tracking.v1"),
            await usual.handshake(f"/tracking?token={ticket}"),
            await usual.handshake(f"/tracking?a=b&token={ticket}"),
        ]
        assert [answer.status for answer in answers] == [101] * 6
        assert answers[0].headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        chosen = [answer.headers.get("sec-websocket-protocol") for answer in answers]
        assert chosen == [None, None, "tracking.v1", "tracking.v1", None, None]


async def test_the_first_token_found_is_the_one_that_counts(usual: Place) -> None:
    good, bad = token(), "bad"
    header = {"Authorization": f"Bearer {bad}"}
    (await usual.handshake(f"/tracking?token={good}", protocols=f"tracking.v1, bearer.{good}", headers=header)).error(
        401
    )
    (await usual.handshake(f"/tracking?token={good}", protocols=f"tracking.v1, bearer.{bad}")).error(401)
    header = {"Authorization": f"Bearer {good}"}
    answer = await usual.handshake(f"/tracking?token={bad}", protocols=f"tracking.v1, bearer.{bad}", headers=header)
    assert answer.status == 101
    assert (await usual.handshake(f"/tracking?token={bad}", protocols=f"tracking.v1, bearer.{good}")).status == 101
    # Another scheme holds no token.
    assert (await usual.handshake(f"/tracking?token={good}", headers={"Authorization": "Basic eDp5"})).status == 101


async def test_subprotocols(usual: Place) -> None:
    ticket = token()
    query = f"/tracking?token={ticket}"
    (await usual.handshake(protocols=f"bearer.{ticket}")).error(400)
    assert (await usual.handshake(query, protocols="tracking.v1")).headers["sec-websocket-protocol"] == "tracking.v1"
    unknown = await usual.handshake(query, protocols="chat")
    assert unknown.status == 101
    assert "sec-websocket-protocol" not in unknown.headers


async def test_a_token_that_expires_closes_with_4401(usual: Place) -> None:
    start = time.monotonic()
    async with usual.dashboard(access=token(ttl_s=1.5)) as board:
        assert await close_code(board) == 4401
    assert 0.5 < time.monotonic() - start < 3


# --- handshakes ---


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("", 101),
        ("http://127.0.0.1:{port}", 101),
        (LISTED, 101),
        ("https://two.example", 403),
        ("https://one.example.evil.example", 403),
        ("http://one.example", 403),
        ("https://one.example:8443", 403),
        ("http://127.0.0.1:1", 403),
        ("null", 403),
        ("nonsense", 403),
    ],
)
async def test_origins_of_a_list(usual: Place, origin: str, status: int) -> None:
    answer = await usual.handshake(f"/tracking?token={token()}", origin=origin.format(port=usual.port))
    assert answer.status == status
    if status == 403:
        answer.error(403)


@pytest.mark.parametrize("origin", ["", "null", "https://two.example"])
async def test_any_origin(quick: Place, origin: str) -> None:
    assert (await quick.handshake(f"/tracking?token={token()}", origin=origin)).status == 101


async def test_other_paths_are_404(usual: Place) -> None:
    for path in ("/", "/other", "/tracking/", "/Tracking", "/api/races", "/metrics", "/trackingx"):
        (await usual.handshake(f"{path}?token={token()}")).error(404)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Version": "-"}, 400),
        ({"Sec-WebSocket-Key": "-"}, 400),
        ({"Sec-WebSocket-Key": "short"}, 400),
        ({"Connection": "close", "Upgrade": "-"}, 426),
    ],
)
async def test_broken_handshakes(usual: Place, changed: dict[str, str], status: int) -> None:
    answer = await usual.handshake(f"/tracking?token={token()}", headers=changed)
    if status == 400 and changed == {"Sec-WebSocket-Version": "-"}:
        assert answer.status in (400, 426)  # RFC 6455 has both
    else:
        answer.error(status)
    if answer.status == 426:
        assert answer.headers["sec-websocket-version"] == "13"


async def test_two_ports_do_the_same(quick: Place) -> None:
    assert quick.port != quick.app_port
    for port in (quick.port, quick.app_port):
        assert (await quick.request("/healthz", port=port)).status == 200
        assert (await quick.request("/", port=port)).headers["content-type"].startswith("text/html")
        async with quick.dashboard(port=port) as board:
            assert await board.subscribe(quick.race()) == []


async def test_503_at_the_limit_of_dashboards_and_room_again_afterwards(tight: Place) -> None:
    await tight.until_metric("ws_connections", lambda value: value == 0)
    async with tight.dashboard(), tight.dashboard():
        async with tight.dashboard():
            answer = await tight.handshake(f"/tracking?token={token()}")
            answer.error(503)
            assert (await tight.request("/readyz")).status == 200
        await tight.until_metric("ws_connections", lambda value: value == 2)
        async with tight.dashboard() as board:
            assert await board.subscribe("nothing") == []


async def test_503_at_the_limit_of_handshakes_and_the_slow_ones_are_ended(tight: Place) -> None:
    await tight.until_metric("ws_connections", lambda value: value == 0)
    idle = [await tight.open() for _ in range(3)]
    await idle[0].send_all(b"GET /tracking HTTP/1.1\r\nHost: a\r\n")
    with trio.fail_after(5):
        while (await tight.handshake(f"/tracking?token={token()}")).status != 503:
            await trio.sleep(0.02)  # until it has accepted the three
        for stream in idle:
            while await stream.receive_some():
                pass
            await stream.aclose()
    assert (await tight.handshake(f"/tracking?token={token()}")).status == 101


# --- TLS, auth = off ---


async def test_tls_for_page_api_and_dashboard(tls: Place) -> None:
    assert (await tls.request("/")).status == 200
    assert (await tls.request("/api/races", token=token())).json == {"races": []}
    target = f"/tracking?token={token()}"
    assert (await tls.handshake(target, origin=f"https://127.0.0.1:{tls.port}")).status == 101
    (await tls.handshake(target, origin=LISTED)).error(403)
    (await tls.handshake()).error(401)
    race = tls.race()
    async with tls.dashboard() as board:
        assert await board.subscribe(race) == []
        await tls.publish([fix(race, f"P{i}", now_ms()) for i in range(500)])
        told = 0
        while told < 500:  # in one window, or in two
            batch = await board.receive()
            assert batch["event"] == "batch_position_update"
            told += len(batch["data"]["positions"])
        assert told == 500
        assert len(await board.subscribe(race)) == 500


async def test_plain_text_to_a_tls_port_ends_only_itself(tls: Place) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", tls.port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with trio.fail_after(10):
            try:
                while await stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass  # a reset is an end too
    assert (await tls.request("/healthz")).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "localhost", "[::1]:{port}", "127.8.8.8"])
async def test_without_auth_this_machine_needs_no_token(auth_off: Place, host: str) -> None:
    headers = {"Host": host.format(port=auth_off.port)}
    assert (await auth_off.handshake(headers=headers)).status == 101
    assert (await auth_off.handshake(headers=headers, origin="http://localhost:8080")).status == 101
    assert (await auth_off.request("/api/races", headers=headers)).json == {"races": []}
    assert (await auth_off.request("/api/rejections", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("evil.example", ""),
        ("127.0.0.1.evil.example", ""),
        ("localhost.evil.example", ""),
        ("192.168.1.5", ""),
        ("localhost", "http://evil.example"),
        ("localhost", "http://localhost.evil.example"),
        ("localhost", "null"),
        ("evil.example", "http://localhost"),
    ],
)
async def test_without_auth_nobody_else(auth_off: Place, host: str, origin: str) -> None:
    (await auth_off.handshake(headers={"Host": host}, origin=origin)).error(403)
    headers = {"Host": host, **({"Origin": origin} if origin else {})}
    for path in ("/", "/healthz", "/api/races", "/metrics", "/nothing"):
        (await auth_off.request(path, headers=headers)).error(403)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])
async def test_auth_off_is_refused_beyond_loopback(tmp_path: Path, host: str) -> None:
    done = await run_command(write_settings(tmp_path, {"ws": {"auth": "off", "host": host}}), check=False)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("settings.ini [ws] auth: value 'off': ")


# --- requests ---


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
        assert await close_code(board) == 1009
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
        assert await close_code(board) == 1009


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
        closed: list[int] = []
        start = time.monotonic()

        async def read() -> None:
            try:
                while True:
                    message = await board.receive()
                    codes.append(message["data"].get("code", message["event"]))
            except ConnectionClosed as end:
                closed.append(end.reason.code if end.reason else 0)
                nursery.cancel_scope.cancel()

        nursery.start_soon(read)
        with trio.move_on_after(8):
            while not closed:
                for _ in range(10):
                    try:
                        await board.say("list_races")
                    except ConnectionClosed:
                        await trio.sleep_forever()  # the reader knows
                await trio.sleep(0.05)
    assert closed == [1008]
    assert 3 <= time.monotonic() - start < 6
    assert set(codes) == {"races", "rate_limited"}
    assert codes.count("races") <= 50 * 6


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


# --- snapshot and stream ---


async def test_a_race_without_fixes_is_an_empty_snapshot(usual: Place) -> None:
    race = usual.race()
    async with usual.dashboard() as board:
        before = now_ms()
        snapshot = await board.data("subscribe_race", {"raceId": race}, reply="race_snapshot")
        assert set(snapshot) == {"raceId", "positions", "serverTime"}
        assert snapshot["raceId"] == race
        assert snapshot["positions"] == []
        assert iso(before) <= snapshot["serverTime"] <= iso(now_ms())


async def test_one_change_is_a_position_update_and_more_are_a_batch(usual: Place) -> None:
    race, start = usual.race(), now_ms()
    async with usual.dashboard() as board:
        assert await board.subscribe(race) == []
        await usual.publish(fix(race, "P1", start, latitude=-7.94561239))
        update = await board.receive()
        assert set(update) == {"event", "data"}
        assert update["event"] == "position_update"
        received = update["data"].pop("receivedAt")
        assert iso(start) <= received <= iso(now_ms())
        assert update["data"] == {
            "participantId": "P1",
            "raceId": race,
            "latitude": -7.9456124,
            "longitude": 112.6145,
            "timestamp": iso(start),
            "status": "moving",
            "stale": False,
        }
        several = [fix(race, who, start + i) for i, who in enumerate(("P1", "P2", "P1", "P1"), 1)]
        await usual.publish(several)
        batch = await board.receive()
        assert batch["event"] == "batch_position_update"
        assert set(batch["data"]) == {"raceId", "positions"}
        assert batch["data"]["raceId"] == race
        assert [seen(position) for position in batch["data"]["positions"]] == [sent(one) for one in several]
        assert all(set(position) == POSITION for position in batch["data"]["positions"])
        # An array of one change and what is no change: one update.
        await usual.publish([several[0], fix(race, "P2", start + 10), several[1]])
        update = await board.receive()
        assert (update["event"], seen(update["data"])) == ("position_update", ("P2", iso(start + 10), "moving"))
        await board.silent()


async def test_without_a_window_each_change_goes_out_alone(quick: Place) -> None:
    race, start = quick.race(), now_ms()
    several = [fix(race, who, start + i) for i, who in enumerate(("P1", "P2", "P1"))]
    async with quick.dashboard() as board:
        assert await board.subscribe(race) == []
        await quick.publish(several)
        updates = [await board.receive() for _ in several]
    assert [update["event"] for update in updates] == ["position_update"] * 3
    assert [seen(update["data"]) for update in updates] == [sent(one) for one in several]


async def test_only_greater_fixes_are_changes(usual: Place) -> None:
    """By timestamp, then status; the rest goes to history only."""
    race, start = usual.race(), now_ms()
    fixes = [
        fix(race, "P1", start, "stopped"),
        fix(race, "P1", start, "moving"),
        fix(race, "P1", start - 1, "disqualified"),
        fix(race, "P1", start, "finished"),
        fix(race, "P1", start, "stopped"),
        fix(race, "P1", start + 1, "moving"),
    ]
    changes, _ = greatest(fixes)
    assert len(changes) == 3
    async with usual.dashboard() as board:
        assert await board.subscribe(race) == []
        await usual.publish(*fixes)
        got: list[Json] = []
        while len(got) < 3:
            message = await board.receive()
            got += message["data"].get("positions", [message["data"]])
        assert [seen(position) for position in got] == [sent(one) for one in changes]
        await board.silent()
        with trio.fail_after(5):
            while len((await board.data("get_history", {"raceId": race}, reply="history"))["positions"]) < 5:
                await trio.sleep(0.05)  # one of the six was there before


async def test_of_equals_the_greater_id_is_live(usual: Place) -> None:
    """Whatever arrives first."""
    one, other, start = usual.race(), usual.race(), now_ms()
    places = [10 + i / 1000 for i in range(20)]
    await usual.stored(
        *(fix(one, "P1", start, latitude=place) for place in places),
        *(fix(other, "P1", start, latitude=place) for place in places[::-1]),
    )
    async with usual.dashboard() as board:
        history = await board.data("get_history", {"raceId": one}, reply="history")
        live = await board.subscribe(one)
        again = await board.data("get_history", {"raceId": other}, reply="history")
        live_again = await board.subscribe(other)
    # History of equal times is in the order of the ids.
    assert live[0]["latitude"] == history["positions"][-1]["latitude"]
    assert live_again[0]["latitude"] == again["positions"][-1]["latitude"]


async def test_subscribe_twice_is_a_new_snapshot_and_still_one_stream(usual: Place) -> None:
    race, start = usual.race(), now_ms()
    async with usual.dashboard() as board:
        assert await board.subscribe(race) == []
        await usual.publish(fix(race, "P1", start))
        await board.receive()
        for _ in range(2):
            assert [seen(position) for position in await board.subscribe(race)] == [("P1", iso(start), "moving")]
        await usual.publish(fix(race, "P1", start + 1))
        assert seen((await board.receive())["data"]) == ("P1", iso(start + 1), "moving")
        await board.silent()


async def test_nothing_comes_after_unsubscribing(usual: Place) -> None:
    race, other, start = usual.race(), usual.race(), now_ms()
    async with usual.dashboard() as board:
        await board.subscribe(race)
        await board.subscribe(other)
        await usual.publish([fix(race, f"P{i}", start) for i in range(100)])
        await board.say("unsubscribe_race", {"raceId": race}, id="bye")
        while (answer := await board.receive())["event"] != "race_unsubscribed":
            assert answer["event"] == "batch_position_update"
        assert answer == {"event": "race_unsubscribed", "data": {"raceId": race}, "id": "bye"}
        await usual.publish(fix(race, "P1", start + 1), fix(other, "P1", start + 1))
        update = await board.receive()
        assert update["data"]["raceId"] == other
        await board.silent()
        again = await board.ask("unsubscribe_race", {"raceId": race}, id=7)
        assert again == {"event": "race_unsubscribed", "data": {"raceId": race}, "id": 7}
        assert len(await board.subscribe(race)) == 100


async def follow(
    place: Place, race: str, after_s: float, last: Json, told: list[tuple[list[Json], list[Json]]]
) -> None:
    """Subscribe after a while; adds (snapshot, updates until the last change)."""
    await trio.sleep(after_s)
    async with place.dashboard() as board:
        positions = await board.subscribe(race)
        updates: list[Json] = []
        while sent(last) not in [seen(position) for position in (updates[-1:] or positions)]:
            message = await board.receive(30)
            if message["event"] == "participant_stale":
                continue
            assert message["event"] in ("position_update", "batch_position_update"), message["event"]
            more = message["data"].get("positions", [message["data"]])
            assert len(more) == 1 or message["event"] == "batch_position_update"
            updates += more
        told.append((positions, updates))


async def test_snapshot_and_stream_leave_no_gap_under_load(usual: Place) -> None:
    await many_join_under_load(usual)


async def test_snapshot_and_stream_leave_no_gap_under_load_without_a_window(quick: Place) -> None:
    await many_join_under_load(quick)


async def many_join_under_load(place: Place) -> None:
    race, start, dice = place.race(), now_ms(), random.Random(4)
    fixes: list[Json] = []
    clock = dict.fromkeys((f"P{i:02}" for i in range(50)), start)
    while len(fixes) < 4999:
        who = dice.choice(sorted(clock))
        clock[who] += dice.choice((-3, 0, 1, 1, 1))
        fixes.append(fix(race, who, clock[who], dice.choice(("moving", "stopped"))))
    fixes.append(fix(race, "P00", clock["P00"] + 1000, "finished"))
    changes, live = greatest(fixes)
    told: list[tuple[list[Json], list[Json]]] = []
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, place, race, 0, fixes[-1], told)
            for _ in range(10):
                nursery.start_soon(follow, place, race, dice.uniform(0.1, 1.5), fixes[-1], told)
            await trio.sleep(0.2)
            await place.publish(*fixes, pause_s=1.5)
    everything = [sent(one) for one in changes]
    assert len(told) == 11
    joined_under_way = 0
    for positions, updates in told:
        stream = [seen(position) for position in updates]
        assert stream == everything[len(everything) - len(stream) :]
        _, before = greatest(changes[: len(changes) - len(stream)])
        assert sorted(map(seen, positions)) == sorted(map(sent, before.values()))
        joined_under_way += 0 < len(stream) < len(everything)
    assert joined_under_way >= 5
    assert len(live) == 50


# --- stale ---


async def test_stale_is_told_once_and_snapshots_agree(quick: Place) -> None:
    race, start = quick.race(), now_ms()
    old = start - 60_000
    await quick.stored(
        fix(race, "old", old), fix(race, "done", old, "finished"), fix(race, "out", old, "disqualified"),
        fix(race, "moves", now_ms()), fix(race, "stands", now_ms(), "stopped"),
    )  # fmt: skip
    async with quick.dashboard() as early, quick.dashboard() as second:
        fresh = {"old": True, "done": False, "out": False, "moves": False, "stands": False}
        gone = fresh | {"moves": True, "stands": True}
        for board in (early, second):
            positions = await board.subscribe(race)
            assert {position["participantId"]: position["stale"] for position in positions} == fresh
        last = {position["participantId"]: position["timestamp"] for position in positions}
        for board in (early, second):
            events = [await board.receive() for _ in range(2)]
            assert {event["event"] for event in events} == {"participant_stale"}
            found = sorted((event["data"] for event in events), key=lambda data: data["participantId"])
            expected = [{"raceId": race, "participantId": p, "lastTimestamp": last[p]} for p in ("moves", "stands")]
            assert found == expected
        assert now_ms() - start >= THRESHOLD_MS
        await early.silent()
        async with quick.dashboard() as late:
            for board in (early, late):
                positions = await board.subscribe(race)
                assert {position["participantId"]: position["stale"] for position in positions} == gone
            answer = await quick.request(f"/api/races/{race}/positions", token=token())
            assert {position["participantId"]: position["stale"] for position in answer.json["positions"]} == gone
            await late.silent()
        history = await early.data("get_history", {"raceId": race}, reply="history")
        assert [position["stale"] for position in history["positions"]] == [False] * 5
        # Back, and gone again.
        again = now_ms()
        await quick.publish(fix(race, "moves", again))
        update = await early.receive()
        assert (update["event"], update["data"]["stale"]) == ("position_update", False)
        event = await early.receive()
        assert event["event"] == "participant_stale"
        assert event["data"] == {"raceId": race, "participantId": "moves", "lastTimestamp": iso(again)}
        # Late, and greater than what was live: stale already, so nothing is to be told but the change.
        await quick.publish(fix(race, "old", old + 1000))
        update = await early.receive()
        assert (update["event"], update["data"]["stale"]) == ("position_update", True)
        await early.silent()


# --- slow dashboards ---


async def test_one_that_never_reads_is_dropped_and_nobody_waits_for_it(quick: Place) -> None:
    race, crowd = quick.race(), quick.race()
    await quick.stored(*[fix(crowd, f"P{i}-{'x' * 40}", now_ms()) for i in range(500)])
    dropped = await quick.metric("ws_dropped_total", reason="slow")
    async with quick.dashboard(receive_bytes=4096) as slow, quick.dashboard() as quiet:
        await quiet.subscribe(race)
        for i in range(60):  # replies are never dropped: 8 MB, beyond what the kernel takes
            await slow.say("subscribe_race", {"raceId": crowd}, id=i)
        slowest, start = 0.0, time.monotonic()
        while await quick.metric("ws_dropped_total", reason="slow") == dropped:
            asked = time.monotonic()
            await quick.publish(fix(race, "P1", now_ms()))
            while (await quiet.receive())["event"] != "position_update":
                pass
            slowest = max(slowest, time.monotonic() - asked)
            assert time.monotonic() - start < 15
        assert time.monotonic() - start >= SLOW_MS / 1000
        assert slowest < 1
        assert await close_code(slow) in (None, 1006)  # no close frame


async def converge(board: Client, last: Json) -> tuple[dict[str, Json], list[str]]:
    """Read until this fix: (live positions, serverTime of the resyncs). Nothing may go back."""
    live: dict[str, Json] = {}
    resyncs: list[str] = []
    while live.get(last["participant_id"], {}).get("timestamp") != last["timestamp"]:
        message = await board.receive(15)
        data = message["data"]
        if message["event"] == "race_snapshot":
            assert set(data) == {"raceId", "positions", "serverTime", "resync"}
            assert data["resync"] is True
            assert "id" not in message
            resyncs.append(data["serverTime"])
            found = {position["participantId"]: position for position in data["positions"]}
            assert all(found[who]["timestamp"] >= held["timestamp"] for who, held in live.items())
            live = found
        elif message["event"] == "position_update":
            held = live.get(data["participantId"])
            assert held is None or held["timestamp"] < data["timestamp"]
            live[data["participantId"]] = data
    return live, resyncs


async def test_one_that_reads_late_is_resynced_and_ends_converged(quick: Place) -> None:
    race, start = quick.race(), now_ms()
    last = fix(race, "the-last", start + 10_000, "finished")
    async with quick.dashboard(receive_bytes=4096) as late:
        await late.subscribe(race)
        resyncs_before = await quick.metric("ws_resyncs_total")
        # Far more than the kernel holds for one connection; it waits for less than send_timeout_ms.
        taken = await quick.metric("fixes_received_total")
        await quick.publish(*[crowd(race, start + i) for i in range(12)], last)
        await quick.until_metric("fixes_received_total", lambda value: value >= taken + 12 * 900 + 1)
        live, resyncs = await converge(late, last)
        assert resyncs
        times = [datetime.fromisoformat(text) for text in resyncs]
        assert all(after - before > timedelta(seconds=4.9) for before, after in itertools.pairwise(times))
        assert await quick.metric("ws_resyncs_total") >= resyncs_before + len(resyncs)
        async with quick.dashboard() as fresh:
            expected = await fresh.subscribe(race)
        assert sorted(map(seen, live.values())) == sorted(map(seen, expected))
        assert len(expected) == 901
        # And it goes on as ever.
        again = fix(race, "the-last", start + 20_000, "finished")
        await quick.publish(again)
        while (message := await late.receive())["event"] == "participant_stale":
            pass
        assert (message["event"], seen(message["data"])) == ("position_update", sent(again))


def crowd(race: str, when_ms: int) -> list[Json]:
    return [fix(race, f"P{k}-{'x' * 40}", when_ms) for k in range(900)]


# --- heartbeat ---


async def test_no_pong_for_two_heartbeats_is_dropped_without_a_close_frame(tight: Place) -> None:
    await tight.until_metric("ws_connections", lambda value: value == 0)
    dropped = await tight.metric("ws_dropped_total")
    async with tight.dashboard() as answering, trio.open_nursery() as nursery:

        async def answer() -> None:
            await answering.socket.get_message()  # the library answers pings while somebody reads

        nursery.start_soon(answer)
        deaf = await tight.open()
        lines = ["Host: a", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
        await deaf.send_all("\r\n".join([f"GET /tracking?token={token()} HTTP/1.1", *lines, "", ""]).encode())
        start = time.monotonic()
        received = b""
        with trio.fail_after(10):
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
        assert 1.5 < lasted < 5
        nursery.cancel_scope.cancel()
    assert await tight.metric("ws_dropped_total") == dropped + 1


# --- list_races, get_history ---


async def test_list_races_newest_first(usual: Place) -> None:
    races, start = [usual.race() for _ in range(4)], now_ms()
    order = [races[2], races[0], races[3], races[1]]
    fixes = []
    for age, race in enumerate(order):
        fixes += [fix(race, f"P{i}", start - age * 1000 - i) for i in range(age + 1)]
    await usual.stored(*fixes)
    async with usual.dashboard(races) as board:
        listed = await board.data("list_races", reply="races")
        assert listed == {
            "races": [
                {"raceId": race, "participants": age + 1, "lastTimestamp": iso(start - age * 1000)}
                for age, race in enumerate(order)
            ]
        }
    async with usual.dashboard() as board:
        everything = (await board.data("list_races", reply="races"))["races"]
        assert {race["raceId"] for race in everything} >= set(races)
        assert [race["lastTimestamp"] for race in everything] == sorted(
            (race["lastTimestamp"] for race in everything), reverse=True
        )


async def page_through(board: Client, race: str, **query: object) -> list[list[Json]]:
    """All pages."""
    pages, cursor = [], None
    while True:
        asked = {"raceId": race, **query, **({"cursor": cursor} if cursor else {})}
        answer = await board.data("get_history", asked, reply="history")
        assert set(answer) == {"positions", "nextCursor"}
        pages.append(answer["positions"])
        cursor = answer["nextCursor"]
        if cursor is None:
            return pages
        assert isinstance(cursor, str)
        assert len(pages) < 100


async def test_history_page_by_page_over_equal_times(quick: Place) -> None:
    race, start = quick.race(), now_ms() - 100_000
    fixes = [fix(race, f"P{i % 3}", start + (i // 12) * 1000, latitude=i / 10) for i in range(48)]
    await quick.stored(*random.Random(1).sample(fixes, len(fixes)))
    async with quick.dashboard([race]) as board:
        for limit in (1, 5, 12, 47, 48, 49, 10_000):
            pages = await page_through(board, race, limit=limit)
            whole = [position for page in pages for position in page]
            assert all(len(page) == limit for page in pages[:-1])
            assert all(set(position) == POSITION for position in whole)
            assert [position["timestamp"] for position in whole] == [one["timestamp"] for one in fixes]
            assert sorted(position["latitude"] for position in whole) == [one["latitude"] for one in fixes]
        assert len(await page_through(board, race)) == 1
        one = [position for page in await page_through(board, race, participantId="P1", limit=7) for position in page]
        assert [position["participantId"] for position in one] == ["P1"] * 16
        assert sorted(p["latitude"] for p in one) == [f["latitude"] for f in fixes if f["participant_id"] == "P1"]
        between = {"from": iso(start + 1000), "to": iso(start + 3000)}
        some = [position for page in await page_through(board, race, limit=5, **between) for position in page]
        assert [position["timestamp"] for position in some] == [one["timestamp"] for one in fixes[12:36]]
        assert await page_through(board, race, **{"from": iso(start), "to": iso(start)}) == [[]]
        assert await page_through(board, race, participantId="nobody") == [[]]
    async with quick.dashboard() as board:
        assert await page_through(board, quick.race()) == [[]]


LIMITS: tuple[object, ...] = (0, -1, 10_001, 1.5, "5", True, [], 10**30)
MOMENTS: tuple[object, ...] = (5, "", "yesterday", "2025-07-01", "2025-07-01T08:15:30", [], True)
CURSORS: tuple[object, ...] = ("", "garbage", "AAAA", 5, [], "x" * 1000, "\u0000")
IDS: tuple[object, ...] = (5, "", "a b", [], "x" * 51)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"limit": limit} for limit in LIMITS),
        *({"from": moment} for moment in MOMENTS),
        {"to": "2025-02-30T00:00:00Z"},
        *({"cursor": cursor} for cursor in CURSORS),
        *({"participantId": who} for who in IDS),
    ],
)
async def test_history_with_wrong_parameters(usual: Place, wrong: Json) -> None:
    async with usual.dashboard() as board:
        message = {"event": "get_history", "data": {"raceId": "R1", **wrong}, "id": "h"}
        assert await board.refused(message) == ("bad_request", "h")
        await board.silent()


async def test_unavailable_while_postgres_is_away_and_live_goes_on(quick: Place) -> None:
    race, start = quick.race(), now_ms()
    async with quick.dashboard() as board:
        await quick.stored(fix(race, "P1", start))
        assert len(await board.subscribe(race)) == 1
        async with without_postgres(quick):
            for event in ("get_history", "list_races"):
                assert await board.refused({"event": event, "data": {"raceId": race}, "id": 1}) == ("unavailable", 1)
            for path in ("/api/races", f"/api/races/{race}/history", f"/api/races/{race}/export?format=csv"):
                (await quick.request(path, token=token())).error(503)
            (await quick.request("/api/rejections", token=token())).error(503)
            await quick.publish(fix(race, "P1", now_ms()))
            while (message := await board.receive())["event"] == "participant_stale":
                pass
            assert message["event"] == "position_update"
            assert len(await board.subscribe(race)) == 1
            assert (await quick.request(f"/api/races/{race}/positions", token=token())).status == 200
            assert (await quick.request("/readyz")).status == 200
            components = (await quick.request("/readyz/ingest")).json
            assert "postgres" in json.dumps(components)
        with trio.fail_after(20):
            while True:
                answer = await board.ask("get_history", {"raceId": race}, id=2)
                if answer["event"] == "history" and len(answer["data"]["positions"]) == 2:
                    break
                await trio.sleep(0.05)


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


# --- the end ---


def test_1001_when_the_daemon_stops(world: World) -> None:
    """A daemon of its own, because it ends. What is in the window still comes."""
    place = world.start(ws={"batch_window_ms": 60_000})
    race = place.race()

    async def watch() -> tuple[list[str], int | None, int | None]:
        events: list[str] = []
        async with place.dashboard() as board, place.dashboard() as idle:
            await board.subscribe(race)
            await place.stored(fix(race, "P1", now_ms()))
            place.process.send_signal(signal.SIGTERM)
            code = await close_code(board, events)
            return events, code, await close_code(idle)

    assert trio.run(watch) == (["position_update"], 1001, 1001)
    assert place.process.wait(20) == 0
