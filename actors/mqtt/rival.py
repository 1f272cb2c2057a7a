"""Does another client use our client_id? Two of them would throw each other out for ever.

At a take-over mosquitto 2.0.11 says nothing, it closes the connection; so does a broker that stops, and now and then a
network. What tells them apart is a witness: a second, silent TCP connection to the same node, opened after the first
doubtful loss and kept. We were thrown out when we lost the connection within STEADY_S (thread.py) of its CONNACK
and

- the broker said so (MQTT 5: DISCONNECT with 0x8E), or
- it closed the connection, in order and between two packets, having granted all our subscriptions and answered all
  that we published (mqtt/end.py), and the witness was still open when we were to try again.

Thrown out TIMES times in a row we stop trying, so that the other one stays. The row ends with a connection that lives
longer, with an attempt that is not answered by a CONNACK, when the witness is closed too (that broker is stopping), and
when the oldest message that we had not acknowledged comes again: nobody else had the session meanwhile, or could not
acknowledge either. A reset, a cut inside a packet and silence are the network's: they neither count nor end the row.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from actors.core.addresses import Address
from actors.mqtt.socket import BufferedSocket

TIMES = 3


@attrs.define(eq=False)
class Rival:
    """Owned by the driver, used by its thread: it outlives a crash of the reader."""

    thrown_out: int = 0  # times in a row
    _doubtful: bool = False  # the last loss counts if the witness is still there
    _witness: BufferedSocket | None = None
    _node: Address | None = None  # that the witness is connected to

    @property
    def won(self) -> bool:
        """We do not try again."""
        return self.thrown_out >= TIMES

    def named(self) -> None:
        """The broker said that another client took over."""
        self.thrown_out += 1

    def doubt(self, node: Address, dial: Callable[[], BufferedSocket]) -> None:
        """This node closed the connection; `dial` opens one to it. Call `decide` before the next attempt."""
        if self._witness is not None and self._node != node:
            self.close()
        if self._witness is None:
            try:
                self._witness = dial()
            except (OSError, trio.TooSlowError):
                self.forget()
                return
        self._node = node
        self._doubtful = True

    def decide(self) -> None:
        """It is time for the next attempt: was it a take-over?"""
        if self._doubtful:
            self._doubtful = False
            if self._witness is not None and _is_open(self._witness):
                self.thrown_out += 1
            else:
                self.forget()

    def forget(self) -> None:
        """The row has ended."""
        self.thrown_out = 0
        self.close()

    def close(self) -> None:
        """The witness is not needed any more."""
        self._doubtful = False
        if self._witness is not None:
            self._witness.close()
            self._witness = None


def _is_open(witness: BufferedSocket) -> bool:
    try:
        return bool(witness.receive())
    except BlockingIOError:
        return True
    except OSError:
        return False
