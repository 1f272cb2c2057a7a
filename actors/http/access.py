"""Who may look at what: dashboard tokens, origins, and the secret that signs the tokens."""

from __future__ import annotations

import hmac
import math
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, urlsplit

import attrs
import jwt
from jwt.types import Options

from actors.core.addresses import DEFAULT_PORTS, is_loopback, one_origin
from actors.core.errors import NotStarted, TrackingError
from actors.data_dir import write_private
from actors.settings.load import Settings

ALGORITHM = "HS256"
BEARER_SUBPROTOCOL = "bearer."
MIN_SECRET_BYTES = 32  # RFC 7518 section 3.2: as long as the hash
GENERATED_BYTES = 48
SECRET_FILE = "auth_secret"

# The claims are judged here: those of time by the clock that the caller gives, and each refusal names its claim.
# `iss`, `sub`, `jti` and `iat` mean nothing to us.
_JWT_OPTIONS: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


class BadToken(TrackingError):
    """No token, or one that does not let anybody in. The message is for the client and never holds the token."""


@attrs.frozen
class Grant:
    """What a token allows."""

    races: tuple[str, ...] | None  # None: all; normalised to NFC, none twice
    expires_s: float | None = None  # Unix seconds; None: never, because tokens are off

    def allows(self, race_id: str) -> bool:
        """`race_id` is in NFC, as race ids are everywhere inside."""
        return self.races is None or race_id in self.races


EVERYTHING = Grant(races=None)


@attrs.frozen
class Access:
    """The rules of one daemon."""

    _secret: bytes = attrs.field(repr=False)
    auth_on: bool
    cors_origin: tuple[str, ...]  # ("*",), or origins as `one_origin` writes them
    cors_credentials: bool = False

    def secret_mark(self) -> int:
        """16 bits of the secret: show that two nodes have different ones (all but one in 65,536), and say too little of
        it to try guesses against."""
        return int.from_bytes(hmac.digest(self._secret, b"race-tracking: is it the same on all nodes?", "sha256")[:2])

    def sign(self, races: Sequence[str] | None, ttl_s: int, now_s: float) -> str:
        """A token for these races (None: all, empty: none) that ends `ttl_s` seconds after `now_s` (Unix)."""
        claims: dict[str, object] = {"exp": math.floor(now_s) + ttl_s}
        if races is not None:
            claims["races"] = list(_race_ids(races))
        return jwt.encode(claims, self._secret, ALGORITHM)

    def verify(self, token: str | None, now_s: float) -> Grant:
        """What the token allows at `now_s` (Unix seconds). Raises BadToken."""
        if not self.auth_on:
            return EVERYTHING
        if not token:
            raise BadToken("a token is needed")
        if not token.isascii():
            raise BadToken("the token is not valid")
        try:
            claims = jwt.decode(token, self._secret, algorithms=[ALGORITHM], options=_JWT_OPTIONS)
        except jwt.InvalidSignatureError:
            raise BadToken("the token is not valid: it was signed with another secret") from None
        except jwt.PyJWTError:
            raise BadToken(f"the token is not valid: it is no JWT with {ALGORITHM}") from None
        if "aud" in claims:
            # RFC 7519 section 4.1.3: who is not meant must refuse it, and we have no name that could be meant.
            raise BadToken("the token has an aud claim, it is meant for somebody else: issue it without aud")
        expires_s = _moment(claims, "exp")
        if expires_s is None:
            raise BadToken("the token has no exp")
        if now_s >= expires_s:
            raise BadToken("the token has expired (exp)")
        if (_moment(claims, "nbf") or -math.inf) > now_s:
            raise BadToken("the token is not valid yet (nbf)")
        return Grant(_races(claims), expires_s)

    def origin_allowed(self, origin: str | None, host: str | None, secure: bool) -> bool:
        """Whether a page of `origin` may connect to us at `host` (both as in the request's headers).

        No origin (no browser) and our own are always allowed. `secure`: the connection to us is TLS. When it is not, a
        proxy may have ended TLS, so an https origin of the same host is our own as well.
        """
        if origin is None or "*" in self.cors_origin:
            return True
        try:
            asked = one_origin(origin)
        except ValueError:  # `null` is one
            return False
        return asked in self.cors_origin or (host is not None and _own_origin(asked, host, secure))


def find_token(authorization: str | None, subprotocols: Sequence[str], query: str | Mapping[str, str]) -> str | None:
    """The token of a request: header, subprotocol `bearer.T`, `?token=T`. `query`: as sent, or taken apart."""
    scheme, _, credentials = (authorization or "").strip().partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    for name in subprotocols:
        if name.startswith(BEARER_SUBPROTOCOL) and name != BEARER_SUBPROTOCOL:
            return name.removeprefix(BEARER_SUBPROTOCOL)
    pairs = parse_qsl(query) if isinstance(query, str) else query.items()
    return next((value for name, value in pairs if name == "token" and value), None)


def loopback_request(host: str | None, origin: str | None) -> bool:
    """With auth off: whether Host, and Origin where there is one, name this machine.

    A Host that does not means a name that was made to point here (DNS rebinding).
    """
    return _names_loopback(f"//{host or ''}") and (origin is None or _names_loopback(origin))


def load_access(settings: Settings) -> Access:
    """As the settings have it. Raises NotStarted."""
    ws = settings.ws
    return Access(load_secret(settings), ws.auth == "token", ws.cors_origin, ws.cors_credentials)


def load_secret(settings: Settings) -> bytes:
    """What signs the tokens: `[ws] auth_secret`, else a file in data_dir that is generated once, mode 0600.

    Raises NotStarted.
    """
    if settings.ws.auth_secret:
        return settings.ws.auth_secret.reveal().encode()
    path = settings.app.data_dir / SECRET_FILE
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            # Never over another process's: a token that was signed must stay valid.
            write_private(path, secrets.token_urlsafe(GENERATED_BYTES) + "\n", over=False)
        secret = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise NotStarted(f"{path} cannot be read or made: {error.strerror}") from None
    if len(secret) < MIN_SECRET_BYTES:
        raise NotStarted(f"{path} holds less than {MIN_SECRET_BYTES} bytes: delete it, the next start makes a new one")
    return secret


def _moment(claims: Mapping[str, object], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2) in Unix seconds; None when absent. Raises BadToken."""
    value = claims.get(name)
    if name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadToken(f"{name} of the token is not a number")
    try:
        moment_s = float(value)
    except OverflowError:
        moment_s = math.inf
    if not math.isfinite(moment_s):
        raise BadToken(f"{name} of the token is out of range")
    return moment_s


def _races(claims: Mapping[str, object]) -> tuple[str, ...] | None:
    races = claims.get("races")
    if "races" not in claims:
        return None
    if not isinstance(races, list) or not all(isinstance(race, str) for race in races):
        raise BadToken("races of the token is not a list of strings")
    return _race_ids(races)


def _race_ids(races: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(unicodedata.normalize("NFC", race) for race in races))


def _own_origin(asked: str, host: str, secure: bool) -> bool:
    scheme = urlsplit(asked).scheme
    if scheme not in DEFAULT_PORTS or (secure and scheme != "https"):
        return False
    try:
        return one_origin(f"{scheme}://{host}") == asked
    except ValueError:
        return False


def _names_loopback(url: str) -> bool:
    try:
        parts = urlsplit(url)
        name = parts.hostname or ""
        port_fits = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return port_fits and "@" not in parts.netloc and not (parts.path or parts.query) and is_loopback(name)
