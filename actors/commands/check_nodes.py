"""Listening to what nodes tell each other, for `check`: who is there, and whether they sign tokens alike."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from actors.cache.stream import RedisStream
from actors.commands.check_servers import Finding
from actors.core.addresses import RedisAddress
from actors.core.errors import CacheUnavailable
from actors.http.access import Access
from actors.relay.entry import BEAT_S, Sender, read_entry


def nodes(where: RedisAddress, access: Access | None) -> Iterator[Finding]:
    """Those that run now. `access`: with the secret of this one; None when it has none yet."""
    if access is None:
        yield Finding("warning", "nodes", "[ws] auth_secret is empty: each node makes its own; set it alike on all")
    try:
        heard = trio.run(_listen, where)
    except CacheUnavailable as trouble:
        yield Finding("FAILED", "nodes", f"what they tell each other cannot be read: {trouble}")
        return
    names = sorted({sender.node_id for sender in heard})
    yield Finding("ok", "nodes", f"{', '.join(names)} can be heard" if names else "none runs now")
    for sender in heard:
        if access is not None and sender.secret_mark != access.secret_mark():
            yield Finding("FAILED", "nodes", f"{sender.node_id} has another [ws] auth_secret; set it alike on all")


async def _listen(where: RedisAddress) -> list[Sender]:
    """Whoever says something within two beats."""
    stream = RedisStream(where)
    try:
        heard: dict[Sender, None] = {}
        place, _ = await stream.read("", 0)
        until = trio.current_time() + 2 * BEAT_S
        while (left := until - trio.current_time()) > 0:
            place, found = await stream.read(place, min(left, BEAT_S / 2))
            heard |= {entry.sender: None for data in found if (entry := read_entry(data)) is not None}
        return sorted(heard, key=lambda sender: sender.node_id)
    finally:
        await stream.aclose()
