"""schemathesis asks for what the OpenAPI description allows and for what it does not, and looks at every answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.kit.outsider import Place, fix, now_ms
from tests.kit.tokens import token

pytestmark = pytest.mark.live

# What is allowed must be taken: http/test_documents.py compares that with the code itself. Of signs beyond ASCII the
# description tells only in words which may be in an id.
LEFT_OUT = "positive_data_acceptance"
EXAMPLES = 5  # a route, beside those of the edges; 30 and the phase `stateful` take minutes


async def test_every_answer_is_as_described(listed: Place, tmp_path: Path) -> None:
    await listed.stored(fix("R2025-07", "P001", now_ms()), fix("R2025-07", "Zo\u00eb", now_ms()))
    await listed.publish("no object")
    argv = [
        sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{listed.port}/api/openapi.json",
        "-H", f"Authorization: Bearer {token()}", "--phases", "examples,coverage,fuzzing", "--seed", "7",
        "--exclude-checks", LEFT_OUT, "--max-examples", str(EXAMPLES), "--continue-on-failure", "--no-color",
    ]  # fmt: skip
    with trio.fail_after(300):
        done = await trio.run_process(argv, capture_stdout=True, stderr=subprocess.STDOUT, check=False, cwd=tmp_path)
    said = done.stdout.decode()
    assert done.returncode == 0, said[-6000:]
    assert "No issues found" in said, said[-1000:]
