"""Parameters of a statement arrive as they were meant, whatever they are."""

from __future__ import annotations

import pytest

from actors.history.cursor import EARLIEST_US, LATEST_US
from actors.history.postgres.params import Params
from tests.kit.stores import Database

pytestmark = pytest.mark.live


async def test_each_has_its_place_and_type(database: Database) -> None:
    params = Params()
    columns = ", ".join(
        f"{place}::text"
        for place in (
            params.text("é"),
            params.number(-(1 << 62)),
            params.uuid(bytes(range(16))),
            params.texts(["a", "nul\0"]),
            params.uuids([bytes(16)]),
        )
    )
    result = await database.connection.query(f"select {columns}", params.values, params.types)
    assert [(result.get_value(0, column) or b"").decode() for column in range(result.nfields)] == [
        "é",
        str(-(1 << 62)),
        "00010203-0405-0607-0809-0a0b0c0d0e0f",
        '{a,"nul\\\\x00"}',
        "{00000000-0000-0000-0000-000000000000}",
    ]


async def test_moments_are_those_that_can_be_said(database: Database) -> None:
    """Beyond the calendar they are its ends."""
    params = Params()
    few = [params.moment(us) for us in (-(1 << 62), EARLIEST_US, 0, LATEST_US, 1 << 62)]
    columns = ", ".join(f"(extract(epoch from {place}) * 1000000)::bigint::text" for place in few)
    result = await database.connection.query(f"select {columns}", params.values, params.types)
    told = [int(result.get_value(0, column) or b"") for column in range(5)]
    assert told == [EARLIEST_US, EARLIEST_US, 0, LATEST_US, LATEST_US + 1]
