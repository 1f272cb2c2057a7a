"""The secret of every daemon and listener that tests start, and tokens signed with it."""

from __future__ import annotations

import time

import jwt

SECRET = "a secret of the tests, longer than 32 bytes"


def token(races: object = None, ttl_s: float = 3600, secret: str = SECRET, **claims: object) -> str:
    """HS256, for these races, None = all of them; `claims` are added as they are."""
    payload = {"exp": time.time() + ttl_s, **({} if races is None else {"races": races}), **claims}
    return jwt.encode(payload, secret, "HS256")
