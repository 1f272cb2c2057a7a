"""`simulate` against a real mosquitto: what it publishes are fixes that the daemon takes."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from actors.commands import simulate
from actors.commands.demo import GOES_ON_MS, start_of_race
from actors.commands.parser import main
from actors.commands.publisher import Topics
from actors.commands.simulate import Keeper, SimulatedRace, running
from actors.commands.unreceipted import Kept
from actors.core.timestamps import parse_ms
from actors.ingest.decode import decode
from actors.ingest.validate import Rules
from actors.settings.load import Settings
from supervisor import serve
from tests.kit.servers import start_mosquitto
from tests.mqtt.mqtt_listener import listening, settings_for

BASE_MS = 1_751_357_730_000


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with start_mosquitto(tmp_path) as broker:
        yield broker.port


def run(settings: Settings, *words: object) -> int:
    parser = argparse.ArgumentParser()
    simulate.add(parser.add_subparsers())
    args = parser.parse_args(["simulate", *map(str, words)])
    code: int = args.run(args, settings)
    return code


@pytest.mark.live
def test_publishes_a_race_of_valid_fixes(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    before_ms = time.time_ns() // 1_000_000
    options = ["--participants", 5, "--rate-hz", 20, "--duration-s", 0.5, "--race", "Zürich-2025", "--seed", 7]
    with listening(port) as listener:
        assert run(settings_for(port), *options) == 0
        messages = listener.wait_for(50)
    after_ms = time.time_ns() // 1_000_000
    assert len(messages) == 50
    fixes = []
    rules = Rules(10_000, topic_identity="participant_id", topics=("tracking/+/position",))
    for topic, payload in messages:
        found, rejections = decode(topic.encode(), payload, after_ms, rules)
        assert rejections == []
        fixes += found
    assert {fix.race_id for fix in fixes} == {"Zürich-2025"}
    assert sorted({fix.participant_id for fix in fixes}) == ["P001", "P002", "P003", "P004", "P005"]
    assert all(before_ms <= fix.timestamp_ms <= after_ms for fix in fixes)
    assert len({fix.id for fix in fixes}) == 50
    assert "simulate: 50 messages acknowledged" in capsys.readouterr().err


@pytest.mark.live
def test_ctrl_c_is_a_good_end(port: int) -> None:
    with listening(port) as listener:
        with listener.interrupting(10):
            assert run(settings_for(port), "--rate-hz", 10) == 0
        assert {json.loads(payload)["race_id"] for _, payload in listener.messages} == {"R-simulated"}


@pytest.mark.live
async def test_demo_can_run_it_beside_itself_and_end_it(tmp_path: Path) -> None:
    with start_mosquitto(tmp_path) as broker:
        settings = settings_for(broker.port)
        await simulate.simulate(settings, participants=3, rate_hz=10.0, duration_s=0.3, race_id="R-demo", seed=1)
        assert broker.log.count("Received PUBLISH") == 9
        async with trio.open_nursery() as nursery:

            async def endless() -> None:
                await simulate.simulate(settings, participants=3, rate_hz=10.0, duration_s=None, race_id="R", seed=1)

            nursery.start_soon(endless)
            with trio.fail_after(30):
                while broker.log.count("Received PUBLISH") < 15:
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class Recorder:
    """Stands for the publisher: keeps what it is given, and when."""

    messages: list[tuple[float, str, bytes]] = attrs.field(factory=list)  # seconds since the start

    async def publish(self, topic: str, payload: bytes) -> None:
        self.messages.append((trio.current_time(), topic, payload))
        await trio.lowlevel.checkpoint()


async def test_each_fix_is_sent_when_it_is_due(autojump_clock: trio.testing.MockClock) -> None:
    recorder = Recorder()
    started = trio.current_time()
    race = SimulatedRace("R", participants=4, rate_hz=0.5, duration_s=60.0, seed=1)
    topics = Topics(("t", "+"), by_race=True)
    work = running(race, topics, lambda: BASE_MS)
    await work(recorder)
    assert [topic for _, topic, _ in recorder.messages] == ["t/R"] * 120
    for turn, (at_s, _, payload) in enumerate(recorder.messages):
        fix = json.loads(payload)
        assert at_s - started == pytest.approx(turn * 0.5)
        assert parse_ms(fix["timestamp"]) == BASE_MS + turn * 500
        assert fix["participant_id"] == f"P{turn % 4 + 1:03d}"


async def test_a_race_that_started_before_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    whole, rest = Recorder(), Recorder()
    race = SimulatedRace("R", participants=4, rate_hz=0.5, duration_s=60.0, seed=1)
    topics = Topics(("t", "+"), by_race=True)
    await running(race, topics, lambda: BASE_MS)(whole)
    started = trio.current_time()
    await running(race, topics, lambda: BASE_MS + 30_500, started_ms=BASE_MS)(rest)
    assert [payload for _, _, payload in rest.messages] == [payload for _, _, payload in whole.messages[64:]]
    assert rest.messages[0][0] - started == pytest.approx(1.5)  # with the first whole turn


def test_demo_goes_on_after_a_short_pause(tmp_path: Path) -> None:
    note = tmp_path / "demo"
    assert start_of_race(note, 1, BASE_MS) == BASE_MS
    note.write_text(f"{BASE_MS} 1\n")
    ended_ms = BASE_MS + 60_000
    os.utime(note, (ended_ms / 1000, ended_ms / 1000))
    soon, late = ended_ms + 5000, ended_ms + GOES_ON_MS
    assert start_of_race(note, 1, soon) == BASE_MS
    assert start_of_race(note, 1, late) == late
    assert start_of_race(note, 2, soon) == soon
    assert start_of_race(note, 1, BASE_MS) == BASE_MS  # the clock went back
    for text in ("", "x 1", f"{BASE_MS}"):
        note.write_text(text)
        assert start_of_race(note, 1, soon) == soon


def test_demo_takes_no_less_than_one_participant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--participants", "0"], serve)
    assert ended.value.code == 2
    assert "allowed is a whole number from 1 to" in capsys.readouterr().err


async def test_trackers_that_are_switched_off_send_nothing(autojump_clock: trio.testing.MockClock) -> None:
    recorder = Recorder()
    race = SimulatedRace("R", participants=20, rate_hz=0.1, duration_s=7200.0, seed=3)
    await running(race, Topics(("t", "+"), by_race=False), lambda: BASE_MS)(recorder)
    last = {}
    for _, topic, payload in recorder.messages:
        last[topic] = json.loads(payload)["status"]
    assert len(last) == 20
    assert "finished" in last.values()
    assert len(recorder.messages) < 20 * 720


def test_the_schedule_goes_round() -> None:
    race = SimulatedRace("R", participants=2, rate_hz=2.0, duration_s=1.0, seed=1)
    assert list(race.schedule()) == [(0.0, 0), (0.25, 1), (0.5, 0), (0.75, 1)]
    endless = SimulatedRace("R", participants=1, rate_hz=1.0, duration_s=None, seed=1)
    assert len(list(takewhile(lambda due: due[0] < 100_000, endless.schedule()))) == 100_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--participants", "0"], "a whole number from 1"),
        (["--participants", "1.5"], "a whole number from 1"),
        (["--participants", "many"], "a whole number from 1"),
        (["--rate-hz", "0"], "allowed is a number from 0.001 to 100"),
        (["--rate-hz", "nan"], "allowed is a number from 0.001 to 100"),
        (["--duration-s", "0"], "a number of seconds above 0"),
        (["--race", "a/b"], "1 to 50 letters, marks, digits"),
        (["--race", ""], "1 to 50 letters, marks, digits"),
        (["--seed", "x"], "invalid int value"),
        (["--keep-until-receipt", "0"], "a number of seconds from 0.1"),
    ],
)
def test_wrong_usage_is_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(Settings(), *words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_keeping_without_receipts_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Settings(), "--keep-until-receipt") == 2
    assert "needs [mqtt] receipt_topic" in capsys.readouterr().err


@attrs.define(eq=False)
class Forgetful(Recorder):
    """A broker and a daemon of which the first `losing` messages vanish; of the others a receipt comes at once."""

    keeper: Keeper = attrs.field(kw_only=True)
    losing: int = attrs.field(kw_only=True)

    async def publish(self, topic: str, payload: bytes) -> None:
        await super().publish(topic, payload)
        if len(self.messages) > self.losing:
            fix = json.loads(payload)
            receipt = {**fix, "timestamps": [fix["timestamp"]], "rejected": []}
            self.keeper.take_receipt(json.dumps(receipt).encode())


async def test_a_kept_fix_is_sent_again_until_its_receipt(autojump_clock: trio.testing.MockClock) -> None:
    keeper = Keeper(Kept(3.0))
    outlet = Forgetful(keeper=keeper, losing=4)
    race = SimulatedRace("R", participants=1, rate_hz=1.0, duration_s=6.0, seed=1)
    started = trio.current_time()
    await running(race, Topics(("t", "+"), by_race=False), lambda: BASE_MS, keeper)(outlet)
    number = {payload: n for n, payload in enumerate(dict.fromkeys(payload for _, _, payload in outlet.messages))}
    sent = [(round(at_s - started, 3), number[payload]) for at_s, _, payload in outlet.messages]
    # Those of 0, 1 and 2 s are lost, the first of them also when it is sent again.
    assert sorted(sent) == [(0, 0), (1, 1), (2, 2), (3, 0), (3, 3), (4, 1), (4, 4), (5, 2), (5, 5), (6, 0)]
    assert (len(keeper.kept), keeper.kept.sent_again) == (0, 4)
