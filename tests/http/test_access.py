"""Tokens and origins."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import attrs
import jwt
import pytest

from actors.http.access import EVERYTHING, Access, BadToken, Grant, find_token, loopback_request

SECRET = b"0123456789abcdef0123456789abcdef"
NOW_S = 1_000_000_000.5  # long ago: nothing here may ask the real clock
ACCESS = Access(SECRET, auth_on=True, cors_origin=("*",))


NO_JWT = "the token is not valid: it is no JWT with HS256"
OTHER_SECRET = "the token is not valid: it was signed with another secret"
MEANT_FOR_OTHERS = "the token has an aud claim, it is meant for somebody else: issue it without aud"


def token(claims: Any, header: dict[str, object] | None = None, secret: bytes = SECRET) -> str:
    """Signed by hand, so that claims and header may be as wrong as they like."""

    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    head = part(json.dumps(header or {"alg": "HS256", "typ": "JWT"}).encode())
    body = f"{head}.{part(claims if isinstance(claims, bytes) else json.dumps(claims).encode())}"
    return f"{body}.{part(hmac.digest(secret, body.encode(), hashlib.sha256))}"


@pytest.mark.parametrize(
    ("races", "allowed", "forbidden"), [(None, ["R1", "R2"], []), (["R1"], ["R1"], ["R2"]), ([], [], ["R1", ""])]
)
def test_what_is_signed_is_granted(races: list[str] | None, allowed: list[str], forbidden: list[str]) -> None:
    grant = ACCESS.verify(ACCESS.sign(races, 60, NOW_S), NOW_S)
    assert grant.expires_s == 1_000_000_060
    assert grant.races == (None if races is None else tuple(races))
    assert all(grant.allows(race) for race in allowed)
    assert not any(grant.allows(race) for race in forbidden)


def test_race_ids_are_in_nfc() -> None:
    assert ACCESS.verify(token({"exp": NOW_S + 1, "races": ["e\u0301", "\u00e9"]}), NOW_S).races == ("\u00e9",)
    claims = jwt.decode(ACCESS.sign(["e\u0301"], 1, NOW_S), SECRET, ["HS256"], options={"verify_exp": False})
    assert claims == {"exp": 1_000_000_001, "races": ["\u00e9"]}


def test_a_token_ends_on_the_dot() -> None:
    ends = token({"exp": NOW_S + 10})
    assert ACCESS.verify(ends, NOW_S + 9.999).expires_s == NOW_S + 10
    for late in (10, 10.001, 1e9):
        with pytest.raises(BadToken, match=r"^the token has expired \(exp\)$"):
            ACCESS.verify(ends, NOW_S + late)


def test_the_wall_clock_does_not_count() -> None:
    assert ACCESS.verify(token({"exp": 2, "iat": 4_000_000_000}), 1.0).expires_s == 2
    assert ACCESS.verify(token({"exp": 9e9, "nbf": 8e9, "sub": 5, "jti": 6, "iss": 7}), 8e9).expires_s == 9e9
    with pytest.raises(BadToken, match=r"^the token is not valid yet \(nbf\)$"):
        ACCESS.verify(token({"exp": 9e9, "nbf": 8e9}), 8e9 - 1)


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({}, "the token has no exp"),
        ({"races": ["R1"]}, "the token has no exp"),
        ({"exp": None}, "exp of the token is not a number"),
        ({"exp": "9999999999"}, "exp of the token is not a number"),
        ({"exp": True}, "exp of the token is not a number"),
        ({"exp": [1]}, "exp of the token is not a number"),
        ({"exp": float("inf")}, "exp of the token is out of range"),
        ({"exp": float("nan")}, "exp of the token is out of range"),
        ({"exp": 10**400}, "exp of the token is out of range"),
        ({"exp": -1}, "the token has expired (exp)"),
        ({"exp": 2e9, "nbf": "x"}, "nbf of the token is not a number"),
        ({"exp": 2e9, "races": None}, "races of the token is not a list of strings"),
        ({"exp": 2e9, "races": "R1"}, "races of the token is not a list of strings"),
        ({"exp": 2e9, "races": {"R1": 1}}, "races of the token is not a list of strings"),
        ({"exp": 2e9, "races": ["R1", 5]}, "races of the token is not a list of strings"),
        ({"exp": 2e9, "aud": "somebody else"}, MEANT_FOR_OTHERS),
        ({"exp": 2e9, "aud": ["a", "b"]}, MEANT_FOR_OTHERS),
        ({"exp": 2e9, "aud": ""}, MEANT_FOR_OTHERS),
        ({"exp": 2e9, "aud": None}, MEANT_FOR_OTHERS),
        ([], NO_JWT),
        ("exp", NO_JWT),
        (b"{", NO_JWT),
        (b"\xff", NO_JWT),
    ],
)
def test_bad_claims(claims: object, message: str) -> None:
    with pytest.raises(BadToken) as caught:
        ACCESS.verify(token(claims), NOW_S)
    assert str(caught.value) == message


GOOD = token({"exp": 2e9})
HEAD, BODY, SIGNATURE = GOOD.split(".")


@pytest.mark.parametrize(
    "bad",
    [
        ".",
        "..",
        "nonsense",
        "é.é.é",
        "\ud800",
        f"{HEAD}.{BODY}",
        f"{HEAD}.{BODY}.",
        f"{HEAD}.{BODY}.{SIGNATURE[:-2]}",
        f"{HEAD}.{BODY}.{SIGNATURE}.{SIGNATURE}",
        f" {GOOD}",
        f"{BODY}.{HEAD}.{SIGNATURE}",
        token({"exp": 2e9}, secret=b"x" * 32),
        token({"exp": 2e9}, {"alg": "none"}),
        token({"exp": 2e9}, {"alg": "none"}).rpartition(".")[0] + ".",
        token({"exp": 2e9}, {"alg": "hs256"}),
        token({"exp": 2e9}, {"typ": "JWT"}),
        token({"exp": 2e9}, {"alg": "HS256", "crit": ["x"]}),
        token({"exp": 2e9}, {"alg": "HS256", "b64": False}),
        token({"exp": 2e9}, {"alg": ["HS256"]}),
        jwt.encode({"exp": 2e9}, SECRET * 2, "HS512"),
        jwt.encode({"exp": 2e9}, SECRET * 2, "HS384"),
    ],
)
def test_bad_tokens(bad: str) -> None:
    assert ACCESS.verify(GOOD, NOW_S) == Grant(None, 2e9)
    with pytest.raises(BadToken) as caught:
        ACCESS.verify(bad, NOW_S)
    assert str(caught.value) in ("the token is not valid", NO_JWT, OTHER_SECRET)
    assert caught.value.__cause__ is None


def test_a_secret_that_is_not_ours_is_told_from_what_is_no_token() -> None:
    for bad, message in ((token({"exp": 2e9}, secret=b"x" * 32), OTHER_SECRET), (token({}, {"alg": "HS512"}), NO_JWT)):
        with pytest.raises(BadToken) as caught:
            ACCESS.verify(bad, NOW_S)
        assert str(caught.value) == message


def test_no_token() -> None:
    for missing in (None, ""):
        with pytest.raises(BadToken, match=r"^a token is needed$"):
            ACCESS.verify(missing, NOW_S)


def test_with_auth_off_nobody_is_asked() -> None:
    access = attrs.evolve(ACCESS, auth_on=False)
    for anything in (None, "", "nonsense"):
        assert access.verify(anything, NOW_S) == EVERYTHING == Grant(None, None)


def test_the_secret_is_not_shown() -> None:
    assert "0123" not in repr(ACCESS)


# --- where the token is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "subprotocols", "query", "found"),
    [
        ("Bearer A", ["tracking.v1", "bearer.B"], "token=C", "A"),
        ("bearer  A ", [], "", "A"),
        (None, ["tracking.v1", "bearer.B", "bearer.D"], "token=C", "B"),
        (None, ["tracking.v1"], "x=1&token=C&token=D", "C"),
        (None, [], {"token": "C"}, "C"),
        ("Basic A", ["bearer.B"], "", "B"),
        ("Bearer", [], "token=C", "C"),
        ("Bearer ", ["bearer."], "token=", None),
        (None, [], "token=a%2Eb", "a.b"),
        (None, [], "Token=C&tokens=D", None),
        (None, ["Bearer.B"], {}, None),
    ],
)
def test_the_first_token_found(
    authorization: str | None, subprotocols: list[str], query: str | dict[str, str], found: str | None
) -> None:
    assert find_token(authorization, subprotocols, query) == found


# --- origins ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "host", "secure", "allowed"),
    [
        (None, "h", False, True),
        (None, None, True, True),
        ("http://h:3000", "h:3000", False, True),
        ("http://H:3000", "h:3000", False, True),
        ("http://h", "h:80", False, True),
        ("https://h", "h", False, True),  # a proxy ended TLS
        ("https://h", "h", True, True),
        ("https://h", "h:443", True, True),
        ("http://h", "h", True, False),
        ("http://h:3000", "h", False, False),
        ("http://h", "h:3000", False, False),
        ("http://[::1]:3000", "[::1]:3000", False, True),
        ("http://h", None, False, False),
        ("http://h", "", False, False),
        ("http://h.evil.example", "h", False, False),
        ("http://h", "h/x", False, False),
        ("ftp://h", "h", False, False),
        ("https://a.example", "h", False, True),
        ("https://a.example:443", "h", False, True),
        ("https://A.Example", "h", True, True),
        ("http://a.example", "h", False, False),
        ("https://a.example:8443", "h", False, False),
        ("https://b.a.example", "h", False, False),
        ("null", "h", False, False),
        ("null", "null", False, False),
        ("", "h", False, False),
        ("https://a.example, http://h", "h", False, False),
    ],
)
def test_origins(origin: str | None, host: str | None, secure: bool, allowed: bool) -> None:
    access = attrs.evolve(ACCESS, cors_origin=("https://a.example",))
    assert access.origin_allowed(origin, host, secure) is allowed


def test_every_origin_even_null_with_a_star() -> None:
    for origin in (None, "null", "https://anywhere.example", "nonsense"):
        assert ACCESS.origin_allowed(origin, "h", secure=False)


@pytest.mark.parametrize(
    ("host", "origin", "local"),
    [
        ("127.0.0.1:3000", None, True),
        ("localhost:3000", "http://localhost:3000", True),
        ("LOCALHOST", "https://127.0.0.1", True),
        ("[::1]:3000", "http://[::1]:9", True),
        ("localhost", "null", False),
        ("localhost", "http://evil.example", False),
        ("localhost", "http://localhost.evil.example", False),
        ("localhost", "", False),
        ("evil.example", None, False),
        ("evil.example:3000", "http://localhost", False),
        ("evil@localhost", None, False),
        ("localhost/x", None, False),
        ("localhost:x", None, False),
        ("[::1", None, False),
        ("10.0.0.1", None, False),
        ("0.0.0.0", None, False),
        ("", None, False),
        (None, None, False),
    ],
)
def test_requests_of_this_machine(host: str | None, origin: str | None, local: bool) -> None:
    assert loopback_request(host, origin) is local


def test_nodes_can_tell_that_their_secrets_differ() -> None:
    one, same, other = (Access(secret, True, ("*",)) for secret in (b"a" * 32, b"a" * 32, b"b" * 32))
    assert one.secret_mark() == same.secret_mark() != other.secret_mark()
    assert one.secret_mark() < 2**16
