"""`run`: what it hands to the daemon, and the end of standard input."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
import trio
import trio.testing

from actors.commands.parser import build
from actors.settings.load import Settings

Beside = Callable[[], Awaitable[None]]


def beside(*args: str) -> Beside | None:
    """What runs beside the daemon."""
    given: list[Beside | None] = []

    def serve(_settings: Settings, beside: Beside | None = None) -> int:
        given.append(beside)
        return 3

    parsed = build().parse_args(args)
    parsed.serve = serve
    assert parsed.run(parsed, Settings()) == 3
    (found,) = given
    return found


def test_nothing_runs_beside_it() -> None:
    assert beside() is beside("run") is None


async def until_asked_to_stop(guest: Beside) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals, trio.fail_after(60):
        await guest()
        async for number in signals:
            assert number == signal.SIGTERM
            return


async def test_it_stops_when_nobody_holds_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = beside("run", "--until-eof")
    assert guest is not None
    reading, writing = os.pipe()
    with closing(os.fdopen(reading)) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_asked_to_stop, guest)
            os.write(writing, b"what is said is of no interest\n")
            await trio.testing.wait_all_tasks_blocked(0.1)
            assert nursery.child_tasks
            os.close(writing)
        assert os.get_blocking(reading), "whose else it may be"


@pytest.mark.parametrize("kind", ["nothing", "file", "closed"])
async def test_an_input_that_ends_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    guest = beside("run", "--until-eof")
    assert guest is not None
    (tmp_path / "file").write_text("x" * 100_000)
    with (Path("/dev/null") if kind == "nothing" else tmp_path / "file").open() as stdin:
        monkeypatch.setattr(sys, "stdin", None if kind == "closed" else stdin)
        await until_asked_to_stop(guest)
