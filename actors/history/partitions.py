"""Fixes for which PostgreSQL has no partition: what is settled without them, and what an operator is told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import attrs
import msgspec

from actors.core.fix import Fix
from actors.core.parcel import Parcel, ParcelId
from actors.core.timestamps import DAY_MS, format_ms
from actors.history.periods import Width, month_of, sql_of

MOST_MONTHS = 3  # named in one line


@attrs.frozen
class Apart:
    """A batch from which some fixes are left."""

    whole: tuple[ParcelId, ...]  # nothing is left of these
    but: tuple[tuple[ParcelId, int], ...]  # of these, so many fixes
    left: list[Parcel]  # with the fixes that are left, and nothing else


def set_apart(parcels: Iterable[Parcel], left: Collection[bytes]) -> Apart:
    """`left`: ids of the fixes that are not settled; mostly none."""
    if not left:
        return Apart(tuple(parcel.id for parcel in parcels), (), [])
    whole, but, rest = [], [], []
    for parcel in parcels:
        fixes = tuple(fix for fix in parcel.fixes if fix.id in left)
        if fixes:
            but.append((parcel.id, len(fixes)))
            rest.append(msgspec.structs.replace(parcel, fixes=fixes, rejections=()))
        else:
            whole.append(parcel.id)
    return Apart(tuple(whole), tuple(but), rest)


def months(fixes: Iterable[Fix]) -> set[str]:
    """Such as 2020-02, in UTC. By way of the days: there may be very many fixes, and this is asked again and again."""
    return {format_ms(day * DAY_MS)[:7] for day in {fix.timestamp_ms // DAY_MS for fix in fixes}}


def no_partition(missing: Collection[str], fixes: int, where: str) -> str:
    """`missing`: months; `fixes` of them wait `where`."""
    named = ", ".join(sorted(missing)[:MOST_MONTHS])
    more = f" and {len(missing) - MOST_MONTHS} other months" if len(missing) > MOST_MONTHS else ""
    return f"set-up: tracking_positions has no partition for {named}{more}: {fixes} fixes wait {where}"


def to_log(fixes: Sequence[Fix], by: str) -> dict[str, str | int]:
    """Which they are, and what to make for the oldest. Not to be called without any."""
    moments = sorted(fix.timestamp_ms for fix in fixes)
    oldest, newest = format_ms(moments[0]), format_ms(moments[-1])
    about: dict[str, str | int] = {"fixes": len(fixes), "timestamp": oldest}
    if newest != oldest:
        about["newest"] = newest
    return about | {"months": ", ".join(sorted(months(fixes))), "what_to_do": _what_to_do(oldest[:7], by)}


def _what_to_do(month: str, by: str) -> str:
    if not by.startswith("RANGE"):
        return f"make a partition for it (partition by {by})"
    return "; ".join(sql_of(month_of(month), Width.MONTH))
