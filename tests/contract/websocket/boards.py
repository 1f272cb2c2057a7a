"""What the tests of this folder have in common."""

from __future__ import annotations

from tests.kit.outsider import Json

THRESHOLD_MS = 1500
SLOW_MS = 2500


def seen(position: Json) -> tuple[str, str, str]:
    """What tells two positions of these tests apart."""
    return position["participantId"], position["timestamp"], position["status"]


def sent(one: Json) -> tuple[str, str, str]:
    """The same of a fix."""
    return one["participant_id"], one["timestamp"], one["status"]
