"""Redis, the cache of live positions (CONTRACT section 5, DESIGN rule 15): short deadlines, no retries, a breaker.

Newest wins inside Redis, in one script, so that several writers cannot put a position back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha1

import attrs
import hiredis
import structlog
import trio

from actors.core import wire
from actors.core.fix import Fix
from actors.core.live_value import read_position
from actors.drivers.addresses import RedisAddress
from actors.drivers.resp import Command, Reply, RespConnection, connect
from actors.errors import CacheUnavailable
from actors.messages import LivePosition

log = structlog.get_logger("redis")

CONNECTIONS = 4
CALL_S = 1.0
PAUSE_FIRST_S = 0.2
PAUSE_MOST_S = 2.0
SCRIPT_ROWS = 500  # positions in one run of the script: a few ms, for which Redis serves nobody else
READ_KEYS = 500  # in one MGET

# ARGV: ttl in s, key of the sentinel, then six a position. Ranks compare as text: 15 digits of ms, status, id in hex.
# `race:R:rank` is ours: without it (another writer's keys) the score in `race:R:seen` stands in.
WRITE = b"""
local was_there = redis.call('EXISTS', ARGV[2])
local races = {}
for i = 3, #ARGV, 6 do
  local race, participant, value = 'race:' .. ARGV[i], ARGV[i + 1], ARGV[i + 5]
  local rank, ms, force = ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local last = race .. ':participant:' .. participant .. ':last'
  local newer = force == '1'
  if not newer then
    local held = redis.call('HGET', race .. ':rank', participant)
    if not held and redis.call('EXISTS', last) == 1 then
      local score = redis.call('ZSCORE', race .. ':seen', participant)
      held = score and string.format('%015d', tonumber(score))
    end
    newer = not held or held <= rank
  end
  if newer then
    redis.call('SET', last, value, 'EX', ARGV[1])
    redis.call('HSET', race .. ':rank', participant, rank)
    redis.call('ZADD', race .. ':seen', ms, participant)
    races[race] = true
  end
end
for race in pairs(races) do
  redis.call('EXPIRE', race .. ':seen', ARGV[1])
  redis.call('EXPIRE', race .. ':rank', ARGV[1])
end
redis.call('SET', ARGV[2], '1', 'EX', ARGV[1])
return was_there
"""
WRITE_SHA = sha1(WRITE, usedforsecurity=False).hexdigest()


@attrs.define(eq=False)
class RedisStore:
    """All calls raise CacheUnavailable, within a second; after trouble for a moment at once, without trying."""

    address: RedisAddress
    node_id: str  # names the sentinel: gone means that the cache was emptied
    ttl_s: int
    _idle: list[RespConnection] = attrs.field(factory=list)
    _places: trio.Semaphore = attrs.field(factory=lambda: trio.Semaphore(CONNECTIONS))
    _resting_until: float = 0.0  # trio's clock
    _pause_s: float = PAUSE_FIRST_S
    _trouble: str = ""

    async def write(self, changes: Sequence[LivePosition]) -> bool:
        """Make these positions the newest where they are greater, or where they are forced; one hop for all.

        False when nothing of this node's earlier writes was there any more: the cache was emptied, or never filled.
        """
        head: Command = (str(self.ttl_s), f"tracking:node:{self.node_id}")
        calls: list[Command] = []
        for start in range(0, len(changes) or 1, SCRIPT_ROWS):
            arguments = list(head)
            for change in changes[start : start + SCRIPT_ROWS]:
                arguments += _arguments(change)
            calls.append(("0", *arguments))
        replies = await self._ask([("EVALSHA", WRITE_SHA, *call) for call in calls], allow="NOSCRIPT")
        if any(isinstance(reply, hiredis.ReplyError) for reply in replies):
            # The first write to this server, or it was restarted. Positions written twice change nothing.
            replies = await self._ask([("EVAL", WRITE, *call) for call in calls])
        return replies[0] == 1

    async def newest(self, race_id: str) -> list[Fix]:
        """The live positions of a race; values that are none are left out."""
        (members,) = await self._ask([("ZRANGE", f"race:{race_id}:seen", 0, -1)])
        names = [name for member in _list(members) if (name := _text(member)) is not None]
        keys = [f"race:{race_id}:participant:{name}:last" for name in names]
        reads: list[Command] = [("MGET", *keys[at : at + READ_KEYS]) for at in range(0, len(keys), READ_KEYS)]
        values = [value for reply in await self._ask(reads) for value in _list(reply)] if reads else []
        fixes, unreadable = [], 0
        for name, value in zip(names, values, strict=True):
            if not isinstance(value, bytes):
                continue  # its time to live ran out
            fix = read_position(value, race_id, name)
            if fix is None:
                unreadable += 1
            else:
                fixes.append(fix)
        if unreadable:
            log.warning("values that are no live positions", race_id=race_id, count=unreadable)
        return fixes

    async def ping(self) -> None:
        """Raises CacheUnavailable when Redis cannot be used."""
        await self._ask([("PING",)])

    async def info(self) -> dict[str, str]:
        """INFO as a dictionary: `maxmemory_policy`, `maxmemory`, `redis_version` and the rest."""
        (reply,) = await self._ask([("INFO",)])
        lines = (_text(reply) or "").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))

    async def aclose(self) -> None:
        """Close idle connections; those in use end with their calls."""
        while self._idle:
            await self._idle.pop().aclose()

    async def _ask(self, commands: Sequence[Command], allow: str = "") -> list[Reply]:
        """One pipeline. Error replies raise, but for those that begin with `allow`."""
        async with self._places, self._breaker():
            connection = self._idle.pop() if self._idle else await connect(self.address)
            answered = False
            try:
                replies = await connection.pipeline(commands)
                answered = True
            finally:
                if answered:
                    self._idle.append(connection)
                else:
                    await connection.aclose()
                    await self.aclose()  # the others are most likely gone too
            for reply in replies:
                if isinstance(reply, hiredis.ReplyError) and not (allow and str(reply).startswith(allow)):
                    raise CacheUnavailable(f"Redis: {reply}")
            return replies

    @asynccontextmanager
    async def _breaker(self) -> AsyncIterator[None]:
        """The deadline around a call, and a growing rest after one that failed."""
        if trio.current_time() < self._resting_until:
            await trio.lowlevel.checkpoint()
            raise CacheUnavailable(self._trouble)
        try:
            with trio.fail_after(CALL_S):
                yield
        except trio.TooSlowError:
            error = CacheUnavailable(f"Redis did not answer within {CALL_S:g} s")
            self._rest(error)
            raise error from None
        except CacheUnavailable as error:
            self._rest(error)
            raise
        self._pause_s = PAUSE_FIRST_S

    def _rest(self, error: CacheUnavailable) -> None:
        self._trouble = str(error)
        self._resting_until = trio.current_time() + self._pause_s
        self._pause_s = min(2 * self._pause_s, PAUSE_MOST_S)


def _arguments(change: LivePosition) -> Command:
    fix = change.fix
    return (
        fix.race_id,
        fix.participant_id,
        f"{fix.timestamp_ms:015d}{fix.status}{fix.id.hex()}",
        fix.timestamp_ms,
        int(change.force),
        wire.position_json(fix, stale=None),
    )


def _list(reply: Reply) -> list[Reply]:
    return reply if isinstance(reply, list) else []


def _text(reply: Reply) -> str | None:
    """None for what is no UTF-8: not a name of ours."""
    try:
        return reply.decode() if isinstance(reply, bytes) else None
    except UnicodeDecodeError:
        return None
