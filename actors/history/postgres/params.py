"""Parameters of a statement."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from actors.history.cursor import EARLIEST_US, LATEST_US
from actors.history.postgres import binary
from actors.history.postgres.writer import storable


@attrs.define
class Params:
    """Parameters of one statement, in binary form."""

    in_partitions: bool = False  # the table is, by time: a question is to touch only some of them
    values: list[bytes] = attrs.field(factory=list)
    types: list[int] = attrs.field(factory=list)

    def text(self, value: str) -> str:
        return self._add(storable(value), binary.TEXT)

    def texts(self, values: Sequence[str]) -> str:
        return self._add(binary.bytes_array(binary.TEXT, [storable(value) for value in values]), binary.TEXT_ARRAY)

    def number(self, value: int) -> str:
        return self._add(binary.int8(value), binary.INT8)

    def moment(self, unix_us: int) -> str:
        return self._add(binary.timestamptz(min(max(unix_us, EARLIEST_US), LATEST_US + 1)), binary.TIMESTAMPTZ)

    def uuid(self, value: bytes) -> str:
        return self._add(value, binary.UUID)

    def uuids(self, values: Sequence[bytes]) -> str:
        return self._add(binary.uuid_array(values), binary.UUID_ARRAY)

    def _add(self, value: bytes, kind: int) -> str:
        self.values.append(value)
        self.types.append(kind)
        return f"${len(self.values)}"
