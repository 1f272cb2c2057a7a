"""The OpenAPI description agrees with the routes and with what the code allows; all documents need no token.

That every answer is as described is checked wherever tests ask for one (tests/kit/described.py).
"""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from actors.core.errors import RejectionCode
from actors.core.fix import STATUSES
from actors.core.ids import MAX_ID, normal_id
from actors.core.timestamps import LONGEST, format_ms, parse_ms
from actors.history.cursor import LENGTH, decode_cursor, encode_cursor
from actors.history.export import FORMATS
from actors.http import problem, query_fields
from actors.http.documents import openapi
from actors.http.gate import MAX_BODY_BYTES
from actors.http.problem import Problem
from actors.telemetry.health import COMPONENTS, OF_NODES
from tests.http.http_site import Site
from tests.kit.described import check_http, path_of

DOCUMENT = openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]
DOCUMENTS = ["/api/openapi.json", "/api/asyncapi.json", "/ops/", "/ops/grafana.json", "/ops/alerts.yml"]


def valid(name: str, value: object) -> bool:
    return bool(Draft202012Validator({**SCHEMAS[name], "components": DOCUMENT["components"]}).is_valid(value))


def test_every_route_is_described_and_nothing_else() -> None:
    routes = {route.path: route.methods or set() for route in Site().app.routes if isinstance(route, Route)}
    snake = {re.sub(r"Id}", "_id}", path): path for path in DOCUMENT["paths"]}
    described = {snake.get(path) or path_of(path) for path in routes}
    assert described == set(DOCUMENT["paths"])
    for methods in routes.values():
        assert methods == {"GET", "HEAD"}
    for path in DOCUMENT["paths"].values():
        assert set(path) == {"get", "head"}


