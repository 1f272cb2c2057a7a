"""`check` hears which nodes there are, and whether they sign tokens alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs
import pytest
import trio

from actors.cache.stream import RedisStream
from actors.commands import check_nodes
from actors.core.addresses import RedisAddress, Secret
from actors.http.access import load_access
from actors.relay.entry import BEAT_S, Entry, Sender, write_entry
from actors.settings.load import Settings
from tests.commands.check_settings import about, with_redis
from tests.commands.check_settings import settings as settings
from tests.kit.servers import free_port

pytestmark = pytest.mark.live


@contextmanager
def talking(address: RedisAddress, senders: Sequence[Sender]) -> Iterator[None]:
    """Nodes that do."""
    ended = threading.Event()

    async def talk() -> None:
        stream, number = RedisStream(address), 0
        while not ended.is_set():
            number += 1
            for sender in senders:
                await stream.append(write_entry(Entry(f"run of {sender}", number, [], sender)))
            await stream.append(b"rubbish")
            await trio.sleep(BEAT_S / 4)
        await stream.aclose()

    thread = threading.Thread(target=trio.run, args=(talk,))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def one_of_several(settings: Settings, address: RedisAddress, secret: str) -> Settings:
    return attrs.evolve(
        with_redis(settings, address),
        cluster=attrs.evolve(settings.cluster, relay=True),
        ws=attrs.evolve(settings.ws, auth_secret=Secret(secret)),
    )


def test_nodes_that_run(settings: Settings, redis_process: tuple[RedisAddress, int]) -> None:
    ours = one_of_several(settings, redis_process[0], "s" * 40)
    mark = load_access(ours).secret_mark()
    with talking(redis_process[0], [Sender("b", mark), Sender("a", mark)]):
        (heard,) = about(ours, "nodes")
        assert (heard.level, heard.text) == ("ok", "a, b can be heard")
    with talking(redis_process[0], [Sender("a", mark), Sender("b", mark ^ 1)]):
        heard, differs = about(ours, "nodes")
        assert differs.level == "FAILED"
        assert differs.text.startswith("b has another [ws] auth_secret")


def test_a_secret_that_each_would_make(settings: Settings, redis_process: tuple[RedisAddress, int]) -> None:
    warning, heard = about(one_of_several(settings, redis_process[0], ""), "nodes")
    assert (warning.level, heard.text) == ("warning", "none runs now")
    assert not settings.app.data_dir.exists()


def test_a_redis_that_cannot_be_asked() -> None:
    (failed,) = [each for each in check_nodes.nodes(RedisAddress(port=free_port()), None) if each.level == "FAILED"]
    assert failed.text.startswith("what they tell each other cannot be read")
