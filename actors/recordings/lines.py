"""JSON lines, as `export` writes them -> messages: a line is a payload, published as it stands where it can be."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import attrs
import msgspec

from actors.core.errors import RejectionCode
from actors.core.fix import Fix
from actors.core.rejection import Rejection
from actors.core.timestamps import DAY_MS, EARLIEST_MS, format_ms
from actors.ingest.decode import decode
from actors.ingest.validate import Rules
from actors.recordings.points import PointAccount, Recorded

_elements = msgspec.json.Decoder(list[msgspec.Raw])
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()
_OF_A_WHOLE_LINE = {RejectionCode.BAD_ENCODING, RejectionCode.BAD_JSON, RejectionCode.TOO_LARGE}
_RULES_OF_A_PART = Rules(max_payload_bytes=sys.maxsize)


@attrs.frozen
class Lines:
    """What is wanted of a file of lines."""

    race: str | None  # only this one; in NFC
    participant: str | None
    max_payload_bytes: int
    shift_ms: int  # what every timestamp is moved by
    latest_ms: int  # of a timestamp after that

    def read(self, chunks: Iterable[bytes], tally: PointAccount) -> Iterator[Recorded]:
        """In the order of the file; what is wanted and cannot be used is told to `tally`. Raises what `chunks` does."""
        rules = Rules(self.max_payload_bytes)
        for number, line in enumerate(_lines(chunks, self.max_payload_bytes), 1):
            payload = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip()
            if len(payload) > self.max_payload_bytes:
                tally.read += 1
                tally.leave_out(RejectionCode.TOO_LARGE, number)
            elif payload:
                yield from self._message(payload, rules, number, tally)

    def _message(self, payload: bytes, rules: Rules, line: int, tally: PointAccount) -> Iterator[Recorded]:
        """The message for one line, as it stands there unless a part is left out or moved in time."""
        fixes, rejections = decode(b"", payload, self._arrived_ms, rules)
        if rejections and rejections[0].code in _OF_A_WHOLE_LINE:
            tally.read += 1
            tally.leave_out(RejectionCode(rejections[0].code), line)
            return
        if not rejections and not self.shift_ms and all(map(self._is_wanted, fixes)):
            tally.read += len(fixes)
        else:
            is_array = payload.startswith(b"[")
            parts = list(self._parts(_elements.decode(payload) if is_array else [payload], line, tally))
            fixes = [fix for fix, _ in parts]
            payload = b",".join(part for _, part in parts)
            payload = b"[%b]" % payload if is_array else payload
        if fixes:
            yield Recorded(fixes[0].participant_id, fixes[0].race_id, fixes[0].timestamp_ms + self.shift_ms, payload)

    def _parts(
        self, elements: Sequence[bytes | msgspec.Raw], line: int, tally: PointAccount
    ) -> Iterator[tuple[Fix, bytes]]:
        """What is wanted and can be used: each fix as it was recorded, and its JSON, moved in time."""
        for element in map(bytes, elements):
            # In brackets, because an array in an array is no fixes.
            fixes, rejections = decode(b"", b"[%b]" % element, self._arrived_ms, _RULES_OF_A_PART)
            found = fixes[0] if fixes else rejections[0]
            if not self._is_wanted(found):
                continue
            tally.read += 1
            if isinstance(found, Rejection):
                tally.leave_out(RejectionCode(found.code), line)
            elif found.timestamp_ms + self.shift_ms < EARLIEST_MS:
                tally.leave_out(RejectionCode.BAD_TIMESTAMP, line)
            else:
                yield found, self._moved(found, element)

    @property
    def _arrived_ms(self) -> int:
        """What is a day ahead of this is in the future."""
        return self.latest_ms - self.shift_ms - DAY_MS

    def _is_wanted(self, found: Fix | Rejection) -> bool:
        """Also what does not say whose it is."""
        return all(
            wanted is None or has is None or wanted == unicodedata.normalize("NFC", has)
            for wanted, has in ((self.race, found.race_id), (self.participant, found.participant_id))
        )

    def _moved(self, fix: Fix, element: bytes) -> bytes:
        if not self.shift_ms:
            return element
        timestamp = msgspec.Raw(_encoder.encode(format_ms(fix.timestamp_ms + self.shift_ms)))
        return _encoder.encode(_members.decode(element) | {"timestamp": timestamp})


def _lines(chunks: Iterable[bytes], longest: int) -> Iterator[bytes]:
    """Of what is longer than `longest` only so much that it is seen to be."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        rest = rest[: longest + 1]
    yield rest
