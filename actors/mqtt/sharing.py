"""Whether a broker can share: what it did with a probe, and whether a node goes on with that.

Most brokers without MQTT 5 grant a subscription to `$share/...` as one to a topic of that name, and never deliver
anything (RabbitMQ 3.10, NATS, aedes, amqtt). So a node publishes to itself, once plain and once shared, on topics that
nobody else has: the plain one shows that this user may do so at all.
"""

from __future__ import annotations

from enum import Enum, auto

import attrs


class Sharing(Enum):
    """What is known after one connection."""

    SHARES = auto()  # what was shared came
    DOES_NOT = auto()  # only what was plain came, or the broker says so
    UNTOLD = auto()  # neither came, or the broker did not allow something


@attrs.frozen
class Answer:
    """Of a broker to the probe."""

    sharing: Sharing
    text: str = ""  # what it did, for people


NOT_SHARED = frozenset({0x9E})
"""SUBACK of MQTT 5, section 3.9.3: shared subscriptions not supported."""

ELSE = "use a broker that does, or [cluster] ingest = alone with topics of its own on each node"


def judge(
    *, has_shared: bool, refused: tuple[str, int] | None, shared: int, plain: int, unpublished: str, topics: str
) -> Answer:
    """What one connection came to.

    `has_shared`: CONNACK does not deny it. `refused`: the first filter that SUBACK refused, and its code. `shared` and
    `plain`: messages that came. `unpublished`: what PUBACK said against a probe. `topics`: what has to be allowed.
    """
    if not has_shared or (refused and refused[1] in NOT_SHARED):
        return Answer(Sharing.DOES_NOT, "says that it has no shared subscriptions")
    if shared:
        return Answer(Sharing.SHARES)
    if refused:
        return Answer(Sharing.UNTOLD, f"refuses a subscription to {refused[0]}; {allow(topics)}")
    if plain:
        return Answer(Sharing.DOES_NOT, "grants a shared subscription and delivers nothing to it")
    said = f" and says '{unpublished}' to what is published" if unpublished else ""
    return Answer(Sharing.UNTOLD, f"delivers no probe{said}; {allow(topics)}")


def allow(topics: str) -> str:
    """What an operator does about a probe that cannot be told."""
    return f"let this user read and write {topics}"


def refusal(answer: Answer, *, proven: bool) -> str:
    """Why a node must not take part; empty when it may.

    Not told counts against it: were it taken for a yes, trackers would go on for a whole race and nobody would get
    what they send. But a node that has a shared session already (`proven`) was told once: rights that somebody takes
    away meanwhile must not keep it from what waits there.
    """
    if answer.sharing is Sharing.DOES_NOT:
        return f"the broker {answer.text}: [cluster] ingest = shared cannot work with it; {ELSE}"
    if answer.sharing is Sharing.UNTOLD and not proven:
        return f"the broker {answer.text}: whether [cluster] ingest = shared works with it cannot be told"
    return ""
