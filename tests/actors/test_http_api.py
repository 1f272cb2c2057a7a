"""The HTTP API as its clients see it, called as ASGI in memory: CONTRACT section 7."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import quote

import attrs
import pytest
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.types import Message

from actors.access import BadToken, Grant
from actors.core.fix import Fix
from actors.core.problem import Problem
from actors.core.queries import HistoryPage, HistoryQuery, RaceSummary, StoredRejection
from actors.core.wire import position_json
from actors.errors import StoreMisconfigured, StoreUnavailable
from actors.health import COMPONENTS, Health
from actors.http_api import MAX_EXPORTS, build_app
from actors.http_export import disposition
from actors.metrics import Metrics
from actors.settings import Settings
from tests.making import BASE_MS, make_fix

NOW_MS = BASE_MS + 5_000
BEARER = {"authorization": "Bearer all"}


@attrs.define
class FakeAccess:
    """Tokens `all` and `one` (race R1 only); `off` lets everybody in."""

    off: bool = False

    def verify(self, token: str | None, now_s: float) -> Grant:
        assert now_s == NOW_MS / 1000
        if self.off or token == "all":
            return Grant(races=None)
        if token == "one":
            return Grant(races=("R1",))
        raise BadToken("a token is needed")


@attrs.define
class ScriptedHistory:
    """Notes what it was asked, answers from fields, and can be told to fail."""

    fixes: list[Fix] = attrs.field(factory=list)
    next: tuple[int, bytes] | None = None
    trouble: Exception | None = None
    cut_after: int | None = None  # chunks of a stream before `trouble`
    asked: list[Any] = attrs.field(factory=list)
    open_streams: int = 0
    by_participant: bool | None = None  # of the last stream
    gate: trio.Event | None = None  # a stream waits for it before its second chunk

    async def newest(self, race_id: str, max_clock_skew_ms: int) -> list[Fix]:
        raise AssertionError("HTTP asks the directory for live positions")

    async def races(self, allowed: Sequence[str] | None = None, limit: int = 1000) -> list[RaceSummary]:
        self._note(allowed)
        return [RaceSummary("R1", 2, BASE_MS)]

    async def history(self, query: HistoryQuery) -> HistoryPage:
        self._note(query)
        return HistoryPage(tuple(self.fixes), self.next)

    @asynccontextmanager
    async def stream(
        self, query: HistoryQuery, by_participant: bool = False
    ) -> AsyncIterator[AsyncIterator[list[Fix]]]:
        self.asked.append(query)
        self.by_participant = by_participant
        if self.trouble is not None and self.cut_after is None:
            raise self.trouble
        self.open_streams += 1
        try:
            yield Chunks(self)
        finally:
            self.open_streams -= 1

    async def rejections(
        self, *, race_id: str | None = None, code: str | None = None, limit: int = 100
    ) -> list[StoredRejection]:
        self._note((race_id, code, limit))
        return [StoredRejection(bytes(16), BASE_MS, "tracking/x/position", b"\xff{", "bad_encoding", "not UTF-8")]

    def _note(self, question: object) -> None:
        self.asked.append(question)
        if self.trouble is not None:
            raise self.trouble


@attrs.define
class Chunks:
    """One fix a chunk."""

    history: ScriptedHistory
    sent: int = 0

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> list[Fix]:
        await trio.lowlevel.checkpoint()
        if self.history.trouble is not None and self.sent == self.history.cut_after:
            raise self.history.trouble
        if self.sent == len(self.history.fixes):
            raise StopAsyncIteration
        if self.sent == 1 and self.history.gate is not None:
            await self.history.gate.wait()
        self.sent += 1
        return [self.history.fixes[self.sent - 1]]


class FakeRaces:
    """R1 has two participants, joined in one item as the directory does."""

    async def positions(self, race_id: str) -> list[bytes]:
        if race_id != "R1":
            return []
        return [b",".join((position_json(make_fix("P1"), True), position_json(make_fix("P2"), False)))]


@attrs.frozen
class Answer:
    """A whole response."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool  # False: it ended without its last piece

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        error = self.json["error"]
        assert set(error) == {"code", "message"}
        assert error["message"]
        return str(error["code"])


