"""What Redis is told: commands; and positions to write -> calls of the script that writes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

import attrs
import msgspec

from actors.cache.keys import Keys
from actors.cache.redis_script import SHA, WRITE
from actors.core.fix import Fix
from actors.core.position import position_json

SCRIPT_ROWS = 500  # positions in one run of the script: a few ms, for which Redis serves nobody else

_pack = msgspec.msgpack.Encoder().encode


@attrs.frozen
class Command:
    """`words` as on the wire. Where there is one server for all, `key` does not count."""

    key: str
    words: tuple[str | int | bytes, ...]


@attrs.frozen
class Call:
    """One run of a script."""

    script: str
    keys: tuple[str, ...]  # the first says where it runs
    args: tuple[str | int | bytes, ...]

    def by_name(self) -> Command:
        """For a server that knows the script."""
        return self._command("EVALSHA", SHA[self.script])

    def in_full(self) -> Command:
        """For one that may not."""
        return self._command("EVAL", self.script)

    def _command(self, name: str, script: str) -> Command:
        return Command(self.keys[0] if self.keys else "", (name, script, len(self.keys), *self.keys, *self.args))


def writes(changes: Sequence[Fix], forget: Collection[str], keys: Keys, ttl_s: int) -> Iterator[Call]:
    """SCRIPT_ROWS positions at a time; in a cluster of one race each, whose keys are declared then."""
    if not keys.in_cluster:
        for start in range(0, max(len(changes), bool(forget)), SCRIPT_ROWS):
            some = changes[start : start + SCRIPT_ROWS]
            yield _write(some, [] if start else list(forget), (), keys, ttl_s)
        return
    by_race: defaultdict[str, list[Fix]] = defaultdict(list)
    for fix in changes:
        by_race[fix.race_id].append(fix)
    for race_id in dict.fromkeys([*forget, *by_race]):
        fixes = by_race[race_id]
        for start in range(0, len(fixes) or 1, SCRIPT_ROWS):
            some = fixes[start : start + SCRIPT_ROWS]
            gone = [race_id] if race_id in forget and not start else []
            names = [keys.last(race_id, fix.participant_id) for fix in some]
            yield _write(some, gone, (keys.seen(race_id), keys.rank(race_id), *names), keys, ttl_s)


def _write(fixes: Sequence[Fix], forget: list[str], names: tuple[str, ...], keys: Keys, ttl_s: int) -> Call:
    items: list[str] = []
    for fix in fixes:
        items += (
            fix.race_id,
            fix.participant_id,
            f"{fix.timestamp_ms:015d}{fix.status}{fix.id.hex()}",
            position_json(fix, stale=None).decode(),
        )
    return Call(WRITE, names, (ttl_s, *keys.around, _pack(items), _pack(forget)))
