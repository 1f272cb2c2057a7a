"""Commands of supervisor.py to their end: as processes at the same time, or here, one after the other."""

from __future__ import annotations

import io
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from tests.kit.daemon import ROOT, SUPERVISOR

WITHIN_S = 300.0  # a replay of 75,000 messages takes 10 s on an idle machine


def run_commands(
    commands: Sequence[Sequence[str]], *, check: int | None = 0, **environment: str
) -> list[subprocess.CompletedProcess[str]]:
    """`python supervisor.py ARGS` each, at the same time."""
    processes = [
        subprocess.Popen(
            [sys.executable, SUPERVISOR, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | environment,
        )
        for args in commands
    ]
    done = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=WITHIN_S)
            done.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    finally:
        for process in processes:
            with process:  # its pipes too: left open, they would fail a later test
                process.kill()
    for one in done:
        assert check is None or one.returncode == check, (one.args[2:], one.returncode, one.stdout, one.stderr)
    return done


def run_here(
    commands: Sequence[Sequence[str]], *, check: int | None = 0, **environment: str
) -> list[subprocess.CompletedProcess[str]]:
    """As `run_commands`, one after the other in this process: starting Python costs most of a short command."""
    done = []
    for args in commands:
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
        with (
            redirect_stdout(out),
            redirect_stderr(err),
            mock.patch.dict(os.environ, environment),
            mock.patch.object(sys, "argv", [SUPERVISOR, *args]),
        ):
            try:
                runpy.run_path(SUPERVISOR, run_name="__main__")
                code: object = 0
            except SystemExit as ended:
                code = ended.code
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read())
        assert isinstance(code, int)
        assert check is None or code == check, (args, code, texts)
        done.append(subprocess.CompletedProcess(list(args), code, *texts))
    return done
