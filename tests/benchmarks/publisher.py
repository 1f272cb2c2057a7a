"""A publisher that costs next to nothing: MQTT 3.1.1 on a bare socket, packets put together from ready-made pieces.

A process of its own. Prints `ready`, waits for a line, publishes, and prints one JSON object: Unix times of the first
send and the last PUBACK, and how far a paced load fell behind (ms): a large number means that the load was another one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

CHUNK = 200  # messages in one send
WINDOW = 1000  # messages without PUBACK, as the peer's publisher has it
PLACES = 10  # prebuilt packets a participant, where there are few
PLACES_OF_A_TRACK = 100
STRIDE = 101  # places between participants who have the same track
FEW = 1000
STAMP_BYTES = len("2025-07-01T08:15:30.123Z")
CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"  # clean session, no keepalive, a name by the broker
CONNACK_BYTES = PUBACK_BYTES = 4


def recorded(path: Path) -> list[list[tuple[float, float]]]:
    """The places of each participant of a recording, in order: JSON lines as `replay` takes them, perhaps as .gz."""
    tracks: dict[str, list[tuple[float, float]]] = {}
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for line in lines:
            fix = json.loads(line)
            tracks.setdefault(fix["participant_id"], []).append((fix["latitude"], fix["longitude"]))
    return list(tracks.values())


def place(number: int, participants: int, tracks: list[list[tuple[float, float]]]) -> tuple[float, float]:
    """Where a participant is whose turn it is: somewhere, or on its way along a track, not all at the same place."""
    if not tracks:
        return -7.9456 + number * 1e-5, 112.6145 + number * 1e-5
    turn, who = divmod(number, participants)
    track = tracks[who % len(tracks)]
    return track[(who * STRIDE + turn) % len(track)]


def pieces(
    participants: int, races: int, race_id: str, tracks: list[list[tuple[float, float]]]
) -> list[tuple[bytes, bytes, bytes]]:
    """PUBLISH packets at QoS 1 (MQTT 3.1.1 section 3.3) without what differs: packet id, then timestamp.

    Several races have a number behind the id, and take the participants in turn.
    """
    found = []
    for i in range(participants * (1 if participants > FEW else PLACES_OF_A_TRACK if tracks else PLACES)):
        latitude, longitude = place(i, participants, tracks)
        who = f"P{i % participants:05}"
        race = race_id if races == 1 else f"{race_id}-{i % participants % races}"
        topic = f"tracking/{who}/position".encode()
        before = (
            f'{{"participant_id":"{who}","race_id":"{race}","latitude":{latitude:.6f},'
            f'"longitude":{longitude:.6f},"timestamp":"'
        ).encode()
        after = b'","status":"moving"}'
        length = 2 + len(topic) + 2 + len(before) + STAMP_BYTES + len(after)
        assert 128 <= length < 16384, "two bytes of length"
        head = bytes((0x32, length & 127 | 128, length >> 7)) + struct.pack(">H", len(topic)) + topic
        found.append((head, before, after))
    return found


def stamp(unix_ms: int) -> bytes:
    """RFC 3339 with milliseconds."""
    return f"{datetime.fromtimestamp(unix_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{unix_ms % 1000:03}Z".encode()


def publish(sock: socket.socket, packets: Sequence[tuple[bytes, bytes, bytes]], args: argparse.Namespace) -> float:
    """Send all, wait for all PUBACKs. Returns how far it fell behind, in seconds.

    A timestamp is the moment of sending, but grows from fix to fix of a participant: every fix changes a live position.
    """
    count, rate, participants = args.count, args.rate, args.participants
    sent = acked = unix_ms = floor_ms = answered_bytes = 0
    behind_s = 0.0
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    began = time.monotonic()
    while acked < count:
        if rate and sent < count:
            behind_s = max(behind_s, time.monotonic() - began - sent / rate)
        due = min(count, int((time.monotonic() - began) * rate) + 1) if rate else count
        upto = min(due, sent + CHUNK, acked + WINDOW)
        parts: list[bytes] = []
        now_ms = time.time_ns() // 1_000_000
        while sent < upto:
            if sent % participants == 0:
                floor_ms = unix_ms + 1
            if not parts or unix_ms < floor_ms:
                unix_ms = max(now_ms, floor_ms)
                text = stamp(unix_ms)
            head, before, after = packets[sent % len(packets)]
            parts += (head, (sent % 65535 + 1).to_bytes(2, "big"), before, text, after)
            sent += 1
        if parts:
            sock.sendall(b"".join(parts))
        more = sent < min(due, acked + WINDOW)
        if poll.poll(0 if more else 1):
            data = sock.recv(65536)
            assert data, "the broker closed the connection"
            answered_bytes += len(data)
            acked = answered_bytes // PUBACK_BYTES
    return behind_s


def main() -> None:
    """Connect, publish, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--race", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--participants", type=int, default=200)
    parser.add_argument("--races", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0, help="messages a second; 0 = as fast as it goes")
    parser.add_argument("--tracks", help="a recording: participants go along its tracks")
    args = parser.parse_args()
    packets = pieces(args.participants, args.races, args.race, recorded(Path(args.tracks)) if args.tracks else [])
    with socket.create_connection(("127.0.0.1", args.port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(CONNECT)
        assert sock.recv(CONNACK_BYTES, socket.MSG_WAITALL) == b"\x20\x02\x00\x00", "not let in"
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.time()
        behind_s = publish(sock, packets, args)
        print(json.dumps({"began": began, "ended": time.time(), "behind_ms": behind_s * 1000}))
        sock.sendall(b"\xe0\x00")


if __name__ == "__main__":
    main()
