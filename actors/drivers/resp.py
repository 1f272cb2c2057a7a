"""One connection to Redis on trio: hiredis packs and parses (RESP2), so a deadline is an ordinary cancel scope.

Protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import TypeAlias

import hiredis
import trio

from actors.drivers.addresses import RedisAddress
from actors.errors import CacheUnavailable

RECEIVE_BYTES = 65_536

Command: TypeAlias = tuple[str | bytes | int, ...]
Reply: TypeAlias = "bytes | int | hiredis.ReplyError | list[Reply] | None"


class RespConnection:
    """Used by one task at a time; after an exception it must be closed, because replies may still be on the way."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._reader = hiredis.Reader()

    async def pipeline(self, commands: Sequence[Command]) -> list[Reply]:
        """Send all, then read one reply each; an error reply is a value among them.

        Raises CacheUnavailable when the connection is lost or what comes is not RESP.
        """
        try:
            await self._stream.send_all(b"".join(map(_pack, commands)))
            return [await self._reply() for _ in commands]
        except (OSError, trio.BrokenResourceError, ssl.SSLError) as error:
            why = str(error) or str(error.__cause__ or type(error).__name__)  # trio puts TLS errors into the cause
            raise CacheUnavailable(f"connection to Redis lost: {why}") from None
        except hiredis.ProtocolError as error:
            raise CacheUnavailable(f"what answers is not Redis: {error}") from None

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def _reply(self) -> Reply:
        while True:
            reply: Reply | bool = self._reader.gets()
            if reply is not False:  # hiredis' word for "more bytes are needed"
                return reply
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if not data:
                raise trio.BrokenResourceError("closed by the server")
            self._reader.feed(bytes(data))


def _pack(command: Command) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub says a tuple of one element
    return packed


async def connect(address: RedisAddress) -> RespConnection:
    """Connect, log in, choose the database. Raises CacheUnavailable; the caller sets the deadline."""
    connection = RespConnection(await _dial(address))
    ready = False
    try:
        password = address.password.reveal()
        commands: list[Command] = []
        if password:
            commands.append(("AUTH", address.username, password) if address.username else ("AUTH", password))
        commands.append(("SELECT", address.db))
        for reply in await connection.pipeline(commands):
            if isinstance(reply, hiredis.ReplyError):
                raise CacheUnavailable(f"Redis: {reply}")
        ready = True
        return connection
    finally:
        if not ready:
            await connection.aclose()


async def _dial(address: RedisAddress) -> trio.abc.Stream:
    try:
        if address.socket_path:
            return await trio.open_unix_socket(address.socket_path)
        if not address.tls:
            return await trio.open_tcp_stream(address.host, address.port)
        context = ssl.create_default_context()
        return await trio.open_ssl_over_tcp_stream(address.host, address.port, ssl_context=context)
    except OSError as error:
        where = address.socket_path or f"{address.host}:{address.port}"
        raise CacheUnavailable(f"cannot reach Redis at {where}: {error}") from None
