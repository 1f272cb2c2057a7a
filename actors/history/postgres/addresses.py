"""The addresses that the host's name stands for: libpq itself would block while it resolves a name."""

from __future__ import annotations

import ipaddress

import trio

from actors.core.addresses import PostgresAddress
from actors.core.errors import StoreUnavailable


async def addresses_of(address: PostgresAddress) -> list[str | None]:
    """To be tried in this order, never empty; None where libpq needs none. Raises StoreUnavailable."""
    if address.host.startswith(("/", "@")):
        return [None]
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        pass
    else:
        return [None]
    try:
        found = await trio.socket.getaddrinfo(address.host, address.port, type=trio.socket.SOCK_STREAM)
    except OSError as error:
        raise StoreUnavailable(f"cannot resolve the name {address.host!r}: {error.strerror}") from None
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
