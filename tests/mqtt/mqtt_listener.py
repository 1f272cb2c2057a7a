"""For tests of commands, which run trio themselves: a subscriber without it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from actors.settings.load import Settings

WITHIN_S = 30.0


def settings_for(port: int) -> Settings:
    """The defaults with this broker."""
    settings = Settings()
    return attrs.evolve(settings, mqtt=attrs.evolve(settings.mqtt, broker_url=f"mqtt://127.0.0.1:{port}"))


class Listener:
    """Subscribes to one filter at QoS 1 and keeps what comes."""

    def __init__(self, port: int, topic_filter: str) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._changed = threading.Condition()
        self._is_subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_message = self._take
        self._client.on_subscribe = lambda *_: self._is_subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.subscribe(topic_filter, qos=1)
        self._client.loop_start()
        assert self._is_subscribed.wait(WITHIN_S)

    def _take(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            self.messages.append((message.topic, bytes(message.payload)))
            self._changed.notify_all()

    @contextmanager
    def interrupting(self, count: int) -> Iterator[None]:
        """Somebody presses Ctrl-C in the block once so many messages are there."""
        main = threading.main_thread().ident
        assert main is not None

        def interrupt() -> None:
            self.wait_for(count)
            signal.pthread_kill(main, signal.SIGINT)

        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        yield
        interrupter.join()

    def wait_for(self, count: int) -> list[tuple[str, bytes]]:
        """The first `count` messages, once they are there."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.messages) >= count, WITHIN_S), (
                f"only {len(self.messages)} came"
            )
            return list(self.messages)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def listening(port: int, topic_filter: str = "tracking/+/position") -> Iterator[Listener]:
    listener = Listener(port, topic_filter)
    try:
        yield listener
    finally:
        listener.close()
