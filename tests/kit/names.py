"""A name server of the tests."""

from __future__ import annotations

import math
import socket
from typing import Any

import attrs
import trio


@attrs.define
class Names(trio.abc.HostnameResolver):
    """Every name stands for these; without any it never answers. For `trio.socket.set_custom_hostname_resolver`."""

    addresses: list[str]

    async def getaddrinfo(self, host: object, port: Any, *_: object, **__: object) -> Any:
        await trio.sleep(0 if self.addresses else math.inf)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]

    async def getnameinfo(self, sockaddr: object, flags: int) -> Any:
        raise NotImplementedError
