"""What the broker's session may hold: known to whoever reads, whichever node that is."""

from __future__ import annotations

import attrs

from actors.mqtt.subscriptions import RememberedTopics


@attrs.frozen
class Known:
    """Topic filters that the session may hold, and whether the broker granted some of them."""

    topics: frozenset[str]
    granted: bool


@attrs.define(eq=False)
class SharedTopics:
    """Read and written by the MQTT driver's thread while the link runs; loaded by stand-by when it does not.

    The table in PostgreSQL is the truth. The file in data_dir serves the last holder that starts without PostgreSQL.
    """

    file: RememberedTopics
    known: Known = attrs.field(init=False)  # replaced as a whole: no lock is needed

    def __attrs_post_init__(self) -> None:
        self.known = Known(self.file.read(), self.file.granted())

    def read(self) -> frozenset[str]:
        """The filters that the session may hold."""
        return self.known.topics

    def granted(self) -> bool:
        """The session holds some for certain, or did."""
        return self.known.granted

    def write(self, topics: frozenset[str], *, granted: bool) -> None:
        """Replace them."""
        self.known = Known(topics, granted)
        self.file.write(topics, granted=granted)
