"""Which node of a Redis Cluster owns a key: slots, and what a node tells of their owners.

https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from itertools import count
from typing import Any, TypeAlias, cast

import attrs

SLOTS = 16_384

Node: TypeAlias = tuple[str, int]
"""Host and port."""

NO_HOST = (None, b"", b"?")
"""Told by a node that does not know how it is called from outside: the host by which it was asked will do."""


def slot_of(key: str) -> int:
    """Of the whole key, or of what stands in its first braces, where something does."""
    _, brace, rest = key.partition("{")
    tag, end, _ = rest.partition("}")
    return binascii.crc_hqx((tag if brace and end and tag else key).encode(), 0) % SLOTS


@attrs.frozen
class SlotMap:
    """Who owns which slot."""

    owners: Sequence[Node | None]  # by slot; None: nobody
    tags: dict[Node, str]  # by owner: a hash tag whose keys it owns, the same as long as it owns the same slots

    def owner(self, key: str) -> Node | None:
        return self.owners[slot_of(key)]


def slot_map(told: object, asked: str) -> SlotMap:
    """From the answer to CLUSTER SLOTS of the node whose host is `asked`. Raises ValueError where it makes no sense."""
    owners: list[Node | None] = [None] * SLOTS
    try:
        for first, last, (host, port, *_), *_replicas in cast("list[list[Any]]", told):
            node = (asked if host in NO_HOST else host.decode(), int(port))
            owners[first : last + 1] = [node] * (last + 1 - first)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not an answer to CLUSTER SLOTS: {error}") from None
    if len(owners) != SLOTS:
        raise ValueError("not an answer to CLUSTER SLOTS: more slots than there are")
    there = dict.fromkeys(node for node in owners if node is not None)
    tags = {node: next(tag for tag in map(str, count()) if owners[slot_of(tag)] == node) for node in there}
    return SlotMap(owners, tags)
