"""Values that have a form of their own, and rules between keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.core.addresses import Address, is_loopback, one_origin
from actors.core.broker_url import broker_address, broker_addresses
from actors.core.topic_filter import could_match, filter_fault, template_fault
from actors.settings.rules import weak_spots
from actors.settings.values import bind_address
from tests.settings.settings_files import Files
from tests.settings.settings_files import files as files


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mqtt://broker", Address("broker", 1883)),
        ("mqtt://broker:1", Address("broker", 1)),
        ("mqtts://broker.example.org", Address("broker.example.org", 8883, tls=True)),
        ("mqtts://[::1]:9/", Address("::1", 9, tls=True)),
        ("mqtt://10.0.0.1:1883", Address("10.0.0.1", 1883)),
        ("mqtt://docker_broker", Address("docker_broker", 1883)),
    ],
)
def test_broker_addresses(files: Files, text: str, address: Address) -> None:
    url = files.load(f"[mqtt]\nbroker_url = {text}").mqtt.broker_url
    assert broker_address(text) == broker_address(url) == address
    assert url.endswith(f":{address.port}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "broker",
        "broker:1883",
        "tcp://broker",
        "mqtt://",
        "mqtt://b:0",
        "mqtt://b:70000",
        "mqtt://b:",
        "mqtt://b:x",
        "mqtt://b/topic",
        "mqtt://b?x=1",
        "mqtt://b#f",
        "mqtt://[::1",
        "mqtt://1.2.3",
        "mqtt://a b",
        "mqtt://-x",
        "Embedded",
    ],
)
def test_what_is_no_broker_address(files: Files, text: str) -> None:
    problem = files.problem(f"[mqtt]\nbroker_url = {text}")
    assert problem.startswith(f"settings.ini [mqtt] broker_url: value '{text}': ")
    assert "allowed is embedded, mqtt://host:port or mqtts://host:port" in problem


def test_several_nodes_of_a_broker(files: Files) -> None:
    url = files.load("[mqtt]\nbroker_url = mqtt://a, mqtts://[::1],\n  mqtt://c:1884").mqtt.broker_url
    assert url == "mqtt://a:1883,mqtts://[::1]:8883,mqtt://c:1884"
    assert broker_addresses(url) == (Address("a", 1883), Address("::1", 8883, tls=True), Address("c", 1884))


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("mqtt://a,tcp://b", "entry 2, 'tcp://b', is wrong: not a broker address; allowed is embedded, "),
        ("a:1883, mqtt://b", "entry 1, 'a:1883', is wrong: not a broker address; "),
        ("mqtt://a,b:1883", "entry 2, 'b:1883', is wrong: not a broker address; "),
        ("mqtt://a:1,mqtt://b:x,mqtt://c:2", "entry 2, 'mqtt://b:x', is wrong: not an address; "),
        ("mqtt://a,", "entry 2, '', is wrong: not a broker address; "),
        ("mqtt://a,embedded", "entry 2, 'embedded', is wrong: not a broker address; "),
        ("mqtt://a,mqtt://b,mqtt://a:1883/", "entry 3, 'mqtt://a:1883/', is wrong: stands twice; allowed is each "),
        ("mqtt://a,mqtt://me:hunter2@b", "entry 2 is wrong: a user or password does not belong here: use the keys "),
        ("mqtt://a,mqtt://me:hunter2,hunter2@b", "entry 2 is wrong: not an address; "),
    ],
)
def test_a_problem_of_several_nodes_names_the_entry(files: Files, text: str, entry: str) -> None:
    problem = files.problem(f"[mqtt]\nbroker_url = {text}")
    assert problem.startswith("settings.ini [mqtt] broker_url: value '")
    assert f"': {entry}" in problem
    assert "hunter2" not in problem


def test_a_broker_url_with_a_password_points_to_the_keys(files: Files) -> None:
    for text in ("mqtt://me:pw@broker", "mqtt://me@broker"):
        assert "does not belong here: use the keys username and password" in files.problem(
            f"[mqtt]\nbroker_url = {text}"
        )


def test_addresses_to_listen_on(files: Files) -> None:
    assert bind_address("127.0.0.1:1883") == Address("127.0.0.1", 1883)
    assert bind_address("[::1]:1") == Address("::1", 1)
    for text in ("1883", ":1883", "::1:1883", "localhost", "localhost:0", "localhost:65536", "a b:1", "[::1]"):
        assert f"embedded_bind: value '{text}': " in files.problem(f"[mqtt]\nembedded_bind = {text}")


@pytest.mark.parametrize(
    ("section", "key", "text"),
    [
        ("app", "log_level", "loud"),
        ("app", "data_dir", ""),
        ("app", "data_dir", "a\0b"),
        ("app", "node_id", "a b"),
        ("mqtt", "client_id", ""),
        ("mqtt", "client_id", "x" * 129),
        ("mqtt", "username", "a\tb"),
        ("mqtt", "topics", ""),
        ("mqtt", "topics", "a/+, a/+"),
        ("mqtt", "topics", "a/+, a/b+"),
        ("mqtt", "receipt_topic", "a/+"),
        ("mqtt", "key_file", "a\0b"),
        ("redis", "host", "redis://x"),
        ("redis", "host", "a:0"),
        ("redis", "host", "a:1,a:1"),
        ("redis", "host", "a,embedded"),
        ("redis", "host", "/run/\u0085redis.sock"),
        ("redis", "host", "/run/" + "é" * 52),
        ("redis", "mode", "sentinels"),
        ("redis", "sentinel_service", ""),
        ("redis", "tls", "maybe"),
        ("redis", "flush_ms", "0"),
        ("postgres", "host", ""),
        ("postgres", "host", "999.1.1.1"),
        ("postgres", "host", "/run/postgresql,b"),
        ("postgres", "host", "embedded, b"),
        ("ws", "host", ""),
        ("ws", "host", "*"),
        ("ws", "host", ", ,"),
        ("ws", "host", "127.0.0.1, [::1]"),
        ("ws", "host", "127.0.0.1 ::1"),
        ("ws", "path", "tracking"),
        ("ws", "path", "/a b"),
        ("ws", "path", "/a?b"),
        ("ws", "cors_origin", "*, http://a"),
        ("ws", "cors_origin", "null"),
        ("ws", "cors_origin", "example.org"),
        ("ws", "cors_origin", "http://a/"),
        ("ws", "cors_origin", "http://a:0"),
        ("ws", "cors_origin", "http://[a"),
        ("ws", "auth_secret", "-----BEGIN PUBLIC KEY-----" + "x" * 32),
        ("ws", "auth_secret", "x" * 31),
    ],
)
def test_what_is_refused(files: Files, section: str, key: str, text: str) -> None:
    problem = files.problem(f"[{section}]\n{key} = {text}")
    assert problem.startswith(f"settings.ini [{section}] {key}: value '")
    assert "; allowed " in problem


def test_what_is_accepted(files: Files) -> None:
    found = files.load(
        "[mqtt]\ntopics = a/+/b,\n  c/#\n  /+/é , +\nprotocol = 3.1.1\n[postgres]\nhost = /run/postgresql\n"
        "[ws]\ncors_origin = HTTPS://Example.org:443, http://a:8080, https://example.org\nauth_secret = "
        + "x"
        * 32
        + "\n"
        "host = ::\n[redis]\ntls = TRUE\n[app]\nnode_id = node-1.a_b\nlog_level = DEBUG\n"
    )
    assert found.mqtt.topics == ("a/+/b", "c/#", "/+/é", "+")
    assert found.postgres.host == "/run/postgresql"
    assert found.ws.cors_origin == ("https://example.org", "http://a:8080")
    assert (found.redis.tls, found.app.node_id, found.app.log_level) == (True, "node-1.a_b", "debug")
    assert files.load("[ws]\ncors_origin =").ws.cors_origin == ()
    assert found.ws.host == ("::",)
    hosts = files.load("[ws]\nhost = 0.0.0.0,::,\n  LOCALHOST, 0.0.0.0, localhost").ws.host
    assert hosts == ("0.0.0.0", "::", "localhost")


def test_servers_of_a_store(files: Files) -> None:
    found = files.load("[redis]\nmode = Cluster\nhost = a:1, [::1]:2\n[postgres]\nhost = a,b:5433\nport = 6000")
    assert (found.redis.mode, found.redis.host) == ("cluster", "a:1, [::1]:2")
    assert found.postgres.host == "a,b:5433"
    assert files.load("[redis]\nhost = a:1").redis.host == "a:1"
    assert "entry 2, 'b:x', is wrong: the port" in files.problem("[postgres]\nhost = a,b:x")


def test_several_redis_have_a_mode_and_a_mode_has_servers(files: Files) -> None:
    assert files.problem("[redis]\nhost = a,b").startswith(
        "settings.ini [redis] host: value 'a,b': several servers, but mode = single; allowed is one, or mode = sentinel"
    )
    for mode in ("sentinel", "cluster"):
        assert files.problem(f"[redis]\nmode = {mode}") == (
            f"settings.ini [redis] mode: value '{mode}': host is embedded, one server; allowed is single, or set host"
        )
        files.load(f"[redis]\nmode = {mode}\nhost = a")
    text = "[redis]\nmode = cluster\nhost = a\ndb = 1"
    assert "[redis] db: value '1': a Redis Cluster has one database; allowed is 0" in files.problem(text)


def test_a_unix_socket_is_one_redis_without_tls(files: Files) -> None:
    socket = "/run/a,b/" + "é" * 49
    assert files.load(f"[redis]\nhost = {socket}").redis.host == socket
    assert files.problem(f"[redis]\nhost = {socket}\nmode = cluster") == (
        "settings.ini [redis] mode: value 'cluster': host is a Unix socket, one server; allowed is single"
    )
    assert files.problem(f"[redis]\nhost = {socket}\ntls = yes") == (
        "settings.ini [redis] tls: value 'yes': a Unix socket has no TLS; allowed is no"
    )


def test_origins_are_written_as_browsers_send_them() -> None:
    assert one_origin("http://[::1]:80") == "http://[::1]"
    assert one_origin("https://A.example:80") == "https://a.example:80"
    assert one_origin("capacitor://localhost") == "capacitor://localhost"


def test_qos_2_and_an_expiry_of_0_say_why(files: Files) -> None:
    assert "value '2': QoS 2 with acknowledgement after the commit loses messages" in files.problem("[mqtt]\nqos = 2")
    assert "value '0': a session that ends" in files.problem("[mqtt]\nsession_expiry_s = 0")


def test_long_values_are_cut(files: Files) -> None:
    assert f"value '{'x' * 80}…': " in files.problem(f"[mqtt]\nprotocol = {'x' * 1000}")


# --- rules between keys ----------------------------------------------------------------------------------------


def test_auth_off_needs_loopback(files: Files) -> None:
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "127.0.0.1, ::1, localhost"):
        assert files.load(f"[ws]\nauth = off\nhost = {host}").ws.auth == "off"
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "127.0.0.1, ::"):
        assert files.problem(f"[ws]\nauth = off\nhost = {host}").startswith("settings.ini [ws] auth: value 'off': ")


def test_topic_identity_needs_a_plus(files: Files) -> None:
    assert files.load("[mqtt]\ntopic_identity = race_id\ntopics = a/+, +/b/#").mqtt.topic_identity == "race_id"
    assert files.load("[mqtt]\ntopics = a/#").mqtt.topic_identity == "none"
    problem = files.problem("[mqtt]\ntopic_identity = race_id\ntopics = a/+, b/#")
    assert problem.startswith("settings.ini [mqtt] topic_identity: value 'race_id': the filter 'b/#' has no '+'")


def test_a_receipt_topic_that_comes_back_is_refused(files: Files) -> None:
    assert files.load("[mqtt]\nreceipt_topic = tracking/{participant_id}/receipt").mqtt.receipt_topic
    problem = files.problem("[mqtt]\nreceipt_topic = tracking/{participant_id}/position")
    assert problem.startswith(
        "settings.ini [mqtt] receipt_topic: value 'tracking/{participant_id}/position': the subsc"
    )


def test_an_open_embedded_broker_needs_a_password(files: Files) -> None:
    bind = "[mqtt]\nembedded_bind = 0.0.0.0:1883\n"
    assert files.load(bind + "username = u\npassword = p").mqtt.embedded_bind == "0.0.0.0:1883"
    assert files.load(bind + "broker_url = mqtt://elsewhere").mqtt.username == ""
    for rest in ("", "username = u", "password = p"):
        assert files.problem(bind + rest).startswith(
            "settings.ini [mqtt] embedded_bind: value '0.0.0.0:1883': other mach"
        )


def test_password_without_username_is_for_mqtt_5(files: Files) -> None:
    assert files.load("[mqtt]\npassword = p").mqtt.password
    assert files.problem("[mqtt]\npassword = p\nprotocol = 3.1.1").startswith(
        "settings.ini [mqtt] password: value '***': MQTT 3.1.1 has no password without a username"
    )


def test_certificate_and_key_go_together(files: Files, tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("x")
    for section, more in (("tls", ""), ("mqtt", "broker_url = mqtts://b\nca_file = a.pem\n")):
        files.load(f"[{section}]\n{more}cert_file = a.pem\nkey_file = a.pem")
        for key, missing in (("cert_file", "key_file"), ("key_file", "cert_file")):
            expected = f"[{section}] {key}: value 'a.pem': set without {missing}; allowed are both or neither"
            assert files.problem(f"[{section}]\n{more}{key} = a.pem") == f"settings.ini {expected}"
    files.load("[mqtt]\nbroker_url = mqtt://a,mqtts://b\nca_file = a.pem")
    for url in ("mqtt://b", "mqtt://b,mqtt://c", "embedded"):
        problem = files.problem(f"[mqtt]\nbroker_url = {url}\nca_file = a.pem")
        assert problem.startswith("settings.ini [mqtt] ca_file: value 'a.pem': set, but the connection")


def test_credentials_may_be_asked_for(files: Files) -> None:
    assert files.load("[ws]\ncors_credentials = yes\ncors_origin = http://a").ws.cors_credentials


def test_backoff_grows(files: Files) -> None:
    assert files.problem("[supervisor]\nbackoff_initial_ms = 200\nbackoff_max_ms = 199").startswith(
        "settings.ini [supervisor] backoff_max_ms: value '199': less than backoff_initial_ms; allowed is 200 or more"
    )


def test_a_rule_is_silent_about_keys_that_could_not_be_read(files: Files) -> None:
    [problem] = files.problems("[ws]\nauth = off\nhost = not a host")
    assert "[ws] host" in problem


def test_a_variable_that_breaks_a_rule_is_named(files: Files) -> None:
    assert "value 'off': (environment variable WS_AUTH) [ws] host" in files.problem("[ws]\nhost = ::", WS_AUTH="off")


@pytest.mark.parametrize(
    ("name", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("127.0.0.1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.1", False),
        ("", False),
        ("0.0.0.0", False),
    ],
)
def test_what_is_loopback(name: str, loopback: bool) -> None:
    assert is_loopback(name) is loopback


# --- topic filters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", ["a", "/", "+", "#", "a/+/b", "+/+", "a/#", "/#", "+/#", "$SYS/#", "a//b", "é/٣"])
def test_valid_filters(topic: str) -> None:
    assert filter_fault(topic) == ""


@pytest.mark.parametrize(
    "topic",
    ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "a/b+/c", "##", "a/##", "a\0", "$share/g/a", "x" * 65_536],
)
def test_invalid_filters(topic: str) -> None:
    assert filter_fault(topic)


@pytest.mark.parametrize(
    "topic", ["", "a/+", "a/#", "{id}/a", "a/{participant_id", "a}", "$SYS/a", "a\n", "{participant_id}/{race}"]
)
def test_invalid_receipt_topics(topic: str) -> None:
    assert template_fault(topic)


@pytest.mark.parametrize(
    ("topic_filter", "template", "could"),
    [
        ("#", "a/b", True),
        ("a/#", "a", True),
        ("a/#", "a/{race_id}/b", True),
        ("a/#", "b/{race_id}", False),
        ("a/b/#", "a", False),
        ("+/b", "{race_id}/b", True),
        ("a/+/position", "a/{participant_id}/receipt", False),
        ("a/+/+", "a/{participant_id}/receipt", True),
        ("a/+", "a/{participant_id}/receipt", False),
        ("a/P001", "a/{participant_id}", True),
        ("a/r-P001", "a/r-{participant_id}", True),
        ("a/r-", "a/r-{participant_id}", False),
        ("a/b.c", "a/bxc", False),
        ("a/P001-R1", "a/{participant_id}-{race_id}", True),
        ("a/+", "a/", True),
        ("a/b", "a/b", True),
        ("A/b", "a/b", False),
    ],
)
def test_which_filters_match_a_template(topic_filter: str, template: str, could: bool) -> None:
    assert could_match(topic_filter, template) is could


SHARED = "[cluster]\ningest = shared\nrelay = yes\n[mqtt]\nclient_id = t-{node_id}\n"


def test_nodes_that_share(files: Files) -> None:
    found = files.load("[app]\nnode_id = n1\n" + SHARED)
    assert (found.cluster.ingest, found.cluster.shared_group, found.mqtt.client_id) == ("shared", "tracking", "t-n1")
    assert found.mqtt.topics == ("tracking/+/position",)  # as they are compared with topics of messages


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            ("relay = yes", "relay = no"),
            "[cluster] relay: value 'no': with ingest = shared each node would show its ",
        ),
        (("t-{node_id}", "t"), "[mqtt] client_id: value 't': with ingest = shared each node has a session of its own"),
        (("[mqtt]", "[mqtt]\ntopics = a/+,#"), "[mqtt] topics: value 'a/+,#': the subscription '#' would match"),
        (("[mqtt]", "[mqtt]\ntopics = +/+/+"), "[mqtt] topics: value '+/+/+': the subscription '+/+/+' would match"),
        (("[mqtt]", "shared_group = a/b\n[mqtt]"), "[cluster] shared_group: value 'a/b': holds '/', '+' or '#'; allow"),
        (
            ("[mqtt]", "shared_group =\n[mqtt]"),
            "[cluster] shared_group: value '': empty; allowed is a name without '/'",
        ),
        (("[mqtt]", "[mqtt]\ntopics = $share/g/a"), "[mqtt] topics: value '$share/g/a': '$share/g/a' is a shared subs"),
    ],
)
def test_what_nodes_that_share_cannot_have(files: Files, changed: tuple[str, str], line: str) -> None:
    assert files.problem(SHARED.replace(*changed)).startswith(f"settings.ini {line}")


def test_a_node_that_does_not_share_may_have_all_that(files: Files) -> None:
    files.load(SHARED.replace("shared", "alone").replace("t-{node_id}", "t\ntopics = #").replace("= yes", "= no"))


STANDBY = "[cluster]\ningest = standby\nrelay = yes\n[postgres]\nhost = db\nlock_host = db:5433\n"


def test_nodes_that_stand_by_for_each_other(files: Files) -> None:
    found = files.load(STANDBY)
    assert (found.cluster.ingest, found.postgres.lock_host) == ("standby", "db:5433")
    assert [spot.partition(" with")[0] for spot in weak_spots(found)] == ["[postgres] spool = yes"]
    assert list(weak_spots(files.load(STANDBY + "spool = no"))) == []
    assert list(weak_spots(files.load(""))) == []


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (("relay = yes", "relay = no"), "[cluster] relay: value 'no': with ingest = standby the nodes that wait would"),
        (
            ("[postgres]", "[mqtt]\nclient_id = t-{node_id}\n[postgres]"),
            "[mqtt] client_id: value 't-{node_id}': nodes that stand by for each other have one session",
        ),
        (
            ("[postgres]\nhost = db", "[postgres]"),
            "[postgres] host: value 'embedded': nodes that stand by for each other need one that all of them reach",
        ),
        (("db:5433", "db:0"), "[postgres] lock_host: value 'db:0': the port is out of range"),
        (("db:5433", "embedded"), "[postgres] lock_host: value 'embedded': an embedded PostgreSQL has no pooler"),
    ],
)
def test_what_nodes_that_stand_by_cannot_have(files: Files, changed: tuple[str, str], line: str) -> None:
    assert files.problem(STANDBY.replace(*changed)).startswith(f"settings.ini {line}")
