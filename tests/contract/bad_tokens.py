"""Tokens that nobody may get in with."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable

import jwt

from tests.kit.tokens import SECRET, token


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
