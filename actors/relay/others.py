"""Pure: who else is there, and what of their settings cannot be right beside ours."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from actors.relay.entry import Entry, Sender


@attrs.define
class Others:
    """Asked with every entry of another run; says each thing once for a run."""

    me: Sender
    _known: set[str] = attrs.field(factory=set)  # runs

    def faults(self, entry: Entry) -> Iterator[str]:
        """What an operator should mend, a sentence each."""
        if entry.run in self._known:
            return
        self._known.add(entry.run)
        sender = entry.sender
        if sender.secret_mark != self.me.secret_mark:
            yield "has another [ws] auth_secret: we refuse each other's tokens; set it alike on all nodes"
        if sender.node_id == self.me.node_id:
            yield "has the same [app] node_id as this one: give each its own"

    def forget(self, runs: set[str]) -> None:
        """They have ended."""
        self._known -= runs
