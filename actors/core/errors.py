"""What goes wrong, by name: the codes of rejections and of errors, and the exceptions.

Whoever runs a command is told a TrackingError in one line. Those of another file concern few beside it:

    TrackingError
      SettingsError
      Unavailable
        StoreUnavailable
        SpoolUnavailable
          SpoolFull
        CacheUnavailable
      StoreMisconfigured
        NoPartition
      RowRefused
      NotStarted
      BadToken               http/access.py
      OutputFailed           commands/export_files.py
      PublishFailed          mqtt/publisher.py
      Closed                 dashboards/websocket.py
      UnreadableRecording    recordings/points.py
      WrongUse               recordings/points.py
    Exception                whoever calls what raises one of these catches it
      BadDeflate             dashboards/deflate.py
      TooLong                dashboards/deflate.py
      BadHead                http/head.py
        OtherVersion         http/head.py
      Problem                http/problem.py
      Stopped                mqtt/orders.py
      CutOff                 recordings/points.py
    redis.RedisError
      FromReplica            cache/redis_errors.py
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

import attrs


class RejectionCode(StrEnum):
    """Why a payload, or one element of it, is not a fix. The order is the order in which rules are applied."""

    BAD_ENCODING = "bad_encoding"
    BAD_JSON = "bad_json"
    TOO_LARGE = "too_large"
    BAD_TYPE = "bad_type"
    MISSING_FIELD = "missing_field"
    BAD_ID = "bad_id"
    BAD_COORDINATE = "bad_coordinate"
    NO_FIX = "no_fix"
    BAD_TIMESTAMP = "bad_timestamp"
    IN_THE_FUTURE = "in_the_future"
    BAD_STATUS = "bad_status"
    TOPIC_MISMATCH = "topic_mismatch"
    POISON = "poison"


class ErrorCode(StrEnum):
    """Codes of the WebSocket `error` event and of HTTP problem bodies."""

    BAD_JSON = "bad_json"
    BAD_REQUEST = "bad_request"
    UNKNOWN_EVENT = "unknown_event"
    FORBIDDEN_RACE = "forbidden_race"
    TOO_MANY_SUBSCRIPTIONS = "too_many_subscriptions"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"


class TrackingError(Exception):
    """Root of every exception that this project raises on purpose."""


class SettingsError(TrackingError):
    """The settings cannot be used. `problems` holds one line for each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Unavailable(TrackingError):
    """A server cannot be reached or does not answer in time: expected trouble, try again later."""


class StoreUnavailable(Unavailable):
    """PostgreSQL: connection lost, 57P0x, 53xxx, 25006, 40xxx, or the client-side deadline. Repeat the batch."""


class StoreMisconfigured(TrackingError):
    """PostgreSQL answers, but its set-up is wrong (42xxx, 28xxx, encoding): alarm and wait, never reject a fix."""


@attrs.frozen
class Partitions:
    """Those of tracking_positions at one moment. Others: a row that had none may have one now."""

    by: str  # such as "RANGE (id)"
    takes: str  # what ids they take, as SQL


class NoPartition(StoreMisconfigured):
    """PostgreSQL takes other rows, but for these nobody has made a partition; none of the call is stored."""

    def __init__(self, why: str, ids: Collection[bytes] = (), partitions: Partitions | None = None) -> None:
        super().__init__(why)
        self.ids = ids
        self.partitions = partitions  # that there were


class SpoolUnavailable(Unavailable):
    """The spool's disk or file gives trouble; the call changed nothing. Try again later."""


class SpoolFull(SpoolUnavailable):
    """The spool holds `spool_max_mb`, or its disk is full; the call changed nothing. Acknowledge no more, drain it."""


class RowRefused(TrackingError):
    """PostgreSQL refused the data of a statement (22xxx, 23xxx): some row of the batch is at fault."""


class CacheUnavailable(Unavailable):
    """Redis cannot be reached, is full, read-only or too slow. Live state in it lags; nothing is lost."""


class NotStarted(TrackingError):
    """A child could not be started: the message says what to do about it."""
