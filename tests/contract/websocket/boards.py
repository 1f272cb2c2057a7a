"""What the tests of this folder have in common."""

from __future__ import annotations

from trio_websocket import ConnectionClosed

from tests.kit.outsider import Client, Json

THRESHOLD_MS = 1500
SLOW_MS = 2500


def seen(position: Json) -> tuple[str, str, str]:
    """What tells two positions of these tests apart."""
    return position["participantId"], position["timestamp"], position["status"]


def sent(one: Json) -> tuple[str, str, str]:
    """The same of a fix."""
    return one["participant_id"], one["timestamp"], one["status"]


async def close_code(board: Client, events: list[str] | None = None) -> int | None:
    """Read to the end; `events` takes the names of what still came."""
    try:
        while True:
            message = await board.receive()
            if events is not None:
                events.append(message["event"])
    except ConnectionClosed as closed:
        return closed.reason.code if closed.reason else None
