"""Redis, the cache of live positions; no acknowledgement waits for it.

Newest wins inside Redis, in one script, so that several writers cannot put a position back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from uuid import uuid4

import attrs
import structlog
import trio
from redis.exceptions import NoScriptError

from actors.cache.calls import Call, Command, writes
from actors.cache.keys import Keys
from actors.cache.redis_script import MARK
from actors.cache.servers import Servers, servers
from actors.core.addresses import RedisAddress
from actors.core.fix import Fix
from actors.core.position import read_position

log = structlog.get_logger("redis")

READ_KEYS = 500  # in one MGET; decoded without giving way to other tasks: some 2 ms
READ_MOST = 5000  # in one hop
MANY_KEYS = 1000  # of one race, beside others
MARK_S = 3600
"""How long the sentinel of a daemon that has ended stays. One that cannot reach Redis for as long fills it again."""


@attrs.define(eq=False)
class RedisStore:
    """All calls raise CacheUnavailable, within a second; after trouble for a moment at once, without trying."""

    address: RedisAddress
    node_id: str  # two daemons may have the same: it is the name of their host by default
    ttl_s: int
    _name: str = attrs.field(init=False)  # of this run alone
    _marks: dict[str, str] = attrs.field(factory=dict)  # of the last writes that were answered, by home
    _keys: Keys = attrs.field(init=False)
    _server: Servers = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._server = servers(self.address)
        self._keys = Keys(self.address.mode == "cluster")
        self._name = f"{self.node_id}:{uuid4().hex}"

    async def write(self, changes: Sequence[Fix], forget: Collection[str] = ()) -> bool:
        """Delete what is there of the races to forget; then make these positions the newest where they are greater.
        One hop for all.

        True when all earlier writes of this store are there. False when the cache was emptied, never filled, or went
        back to an older state, as a replica does that takes the place of its primary.
        """
        calls: list[Call] = []
        for call in writes(changes, forget, self._keys, self.ttl_s):
            calls.append(call)
            await trio.lowlevel.checkpoint()
        homes = await self._server.homes({call.by_name().key for call in calls})
        mark = uuid4().hex
        for home, written in homes.items():
            args = (MARK_S, self._marks.get(home, ""), mark, "yes" if written else "")
            calls.append(Call(MARK, (self._keys.sentinel(self._name, home),), args))
        replies = await self._server.ask([call.by_name() for call in calls], (NoScriptError,))
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # The first write to this server, or it was restarted. Positions written twice change nothing.
            replies = await self._server.ask([call.in_full() for call in calls])
        intact = dict(zip(homes, replies[-len(homes) :], strict=True))
        self._marks |= {home: mark for home, written in homes.items() if written or not intact[home]}
        return all(intact.values())

    async def newest(self, race_id: str) -> list[Fix]:
        """The live positions of a race; values that are none are left out."""
        (members,) = await self._server.ask([self._members(race_id, -1)])
        found: list[Fix] = []
        for start in range(0, len(members), READ_MOST):
            found += (await self._positions({race_id: members[start : start + READ_MOST]}))[race_id]
        return found

    async def newest_of_races(self, race_ids: Sequence[str]) -> dict[str, list[Fix] | None]:
        """The same by race, of as many of the races as have READ_MOST participants together, and of one at least.

        None for one that has more than MANY_KEYS: ask for it alone.
        """
        members = await self._server.ask([self._members(race_id, MANY_KEYS) for race_id in race_ids])
        found: dict[str, list[Fix] | None] = {}
        some: dict[str, list[bytes]] = {}
        keys = 0
        for race_id, names in zip(race_ids, members, strict=True):
            if len(names) > MANY_KEYS:
                found[race_id] = None
            elif keys + len(names) <= READ_MOST:
                some[race_id] = names
                keys += len(names)
        return found | (await self._positions(some))

    async def _positions(self, members: Mapping[str, Sequence[bytes]]) -> dict[str, list[Fix]]:
        """Of members of the races' sets: some thousand, in one hop."""
        names = [
            (race_id, name) for race_id, some in members.items() for each in some if (name := _text(each)) is not None
        ]
        keys = [self._keys.last(race_id, name) for race_id, name in names]
        replies = await self._server.ask([Command(chunk[0], ("MGET", *chunk)) for chunk in self._chunks(names, keys)])
        values: list[bytes | None] = [value for reply in replies for value in reply]
        found: dict[str, list[Fix]] = {race_id: [] for race_id in members}
        unreadable = Counter[str]()
        for number, ((race_id, name), value) in enumerate(zip(names, values, strict=True)):
            if number % READ_KEYS == READ_KEYS - 1:
                await trio.lowlevel.checkpoint()
            if value is None:
                continue  # its time to live ran out
            fix = read_position(value, race_id, name)
            if fix is None:
                unreadable[race_id] += 1
            else:
                found[race_id].append(fix)
        for race_id, count in unreadable.items():
            log.warning("values that are no live positions", race_id=race_id, count=count)
        return found

    def _chunks(self, names: Sequence[tuple[str, str]], keys: Sequence[str]) -> Iterator[Sequence[str]]:
        """READ_KEYS at a time, in a cluster of one race each."""
        start = 0
        for end in range(1, len(keys) + 1):
            another = end < len(keys) and self._keys.in_cluster and names[end][0] != names[start][0]
            if another or end == len(keys) or end - start == READ_KEYS:
                yield keys[start:end]
                start = end

    def _members(self, race_id: str, last: int) -> Command:
        key = self._keys.seen(race_id)
        return Command(key, ("ZRANGE", key, 0, last))

    async def aclose(self) -> None:
        """Close idle connections; those in use end with their calls. Never waits."""
        await self._server.aclose()


def _text(member: bytes) -> str | None:
    """None for what is no UTF-8: not a name of ours."""
    try:
        return member.decode()
    except UnicodeDecodeError:
        return None
