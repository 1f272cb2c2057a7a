"""Shared subscriptions (MQTT 5.0, section 4.8.2): nodes of one group get each message once between them.

Brokers without MQTT 5 take the same filters over MQTT 3.1.1, or take them for a topic like any other.
"""

from __future__ import annotations


def group_fault(name: str) -> str:
    """What makes this no name of a group; empty when it is one."""
    if not name:
        return "empty"
    if any(c in name for c in "/+#"):
        return "holds '/', '+' or '#'"
    if any(not c.isprintable() for c in name):
        return "holds a control character"
    return ""


def shared_filter(group: str, topic: str) -> str:
    """The filter `topic`, shared in the group."""
    return f"$share/{group}/{topic}"


def probe_topics(group: str, run: str) -> tuple[str, str]:
    """Two topics on which a broker is asked whether it delivers what is shared: one for a plain subscription and one
    for a shared one. `run` is one level that nobody else has. A right to read and write `{group}-probe/#` has both."""
    return f"{group}-probe/{run}/plain", f"{group}-probe/{run}/shared"
