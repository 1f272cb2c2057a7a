"""A network of its own for a process, joined to ours by one cable that can be pulled. Needs Linux and root.

Both ends are Ethernet to the kernel: with the cable out nobody is told anything, as with a real one.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import attrs
import pytest

_numbers = count(os.getpid() * 4 % 16_000)


@attrs.frozen
class Namespace:
    """Where servers of the host are reached at `host`, and processes inside it at `guest`."""

    name: str
    host: str
    guest: str

    @property
    def prefix(self) -> Sequence[str]:
        """Of a command that is to run inside it."""
        return ("ip", "netns", "exec", self.name)

    def pull(self) -> None:
        """The cable is out."""
        _ip("link", "set", "dev", self.name, "down")

    def plug(self) -> None:
        """It is in again."""
        _ip("link", "set", "dev", self.name, "up")


@contextmanager
def namespace() -> Iterator[Namespace]:
    """Gone afterwards. Skips the test where none can be made."""
    number = next(_numbers)
    made = Namespace(
        f"track{number}", *(f"10.{201 + number // 8192}.{number // 64 % 128}.{number % 64 * 4 + n}" for n in (1, 2))
    )
    try:
        _ip("netns", "add", made.name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    try:
        _ip("link", "add", made.name, "type", "veth", "peer", "name", "cable", "netns", made.name)
        _ip("addr", "add", f"{made.host}/30", "dev", made.name)
        _ip("-n", made.name, "addr", "add", f"{made.guest}/30", "dev", "cable")
        _ip("-n", made.name, "link", "set", "dev", "cable", "up")
        _ip("-n", made.name, "link", "set", "dev", "lo", "up")
        made.plug()
        yield made
    finally:
        _ip("netns", "del", made.name)


def _ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True)
