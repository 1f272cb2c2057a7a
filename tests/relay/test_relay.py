"""Several nodes: whatever becomes live on one of them is shown by all, whatever happens to the stream between them."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from actors.core.fix import Fix
from actors.core.rejection import poison
from actors.core.timestamps import format_ms
from actors.relay.relay import SILENCE_S
from actors.supervision.child import State
from tests.kit.fake_stream import FakeStream
from tests.kit.fakes import Viewer
from tests.kit.making import make_fix
from tests.races.race_world import WINDOW_S
from tests.relay.nodes import Node, nodes
from tests.simulation.chaos import check_stream


def shown(viewer: Viewer) -> dict[str, str]:
    """participant -> timestamp, in the end. Nobody may ever have gone back."""
    return {who: when for (_, who), when in check_stream(viewer).items()}


def newest(fixes: list[Fix]) -> dict[str, str]:
    return {fix.participant_id: format_ms(fix.timestamp_ms) for fix in sorted(fixes, key=lambda fix: fix.rank)}


async def test_every_node_shows_what_one_of_them_reads(autojump_clock: MockClock) -> None:
    async with nodes(3) as (_, (a, b, c)):
        viewers = [node.watch() for node in (a, b, c)]
        await trio.sleep(1)
        fixes = [make_fix(f"P{n % 7}", at_s=n) for n in range(50)]
        for fix in fixes:
            a.read(fix)
            await trio.sleep(0.03)
        await trio.sleep(1)
        for viewer in viewers:
            assert shown(viewer) == newest(fixes)
        assert len(viewers[1].updates()) == len(viewers[0].updates()) == 50, "every change, in the same frames"
        assert b.world.handed_over() == [], "it is stored by the node that took it"


async def test_it_is_shown_elsewhere_at_once(autojump_clock: MockClock) -> None:
    async with nodes(2) as (_, (a, b)):
        viewer = b.watch()
        await trio.sleep(1)
        a.read(make_fix())
        await trio.sleep(WINDOW_S + 0.05)
        assert len(viewer.updates()) == 1


async def test_nodes_that_read_different_parts_of_a_race(autojump_clock: MockClock) -> None:
    async with nodes(2) as (_, (a, b)):
        viewers = [a.watch(), b.watch()]
        await trio.sleep(1)
        fixes = [make_fix(f"P{n % 5}", at_s=n) for n in range(60)]
        rng = random.Random(1)
        for start in range(0, 60, 3):
            for fix in fixes[start : start + 3]:
                rng.choice((a, b)).read(fix)
            await trio.sleep(0.02)
        await trio.sleep(1)
        assert shown(viewers[0]) == shown(viewers[1]) == newest(fixes)


async def test_a_race_that_nobody_watches_is_not_followed(autojump_clock: MockClock) -> None:
    async with nodes(2) as (_, (a, b)):
        a.read(make_fix())
        await trio.sleep(1)
        assert b.world.races.states == {}
        viewer = b.watch()
        await trio.sleep(2)
        assert shown(viewer) == newest([make_fix()])


async def test_what_is_under_way_when_a_race_is_first_watched_is_not_missed(autojump_clock: MockClock) -> None:
    """The stores do not have it yet, and the stream has passed it."""
    async with nodes(2) as (_, (a, b)):
        fix = make_fix()
        a.world.route(fix)
        await trio.sleep(0.2)
        viewer = b.watch()
        await trio.sleep(0.2)
        assert viewer.updates() == []
        a.world.store.rows[fix.id] = fix
        await trio.sleep(1)
        assert shown(viewer) == newest([fix])


@pytest.mark.parametrize("trouble", ["down", "losing"])
async def test_what_the_stream_lost_comes_from_the_stores(autojump_clock: MockClock, trouble: str) -> None:
    async with nodes(2) as (stream, (a, b)):
        viewer = b.watch()
        a.read(make_fix(at_s=0))
        await trio.sleep(1)
        setattr(stream, trouble, True)
        missed = make_fix(at_s=1)
        a.read(missed)
        await trio.sleep(6 + SILENCE_S)
        assert shown(viewer) == newest([missed]), "by PostgreSQL, while the stream is away"
        assert not b.health.components["relay"].up
        last = make_fix("P2", at_s=2)
        a.read(last)
        await trio.sleep(0.2)
        setattr(stream, trouble, False)
        await trio.sleep(1.0)
        assert shown(viewer) == newest([missed, last]), "and soon after it is back"
        assert b.health.components["relay"].up
        a.read(make_fix(at_s=9))
        await trio.sleep(0.2)
        assert len(viewer.updates()) >= 2


async def test_a_stream_that_begins_anew_behind_its_readers_is_read_again(autojump_clock: MockClock) -> None:
    async with nodes(2) as (stream, (a, b)):
        viewer = b.watch()
        await trio.sleep(60)
        stream.begin_anew()
        missed = make_fix(at_s=0)
        a.read(missed)
        await trio.sleep(SILENCE_S + 2.5)
        assert shown(viewer) == newest([missed])
        last = make_fix(at_s=1)
        a.read(last)
        await trio.sleep(0.2)
        assert shown(viewer) == newest([last])


async def test_an_entry_that_is_missing_shows_within_a_beat(autojump_clock: MockClock) -> None:
    async with nodes(2) as (stream, (a, b)):
        viewer = b.watch()
        await trio.sleep(3)
        stream.losing = True
        missed = make_fix()
        a.read(missed)
        await trio.sleep(0.2)
        stream.losing = False
        await trio.sleep(1.2)
        assert shown(viewer) == newest([missed])


async def test_a_position_that_is_taken_back_is_so_everywhere(autojump_clock: MockClock) -> None:
    async with nodes(2) as (_, (a, b)):
        old, refused = make_fix(at_s=0), make_fix(at_s=1)
        a.read(old)
        viewer = b.watch()
        await trio.sleep(2)
        a.world.route(refused)
        await trio.sleep(1)
        assert shown(viewer) == newest([refused])
        a.world.races.rows_refused([refused])
        await trio.sleep(1)
        viewer.catch_up(b.world.races)
        await trio.sleep(1)
        assert shown(viewer) == newest([old])


async def test_one_that_was_taken_back_while_nobody_heard_is_so_as_well(autojump_clock: MockClock) -> None:
    async with nodes(2) as (stream, (a, b)):
        old, refused = make_fix(at_s=0), make_fix(at_s=1)
        a.read(old)
        viewer = b.watch()
        await trio.sleep(2)
        a.world.route(refused)
        await trio.sleep(1)
        stream.losing = True
        a.world.store.rejected = {(row := poison(refused, "")).id: row}
        a.world.races.rows_refused([refused])
        await trio.sleep(0.2)
        assert shown(viewer) == newest([refused])
        stream.losing = False
        for _ in range(3):
            await trio.sleep(1)
            viewer.catch_up(b.world.races)
        assert shown(viewer) == newest([old])


async def test_after_what_it_could_not_tell_it_has_others_ask_the_stores(autojump_clock: MockClock) -> None:
    """They may have asked in vain: it was in no store yet."""
    async with nodes(2) as (stream, (a, b)):
        viewer = b.watch()
        await trio.sleep(3)
        stream.down = True
        missed = make_fix()
        a.world.route(missed)
        await trio.sleep(1)
        stream.down = False
        await trio.sleep(5)
        assert shown(viewer) == {}
        a.world.store.rows[missed.id] = missed
        a.mailbox.look_again()
        await trio.sleep(0.2)
        assert shown(viewer) == newest([missed])


async def test_what_it_could_not_tell_in_time_is_asked_for_when_it_can(autojump_clock: MockClock) -> None:
    async with nodes(2) as (stream, (a, b)):
        viewer = b.watch()
        await trio.sleep(3)
        b.world.history.down = stream.down = True
        missed = make_fix()
        a.read(missed)
        await trio.sleep(1)
        assert shown(viewer) == {}
        stream.down = b.world.history.down = False
        await trio.sleep(1)
        assert shown(viewer) == newest([missed])


async def test_a_frame_that_nobody_can_read_harms_nobody(autojump_clock: MockClock) -> None:
    async with nodes(2) as (stream, (a, b)):
        viewer = b.watch()
        await trio.sleep(1)
        for data in (b"", b"\x93\xa1x\x01\x91\x93\xa2R1\x00\xc4\x01a", b"rubbish"):
            await stream.append(data)
        a.read(make_fix())
        await trio.sleep(1)
        assert shown(viewer) == newest([make_fix()])
        assert b.world.state() is State.RUNNING


@pytest.mark.parametrize("seed", range(20))
async def test_under_random_faults_all_converge(autojump_clock: MockClock, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    async with nodes(3) as (stream, made):
        viewers = [node.watch() for node in made]
        fixes: list[Fix] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(faults, stream, made, random.Random(seed))
            for number in range(400):
                fix = make_fix(f"P{rng.randrange(5)}", at_s=trio.current_time() + number / 1000)
                fixes.append(fix)
                rng.choice(made).read(fix)
                await trio.sleep(rng.expovariate(5))
                for node, viewer in zip(made, viewers, strict=True):
                    viewer.catch_up(node.world.races)
            nursery.cancel_scope.cancel()
        stream.down = stream.losing = False
        for node in made:
            node.world.history.down = False
        for _ in range(20):
            await trio.sleep(0.5)
            for node, viewer in zip(made, viewers, strict=True):
                viewer.catch_up(node.world.races)
        for viewer in viewers:
            assert shown(viewer) == newest(fixes)


async def faults(stream: FakeStream, made: list[Node], rng: random.Random) -> None:
    while True:
        await trio.sleep(rng.expovariate(0.3))
        match rng.randrange(3):
            case 0:
                stream.down = not stream.down
            case 1:
                stream.losing = not stream.losing
            case _:
                node = rng.choice(made)
                node.world.history.down = not node.world.history.down
