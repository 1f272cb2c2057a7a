"""Who tells about ends of a connection tells what dashboards/endings.py has, and every reason that is counted."""

from __future__ import annotations

import re
from pathlib import Path

from actors.dashboards.endings import BY_LIBRARY, End
from actors.dashboards.websocket import ABNORMAL
from actors.http.documents import asyncapi
from actors.http.problem import CODES, Problem, bad_request, unauthorized, unavailable
from tests.kit.readme import README

ACTORS = Path(__file__).parents[2] / "actors"
REFUSING = ("dashboards/listener.py", "dashboards/handshake.py", "dashboards/waiting.py", "http/server.py")
CHANNEL = asyncapi("/tracking")["channels"]["tracking"]
TOLD = [end for end in End if end is not End.GONE]


def refusals() -> dict[int, str]:
    """status -> code of what the listener may refuse a request with."""
    source = "".join(
        (ACTORS / name).read_text()
        for name in ("dashboards/listener.py", "dashboards/handshake.py", "dashboards/waiting.py", "http/server.py")
    )
    made: list[Problem] = [Problem(int(status), "") for status in re.findall(r"\bProblem\((\d+)", source)]
    made += [make("") for make in (bad_request, unauthorized, unavailable) if f"{make.__name__}(" in source]
    return {problem.status: problem.code for problem in made}


def test_readme_lists_them() -> None:
    rows = re.findall(r"^\| (\d{4}|no close frame) \| `(\w+)` \| .+ \| (.+) \|$", README, re.M)
    assert rows == [(str(end.code or "no close frame"), end.reason, end.then) for end in TOLD]


def test_asyncapi_lists_them() -> None:
    closes = CHANNEL["x-closes"]
    assert {int(code) for code in closes} == {end.code or ABNORMAL for end in TOLD}
    for end in TOLD:
        assert closes[str(end.code or ABNORMAL)].endswith(f": {end.then}.")


def test_readme_lists_every_refusal() -> None:
    """Each is a reason of tracking_ws_dropped_total too."""
    paragraph = README.partition("\nRefused handshakes")[2].partition("\n\n")[0]
    assert {int(status): code for status, code in re.findall(r"(\d{3}) `(\w+)`", paragraph)} == refusals()
    plain = {405, 500}  # of HTTP without an upgrade
    assert {int(status) for status in CHANNEL["x-refusals"]} == refusals().keys() - plain
    assert refusals().keys() <= CODES.keys()


def test_a_code_is_of_one_ending() -> None:
    codes = [end.code for end in End if end.code]
    assert len(codes) == len(set(codes))
    assert BY_LIBRARY.keys() < set(codes)
