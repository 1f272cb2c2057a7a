"""cache/redis_errors.py: what Redis 6 and 7, Valkey and redis-py say of a server that is the wrong one."""

from __future__ import annotations

import pytest
import redis
from redis.exceptions import AskError, ClusterDownError, MasterDownError, MovedError, ReadOnlyError

from actors.cache.redis_errors import FromReplica, explain, is_from_replica
from actors.core.addresses import RedisAddress

HERE = RedisAddress("h", 1)
SCRIPT = "Error running script (call to f_1): @user_script:30: @user_script: 30: "


@pytest.mark.parametrize(
    "error",
    [
        ReadOnlyError("You can't write against a read only replica. script: 1, on @user_script:30."),
        redis.ResponseError(f"{SCRIPT}-READONLY You can't write against a read only replica."),
        MasterDownError("Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
        redis.ResponseError(f"{SCRIPT}-MASTERDOWN Link with MASTER is down and ..."),
    ],
)
def test_a_replica(error: redis.RedisError) -> None:
    assert is_from_replica(error)
    named, unnamed = (explain(FromReplica(error, primary), HERE) for primary in ("10.0.0.2:6379", ""))
    assert named == f"Redis at h:1 is a replica of 10.0.0.2:6379: point [redis] host at the primary ({error})"
    assert unnamed == f"Redis at h:1 is a replica: point [redis] host at the primary ({error})"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MovedError("15231 127.0.0.1:5306"), "MOVED 15231 127.0.0.1:5306"),
        (AskError("15231 127.0.0.1:5306"), "15231 127.0.0.1:5306"),
        (ClusterDownError("Hash slot not served"), "Hash slot not served"),
        (redis.ResponseError("CROSSSLOT Keys in request don't hash to the same slot"), "CROSSSLOT"),
        (redis.ResponseError("Script attempted to access a non local key in a cluster node script: 1"), "non local"),
        (redis.ResponseError("Attempted to access a non local key in a cluster node"), "non local"),
        (redis.ResponseError("SELECT is not allowed in cluster mode"), "SELECT"),
    ],
)
def test_a_cluster(error: redis.RedisError, words: str) -> None:
    assert not is_from_replica(error)
    text = explain(error, HERE)
    assert text.startswith("Redis at h:1 is part of a Redis Cluster: set [redis] mode = cluster (")
    assert words in text


@pytest.mark.parametrize(
    "error",
    [redis.ConnectionError("Error 111 connecting to h:1. Connection refused."), redis.ResponseError("OOM"), OSError(5)],
)
def test_all_others_speak_for_themselves(error: Exception) -> None:
    assert not is_from_replica(error)
    assert not is_from_replica(b"READONLY")
    assert explain(error, HERE) == f"Redis: {error}"
