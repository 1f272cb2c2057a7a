"""Rules between keys: each looks at a whole Settings and names the keys it depends on."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from actors.core.addresses import is_loopback
from actors.core.share import probe_topics
from actors.core.topic_filter import could_match
from actors.settings.table import Settings
from actors.settings.values import bind_address, is_socket

WITHOUT_RELAY = {
    "none": "nothing would ever be live",
    "standby": "the nodes that wait would show nothing",
    "shared": "each node would show its own part only",
}
"""[cluster] ingest -> what is wrong with relay = no."""


@attrs.frozen
class Fault:
    """A broken rule, blamed on the first of `keys` ("section.key"); void when one of them could not be read."""

    keys: tuple[str, ...]
    text: str  # what is wrong; what is allowed


def faults(settings: Settings) -> Iterator[Fault]:
    """All broken rules, in the order of the sections."""
    yield from _broker(settings)
    yield from _topics(settings)
    yield from _redis(settings)
    yield from _dashboards(settings)
    for section, group in (("mqtt", settings.mqtt), ("tls", settings.tls)):
        for given, missing in (("cert_file", "key_file"), ("key_file", "cert_file")):
            if getattr(group, given) and not getattr(group, missing):
                text = f"set without {missing}; allowed are both or neither"
                yield Fault((f"{section}.{given}", f"{section}.{missing}"), text)
    yield from _cluster(settings)
    if settings.supervisor.backoff_max_ms < settings.supervisor.backoff_initial_ms:
        text = f"less than backoff_initial_ms; allowed is {settings.supervisor.backoff_initial_ms} or more"
        yield Fault(("supervisor.backoff_max_ms", "supervisor.backoff_initial_ms"), text)


def weak_spots(settings: Settings) -> Iterator[str]:
    """What is allowed, and may not be meant."""
    if settings.cluster.ingest == "standby" and settings.postgres.spool:
        yield "[postgres] spool = yes with stand-by: what a lost node has in its spool is missing until that is back"


def _broker(settings: Settings) -> Iterator[Fault]:
    mqtt = settings.mqtt
    open_bind = mqtt.broker_url == "embedded" and not is_loopback(bind_address(mqtt.embedded_bind).host)
    if open_bind and not (mqtt.username and mqtt.password):
        yield Fault(
            ("mqtt.embedded_bind", "mqtt.broker_url", "mqtt.username", "mqtt.password"),
            "other machines reach it without a password; allowed is a loopback address, or set username and password",
        )
    if mqtt.password and not mqtt.username and mqtt.protocol == "3.1.1":
        # MQTT 3.1.1, 3.1.2.9: without the user name flag there is no password.
        text = "MQTT 3.1.1 has no password without a username; set username, or protocol = 5"
        yield Fault(("mqtt.password", "mqtt.username", "mqtt.protocol"), text)
    if "mqtts://" not in mqtt.broker_url:
        for name in ("ca_file", "cert_file", "key_file"):
            if getattr(mqtt, name):
                text = "set, but the connection to this broker_url is not encrypted; allowed with mqtts:// only"
                yield Fault((f"mqtt.{name}", "mqtt.broker_url"), text)


def _topics(settings: Settings) -> Iterator[Fault]:
    mqtt = settings.mqtt
    for topic in mqtt.topics:
        if mqtt.receipt_topic and could_match(topic, mqtt.receipt_topic):
            text = f"the subscription '{topic}' would match it and receipts would come back as fixes; use another topic"
            yield Fault(("mqtt.receipt_topic", "mqtt.topics"), text)
        if mqtt.topic_identity != "none" and "+" not in topic.split("/"):
            text = f"the filter '{topic}' has no '+' to compare with; allowed is none, or a '+' in every filter"
            yield Fault(("mqtt.topic_identity", "mqtt.topics"), text)


def _redis(settings: Settings) -> Iterator[Fault]:
    redis = settings.redis
    if is_socket(redis.host):
        if redis.mode != "single":
            yield Fault(("redis.mode", "redis.host"), "host is a Unix socket, one server; allowed is single")
        if redis.tls:
            yield Fault(("redis.tls", "redis.host"), "a Unix socket has no TLS; allowed is no")
    elif redis.mode == "single" and "," in redis.host:
        text = "several servers, but mode = single; allowed is one, or mode = sentinel or mode = cluster"
        yield Fault(("redis.host", "redis.mode"), text)
    if redis.mode != "single" and redis.host == "embedded":
        yield Fault(("redis.mode", "redis.host"), "host is embedded, one server; allowed is single, or set host")
    if redis.mode == "cluster" and redis.db:
        yield Fault(("redis.db", "redis.mode"), "a Redis Cluster has one database; allowed is 0")


def _dashboards(settings: Settings) -> Iterator[Fault]:
    ws = settings.ws
    for host in ws.host:
        if ws.auth == "off" and not is_loopback(host):
            text = f"[ws] host {host} is not loopback; allowed is token, or loopback hosts such as 127.0.0.1"
            yield Fault(("ws.auth", "ws.host"), text)


def _cluster(settings: Settings) -> Iterator[Fault]:
    cluster, mqtt = settings.cluster, settings.mqtt
    if cluster.ingest in WITHOUT_RELAY and not cluster.relay:
        text = f"with ingest = {cluster.ingest} {WITHOUT_RELAY[cluster.ingest]}; allowed is yes"
        yield Fault(("cluster.relay", "cluster.ingest"), text)
    if cluster.ingest == "standby":
        yield from _standby(settings)
    if cluster.ingest != "shared":
        return
    if "{node_id}" not in mqtt.client_id:
        text = "with ingest = shared each node has a session of its own; allowed is a name that holds {node_id}"
        yield Fault(("mqtt.client_id", "cluster.ingest"), text)
    for topic in mqtt.topics:
        if any(could_match(topic, probe) for probe in probe_topics(cluster.shared_group, "{participant_id}")):
            text = (
                f"the subscription '{topic}' would match {cluster.shared_group}-probe/+/shared, by which a node asks "
                "the broker whether it can share; allowed are filters that do not"
            )
            yield Fault(("mqtt.topics", "cluster.shared_group", "cluster.ingest"), text)


def _standby(settings: Settings) -> Iterator[Fault]:
    if "{node_id}" in settings.mqtt.client_id:
        text = "nodes that stand by for each other have one session; allowed is a name without {node_id}"
        yield Fault(("mqtt.client_id", "cluster.ingest"), text)
    if settings.postgres.host == "embedded":
        text = "nodes that stand by for each other need one that all of them reach; allowed are servers of yours"
        yield Fault(("postgres.host", "cluster.ingest"), text)
