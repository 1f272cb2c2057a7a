"""Parcels -> batches: by size, by time (the oldest waited long enough) or idle (no company in sight).

A lone row must not wait long for company that does not come: over MQTT 3.1.1 the broker sends only some 20 messages
and then waits for their acknowledgements, so every pause here would be a pause there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from actors.core.parcel import Parcel

IDLE_S = 0.012
"""No new parcel for this long: commit what is there."""

PATIENT_IDLE_S = 0.025
"""The same where company came before. Longer than the pauses in which messages gather (mqtt/thread.py), so that
at a steady rate `batch_ms` decides."""

COMPANY_S = 0.004
"""Parcels of one wake-up of the reader arrive closer together than this: they are no company to each other."""

TRY_EVERY = 8
"""While no company comes, every so many batches wait the longer time, to find out whether it would."""


@attrs.define
class Batcher:
    """Collects parcels until they are due. Times are seconds of any one monotonic clock.

    How long a batch is patient is learnt from the ones before: a broker whose window is full sends nothing, however
    long we wait, while at a steady rate each commit that waits for company saves one.
    """

    max_rows: int
    max_wait_s: float
    parcels: list[Parcel] = attrs.field(factory=list)
    rows: int = 0
    _first_at: float = 0.0
    _last_at: float = 0.0
    _due_at: float = math.inf  # the first of them has waited for `max_wait_s` then
    _alone: int = 1  # batches in a row that no company came to

    def add(self, parcels: Sequence[Parcel], now: float) -> None:
        """Take what came at once."""
        if not self.parcels:
            self._first_at = now
            self._due_at = math.inf
        self._last_at = now
        self._due_at = min(self._due_at, min(parcels[0].since, now) + self.max_wait_s)
        self.parcels += parcels
        self.rows += _rows(parcels)

    def due_at(self) -> float:
        """When the batch has to be written at the latest; infinity while it is empty."""
        if not self.parcels:
            return float("inf")
        return min(self._due_at, self._last_at + self._idle_s)

    def due(self, now: float) -> bool:
        """Whether the batch is to be written now."""
        return self.rows >= self.max_rows or now >= self.due_at()

    def take(self) -> list[Parcel]:
        """Hand a batch over. What is too much for it stays for the next one, as old as it is."""
        self._alone = 0 if self._last_at - self._first_at > COMPANY_S else self._alone + 1
        if self.rows <= self.max_rows:
            batch, self.parcels, self.rows = self.parcels, [], 0
            return batch
        batch = first_of(self.parcels, self.max_rows)
        self.parcels = self.parcels[len(batch) :]
        self.rows -= _rows(batch)
        return batch

    @property
    def _idle_s(self) -> float:
        return IDLE_S if self._alone % TRY_EVERY else PATIENT_IDLE_S


def first_of(parcels: Sequence[Parcel], max_rows: int) -> list[Parcel]:
    """As many as make a batch. A parcel is never split, so it may exceed `max_rows` by one parcel."""
    fits = rows = 0
    while fits < len(parcels) and rows < max_rows:
        rows += len(parcels[fits].fixes) + len(parcels[fits].rejections)
        fits += 1
    return list(parcels[:fits])


def _rows(parcels: Sequence[Parcel]) -> int:
    return sum([len(parcel.fixes) + len(parcel.rejections) for parcel in parcels])
