"""The HTTP API, page and probes of http/openapi.json as a starlette application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol
from uuid import UUID

import attrs
import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from actors.core.errors import ErrorCode, RejectionCode, StoreMisconfigured, Unavailable
from actors.core.fix import Fix
from actors.core.position import quoted
from actors.core.timestamps import format_ms
from actors.history.answers import list_races, one_page
from actors.history.export import FORMATS, formatter
from actors.history.queries import History, HistoryQuery, StoredRejection
from actors.http.access import BadToken, Grant, find_token
from actors.http.compress import Compress
from actors.http.documents import document_routes
from actors.http.export import ExportResponse
from actors.http.gate import SECURITY_HEADERS, Cors, Gate, problem_response
from actors.http.page import page_routes
from actors.http.problem import Problem, bad_request, unauthorized, unavailable
from actors.http.query import Parameters, optional_name, parameters, race_in_path, typed
from actors.http.query_fields import history_query, limit
from actors.settings.load import Settings
from actors.telemetry.health import SPOOL_IDLE, Health
from actors.telemetry.metrics import Metrics

Clock = Callable[[], int]  # Unix ms

MAX_EXPORTS = 8  # at a time: each holds a database connection for as long as its client reads

METHODS = ("GET", "HEAD")


class Verifier(Protocol):
    """access.py has the real one."""

    def verify(self, token: str | None, now_s: float) -> Grant:
        """What the token allows at `now_s` (Unix seconds). Raises BadToken."""
        ...


class RacesLive(Protocol):
    """The directory of races."""

    async def positions(self, race_id: str) -> bytes:
        """Live positions as JSON objects, as a snapshot has them, joined by commas."""
        ...

    def parked(self) -> int:
        """Races whose live view is stopped."""
        ...


def build_app(
    *,
    settings: Settings,
    access: Verifier,
    history: History,
    races_live: RacesLive,
    health: Health,
    metrics: Metrics,
    clock: Clock,
) -> Starlette:
    """The application. It keeps nothing between requests but the count of exports."""
    api = Api(access, history, races_live, clock)
    probes = Probes(health, metrics, races_live)
    ws = settings.ws
    race = "/api/races/{race_id}"
    app = Starlette(
        routes=[
            *page_routes(settings),
            *document_routes(ws.path),
            Route("/healthz", probes.alive),
            Route("/readyz", probes.ready),
            Route("/readyz/ingest", probes.ready_for_ingest),
            Route("/metrics", probes.metrics_text),
            Route("/api/races", api.races),
            Route(f"{race}/positions", api.positions),
            Route(f"{race}/history", api.history_page),
            Route(f"{race}/export", api.export),
            Route("/api/rejections", api.rejections),
        ],
        middleware=[
            Middleware(Gate, loopback_only=ws.auth == "off"),
            Middleware(
                Cors,
                allow_origins=ws.cors_origin,
                allow_methods=METHODS,
                allow_headers=["Authorization"],
                # With every origin allowed, credentials would give every site the visitor's rights.
                allow_credentials=ws.cors_credentials and "*" not in ws.cors_origin,
                expose_headers=["Content-Disposition", "ETag", "Retry-After"],
            ),
            Middleware(Compress),
        ],
        exception_handlers={
            Problem: _problem,
            BadToken: _bad_token,
            Unavailable: _unavailable,
            StoreMisconfigured: _unavailable,
            HTTPException: _http_exception,
            Exception: _crash,
        },
    )
    app.router.redirect_slashes = False  # what is not there is a 404, not a tour
    return app


@attrs.define(eq=False)
class Api:
    """`/api/...`.

    No answer here has an ETag or Last-Modified: a fix may come late for any page of history, so only the database could
    say that nothing has changed, and live positions carry the server's time. A 304 would cost what the answer costs.
    """

    _access: Verifier
    _history: History
    _races_live: RacesLive
    _clock: Clock
    _exporting: int = attrs.field(default=0, init=False)

    async def races(self, request: Request) -> Response:
        """`{"races": [...]}`: all in history that the token may see."""
        grant, _ = self._enter(request)
        return _json(await list_races(self._history, grant.races))

    async def positions(self, request: Request) -> Response:
        """`{"raceId", "positions", "serverTime"}`."""
        race_id, _ = self._enter_race(request)
        positions = await self._races_live.positions(race_id)
        server_time = format_ms(self._clock()).encode()
        race = quoted(race_id)
        return _json(b'{"raceId":%b,"positions":[%b],"serverTime":"%b"}' % (race, positions, server_time))

    async def history_page(self, request: Request) -> Response:
        """`{"positions", "nextCursor"}`, oldest first."""
        race_id, given = self._enter_race(request)
        return _json(await one_page(self._history, history_query(typed(given) | {"raceId": race_id})))

    async def export(self, request: Request) -> Response:
        """The race's whole history as a file."""
        race_id, given = self._enter_race(request)
        name = given.get("format", "jsonl")
        if name not in FORMATS:
            raise bad_request(f"format: one of {', '.join(FORMATS)} is needed")
        query = history_query(typed(given) | {"raceId": race_id, "limit": None, "cursor": None})
        chosen = formatter(name)
        return ExportResponse(race_id, chosen, lambda: self._stream(query, chosen.by_participant))

    async def rejections(self, request: Request) -> Response:
        """`{"rejections": [...]}`, newest first. A rejection may belong to any race, so the token must see all."""
        grant, given = self._enter(request)
        if grant.races is not None:
            raise Problem(403, "a token for all races is needed")
        code = given.get("code")
        if code is not None and code not in set(RejectionCode):
            raise bad_request(f"code: one of {', '.join(RejectionCode)} is needed")
        rows = await self._history.rejections(
            race_id=optional_name(given, "race"), code=code, limit=limit(typed(given), default=100)
        )
        return _json(msgspec.json.encode({"rejections": [_rejection(row) for row in rows]}))

    @asynccontextmanager
    async def _stream(self, query: HistoryQuery, by_participant: bool) -> AsyncIterator[AsyncIterator[list[Fix]]]:
        if self._exporting >= MAX_EXPORTS:
            raise unavailable(f"{MAX_EXPORTS} exports are under way, try again later")
        self._exporting += 1
        try:
            async with self._history.stream(query, by_participant) as chunks:
                yield chunks
        finally:
            self._exporting -= 1

    def _enter(self, request: Request) -> tuple[Grant, Parameters]:
        """Who asks, and with what. Raises BadToken, Problem."""
        given = parameters(request.scope["query_string"])
        token = find_token(request.headers.get("authorization"), (), given)
        return self._access.verify(token, self._clock() / 1000), given

    def _enter_race(self, request: Request) -> tuple[str, Parameters]:
        """Raises also when the token does not allow the race; a bad id is told after the token was good."""
        grant, given = self._enter(request)
        race_id = race_in_path(request.path_params["race_id"])
        if not grant.allows(race_id):
            raise Problem(403, f"the token does not allow race {race_id}", str(ErrorCode.FORBIDDEN_RACE))
        return race_id, given


