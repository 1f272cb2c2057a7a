"""Where the servers listen, and how to log in: what the drivers need to know, and nothing else."""

from __future__ import annotations

import attrs

from actors.core.address import Address, Secret


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
    """One database of one PostgreSQL server."""

    host: str  # a name, an IP address, or an absolute folder that holds the Unix socket
    port: int = 5432  # also part of a Unix socket's name
    user: str = "postgres"
    password: Secret = attrs.field(factory=Secret)
    database: str = "tracking"
    sslmode: str = "prefer"  # as in libpq; of no effect on a Unix socket


@attrs.frozen
class RedisAddress:
    """One database of one server that speaks Redis' protocol."""

    host: str = "127.0.0.1"
    port: int = 6379
    username: str = ""  # empty: the default user
    password: Secret = attrs.field(factory=Secret)
    db: int = 0
    tls: bool = False
    socket_path: str = ""  # a Unix socket; when given, host, port and tls do not count

    @property
    def where(self) -> str:
        """For people."""
        return self.socket_path or f"{self.host}:{self.port}"
