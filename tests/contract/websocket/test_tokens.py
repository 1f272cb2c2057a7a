"""WebSocket: tokens, in each of three places."""

from __future__ import annotations

import time

import pytest

from tests.contract.bad_tokens import BAD_TOKENS
from tests.kit.outsider import Place
from tests.kit.tokens import token

pytestmark = pytest.mark.live


@pytest.mark.parametrize("kind", BAD_TOKENS)
async def test_a_bad_token_is_401_at_each_place(usual: Place, kind: str) -> None:
    bad = BAD_TOKENS[kind]()
    for answer in (
        await usual.handshake(headers={"Authorization": f"Bearer {bad}"}),
        await usual.handshake(protocols=f"tracking.v1, bearer.{bad}"),
        await usual.handshake(f"/tracking?token={bad}"),
    ):
        answer.error(401)
        assert bad not in answer.body.decode()


async def test_no_token_is_401(usual: Place) -> None:
    for target in ("/tracking", "/tracking?token=", "/tracking?other=1"):
        (await usual.handshake(target)).error(401)
    (await usual.handshake(protocols="tracking.v1")).error(401)


async def test_a_good_token_at_each_place(usual: Place) -> None:
    for ticket in (token(), token([]), token(["R1"])):
        answers = [
            await usual.handshake(headers={"Authorization": f"Bearer {ticket}"}),
            await usual.handshake(headers={"Authorization": f"bearer {ticket}"}),
            await usual.handshake(protocols=f"tracking.v1, bearer.{ticket}"),
            await usual.handshake(protocols=f"bearer.{ticket},tracking.v1"),
            await usual.handshake(f"/tracking?token={ticket}"),
            await usual.handshake(f"/tracking?a=b&token={ticket}"),
        ]
        assert [answer.status for answer in answers] == [101] * 6
        assert answers[0].headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        chosen = [answer.headers.get("sec-websocket-protocol") for answer in answers]
        assert chosen == [None, None, "tracking.v1", "tracking.v1", None, None]


async def test_the_first_token_found_is_the_one_that_counts(usual: Place) -> None:
    good, bad = token(), "bad"
    header = {"Authorization": f"Bearer {bad}"}
    (await usual.handshake(f"/tracking?token={good}", protocols=f"tracking.v1, bearer.{good}", headers=header)).error(
        401
    )
    (await usual.handshake(f"/tracking?token={good}", protocols=f"tracking.v1, bearer.{bad}")).error(401)
    header = {"Authorization": f"Bearer {good}"}
    answer = await usual.handshake(f"/tracking?token={bad}", protocols=f"tracking.v1, bearer.{bad}", headers=header)
    assert answer.status == 101
    assert (await usual.handshake(f"/tracking?token={bad}", protocols=f"tracking.v1, bearer.{good}")).status == 101
    # Another scheme holds no token.
    assert (await usual.handshake(f"/tracking?token={good}", headers={"Authorization": "Basic eDp5"})).status == 101


async def test_subprotocols(usual: Place) -> None:
    ticket = token()
    query = f"/tracking?token={ticket}"
    (await usual.handshake(protocols=f"bearer.{ticket}")).error(400)
    assert (await usual.handshake(query, protocols="tracking.v1")).headers["sec-websocket-protocol"] == "tracking.v1"
    unknown = await usual.handshake(query, protocols="chat")
    assert unknown.status == 101
    assert "sec-websocket-protocol" not in unknown.headers


async def test_a_token_that_expires_closes_with_4401(usual: Place) -> None:
    start = time.monotonic()
    async with usual.dashboard(access=token(ttl_s=3)) as board:
        assert await board.closed() == 4401
    assert time.monotonic() - start > 1.5
