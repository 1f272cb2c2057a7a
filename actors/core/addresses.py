"""Where servers listen, and how to log in; hosts and origins.

Knows no settings: an address comes from them, from an embedded server, or from a test.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

import attrs

_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII)
UNIX_PATH_BYTES = 107
"""sockaddr_un holds 108 with the closing NUL (unix(7))."""
DEFAULT_PORTS = {"http": 80, "https": 443, "mqtt": 1883, "mqtts": 8883}


class Secret:
    """A password: falsy when empty, readable only through `reveal`, never in a repr, a log line or `attrs.asdict`."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return "Secret('***')" if self._text else "Secret('')"

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")


@attrs.frozen
class Address:
    """Where a server listens: a `broker_url` or an `embedded_bind`, taken apart."""

    host: str  # a name or an IP address, IPv6 without brackets
    port: int
    tls: bool = False


@attrs.frozen
class BrokerAddress:
    """One MQTT broker, or the nodes of one: they have the log in and the sessions in common."""

    host: str
    port: int = 1883
    tls: bool = False
    username: str = ""  # empty: anonymous
    password: Secret = attrs.field(factory=Secret)
    others: tuple[Address, ...] = ()  # nodes beside this one

    @property
    def nodes(self) -> tuple[Address, ...]:
        """In the order in which they are tried."""
        return (Address(self.host, self.port, self.tls), *self.others)


@attrs.frozen
class PostgresAddress:
    """One database of one PostgreSQL server, or of servers that copy each other: they have the log in in common."""

    host: str  # a name, an IP address, or an absolute folder that holds the Unix socket
    port: int = 5432  # also part of a Unix socket's name
    user: str = "postgres"
    password: Secret = attrs.field(factory=Secret)
    database: str = "tracking"
    sslmode: str = "prefer"  # as in libpq; of no effect on a Unix socket
    others: tuple[Address, ...] = ()  # servers beside this one

    @property
    def servers(self) -> tuple[PostgresAddress, ...]:
        """Each alone, in the order in which they are tried."""
        named = (Address(self.host, self.port), *self.others)
        return tuple(attrs.evolve(self, host=each.host, port=each.port, others=()) for each in named)


@attrs.frozen
class RedisAddress:
    """One database of a server that speaks Redis' protocol; or where its Sentinels are; or nodes of a Redis Cluster."""

    host: str = "127.0.0.1"
    port: int = 6379
    username: str = ""  # empty: the default user
    password: Secret = attrs.field(factory=Secret)
    db: int = 0
    tls: bool = False
    socket_path: str = ""  # a Unix socket; when given, host, port and tls do not count
    mode: str = "single"  # or sentinel, cluster: what host, port and others are
    others: tuple[Address, ...] = ()  # Sentinels or nodes beside this one
    service: str = "mymaster"  # what Sentinels call the primary and its replicas
    sentinel_username: str = ""  # empty: the default user
    sentinel_password: Secret = attrs.field(factory=Secret)

    @property
    def where(self) -> str:
        """For people."""
        return self.socket_path or f"{in_url(self.host)}:{self.port}"

    @property
    def servers(self) -> tuple[RedisAddress, ...]:
        """Each that is named, alone: in the order in which they are tried. Sentinels with their own log in."""
        own = self
        if self.mode == "sentinel":
            own = attrs.evolve(self, db=0, username=self.sentinel_username, password=self.sentinel_password)
        return tuple(own.at(each.host, each.port) for each in (Address(self.host, self.port), *self.others))

    def at(self, host: str, port: int) -> RedisAddress:
        """One server of them, with the same log in."""
        return attrs.evolve(self, host=host, port=port, others=())


def is_loopback(name: str) -> bool:
    """True for `localhost` and the loopback addresses; a name that would have to be looked up is not loopback."""
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name.lower().rstrip(".") == "localhost"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def one_origin(text: str) -> str:
    """An origin as browsers send it. Raises ValueError."""
    if text == "null":
        raise ValueError(
            "'null' is anybody's sandboxed page, it is let in by '*' only; allowed is '*' or a list of origins"
        )
    allowed = "allowed is '*' or a comma list of origins like https://example.org:8443"
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError(f"'{text}' is not an origin; {allowed}") from None
    named = _SCHEME.fullmatch(url.scheme) and is_host(url.hostname or "") and "@" not in url.netloc and port != 0
    if not named or text.lower() != f"{url.scheme}://{url.netloc.lower()}" or url.netloc.endswith(":"):
        raise ValueError(f"'{text}' is not an origin (no path, no slash at the end); {allowed}")
    return f"{url.scheme}://{in_url(url.hostname or '')}" + (
        "" if port in (None, DEFAULT_PORTS.get(url.scheme)) else f":{port}"
    )


def in_url(name: str) -> str:
    """A host before its port: an IPv6 address stands in brackets (RFC 3986 section 3.2.2)."""
    return f"[{name}]" if ":" in name else name


def is_host(text: str) -> bool:
    """A host name or an IP address."""
    if ":" in text or re.fullmatch(r"[0-9.]+", text, re.ASCII):
        try:
            ipaddress.ip_address(text)
        except ValueError:
            return False
        return True
    return len(text) <= 253 and _HOST.fullmatch(text) is not None


def from_here(host: str) -> str:
    """What to dial on this machine where a server listens on `host`, which may mean every address."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
