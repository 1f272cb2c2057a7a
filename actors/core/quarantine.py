"""What in a piece of work crashes whoever does it: found by trying its parts alone, and left out from then on."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

import attrs

Work = TypeVar("Work")
Part = TypeVar("Part", bound=Hashable)


@attrs.define(eq=False)
class Quarantine(Generic[Work, Part]):
    """Outlives a crash of the actor. What is in hand when it crashes is tried again, then part by part."""

    held: Work | None = None  # in hand, not done yet
    tried: bool = False  # `held` caused a crash before
    suspect: Part | None = None  # of `held`: being tried alone
    poisoned: set[Part] = attrs.field(factory=set)  # caused a crash when they were tried alone

    def one_by_one(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Those of `held` that are not poisoned; a crash before the next one is taken is the fault of the last."""
        for part in parts:
            if part not in self.poisoned:
                self.suspect = part
                yield part
        self.suspect = None

    def done(self) -> None:
        """With what was in hand, whatever came of it."""
        self.held = self.suspect = None
        self.tried = False

    def after_crash(self) -> bool:
        """Remember what was at fault. True: `held` crashes again and again, and no part of it alone."""
        hopeless = self.tried and self.held is not None and self.suspect is None
        if self.suspect is not None:
            self.poisoned.add(self.suspect)
            self.suspect = None
        self.tried = self.held is not None
        return hopeless
