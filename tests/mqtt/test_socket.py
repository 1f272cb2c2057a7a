"""The buffered socket under paho: what waits, what is refused, whom it dials; and a broker that stops reading."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from actors.mqtt.events import Disconnected, MessagesArrived
from actors.mqtt.link import BrokerAddress, MqttLink
from actors.mqtt.paho import PahoClient
from actors.mqtt.socket import READ_BYTES, WRITE_BYTES, BufferedSocket, dial
from actors.mqtt.splitter import Arrivals
from actors.settings.load import Secret
from tests.kit.scripted_broker import CONNACK, packet, scripted_broker
from tests.kit.servers import free_port
from tests.mqtt.mqtt_desk import SETTINGS, running


@pytest.fixture
def pair() -> Iterator[tuple[BufferedSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield BufferedSocket(ours), theirs


def wait(timeout_s: float, fd: int, events: int) -> int:
    poll = select.poll()
    poll.register(fd, events)
    return dict(poll.poll(timeout_s * 1000)).get(fd, 0)


def fill(sock: BufferedSocket) -> int:
    """Send until it refuses; how many bytes it took."""
    sent = 0
    try:
        while sent < 100_000_000:
            sent += sock.send(b"x" * 10_000)
    except BlockingIOError:
        return sent
    raise AssertionError("it takes everything")


def test_paho_reads_what_it_is_handed(pair: tuple[BufferedSocket, socket.socket]) -> None:
    sock, theirs = pair
    with pytest.raises(BlockingIOError):
        sock.receive()
    assert not sock.heard
    theirs.sendall(b"abcdef")
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    assert sock.receive() == b"abcdef"
    assert sock.heard
    sock.hand_on(b"abc")
    assert sock.recv(1) == b"a"
    sock.hand_on(b"def")
    assert sock.handed_on == 5
    assert sock.recv(2) == b"bc"
    assert sock.recv(READ_BYTES) == b"def"
    assert sock.handed_on == 0
    theirs.close()
    assert sock.receive() == b""


def test_writes_wait_for_flush_and_for_the_kernel(pair: tuple[BufferedSocket, socket.socket]) -> None:
    sock, theirs = pair
    sock.send(b"one")
    sock.send(b"two")
    with pytest.raises(BlockingIOError):
        theirs.recv(1, socket.MSG_DONTWAIT)
    sock.flush()
    assert theirs.recv(100) == b"onetwo"
    sent = fill(sock)
    assert sock.wants_write
    assert WRITE_BYTES <= sock.unsent < WRITE_BYTES + 10_000
    theirs.settimeout(5)
    came = 0
    while came < sent:
        came += len(theirs.recv(READ_BYTES))
        sock.flush()
    assert (came, sock.unsent, sock.wants_write) == (sent, 0, False)


def test_paho_writes_only_when_it_is_told(pair: tuple[BufferedSocket, socket.socket]) -> None:
    """From wherever it is called, it would write each packet by itself."""
    sock, _ = pair
    client = PahoClient(sock, Arrivals(), SETTINGS, "", Secret())
    client.connect("localhost", 1883, clean_start=False)
    client.subscribe([("t/#", 1)])
    client.publish("r", b"x", qos=1)
    assert sock.unsent == 0
    assert client.want_write()
    client.loop_write()
    assert sock.unsent > 0


def test_the_next_address_is_tried_when_one_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody, somebody = ("127.0.0.1", free_port()), server.getsockname()
        sock = dial([(socket.AF_INET, nobody), (socket.AF_INET, somebody)], "localhost", None, wait)
        assert sock.fileno() > 0
        sock.close()
        with pytest.raises(ConnectionRefusedError):
            dial([(socket.AF_INET, nobody)], "localhost", None, wait)
    with pytest.raises(OSError, match="no address"):
        dial([], "localhost", None, wait)


async def test_disconnect_does_not_wait_for_a_broker_that_stops_reading(tmp_path: Path) -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        link = MqttLink(SETTINGS, BrokerAddress("127.0.0.1", listener.socket.getsockname()[1]), tmp_path)
        async with running(link) as desk:
            stream = await listener.accept()
            async with stream:
                await stream.receive_some()
                await stream.send_all(packet(CONNACK, b"\0\0\0"))
                await desk.connected()
                for _ in range(20):
                    link.publish("r", bytes(1_000_000))
                await trio.sleep(0.3)
                started = time.monotonic()
                with trio.fail_after(30):
                    await link.disconnect()
                assert 1.5 < time.monotonic() - started < 30


async def test_an_event_is_bounded_in_messages_and_bytes(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        link = MqttLink(SETTINGS, BrokerAddress("127.0.0.1", broker.port), tmp_path)
        async with running(link) as desk:
            side = await broker.connected()
            await side.subscribed.wait()
            link.hold(True)
            await trio.sleep(0.3)
            large = [side.publish_bytes(b"t/a", bytes(100_000), 1, number) for number in range(1, 21)]
            small = [side.publish_bytes(b"t/a", b"x", 1, number) for number in range(21, 5000)]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(side.send, b"".join(large + small))
                link.hold(False)
                await desk.until(lambda: len(desk.messages) == 4999)
            assert desk.packet_ids == list(range(1, 5000))
            events = desk.all(MessagesArrived)
            assert max(len(event.messages) for event in events) <= 1000
            assert max(event.payload_bytes for event in events) < 512 * 1024 + 100_000
            assert len(events) >= 4 + 4


async def test_suback_with_too_few_codes(tmp_path: Path) -> None:
    async with scripted_broker() as broker:
        broker.suback = b"\x01\x01"
        async with running(MqttLink(SETTINGS, BrokerAddress("127.0.0.1", broker.port), tmp_path)) as desk:
            lost = await desk.disconnected()
            assert lost == Disconnected(1, "protocol error: SUBACK with 2 codes for 1 topics")


async def test_the_broker_closes_first_after_disconnect(tmp_path: Path) -> None:
    """Closing with unread data resets the connection, and acknowledgements on their way may be lost."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener, trio.open_nursery() as nursery:
        link = MqttLink(SETTINGS, BrokerAddress("127.0.0.1", listener.socket.getsockname()[1]), tmp_path)
        async with running(link) as desk:
            stream = await listener.accept()
            async with stream:
                await stream.receive_some()
                await stream.send_all(packet(CONNACK, b"\0\0\0"))
                await desk.connected()
                nursery.start_soon(link.disconnect)
                received = b""
                async for chunk in stream:
                    received += chunk
                assert received.endswith(b"\xe0\x00")
                for _ in range(5):
                    await stream.send_all(bytes(100_000))
                    await trio.sleep(0.05)
