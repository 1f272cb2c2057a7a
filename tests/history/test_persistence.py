"""Persistence: batches, settles only after the commit, outlasts every trouble of PostgreSQL, survives its own crash."""

from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import MockClock

from actors.core.errors import RowRefused, StoreMisconfigured, StoreUnavailable
from actors.core.fix import Fix
from actors.history.committer import REFUSALS_A_MINUTE
from tests.history.persisting import rejection, running, world
from tests.kit.making import make_fix


async def test_many_parcels_one_batch_settled_after_the_commit(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        w.store.delay_s = 0.5
        fixes = [make_fix(at_s=i) for i in range(10)]
        for i, fix in enumerate(fixes):
            w.put(i, fix)
        w.put(10, fixes[0], rejections=(rejection(),))
        await trio.sleep(0.6)
        assert w.settled == []
        await trio.sleep(2)
        assert w.store.calls == 1
        assert w.settled == [(1, i) for i in range(11)]
        assert set(w.store.rows) == {fix.id for fix in fixes}
        assert (w.count("fixes_committed_total"), w.count("fixes_duplicate_total")) == (10, 1)
        assert w.count("fixes_rejected_total", code="bad_json") == 1


async def test_size_closes_a_batch(autojump_clock: MockClock) -> None:
    async with world(max_rows=4) as w, running(w):
        for i in range(8):
            w.put(i, make_fix(at_s=i))
        await trio.sleep(1)
        assert w.store.calls == 2


async def test_nothing_is_settled_while_postgresql_is_away(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        await trio.sleep(1)
        assert w.health.components["postgres"].up
        w.store.trouble = StoreUnavailable("connection refused")
        w.put(0, make_fix(), rejections=(rejection(),))
        await trio.sleep(60)
        assert w.settled == []
        assert not w.health.components["postgres"].up
        assert "connection refused" in w.health.components["postgres"].detail
        w.store.trouble = None
        await trio.sleep(3)
        assert w.settled == [(1, 0)]
        assert w.health.components["postgres"].up


async def test_away_at_start_is_no_failed_boot(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.store.trouble = StoreUnavailable("not yet")
        async with running(w):
            w.put(0, make_fix())
            await trio.sleep(10)
            w.store.trouble = None
            await trio.sleep(3)
            assert w.settled == [(1, 0)]


async def test_lost_commit_reply_is_repeated_and_counted_as_duplicate(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        w.store.late_trouble = StoreUnavailable("connection lost during COMMIT")
        w.put(0, make_fix())
        await trio.sleep(5)
        assert w.settled == [(1, 0)]
        assert (w.count("fixes_committed_total"), w.count("fixes_duplicate_total")) == (0, 1)
        assert w.told == [([make_fix()], [])], "its tracker waits for a receipt all the same"


async def test_an_idle_postgresql_that_dies_is_noticed(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        await trio.sleep(1)
        w.store.trouble = StoreUnavailable("gone")
        await trio.sleep(10)
        assert not w.health.components["postgres"].up


async def test_a_few_refused_rows_become_poison_and_the_rest_is_committed(autojump_clock: MockClock) -> None:
    async with world(max_rows=1000) as w, running(w):
        fixes = [make_fix(at_s=i) for i in range(1000)]
        bad = fixes[333]
        w.store.refuse = lambda fix: fix.id == bad.id
        w.put(0, *fixes)
        await trio.sleep(5)
        assert w.settled == [(1, 0)]
        assert len(w.store.rows) == 999
        assert [r.code for r in w.store.rejected.values()] == ["poison"]
        assert [r.detail for r in w.store.rejected.values()] == ["refused by PostgreSQL: numeric field overflow"]
        assert w.count("fixes_committed_total") + w.count("fixes_rejected_total", code="poison") == 1000


async def test_a_set_up_that_is_mended_while_the_refused_rows_are_being_found(autojump_clock: MockClock) -> None:
    async with world(max_rows=1000) as w, running(w):
        fixes = [make_fix(at_s=i) for i in range(100)]
        asked = []

        def refuse(fix: Fix) -> bool:
            """All of the batch, until three are found."""
            asked.append(fix)
            return fix in fixes and len(asked) < 20

        w.store.refuse = refuse
        w.put(0, *fixes)
        await trio.sleep(5)
        assert w.settled == [(1, 0)]
        assert len(w.store.rows) == 100
        assert w.store.rejected == {}
        assert (w.count("fixes_committed_total"), w.count("fixes_duplicate_total")) == (100, 0)


async def test_when_all_rows_are_refused_the_set_up_is_wrong(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        w.store.refuse = lambda _fix: True
        w.put(0, make_fix(at_s=0), make_fix(at_s=1))
        await trio.sleep(60)
        assert w.settled == []
        assert w.store.rejected == {}
        assert "set-up" in w.health.components["postgres"].detail
        w.store.refuse = lambda _fix: False
        await trio.sleep(5)
        assert w.settled == [(1, 0)]
        assert len(w.store.rows) == 2


async def test_many_refusals_a_minute_are_a_set_up_fault_too(autojump_clock: MockClock) -> None:
    async with world(max_rows=1000) as w, running(w):
        fixes = [make_fix(at_s=i) for i in range(100)]
        bad = {fix.id for fix in fixes[: REFUSALS_A_MINUTE + 1]}
        w.store.refuse = lambda fix: fix.id in bad
        w.put(0, *fixes)
        await trio.sleep(30)
        assert w.settled == []
        assert w.store.rejected == {}


async def test_a_row_refused_alone_is_poison_once_others_are_accepted(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        bad = make_fix(at_s=0)
        w.store.refuse = lambda fix: fix.id == bad.id
        w.put(0, bad)
        await trio.sleep(30)
        assert w.settled == [], "the set-up may be wrong"
        w.put(1, make_fix(at_s=1))
        await trio.sleep(5)
        assert w.settled == [(1, 0), (1, 1)]
        assert [r.code for r in w.store.rejected.values()] == ["poison"]
        assert w.health.components["postgres"].up


async def test_rows_that_were_there_already_show_that_the_set_up_is_right(autojump_clock: MockClock) -> None:
    """Killed between commit and acknowledgement, with a window of the broker that holds nothing new any more."""
    async with world(max_rows=3) as w, running(w):
        w.put(0, make_fix(at_s=0), make_fix(at_s=1))
        await trio.sleep(1)
        known = set(w.store.rows)
        w.store.refuse = lambda fix: fix.id not in known
        w.put(1, make_fix(at_s=0), make_fix(at_s=1), make_fix(at_s=2))  # sent again by the broker
        await trio.sleep(30)
        assert w.settled == [(1, 0), (1, 1)]
        assert [r.code for r in w.store.rejected.values()] == ["poison"]


async def test_a_full_batch_gets_company_too(autojump_clock: MockClock) -> None:
    async with world(max_rows=1) as w, running(w):
        w.store.refuse = lambda fix: fix.participant_id == "P666"
        w.put(0, make_fix("P666"))
        await trio.sleep(1)
        w.put(1, make_fix("P1"))
        await trio.sleep(5)
        assert sorted(w.settled) == [(1, 0), (1, 1)]
        assert len(w.store.rejected) == len(w.store.rows) == 1


async def test_a_refused_row_that_was_sent_again_and_again_counts_once(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        bad, good = make_fix(at_s=0), make_fix(at_s=1)
        w.store.refuse = lambda fix: fix.id == bad.id
        for part in range(2 * REFUSALS_A_MINUTE):
            w.put(part, bad)
        w.put(99, good)
        await trio.sleep(10)
        assert len(w.settled) == 2 * REFUSALS_A_MINUTE + 1
        assert w.count("fixes_rejected_total", code="poison") == 2 * REFUSALS_A_MINUTE
        w.put(100, bad, make_fix(at_s=2))
        await trio.sleep(10)
        assert (1, 100) in w.settled
        assert len(w.store.rejected) == 1


async def test_what_is_told_is_in_the_form_in_which_it_was_sent(autojump_clock: MockClock) -> None:
    forms = ["2025-07-01T08:15:30Z", "2025-07-01T10:15:30+02:00", "2025-07-01T08:15:30Z"]
    async with world() as w, running(w):
        w.store.refuse = lambda fix: fix.participant_id == "P666"
        for part, form in enumerate(forms):
            good, bad = (msgspec.structs.replace(make_fix(who), sent_timestamp=form) for who in ("P1", "P666"))
            w.put(part, good, bad)
        await trio.sleep(10)
        assert len(w.store.rows) == len(w.store.rejected) == 1
        ((fixes, rejections),) = w.told
        assert [fix.sent_timestamp for fix in fixes] == forms
        assert sorted(str(row.sent_timestamp) for row in rejections) == sorted(forms)


async def test_refused_rejections_are_a_fault_of_the_set_up(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        await trio.sleep(1)
        w.store.write_trouble = RowRefused("null value in column reviewed_by")
        w.put(0, rejections=(rejection(),))
        await trio.sleep(30)
        assert w.settled == []
        assert "set-up: rejections are refused" in w.health.components["postgres"].detail
        w.store.write_trouble = None
        await trio.sleep(5)
        assert w.settled == [(1, 0)]


@pytest.mark.parametrize(
    "trouble", [StoreUnavailable("read-only"), StoreMisconfigured("permission denied")], ids=["away", "set-up"]
)
async def test_an_answer_alone_is_not_taken_for_recovery(autojump_clock: MockClock, trouble: Exception) -> None:
    async with world(with_spool=True) as w, running(w):
        await trio.sleep(1)
        w.store.write_trouble = trouble
        w.put(0, make_fix(at_s=0))
        await trio.sleep(5)
        for number in range(1, 200):
            w.put(number, make_fix(at_s=number))
            await trio.sleep(0.1)
            assert not w.health.components["postgres"].up
            if isinstance(trouble, StoreUnavailable):
                assert len(w.settled) == number + 1, "nothing waits while it is known to be away"
            else:
                assert w.settled == []
        w.store.write_trouble = None
        await trio.sleep(5)
        assert len(w.store.rows) == len(w.settled) == 200
        assert w.health.components["postgres"].up


async def test_what_became_of_partitions_is_looked_for_and_noted_little_by_little(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        await trio.sleep(1)
        w.store.to_note = 50
        await trio.sleep(12)
        assert 0 < w.store.to_note < 40
        w.store.trouble = RowRefused("somebody's trigger")
        await trio.sleep(0.5)
        left = w.store.to_note
        w.store.trouble = None
        await trio.sleep(11)
        assert 0 < w.store.to_note < left
        await trio.sleep(20)
        assert w.store.to_note == 0


async def test_misconfigured_waits_and_recovers(autojump_clock: MockClock) -> None:
    async with world() as w, running(w):
        w.store.trouble = StoreMisconfigured("permission denied for table tracking_positions")
        w.put(0, make_fix())
        await trio.sleep(30)
        assert w.settled == []
        w.store.trouble = None
        await trio.sleep(5)
        assert w.settled == [(1, 0)]


async def test_a_crash_between_commit_and_settle_repeats_the_batch(autojump_clock: MockClock) -> None:
    async with world() as w:
        async with running(w):
            w.store.delay_s = 15
            w.put(0, make_fix(at_s=0))
            await trio.sleep(10)  # pinged, collected, being written
        assert w.settled == []
        assert len(w.persistence.state.writing) == 1
        w.store.delay_s = 0
        async with running(w):
            w.put(1, make_fix(at_s=1))
            await trio.sleep(1)
        assert sorted(w.settled) == [(1, 0), (1, 1)]
        assert len(w.store.rows) == 2


async def test_a_fix_that_is_twice_in_a_batch_is_counted_twice_also_where_its_partition_goes_meanwhile(
    autojump_clock: MockClock,
) -> None:
    """The batch is halved, for a row that is refused in it."""
    async with world() as w, running(w):
        await trio.sleep(1)
        bad = make_fix("P2")

        def refuse(fix: Fix) -> bool:
            if w.store.rows:  # the first half is in
                w.store.missing = frozenset(("P1",))
            return fix.id == bad.id

        w.store.refuse = refuse
        w.put(0, make_fix("P1"), make_fix("P3"), make_fix("P1"), bad)
        await trio.sleep(2)
        counted = {name: w.count(f"fixes_{name}_total") for name in ("committed", "duplicate")}
        assert (
            sum(counted.values())
            + w.count("fixes_rejected_total", code="poison")
            + sum(but for _, but in w.settled_but)
            == 4
        ), counted