@attrs.define(eq=False)
class Probes:
    """For load balancers and Prometheus: without a token."""

    _health: Health
    _metrics: Metrics
    _races_live: RacesLive

    async def alive(self, _request: Request) -> Response:
        """200 while the process lives."""
        return _json(b'{"alive":true}')

    async def ready(self, _request: Request) -> Response:
        """200 when dashboards can be served. They are from memory while PostgreSQL and Redis are away."""
        return self._readiness(self._health.components["websocket"].up)

    async def ready_for_ingest(self, _request: Request) -> Response:
        """200 while fixes are taken: from the broker, into PostgreSQL or the spool. On a node that waits: while it
        could take over."""
        components = self._health.components
        if self._health.ingest == "waiting":
            return self._readiness(components["ingest"].up)
        spool = components["spool"]
        durable = components["postgres"].up or (spool.up and spool.detail != SPOOL_IDLE)
        return self._readiness(components["broker"].up and durable)

    async def metrics_text(self, _request: Request) -> Response:
        """Prometheus text format."""
        headers = {"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"}
        return Response(generate_latest(self._metrics.registry), headers=headers)

    def _readiness(self, ready: bool) -> Response:
        components = {name: {"up": part.up, "detail": part.detail} for name, part in self._health.components.items()}
        # Names of races are for those who have a token: `status` and the log tell which.
        parked = self._races_live.parked()
        told: dict[str, object] = {"ready": ready, "components": components, "parkedRaces": parked}
        if self._health.ingest:
            told["ingest"] = self._health.ingest
        return _json(msgspec.json.encode(told), status=200 if ready else 503)


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, {"Cache-Control": "no-store"}, media_type="application/json")


def _rejection(row: StoredRejection) -> Mapping[str, str]:
    return {
        "id": str(UUID(bytes=row.id)),
        "receivedAt": format_ms(row.received_ms),
        "topic": row.topic,
        "payload": row.payload.decode("utf-8", "backslashreplace"),
        "code": row.code,
        "detail": row.detail,
    }


# starlette runs a plain function in a thread, so each of these is async. Its type for them takes any Exception.


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error)


async def _bad_token(_request: Request, error: Exception) -> Response:
    return problem_response(unauthorized(str(error)))


async def _unavailable(_request: Request, _error: Exception) -> Response:
    return problem_response(unavailable("history cannot be read right now"))


async def _http_exception(_request: Request, error: Exception) -> Response:
    """starlette's own: 404 and 405."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(METHODS)
    return problem_response(Problem(error.status_code, error.detail, headers=headers))


async def _crash(_request: Request, _error: Exception) -> Response:
    """A bug: starlette raises it again, and it is logged. Outside of the gate, so the gate's headers are added here."""
    return problem_response(Problem(500, "the server made a mistake", headers=SECURITY_HEADERS))