def test_it_is_valid_openapi() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
    names = [operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


def test_every_part_of_it_is_used() -> None:
    used = set(re.findall(r'"#/components/(\w+/\w+)"', json.dumps(DOCUMENT)))
    there = {f"{kind}/{name}" for kind, parts in DOCUMENT["components"].items() for name in parts}
    assert there - used == {"securitySchemes/bearer", "securitySchemes/query"}


def test_numbers_and_words_are_those_of_the_code() -> None:
    assert SCHEMAS["Status"]["enum"] == list(STATUSES)
    assert SCHEMAS["RejectionCode"]["enum"] == list(RejectionCode)
    assert set(SCHEMAS["Readiness"]["properties"]["components"]["properties"]) == {*COMPONENTS, *OF_NODES}
    assert SCHEMAS["Id"]["maxLength"] == SCHEMAS["StoredId"]["maxLength"] == MAX_ID
    assert SCHEMAS["Moment"]["maxLength"] == LONGEST
    assert (SCHEMAS["Limit"]["default"], SCHEMAS["Limit"]["maximum"]) == (
        query_fields.DEFAULT_LIMIT,
        query_fields.MAX_LIMIT,
    )
    assert SCHEMAS["History"]["properties"]["positions"]["maxItems"] == query_fields.MAX_LIMIT
    export = DOCUMENT["paths"]["/api/races/{raceId}/export"]["get"]
    (form,) = [parameter for parameter in export["parameters"] if parameter.get("name") == "format"]
    assert form["schema"]["enum"] == ["", *FORMATS]
    assert list(export["responses"]["200"]["content"]) == [form.media_type for form in FORMATS.values()]
    assert str(MAX_BODY_BYTES) in DOCUMENT["components"]["responses"]["TooLarge"]["description"]
    codes = set(SCHEMAS["Error"]["properties"]["error"]["properties"]["code"]["enum"])
    assert set(problem.CODES.values()) - {"method_not_allowed", "timeout", "upgrade_required"} < codes


@given(st.text(st.characters(max_codepoint=127), max_size=52) | st.from_regex(r"[\w.@-]{1,52}", fullmatch=True))
def test_an_id_is_described_as_it_is_judged(text: str) -> None:
    """No pattern that every language's regular expressions know tells the letters of all scripts from other signs."""
    normal = normal_id(text)
    if text.isascii():
        assert valid("Id", text) == (normal is not None)
    assert normal is None or valid("Id", normal)


MOMENTS = st.builds(
    "{:04}-{:02}-{:02}{}{:02}:{:02}:{:02}{}{}".format,
    st.integers(1998, 2500) | st.sampled_from([2000, 2004, 2100, 2400, 4000, 9999]),
    st.integers(0, 13), st.integers(0, 32) | st.integers(28, 31), st.sampled_from("TTTt "),
    st.integers(0, 24), st.integers(0, 60), st.integers(0, 60),
    st.sampled_from(["", "", ".", ".1", ".123456789", ".1234567890"]),
    st.sampled_from(["Z", "z", "+00:00", "-23:59", "+24:00", ""]),
)  # fmt: skip


@given(MOMENTS)
def test_a_moment_is_described_as_it_is_read(text: str) -> None:
    if not text.startswith(("1999", "2000-01-01", "9999-12-31")):  # where an offset leads into another century
        assert valid("Moment", text) == (parse_ms(text) is not None)


@given(st.integers(-58_000_000_000_000, 215_000_000_000_000))  # of the years 132 to 8783
def test_what_is_written_is_as_described(ms: int) -> None:
    assert valid("Timestamp", format_ms(ms))
    assert valid("Cursor", encode_cursor((ms * 1000, bytes(16))))
    assert len(encode_cursor((ms * 1000, bytes(16)))) == LENGTH


@given(st.from_regex(SCHEMAS["Cursor"]["pattern"], fullmatch=True))
def test_a_cursor_as_described_can_be_read(text: str) -> None:
    decode_cursor(text)


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_a_document_needs_no_token_and_is_sent_once(path: str) -> None:
    site = Site().with_ws(cors_origin=("https://one.example",))
    first = await site.get(path, {"origin": "https://one.example"})
    assert first.status == 200
    assert first.headers["access-control-allow-origin"] == "https://one.example"
    assert "ETag" in first.headers["access-control-expose-headers"]
    again = await site.get(path, {"if-none-match": f'"x", {first.headers["etag"].removeprefix("W/")}'})
    assert (again.status, again.body) == (304, b"")
    assert (await site.get(path, {"if-none-match": '"x"'})).status == 200


async def test_the_websocket_is_where_the_settings_say() -> None:
    document = (await Site().with_ws(path="/live").get("/api/asyncapi.json")).json
    assert document["channels"]["tracking"]["address"] == "/live"
    assert (await Site().get("/api/openapi.json")).json == DOCUMENT


def test_the_judge_of_answers_is_not_blind() -> None:
    """What it has to refuse."""
    json_headers = {"content-type": "application/json"}
    race = b'{"raceId":"R","positions":[],"serverTime":"2025-07-01T08:15:30.000Z"}'
    check_http("GET", "/api/races/R/positions?token=x", 200, json_headers, race)
    wrong: list[tuple[int, dict[str, str], bytes]] = [
        (200, json_headers, race.replace(b"[]", b"[{}]")),
        (200, json_headers, race.replace(b"{", b'{"more":1,')),
        (200, {"content-type": "text/plain"}, race),
        (202, json_headers, race),
        (401, json_headers, Problem(401, "no").body()),  # without WWW-Authenticate
        (404, json_headers, b'{"error":{"code":"made_up","message":"no"}}'),
    ]
    for status, headers, body in wrong:
        with pytest.raises((AssertionError, ValueError)):
            check_http("GET", "/api/races/R/positions", status, headers, body)
    with pytest.raises(AssertionError):
        check_http("GET", "/api/new", 200, json_headers, race)


def test_refusals_of_the_listener_are_described() -> None:
    """They come before HTTP is looked at, so any request may get them."""
    for path in DOCUMENT["paths"].values():
        for operation in path.values():
            assert {"400", "403", "408", "413", "431", "500", "501", "503"} <= set(operation["responses"])
