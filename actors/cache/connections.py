"""Connections to one Redis: short deadlines, no retries, a breaker.

redis-py blocks, so it is called in threads; a caller that gives up closes the connection under its thread, which frees
that as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import attrs
import redis
import trio
from redis.backoff import NoBackoff
from redis.retry import Retry

from actors.cache.calls import Command
from actors.cache.redis_errors import FromReplica, explain, is_from_replica
from actors.core.addresses import RedisAddress
from actors.core.errors import CacheUnavailable

CLIENT_NAME = "race-tracking"
CONNECTIONS = 4
CALL_S = 1.0
PAUSE_FIRST_S = 0.2
PAUSE_MOST_S = 2.0

Errors: TypeAlias = tuple[type[redis.RedisError], ...]


@attrs.define(eq=False)
class Connections:
    """`ask` raises CacheUnavailable, within a second; after trouble for a moment at once, without trying."""

    address: RedisAddress  # of others it does not count
    pause_most_s: float = PAUSE_MOST_S
    _idle: list[_Line] = attrs.field(factory=list)
    _places: trio.Semaphore = attrs.field(factory=lambda: trio.Semaphore(CONNECTIONS))
    # Not the same as the places: a thread may outlive its caller, in a name look-up or while connecting.
    _threads: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(CONNECTIONS))
    _resting_until: float = 0.0  # trio's clock
    _pause_s: float = PAUSE_FIRST_S
    _trouble: str = ""
    _closed: bool = False

    async def aclose(self) -> None:
        """Close idle connections; those in use end with their calls. Never waits."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """The same."""
        self._closed = True
        self._close_idle()

    @property
    def in_trouble(self) -> bool:
        """The last call failed."""
        return bool(self._trouble)

    async def homes(self, keys: Collection[str]) -> dict[str, list[str]]:
        """All of them are here: see servers.py."""
        await trio.lowlevel.checkpoint()
        return {"": list(keys)}

    async def ask(self, commands: Sequence[Command], allow: Errors = ()) -> list[Any]:
        """One pipeline: its replies, of which those that are errors raise, but for errors of the types in `allow`."""
        async with self._places, self._breaker():
            line = self._idle.pop() if self._idle else _Line(_client(self.address))
            answered = False
            try:
                replies = await trio.to_thread.run_sync(
                    line.ask, commands, abandon_on_cancel=True, limiter=self._threads, thread_name="redis"
                )
                answered = True
            finally:
                if answered and not self._closed:
                    self._idle.append(line)
                else:
                    line.close()
                    self._close_idle()  # the others are most likely gone too
            for reply in replies:
                if isinstance(reply, redis.RedisError) and not isinstance(reply, allow):
                    raise reply
            return replies

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @asynccontextmanager
    async def _breaker(self) -> AsyncIterator[None]:
        """The deadline around a call, and a growing rest after one that failed."""
        if trio.current_time() < self._resting_until:
            await trio.lowlevel.checkpoint()
            raise CacheUnavailable(self._trouble)
        try:
            with trio.fail_after(CALL_S):
                yield
        except (trio.TooSlowError, redis.TimeoutError):
            raise self._rest(f"Redis did not answer within {CALL_S:g} s") from None
        except (redis.RedisError, OSError) as error:
            raise self._rest(explain(error, self.address)) from None
        self._pause_s, self._trouble = PAUSE_FIRST_S, ""

    def _rest(self, trouble: str) -> CacheUnavailable:
        """Begin a rest; the error to raise."""
        self._trouble = trouble
        self._resting_until = trio.current_time() + self._pause_s
        self._pause_s = min(2 * self._pause_s, self.pause_most_s)
        return CacheUnavailable(trouble)


@attrs.define(eq=False)
class _Line:
    """A client with one connection, for one call at a time."""

    client: redis.Redis = attrs.field(repr=False)  # knows the password
    _closed: bool = False

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """In a thread: one pipeline; error replies are values among the others. Raises redis.RedisError or OSError."""
        try:
            with self.client.pipeline(transaction=False) as pipe:
                put: Callable[..., object] = pipe.execute_command
                for command in commands:
                    put(*command.words)
                replies: list[Any] = pipe.execute(raise_on_error=False)
            for reply in replies:
                if is_from_replica(reply):
                    raise FromReplica(reply, self._primary())
            return replies
        finally:
            if self._closed:  # meanwhile, and perhaps before there was a connection to close
                self.client.close()

    def _primary(self) -> str:
        try:
            role = self.client.role()
        except redis.ResponseError:  # no right to ask
            return ""
        return f"{role[1].decode()}:{role[2]}" if role[0] == b"slave" else ""

    def close(self) -> None:
        """Shut the connection, also under a thread that waits for an answer; never waits."""
        self._closed = True
        self.client.close()


def _client(address: RedisAddress) -> redis.Redis:
    """Connects with its first call. RESP2, which every server speaks."""
    return redis.Redis(
        host=address.host,
        port=address.port,
        unix_socket_path=address.socket_path or None,
        username=address.username or None,
        password=address.password.reveal() or None,
        db=address.db,
        ssl=address.tls,
        ssl_check_hostname=True,  # not the default of older versions
        socket_timeout=CALL_S,
        socket_connect_timeout=CALL_S,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        max_connections=1,
        client_name=CLIENT_NAME,
        protocol=2,
    )
