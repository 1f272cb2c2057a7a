"""What the reader is told."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from actors.core.parcel import Settled
from actors.mqtt.events import BrokerEvent


@attrs.frozen
class Tell:
    """Persistence to reader, after a commit and before its Settled: publish these receipts (topic, payload)."""

    receipts: tuple[tuple[str, bytes], ...]


@attrs.frozen
class StopTaking:
    """Supervisor to reader, first phase of a stop: read no more, stay connected, finish when all is settled."""


@attrs.frozen
class Leave:
    """Supervisor to reader: unsubscribe, go on until the session is empty, end it and then yourself."""

    catch_up: bool  # as of Leaving


@attrs.frozen
class SessionEmpty:
    """Reader to itself: what Leave asked for has been reached."""


ReaderMessage: TypeAlias = BrokerEvent | Settled | Tell | StopTaking | Leave | SessionEmpty
