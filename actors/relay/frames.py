"""A frame of another node: the positions in it, and the same frame for our dashboards, not made anew.

What was deflated there goes through the stream so, is inflated here to be read, and is not deflated again.
"""

from __future__ import annotations

import msgspec

from actors.core.position import KeptPosition, fix_of
from actors.dashboards.deflate import BadDeflate, Inflation, TooLong
from actors.dashboards.frames import Frame, is_deflated, payload_of
from actors.races.messages import ShownElsewhere

MOST_BYTES = 4 * 1024 * 1024
"""Of an event: windows are cut into some 256 kB (races/window.py)."""


class _Positions(msgspec.Struct):
    positions: list[KeptPosition]


class _Batch(msgspec.Struct, tag_field="event", tag="batch_position_update"):
    data: _Positions


class _Update(msgspec.Struct, tag_field="event", tag="position_update"):
    data: KeptPosition


_decoder = msgspec.json.Decoder(_Batch | _Update)


def write_frame(frame: Frame, compressing: bool) -> bytes:
    """As it stands in the stream: a whole WebSocket frame."""
    return frame.deflated if compressing else frame.plain


def read_frame(data: bytes, race_id: str) -> ShownElsewhere | None:
    """None for what no node of ours has written."""
    try:
        payload = payload_of(data)
        event = payload
        if is_deflated(data):
            inflation = Inflation(MOST_BYTES)
            event = inflation.feed(payload) + inflation.finish()
        told = _decoder.decode(event)
    except (BadDeflate, TooLong, msgspec.DecodeError, UnicodeDecodeError, IndexError):
        return None
    positions = told.data.positions if isinstance(told, _Batch) else [told.data]
    fixes = [fix_of(each) for each in positions if each.race_id == race_id]
    known = tuple(fix for fix in fixes if fix is not None)
    if len(known) != len(positions) or not known:
        return None
    frame = Frame.ready(event, data) if is_deflated(data) else Frame(event)
    return ShownElsewhere(known, tuple(each.stale for each in positions), frame)
