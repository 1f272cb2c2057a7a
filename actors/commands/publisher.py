"""What replay and simulate share: topics, and one run of publishing with its bar, its signals and its last words."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import attrs
import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from actors.mqtt.publisher import Publisher, PublishFailed, open_publisher
from actors.settings.load import MqttSettings, Settings

REFRESH_S = 0.1
LAST_ACKNOWLEDGEMENTS_S = 5.0  # how long they are waited for after Ctrl-C
LEVEL_CHARACTERS = 100


class Outlet(Protocol):
    """What takes messages: a Publisher."""

    async def publish(self, topic: str, payload: bytes) -> None: ...


Produce = Callable[[Outlet], Awaitable[None]]


@attrs.frozen
class Topics:
    """Topics that the daemon of these settings listens to, made from the first of its filters."""

    levels: tuple[str, ...]
    by_race: bool  # the first + stands for the race, as topic_identity says

    @classmethod
    def of(cls, mqtt: MqttSettings) -> Topics:
        return cls(tuple(mqtt.topics[0].split("/")), mqtt.topic_identity == "race_id")

    def topic(self, participant_id: str, race_id: str) -> str:
        """The first `+` is the participant (or race), the second the other one; a last `#` is `position`.

        A filter without `+` has the participant for its `#`; one without wildcards is the topic.
        """
        first, second = (race_id, participant_id) if self.by_race else (participant_id, race_id)
        fillers = iter((_level(first), _level(second)))
        levels = [next(fillers, "x") if level == "+" else level for level in self.levels]
        if levels[-1] == "#":
            levels[-1] = "position" if "+" in self.levels else _level(first)
        return "/".join(levels)


def _level(text: str) -> str:
    """One level of a topic name: what MQTT or a broker would refuse becomes `_` (MQTT 5.0, 1.5.4 and 4.7)."""
    clean = "".join(c if c.isprintable() and c not in "+#/$" else "_" for c in text[:LEVEL_CHARACTERS])
    return clean or "unknown"


@attrs.frozen
class Outcome:
    """How a run of publishing ended; a broker that fails it raises PublishFailed instead."""

    published: int  # handed over
    acknowledged: int
    unheard: int  # of the acknowledged, those that the broker had no subscriber for
    interrupted: bool
    seconds: float


def publish(
    command: str,
    settings: Settings,
    produce: Produce,
    total: int | None,
    on_receipt: Callable[[bytes], None] | None = None,
) -> Outcome:
    """Publish what `produce` hands over, wait for every acknowledgement, and say on stderr how it went.

    `total`: messages, for the bar; None when nobody knows. SIGINT and SIGTERM end `produce`, a second one all.
    Raises PublishFailed.
    """
    outcome = trio.run(_publish, settings.mqtt, produce, _bar(command, total), on_receipt)
    rate = f", {outcome.acknowledged / outcome.seconds:,.0f}/s" if outcome.seconds > 0 else ""
    say(f"{command}: {outcome.acknowledged:,} messages acknowledged in {outcome.seconds:.1f} s{rate}")
    if outcome.unheard:
        share = "all" if outcome.unheard == outcome.acknowledged else f"{outcome.unheard:,}"
        say(f"{command}: warning: nobody subscribed to the topics of {share} of them: the broker dropped these")
    if outcome.acknowledged < outcome.published:
        say(f"{command}: {outcome.published - outcome.acknowledged:,} were not acknowledged")
    return outcome


async def _publish(
    mqtt: MqttSettings, produce: Produce, bar: Progress, on_receipt: Callable[[bytes], None] | None
) -> Outcome:
    started = time.monotonic()
    failed: PublishFailed | None = None
    interrupted = False
    async with trio.open_nursery() as nursery:
        producing = trio.CancelScope()
        await nursery.start(_heed_signals, producing, nursery.cancel_scope)
        try:
            async with open_publisher(mqtt, on_receipt) as publisher:
                nursery.start_soon(_draw, bar, publisher)
                with producing:
                    await produce(publisher)
                    await publisher.drain()
                interrupted = producing.cancelled_caught
                if interrupted:
                    with trio.move_on_after(LAST_ACKNOWLEDGEMENTS_S):
                        await publisher.drain()
        except PublishFailed as error:
            failed = error
        nursery.cancel_scope.cancel()
    if failed is not None:
        raise failed
    seconds = time.monotonic() - started
    return Outcome(publisher.sent, publisher.acknowledged, publisher.unheard, interrupted, seconds)


async def _heed_signals(
    producing: trio.CancelScope,
    everything: trio.CancelScope,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if producing.cancel_called:
                everything.cancel()
            producing.cancel()


def _bar(label: str, total: int | None) -> Progress:
    columns: Sequence[TextColumn | BarColumn | MofNCompleteColumn | TimeElapsedColumn] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("acknowledged"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    # auto_refresh would start a thread.
    bar = Progress(*columns, console=console, auto_refresh=False, transient=True, disable=not console.is_terminal)
    bar.add_task(label, total=total)
    return bar


async def _draw(bar: Progress, publisher: Publisher) -> None:
    with bar:
        while not bar.disable:
            bar.update(bar.task_ids[0], completed=publisher.acknowledged, refresh=True)
            await trio.sleep(REFRESH_S)


def say(line: str) -> None:
    """On stderr: stdout is for data."""
    print(line, file=sys.stderr)
