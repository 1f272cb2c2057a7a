"""The descriptions that the daemon serves, as judges of everything that it sends to the tests."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonschema_rs import Draft7Validator, Draft202012Validator

from actors.http.documents import asyncapi, openapi

Json = dict[str, Any]


def closed(schema: Any) -> Any:
    """The same, but members that are not listed are wrong: clients must ignore them, and we must not send them."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return (
        {**inner, "additionalProperties": False} if schema.get("type") == "object" and "properties" in schema else inner
    )


@cache
def http() -> Json:
    """OpenAPI, closed."""
    found: Json = closed(openapi())
    return found


@cache
def websocket() -> Json:
    """AsyncAPI, closed."""
    found: Json = closed(asyncapi("/tracking"))
    return found


def resolved(document: Json, part: Json) -> Json:
    """What a reference stands for."""
    while "$ref" in part:
        whole: Json = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            whole = whole[name]
        part = whole
    return part


def path_of(target: str) -> str | None:
    """The described path that a request's target belongs to."""
    asked = target.partition("?")[0]
    for path in http()["paths"]:
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", path), asked):
            return str(path)
    return None


@cache
def _http_validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator({**json.loads(schema), "components": http()["components"]})


def check_http(method: str, target: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """A whole response, header names in lower case. What is not described may only be an error."""
    path = path_of(target)
    operation = http()["paths"].get(path, {}).get(method.lower())
    if operation is None:
        assert status >= 400 or method == "OPTIONS", f"{method} {target} is not described"
        if status < 400:
            return
        response: Json = {"content": {"application/json": {"schema": _any_error()}}}
    else:
        assert str(status) in operation["responses"], f"{method} {path}: {status} is not described"
        response = resolved(http(), operation["responses"][str(status)])
    for name, header in response.get("headers", {}).items():
        assert name.lower() in headers, f"{method} {path}: {status} without {name}"
        value = headers[name.lower()]
        if header["schema"].get("type") == "integer":
            assert value.isdigit()
        else:
            _http_validator(json.dumps(header["schema"])).validate(value)
    if method == "HEAD":
        return
    if "content" not in response:
        assert body == b""
        return
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    media_type = headers["content-type"].partition(";")[0]
    assert media_type in response["content"], f"{method} {path}: {media_type} is not described"
    if media_type.endswith("json") and media_type != "application/x-ndjson":
        _http_validator(json.dumps(response["content"][media_type]["schema"])).validate(json.loads(body))


def _any_error() -> Json:
    """Of paths and methods that are not there: other codes, the same shape."""
    schema: Json = json.loads(json.dumps(http()["components"]["schemas"]["Error"]))
    del schema["properties"]["error"]["properties"]["code"]["enum"]
    return schema


@cache
def validator(message: str) -> Draft7Validator:
    """Of the payload of a WebSocket message. AsyncAPI's own schemas are those of draft 7."""
    payload = websocket()["components"]["messages"][message]["payload"]
    return Draft7Validator({**payload, "components": websocket()["components"]})


def check_frame(text: str | bytes) -> Json:
    """A frame of the server; gives the JSON in it."""
    frame: Json = json.loads(text)
    sent = {resolved(websocket(), message)["name"] for message in _from_server()}
    assert frame["event"] in sent, f"{frame['event']} is not described"
    validator(frame["event"]).validate(frame)
    return frame


def _from_server() -> list[Json]:
    found: list[Json] = []
    for operation in websocket()["operations"].values():
        found += operation["messages"] if operation["action"] == "send" else operation["reply"]["messages"]
    return found
