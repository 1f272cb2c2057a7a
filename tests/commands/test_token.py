"""`token`, read back."""

from __future__ import annotations

import argparse
import time

import jwt
import pytest

from actors.commands import token
from actors.http.access import load_secret
from actors.settings.load import Settings
from tests.commands.check_settings import about as about
from tests.commands.check_settings import settings as settings

pytestmark = pytest.mark.live


def printed(settings: Settings, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, object]:
    parser = argparse.ArgumentParser()
    token.add(parser.add_subparsers())
    args = parser.parse_args(["token", *options])
    assert args.run(args, settings) == 0
    [text] = capsys.readouterr().out.splitlines()
    claims: dict[str, object] = jwt.decode(text, load_secret(settings), ["HS256"])
    return claims


def test_tokens(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    for options, races, ttl_s in (
        ((), None, 8 * 3600),
        (("--race", "R1", "--race", "R2", "--ttl", "90s"), ["R1", "R2"], 90),
        (("--ttl", "30m"), None, 1800),
        (("--ttl", "7d"), None, 7 * 86_400),
    ):
        before = int(time.time())
        claims = printed(settings, capsys, *options)
        assert claims.get("races") == races
        assert "races" in claims or races is None
        expires = claims["exp"]
        assert isinstance(expires, int)
        assert before + ttl_s <= expires <= time.time() + ttl_s


@pytest.mark.parametrize(
    "options",
    [["--ttl", "8"], ["--ttl", "0s"], ["--ttl=-1h"], ["--ttl", "9999d"], ["--ttl", "1.5h"], ["--race", "a b"]],
)
def test_bad_usage_is_exit_code_2(settings: Settings, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        printed(settings, capsys, *options)
    assert caught.value.code == 2
    assert "is not a" in capsys.readouterr().err
