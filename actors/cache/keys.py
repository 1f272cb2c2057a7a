"""The names of our keys in Redis."""

from __future__ import annotations

import attrs


@attrs.frozen
class Keys:
    """Of races. In a cluster the id stands in braces: then all keys of a race are in one slot."""

    in_cluster: bool

    @property
    def around(self) -> tuple[str, str]:
        """What stands before and behind the id, for all keys of a race."""
        return ("race:{", "}") if self.in_cluster else ("race:", "")

    def last(self, race_id: str, participant_id: str) -> str:
        """A live position."""
        return f"{self._race(race_id)}:participant:{participant_id}:last"

    def seen(self, race_id: str) -> str:
        """Who has one."""
        return f"{self._race(race_id)}:seen"

    def rank(self, race_id: str) -> str:
        """What new ones are compared with."""
        return f"{self._race(race_id)}:rank"

    def sentinel(self, name: str, home: str) -> str:
        """Where a daemon notes its last write to a server; `home` as in cache/servers.py."""
        return f"tracking:node:{name}:{{{home}}}" if home else f"tracking:node:{name}"

    def _race(self, race_id: str) -> str:
        return race_id.join(self.around)
