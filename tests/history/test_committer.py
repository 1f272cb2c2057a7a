"""One batch into PostgreSQL: what persistence and the spool have in common; most of it is in test_persistence.py."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from actors.core.errors import StoreMisconfigured
from actors.core.parcel import Tally
from actors.history.committer import REFUSALS_A_MINUTE, Committer
from actors.telemetry.metrics import Metrics
from tests.kit.fakes import FakeStore
from tests.kit.making import make_fix


async def test_refusals_of_several_batches_are_rare_by_the_minute(autojump_clock: MockClock) -> None:
    """A column made narrower shows row by row, in batches that hold good rows as well."""
    store = FakeStore(refuse=lambda fix: fix.participant_id == "bad")
    committer = Committer(store, Metrics(), lambda _fixes: None, lambda _fixes, _rejections: None)
    good = [make_fix(at_s=second) for second in range(2)]
    bad = [make_fix("bad", at_s=second) for second in range(REFUSALS_A_MINUTE + 2)]
    first, second = bad[: len(bad) // 2], bad[len(bad) // 2 :]
    poison = {"poison": len(first)}
    assert (await committer.commit([*first, good[0]], (), committer.accepted)).tally == Tally(1, 0, poison)
    begun = committer.accepted
    await trio.sleep(50)
    with pytest.raises(StoreMisconfigured, match=f"more than {REFUSALS_A_MINUTE} rows refused within a minute"):
        await committer.commit([*second, good[1]], (), begun)
    assert len(store.rejected) == len(first)
    await trio.sleep(11)
    assert (await committer.commit([*second, good[1]], (), begun)).tally == Tally(1, 0, poison)
    assert len(store.rejected) == len(bad)
