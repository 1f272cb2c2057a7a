"""What a tracker keeps: each fix until its receipt (ingest/receipts.py); without one in time it is sent again."""

from __future__ import annotations

import math
from typing import TypeAlias

import attrs
import msgspec

Key: TypeAlias = tuple[str, str, str]
"""participant, race and timestamp, each as sent: what a receipt names."""


class _Refused(msgspec.Struct):
    timestamp: str


class _Receipt(msgspec.Struct):
    participant_id: str
    race_id: str
    timestamps: list[str]
    rejected: list[_Refused]


_decoder = msgspec.json.Decoder(_Receipt)


@attrs.define
class Kept:
    """Bounded by what the tracker sends within the longest time without receipts."""

    patience_s: float  # how long a receipt is waited for
    sent_again: int = 0  # times
    rejected: int = 0  # fixes
    _waiting: dict[Key, tuple[float, str, bytes]] = attrs.field(factory=dict)  # (due, topic, payload), soonest first

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def next_due(self) -> float:
        """When the next fix is to be sent again; infinite when nothing is kept."""
        return next((due for due, _, _ in self._waiting.values()), math.inf)

    def keep(self, key: Key, topic: str, payload: bytes, now: float) -> None:
        """This fix was sent."""
        self._waiting[key] = (now + self.patience_s, topic, payload)

    def take_due(self, now: float) -> list[tuple[str, bytes]]:
        """(topic, payload) of what is to be sent again now; it stays kept."""
        due = [key for key, (at, _, _) in self._waiting.items() if at <= now]
        again = []
        for key in due:
            _, topic, payload = self._waiting.pop(key)
            self.keep(key, topic, payload, now)
            again.append((topic, payload))
        self.sent_again += len(again)
        return again

    def forget(self, receipt: bytes) -> None:
        """A receipt has come: its fixes are in history, or rejected for good. What is no receipt is ignored."""
        try:
            told = _decoder.decode(receipt)
        except msgspec.DecodeError:  # ValidationError too
            return
        for timestamp in told.timestamps:
            self._waiting.pop((told.participant_id, told.race_id, timestamp), None)
        for refused in told.rejected:
            if self._waiting.pop((told.participant_id, told.race_id, refused.timestamp), None) is not None:
                self.rejected += 1
