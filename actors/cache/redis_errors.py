"""What an error of Redis means where the server is the wrong one: a replica, or part of a cluster. PURE."""

from __future__ import annotations

import redis
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    ReadOnlyError,
)

from actors.core.addresses import RedisAddress

# Some arrive without their name, others wrapped in the error of a script (Redis 6).
REPLICA = ("READONLY", "read only replica", "MASTERDOWN")
CLUSTER = ("CROSSSLOT", "non local key", "in cluster mode", "CLUSTERDOWN")


REPLICA_MEANS = {
    "single": "point [redis] host at the primary",
    "sentinel": "the Sentinels do not tell of another primary yet",
    "cluster": "its cluster does not tell of another owner yet",
}


class FromReplica(redis.RedisError):
    """A replica refused; `primary` is host:port, empty where it did not tell."""

    def __init__(self, refusal: redis.RedisError, primary: str) -> None:
        super().__init__(str(refusal))
        self.primary = primary


def is_from_replica(error: object) -> bool:
    """Whether this is the refusal of a server that copies another one."""
    return isinstance(error, ReadOnlyError | MasterDownError) or _says(error, REPLICA)


def explain(error: Exception, at: RedisAddress) -> str:
    """For people, with what to do about it. `at`: the one server that said it."""
    if isinstance(error, FromReplica):
        of = f" of {error.primary}" if error.primary else ""
        return f"Redis at {at.where} is a replica{of}: {REPLICA_MEANS[at.mode]} ({error})"
    if at.mode == "cluster":
        disabled = "cluster support disabled" in str(error)
        return f"Redis at {at.where}: {error}" + "; set [redis] mode = single" * disabled
    if isinstance(error, MovedError | AskError | ClusterCrossSlotError | ClusterDownError) or _says(error, CLUSTER):
        name = "MOVED " if isinstance(error, MovedError) else ""
        return f"Redis at {at.where} is part of a Redis Cluster: set [redis] mode = cluster ({name}{error})"
    return f"Redis: {error}"


def _says(error: object, words: tuple[str, ...]) -> bool:
    return isinstance(error, redis.ResponseError) and any(word in str(error) for word in words)