@attrs.define
class Site:
    """The application with everything around it that a test may change."""

    settings: Settings = attrs.field(factory=Settings.default)
    access: FakeAccess = attrs.field(factory=FakeAccess)
    history: ScriptedHistory = attrs.field(factory=ScriptedHistory)
    metrics: Metrics = attrs.field(factory=Metrics)
    health: Health = attrs.field(init=False)
    _app: Starlette | None = None

    def __attrs_post_init__(self) -> None:
        self.health = Health(self.metrics)

    def with_ws(self, **values: Any) -> Site:
        self.settings = attrs.evolve(self.settings, ws=attrs.evolve(self.settings.ws, **values))
        return self

    @property
    def app(self) -> Starlette:
        if self._app is None:
            self._app = build_app(
                settings=self.settings,
                access=self.access,
                history=self.history,
                races_live=FakeRaces(),
                health=self.health,
                metrics=self.metrics,
                clock=lambda: NOW_MS,
            )
        return self._app

    async def get(self, target: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
        """One request; the client stays until the answer has ended."""
        sent: list[Message] = []
        await self.app(scope(target, headers, method), Incoming().receive, partial(note, sent))
        start, *pieces = sent
        names = [name for name, _ in start["headers"]]
        assert len(names) == len(set(names)), names
        return Answer(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(piece.get("body", b"") for piece in pieces),
            bool(pieces) and not pieces[-1].get("more_body", False),
        )


@attrs.define
class Incoming:
    """What an ASGI server gives: the body, then nothing until the client leaves."""

    body: list[bytes] = attrs.field(factory=lambda: [b""])
    left: trio.Event = attrs.field(factory=trio.Event)

    async def receive(self) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        if self.body:
            piece = self.body.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self.body)}
        await self.left.wait()
        return {"type": "http.disconnect"}


def scope(target: str, headers: dict[str, str] | None = None, method: str = "GET") -> dict[str, Any]:
    path, _, query = target.partition("?")
    lines = {"host": "127.0.0.1:3000", **(headers or {})}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.1"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": "never looked at",
        "raw_path": path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
        "client": None,
        "server": None,
    }


async def note(sent: list[Message], message: Message) -> None:
    await trio.lowlevel.checkpoint()
    sent.append(message)


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


API = ["/api/races", "/api/races/R1/positions", "/api/races/R1/history", "/api/races/R1/export", "/api/rejections"]


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
    for query in ("code=nonsense", "limit=0", "race=%20"):
        assert (await site.get(f"/api/rejections?{query}", BEARER)).error == "bad_request"


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
    assert head.headers == get.headers


# --- export ---


async def test_an_export_streams_and_is_named_after_the_race() -> None:
    site = Site()
    site.history.fixes = [make_fix("P1"), make_fix("P2"), make_fix("P3")]
    answer = await site.get("/api/races/R1/export?participantId=P1&from=2025-07-01T08:15:30Z&limit=x&cursor=y", BEARER)
    assert answer.whole
    assert answer.body.count(b"\n") == 3
    assert answer.headers["content-disposition"] == 'attachment; filename="R1.jsonl"'
    assert answer.headers["cache-control"] == "no-store"
    assert "content-length" not in answer.headers
    assert site.history.asked == [HistoryQuery("R1", "P1", BASE_MS)]
    assert site.history.open_streams == 0


@pytest.mark.parametrize("name", ["csv", "geojson", "gpx", "jsonl"])
async def test_every_format_has_its_extension(name: str) -> None:
    site = Site()
    site.history.fixes = [make_fix()]
    answer = await site.get(f"/api/races/R1/export?format={name}", BEARER)
    assert answer.headers["content-disposition"] == f'attachment; filename="R1.{name}"'
    assert b"P001" in answer.body
    assert site.history.by_participant is (name in ("geojson", "gpx"))


async def test_an_unknown_format_is_refused() -> None:
    answer = await Site().get("/api/races/R1/export?format=xlsx", BEARER)
    assert (answer.status, answer.error) == (400, "bad_request")


def test_names_beyond_ascii_are_given_twice() -> None:
    assert disposition("José@1.gpx") == "attachment; filename=\"Jos_@1.gpx\"; filename*=UTF-8''Jos%C3%A9%401.gpx"


