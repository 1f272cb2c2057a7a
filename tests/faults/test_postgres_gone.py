"""PostgreSQL gone for long at 1,000 messages a second, and the daemon killed in the middle of it."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import attrs
import pytest

from tests.faults.outage import Own, RaceDay, own_servers, race_day
from tests.kit.daemon import Running, until
from tests.kit.live_state import snapshot
from tests.kit.metrics import conserved

pytestmark = pytest.mark.live

RATE = 1000
LAG_S = 10.0
"""The most a dashboard may lag behind: on a quiet machine it is a few tenths of a second."""
GROWTH = 1.3
"""The most that memory may grow by, from a fifth of a daemon's time to its end. Beyond SLACK_MB, as it is small."""
SLACK_MB = 40


@attrs.define
class Watch:
    """A sample a second."""

    megabytes: list[float] = attrs.field(factory=list)
    lags_s: list[float] = attrs.field(factory=list)

    def look(self, day: RaceDay, for_s: float) -> None:
        end = time.monotonic() + for_s
        while time.monotonic() < end:
            self.megabytes.append(rss_mb(day.running))
            newest = max(datetime.fromisoformat(at).timestamp() for at in day.spectator.shown().values())
            self.lags_s.append(time.time() - newest)
            assert self.lags_s[-1] < LAG_S, "dashboards stand still"
            time.sleep(1)

    def is_flat(self) -> bool:
        early, late = self.megabytes[len(self.megabytes) // 5], max(self.megabytes[-5:])
        return late < max(early * GROWTH, early + SLACK_MB)


def rss_mb(running: Running) -> float:
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@pytest.mark.parametrize("gone_s", [6, pytest.param(600, marks=pytest.mark.soak)])
def test_postgresql_gone_at_1000_messages_a_second(tmp_path: Path, gone_s: int) -> None:
    with own_servers(tmp_path) as own:
        soon: dict[str, object] = {"spool_after_s": 1} if gone_s < 60 else {}
        with own.settings(postgres=soon), own.at.daemon() as first, race_day(own.at, first, "long", RATE) as day:
            before, after = Watch(), Watch()
            own.server.stop()
            before.look(day, gone_s / 2)
            assert conserved(first.metrics())
            spooled = day.metric("fixes_spooled")
            assert spooled > 0
            first.kill()
            with own.at.daemon(ready=False) as second:
                day = RaceDay(own.at, second, day.press, day.spectator)
                until(lambda: day.spectator.connected == 2, "the dashboard is back")
                until(lambda: day.metric("fixes_recovered_total") >= spooled, "it found its spool again")
                assert snapshot(second, "long")["long"]
                until(lambda: day.metric("fixes_received_total") > 0)
                day.dashboards_follow()
                after.look(day, gone_s / 2)
                first_s, drain_rate = comes_back(own, day)
                day.check(within_s=60 + gone_s)
                print(
                    "RSS in MB, a sample a minute:", *(f"{mb:.0f}" for mb in (before.megabytes + after.megabytes)[::60])
                )
                print(f"RSS at the end {after.megabytes[-1]:.0f}, now {rss_mb(second):.0f} MB")
                print(f"dashboards lagged behind by {max(before.lags_s + after.lags_s):.1f} s at most")
                print(f"rows {len(day.press.sent)}")
                if gone_s > 60:
                    assert first_s < 5
                    assert drain_rate > RATE
                assert before.is_flat(), before.megabytes
                assert after.is_flat(), after.megabytes


def comes_back(own: Own, day: RaceDay) -> tuple[float, float]:
    """(seconds to the first new row, rows a second of the drain); new rows go on meanwhile."""
    backlog = day.metric("fixes_spooled")
    own.server.start()
    back = time.monotonic()
    until(lambda: day.metric("fixes_committed_total") > 0)
    first_s = time.monotonic() - back
    until(lambda: day.metric("fixes_spooled") == 0, "drained", 30 + backlog / RATE)
    drained_s = time.monotonic() - back
    print(f"first new row after {first_s:.1f} s; backlog of {backlog:.0f} rows drained after {drained_s:.1f} s")
    return first_s, backlog / drained_s
