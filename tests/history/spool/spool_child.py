"""A process that fills a spool and can be killed, or that meets the end of its disk. Not a test."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import trio

from actors.core.errors import SpoolFull, SpoolUnavailable
from actors.core.fix import Fix
from actors.core.rejection import Rejection
from actors.history.spool.spool import SpoolOnDisk
from tests.kit.making import BASE_MS, make_fix

BATCH = 150
REJECTED = 2
ANY_SKEW_MS = 1 << 60
MIB = 1 << 20
PLENTY = 1024 * MIB


def fixes_of(batch: int) -> list[Fix]:
    """Participants come again in each batch."""
    return [make_fix(f"P{number}", batch, lat=number / 10) for number in range(1, BATCH + 1)]


def rejections_of(batch: int) -> list[Rejection]:
    return [
        Rejection(batch.to_bytes(8, "big") + bytes(7) + bytes([each]), BASE_MS, "t", b"x" * 4096, "bad_json", "no")
        for each in range(REJECTED)
    ]


async def fill(path: Path) -> None:
    """For ever, from batch argv[3] on; a line with the number of each batch that is durable."""
    spool = SpoolOnDisk(path, PLENTY)
    await spool.open()
    batch = int(sys.argv[3])
    while True:
        await spool.put(fixes_of(batch), rejections_of(batch))
        print(batch, flush=True)
        batch += 1


async def meet_the_end(path: Path) -> None:
    """Put until files may not grow any more, then see that nothing is half there, and go on once they may.

    The log of such a spool is written back to the file at 2 MiB.
    """
    spool = SpoolOnDisk(path, 32 * MIB)
    await spool.open()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), hard))
    batch = await put_until_refused(spool, SpoolUnavailable)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await spool.put(fixes_of(batch), rejections_of(batch)) == BATCH + REJECTED
    await spool.aclose()
    print(batch + 1)


async def put_until_refused(spool: SpoolOnDisk, refusal: type[SpoolFull | SpoolUnavailable]) -> int:
    """How many batches there was room for: all of them are there, and nothing of the next."""
    batch = 0
    while True:
        try:
            await spool.put(fixes_of(batch), rejections_of(batch))
        except refusal:
            break
        batch += 1
    assert spool.rows == batch * (BATCH + REJECTED)
    there = await spool.oldest(spool.rows + 1)
    assert [fix.id for fix in there.fixes] == [fix.id for each in range(batch) for fix in fixes_of(each)]
    assert len(there.rejections) == batch * REJECTED
    return batch


if __name__ == "__main__":
    trio.run({"fill": fill, "meet_the_end": meet_the_end}[sys.argv[1]], Path(sys.argv[2]))