async def test_an_export_that_breaks_in_the_middle_is_not_ended_well() -> None:
    site = Site()
    site.history.fixes = [make_fix("P1"), make_fix("P2")]
    site.history.trouble, site.history.cut_after = StoreUnavailable("gone"), 1
    answer = await site.get("/api/races/R1/export", BEARER)
    assert answer.status == 200
    assert b"P1" in answer.body
    assert not answer.whole
    assert site.history.open_streams == 0


async def test_an_export_ends_with_its_client() -> None:
    site = Site()
    site.history.fixes = [make_fix("P1"), make_fix("P2")]
    site.history.gate = trio.Event()
    incoming = Incoming()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        await note(sent, message)
        if b"P1" in message.get("body", b""):
            incoming.left.set()

    with trio.fail_after(5):
        await site.app(scope("/api/races/R1/export", BEARER), incoming.receive, send)
    assert site.history.open_streams == 0
    assert sent[-1]["more_body"] is True


async def test_exports_at_a_time_are_bounded() -> None:
    site = Site()
    site.history.fixes = [make_fix("P1"), make_fix("P2")]
    site.history.gate = trio.Event()
    answers: list[Answer] = []

    async def export() -> None:
        answers.append(await site.get("/api/races/R1/export", BEARER))

    async with trio.open_nursery() as nursery:
        for _ in range(MAX_EXPORTS):
            nursery.start_soon(export)
        while site.history.open_streams < MAX_EXPORTS:
            await trio.lowlevel.checkpoint()
        refused = await site.get("/api/races/R1/export", BEARER)
        assert (refused.status, refused.error) == (503, "unavailable")
        site.history.gate.set()
    assert [answer.status for answer in answers] == [200] * MAX_EXPORTS
    assert (await site.get("/api/races/R1/export", BEARER)).status == 200


# --- probes ---


async def test_health_and_readiness_name_each_component() -> None:
    site = Site()
    assert (await site.get("/healthz")).status == 200
    answer = await site.get("/readyz")
    assert answer.status == 503
    assert answer.json["ready"] is False
    assert set(answer.json["components"]) == set(COMPONENTS)
    assert answer.json["components"]["broker"] == {"up": False, "detail": "starting"}
    site.health.up("websocket")
    answer = await site.get("/readyz")
    assert (answer.status, answer.json["ready"]) == (200, True)
    assert answer.json["components"]["websocket"] == {"up": True, "detail": "ok"}


async def test_ingest_is_ready_with_broker_and_a_place_to_put_fixes() -> None:
    site = Site()

    async def status() -> int:
        return (await site.get("/readyz/ingest")).status

    assert await status() == 503
    site.health.up("broker")
    assert await status() == 503
    site.health.up("postgres")
    assert await status() == 200
    site.health.down("postgres", "away")
    assert await status() == 503
    site.health.up("spool", "12 fixes")
    assert await status() == 200
    site.health.down("broker", "away")
    assert await status() == 503


async def test_metrics_are_prometheus_text_without_a_token() -> None:
    site = Site()
    site.metrics.fixes_received.inc(3)
    answer = await site.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert b"tracking_fixes_received_total 3.0" in answer.body


# --- who may ask from where ---


