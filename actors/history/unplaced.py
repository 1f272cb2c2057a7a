"""Rows for which PostgreSQL has no partition: where they wait, and what is said of them. Others go on."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import structlog
import trio

from actors.core.errors import Partitions
from actors.core.fix import Fix
from actors.history.committer import Committed
from actors.history.partitions import months, no_partition, to_log
from actors.telemetry.health import Health
from actors.telemetry.metrics import Metrics
from actors.telemetry.once import OncePerSecond

log = structlog.get_logger("persistence")


@attrs.define(eq=False)
class Unplaced:
    """Owned by Spooling. Those in the spool are tried again when there are other partitions, those held every few
    seconds, because there may be room in the spool."""

    metrics: Metrics
    health: Health
    passed_to: int = 0  # key in the spool: what is left up to it has no partition
    spooled: int = 0  # how many rows that are
    partitions: Partitions | None = None  # that there were when the first of them was tried
    held: Sequence[Fix] = ()  # in the hands of persistence, because the spool does not take them
    _months: set[str] = attrs.field(factory=set)  # of those in the spool
    _seldom: OncePerSecond = attrs.field(factory=OncePerSecond)

    def passed(self, key: int, done: Committed) -> None:
        """Of what the spool has up to this key, these are left."""
        self.passed_to = key
        if done.left:
            if not self.spooled:
                self.partitions = done.partitions
            self.spooled += len(done.left)
            self._months |= months(done.left)
            self._count()
            self.say(done.left, done.partitions, "wait in the spool")

    def try_again(self) -> None:
        """From the beginning of the spool."""
        self.passed_to = self.spooled = 0
        self._months.clear()
        self._count()

    def hold(self, fixes: Sequence[Fix]) -> None:
        """All that persistence holds now."""
        self.held = fixes
        self._count()

    def say(self, fixes: Sequence[Fix], partitions: Partitions | None, where: str) -> None:
        """Name them in the log, at most once a second."""
        if self._seldom.allows(where, trio.current_time()):
            by = partitions.by if partitions else ""
            skipped = self._seldom.take_suppressed(where)
            log.error(f"no partition: fixes {where}", **to_log(fixes, by), not_logged_since=skipped)

    def tell(self) -> None:
        """PostgreSQL is there, and all other rows are in it."""
        if self.held:
            where = "unacknowledged, and what came after them"
            self.health.down("postgres", no_partition(months(self.held), len(self.held), where))
        elif self.spooled:
            self.health.up("postgres", no_partition(self._months, self.spooled, "in the spool"))
        else:
            self.health.up("postgres")

    def _count(self) -> None:
        self.metrics.fixes_without_partition.set(self.spooled + len(self.held))
