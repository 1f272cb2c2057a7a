"""Receipts: what a tracker is told after the commit, so that it may forget those fixes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from actors.core.fix import Fix
from actors.core.ids import normal_id
from actors.core.rejection import Rejection
from actors.ingest.messages import ReaderMessage, Tell

_encoder = msgspec.json.Encoder()


def receipts(template: str, fixes: Iterable[Fix], rejections: Iterable[Rejection]) -> list[tuple[str, bytes]]:
    """(topic, payload) for each participant and race of a batch. `template` is `[mqtt] receipt_topic`.

    A rejection is told only where participant, race and timestamp could be read: else nobody could match it, and an
    id that breaks the rules must not become part of a topic.
    """
    told: dict[tuple[str, str], tuple[list[str], list[dict[str, str]]]] = {}
    for fix in fixes:
        told.setdefault((fix.participant_id, fix.race_id), ([], []))[0].append(fix.sent_timestamp)
    for rejection in rejections:
        participant_id, race_id = _valid(rejection.participant_id), _valid(rejection.race_id)
        if participant_id and race_id and rejection.sent_timestamp:
            entry = {"timestamp": rejection.sent_timestamp, "code": str(rejection.code)}
            told.setdefault((participant_id, race_id), ([], []))[1].append(entry)
    return [
        (
            template.replace("{participant_id}", participant_id).replace("{race_id}", race_id),
            _encoder.encode(
                {
                    "participant_id": participant_id,
                    "race_id": race_id,
                    "timestamps": timestamps,
                    "rejected": rejected,
                }
            ),
        )
        for (participant_id, race_id), (timestamps, rejected) in told.items()
    ]


def teller(
    template: str, post: Callable[[ReaderMessage], None]
) -> Callable[[Sequence[Fix], Sequence[Rejection]], None]:
    """What is to be called with each batch that is durable: the reader is told to publish its receipts, if there are
    any (`template` is not empty)."""

    def tell(fixes: Sequence[Fix], rejections: Sequence[Rejection]) -> None:
        if template:
            post(Tell(tuple(receipts(template, fixes, rejections))))

    return tell


def _valid(value: str | None) -> str | None:
    return None if value is None else normal_id(value)