async def test_any_origin_is_told_so_and_never_with_credentials() -> None:
    site = Site().with_ws(cors_origin=("*",), cors_credentials=True)
    for path in ("/api/races", "/api/nothing"):
        answer = await site.get(path, {**BEARER, "origin": "https://elsewhere.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


async def test_listed_origins_are_mirrored() -> None:
    site = Site().with_ws(cors_origin=("https://a.example", "https://b.example"), cors_credentials=True)
    answer = await site.get("/api/races", {**BEARER, "origin": "https://b.example"})
    assert answer.headers["access-control-allow-origin"] == "https://b.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "Origin" in answer.headers["vary"]
    other = await site.get("/api/races", {**BEARER, "origin": "https://c.example"})
    assert other.status == 200
    assert "access-control-allow-origin" not in other.headers
    assert "Origin" in other.headers["vary"]


async def test_a_preflight_is_answered() -> None:
    site = Site().with_ws(cors_origin=("https://a.example",))
    ask = {
        "origin": "https://a.example",
        "access-control-request-method": "GET",
        "access-control-request-headers": "authorization",
    }
    answer = await site.get("/api/races/R1/history", ask, "OPTIONS")
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD"
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    for change in ({"origin": "https://c.example"}, {"access-control-request-method": "DELETE"}):
        refused = await site.get("/api/races/R1/history", ask | change, "OPTIONS")
        assert (refused.status, refused.error) == (400, "bad_request")


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/api/races", "/nothing"])
async def test_with_auth_off_only_this_machine_is_answered(path: str) -> None:
    site = Site(access=FakeAccess(off=True)).with_ws(auth="off")
    assert (await site.get(path, {"origin": "http://localhost:3000"})).status in (200, 404)
    for headers in ({"host": "rebound.example"}, {"origin": "https://evil.example"}, {"host": "10.0.0.1:3000"}):
        answer = await site.get(path, headers)
        assert (answer.status, answer.error) == (403, "forbidden")


# --- the page ---


async def test_the_page_may_load_nothing_from_elsewhere() -> None:
    answer = await Site().with_ws(path='/live"x').get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'self'", "connect-src 'self'"} <= set(policy)
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert b'name="tracking-path" content="/live&quot;x"' in answer.body
    assert b'name="tracking-auth" content="token"' in answer.body
    assert b"{" not in answer.body
    assert b"<style" not in answer.body
    assert b"style=" not in answer.body


async def test_every_file_of_the_page_is_there_and_kept_by_browsers() -> None:
    site = Site()
    page = (await site.get("/")).body.decode()
    for name, media_type in (
        ("app.js", "text/javascript"),
        ("connection.js", "text/javascript"),
        ("table.js", "text/javascript"),
        ("style.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
    ):
        answer = await site.get(f"/static/{name}")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith(media_type)
        assert answer.headers["content-security-policy"]
        etag = answer.headers["etag"]
        again = await site.get(f"/static/{name}", {"if-none-match": f'"other", W/{etag}'})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
        assert (await site.get(f"/static/{name}", {"if-none-match": '"other"'})).status == 200
    assert page.count('="static/') == 3


# --- what does not get through ---


async def test_small_bodies_are_taken_and_large_ones_refused() -> None:
    site = Site()
    for pieces, status in (([b"x" * 4096], 200), ([b"x"] * 4096, 200), ([b"x" * 4097], 413), ([b"x"] * 4097, 413)):
        sent: list[Message] = []
        asked = scope("/healthz", {"transfer-encoding": "chunked"})
        await site.app(asked, Incoming(list(pieces)).receive, partial(note, sent))
        assert sent[0]["status"] == status


async def test_a_body_goes_on_being_taken_while_it_is_refused() -> None:
    """hypercorn's queue is short: its end of the answer waits behind the pieces that nobody takes."""
    incoming = Incoming([b"x" * 1000] * 100)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        while incoming.body:
            await trio.lowlevel.checkpoint()
        sent.append(message)

    with trio.fail_after(5):
        await Site().app(scope("/healthz", {"transfer-encoding": "chunked"}), incoming.receive, send)
    assert sent[0]["status"] == 413


async def test_a_body_that_does_not_come_is_not_waited_for_long(autojump_clock: trio.testing.MockClock) -> None:
    sent: list[Message] = []
    asked = scope("/healthz", {"content-length": "10"})
    await Site().app(asked, Incoming([]).receive, partial(note, sent))
    assert sent[0]["status"] == 413


@pytest.mark.parametrize(("path", "status"), [("/other", 404), ("/tracking", 503)])
async def test_a_websocket_that_comes_this_far_is_refused(path: str, status: int) -> None:
    sent: list[Message] = []
    asked = {**scope(path), "type": "websocket", "path": path, "extensions": {"websocket.http.response": {}}}
    await Site().app(asked, Incoming().receive, partial(note, sent))
    assert sent[0]["type"] == "websocket.http.response.start"
    assert sent[0]["status"] == status


def test_a_problem_without_a_known_status_has_a_code_too() -> None:
    assert json.loads(Problem(418, "tea").body()) == {"error": {"code": "error", "message": "tea"}}
