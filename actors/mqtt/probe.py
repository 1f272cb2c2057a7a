"""The question to a broker whether it delivers what it grants to a shared subscription; one connection of its own."""

from __future__ import annotations

import secrets
import time

from actors.core.share import probe_topics, shared_filter
from actors.mqtt.end import Ending
from actors.mqtt.sharing import Answer, Sharing, judge
from actors.mqtt.visit import Visit

SUBACK_S = 10.0
PLAIN_S = 10.0
"""For the plain probe: after that nothing can be told."""
SHARED_S = 5.0
"""For the shared one, after the plain one came: nodes of a broker may hear of a subscription one after the other."""
AGAIN_S = 1.0
"""Between two probes, as long as nothing shared came."""


def probe_client_id(client_id: str) -> str:
    """What the probe is called at the broker, beside the session of this name."""
    return f"{client_id}-probe"


def ask_whether_it_shares(visit: Visit, group: str) -> Answer | Ending:
    """On a visit that the broker has accepted: its answer, or the end of the connection before there was one.

    Takes a round trip where the broker shares, else SHARED_S or PLAIN_S. Raises what the visit's `wait` raises.
    """
    plain, shared = probe_topics(group, secrets.token_hex(8))
    has_shared = getattr(visit.properties, "SharedSubscriptionAvailable", 1) != 0
    filters = (plain, shared_filter(group, shared))
    refused: tuple[str, int] | None = None
    if has_shared:
        visit.client.subscribe([(each, 1) for each in filters])
        visit.asked = filters
        if not visit.until(lambda: bool(visit.notes.subacks), SUBACK_S):
            return visit.ended or Answer(Sharing.UNTOLD, "does not answer a subscription")
        visit.asked = ()
        codes = [reason.value for reason in visit.notes.subacks[0][1]]
        refused = next(((each, code) for each, code in zip(filters, codes, strict=False) if code >= 0x80), None)
        if refused is None:
            _publish(visit, plain, shared)
            if visit.ended is not None and not _came(visit, shared):
                return visit.ended
    unpublished = [str(reason) for _, reason in visit.notes.pubacks if reason.is_failure]
    return judge(
        has_shared=has_shared,
        refused=refused,
        shared=_came(visit, shared),
        plain=_came(visit, plain),
        unpublished=unpublished[0] if unpublished else "",
        topics=plain.partition("/")[0] + "/#",
    )


def _publish(visit: Visit, plain: str, shared: str) -> None:
    """Again and again, until what is shared came or it is too late."""
    began = time.monotonic()
    since: float | None = None  # the plain one came
    sent = 0
    while visit.ended is None and not _came(visit, shared):
        now = time.monotonic()
        if now >= (began + PLAIN_S if since is None else since + SHARED_S):
            return
        for topic in (plain, shared):
            visit.client.publish(topic, b"probe", qos=1)
            visit.published = topic
            sent += 1
        visit.until(lambda: _came(visit, shared) > 0, AGAIN_S)
        if len(visit.notes.pubacks) >= sent:
            visit.published = ""
        if since is None and _came(visit, plain):
            since = time.monotonic()


def _came(visit: Visit, topic: str) -> int:
    return sum(came == topic.encode() for came, _ in visit.arrivals.messages)
