"""Several nodes as processes: in which order they come and go, and what is said of one that is gone.

The nodes are a small program; those of the real one are in tests/embedded/test_demo_nodes.py.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import attrs
import pytest
import trio

from actors.commands import nodes
from actors.commands.node_settings import first_node
from actors.commands.nodes import Fleet, NodeProcess
from actors.core.errors import NotStarted
from actors.data_dir import open_data_dir
from actors.embedded import process
from actors.mqtt.publisher import PublishFailed
from actors.settings.load import Settings
from tests.kit.servers import free_port

NODE = """
import configparser, json, os, pathlib, signal, socket, sys, time
path = pathlib.Path(sys.argv[2])
told = configparser.ConfigParser()
told.read(path)
name, data_dir = told["app"]["node_id"], told["app"]["data_dir"]
manner = os.environ.get("MANNER_" + name[-1], "")
print(name, "says", manner, flush=True)
notes = open(os.environ["NOTES"], "a", buffering=1)
def stop(*_):
    global manner
    if manner == "slow":
        manner = "impatient"
        print(name, "was asked", file=notes)
        return
    if manner == "lingering":
        time.sleep(1)
    print(name, "ends", file=notes)
    os._exit(1 if manner == "impatient" else 0)
signal.signal(signal.SIGTERM, stop)
if manner == "broken":
    sys.exit(7)
assert sys.argv[3:] == ["run", "--until-eof"], sys.argv
assert "LOG_LEVEL" not in os.environ and "MQTT_PASSWORD_FILE" not in os.environ
server = socket.socket(socket.AF_UNIX)
pathlib.Path(data_dir, "control.sock").unlink(missing_ok=True)
server.bind(data_dir + "/control.sock")
server.listen()
print(name, "serves", file=notes)
times = 0
while True:
    with server.accept()[0] as connection:
        times += 1
        status = {"pid": os.getpid(), "components": {"websocket": {"up": times > 1 and manner != "unready"}}}
        connection.sendall(json.dumps(status).encode())
"""


@attrs.define
class Run:
    """A fleet that runs in this process."""

    fleet: Fleet
    notes: Path
    racing: trio.Event
    finished: trio.Event
    trouble: Exception | None = None

    @property
    def noted(self) -> list[str]:
        return self.notes.read_text().splitlines()

    async def race(self) -> None:
        self.racing.set()
        if self.trouble is not None:
            raise self.trouble
        await trio.sleep_forever()

    async def until_noted(self, line: str) -> None:
        with trio.fail_after(60):
            while line not in self.noted:
                await trio.sleep(0.01)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """All servers are somebody else's."""
    (tmp_path / "program.py").write_text(NODE)
    (tmp_path / "notes").write_text("")
    monkeypatch.setattr(nodes, "PROGRAM", tmp_path / "program.py")
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("LOG_LEVEL", "debug")
    monkeypatch.setenv("MQTT_PASSWORD_FILE", "/nowhere")
    default, port = Settings(), free_port()
    (tmp_path / "var").mkdir()
    return attrs.evolve(
        default,
        app=attrs.evolve(default.app, data_dir=tmp_path / "var", port=port),
        ws=attrs.evolve(default.ws, port=port),
        mqtt=attrs.evolve(default.mqtt, broker_url="mqtt://b"),
        redis=attrs.evolve(default.redis, host="r"),
        postgres=attrs.evolve(default.postgres, host="p"),
    )


@asynccontextmanager
async def running(settings: Settings, count: int = 3, trouble: Exception | None = None) -> AsyncIterator[Run]:
    """Until it has ended, of itself or by a signal of the test."""
    notes_file = settings.app.data_dir.parent / "notes"
    run = Run(Fleet(first_node(settings)), notes_file, trio.Event(), trio.Event(), trouble)
    async with trio.open_nursery() as nursery:

        async def to_the_end() -> None:
            await run.fleet.run(count, lambda node: f"port {node.app.port}", run.race)
            run.finished.set()

        nursery.start_soon(to_the_end)
        yield run
        with trio.fail_after(60):
            await run.finished.wait()
    assert all(node.ended for node in run.fleet.nodes)


async def serving(run: Run) -> None:
    with trio.fail_after(60):
        await run.racing.wait()


async def test_the_first_comes_first_and_goes_last(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MANNER_2", "lingering")
    async with running(settings) as run:
        await serving(run)
        os.kill(os.getpid(), signal.SIGTERM)
    assert run.noted[0] == "node-1 serves"
    assert sorted(run.noted[1:3]) == ["node-2 serves", "node-3 serves"]
    assert sorted(run.noted[3:5]) == ["node-2 ends", "node-3 ends"]
    assert run.noted[5:] == ["node-1 ends"]
    assert not run.fleet.failed
    out, err = capsys.readouterr()
    ports = [node.settings.app.port for node in run.fleet.nodes]
    for number, port in enumerate(ports, 1):
        assert f"Dashboard of node-{number}: port {port}\n" in out
    assert f"kill -9 {run.fleet.nodes[1].process.pid} " in out
    assert "is gone" not in out
    assert err == ""


async def test_one_that_is_killed_is_named_and_can_be_had_back(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(settings) as run:
        await serving(run)
        capsys.readouterr()
        told = ""
        for node in reversed(run.fleet.nodes):
            node.process.kill()
            with trio.fail_after(60):
                while told.count("is gone") + told.count("To have it back") < 2 or node.name not in told:
                    told += capsys.readouterr().out
                    await trio.sleep(0.01)
            without = "the race stands still without it" if node.name == "node-1" else "the others go on"
            assert told.startswith(f"{node.name} is gone (SIGKILL), {without}. To have it back:\n")
            command, told = told.splitlines()[1].split(), ""
            assert command[:3] == [sys.executable, str(nodes.PROGRAM), "--settings"]
            assert Path(command[3]).read_text().count(node.name) >= 1
        os.kill(os.getpid(), signal.SIGINT)
    assert not run.fleet.failed, "that was no failure of ours"


@pytest.mark.parametrize("broken", [1, 2])
async def test_one_that_does_not_start_is_told_with_its_last_words(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: int
) -> None:
    monkeypatch.setenv(f"MANNER_{broken}", "broken")
    async with running(settings, count=2) as run:
        pass
    log = settings.app.data_dir / "nodes" / f"node-{broken}" / "daemon.log"
    told = f"node-{broken} ended (exit code 7); the end of {log}:\n  | node-{broken} says broken\n"
    assert capsys.readouterr() == ("", told)
    assert run.noted == (["node-1 serves", "node-1 ends"] if broken == 2 else [])
    assert run.fleet.failed


async def test_a_second_signal_does_not_wait_for_a_drain(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANNER_2", "slow")
    async with running(settings, count=2) as run:
        await serving(run)
        os.kill(os.getpid(), signal.SIGINT)
        await run.until_noted("node-2 was asked")
        os.kill(os.getpid(), signal.SIGINT)
    assert run.fleet.failed


async def test_one_that_does_not_end_is_killed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANNER_2", "slow")
    monkeypatch.setattr(nodes, "END_S", -settings.supervisor.drain_timeout_s)
    async with running(settings, count=2) as run:
        await serving(run)
        os.kill(os.getpid(), signal.SIGTERM)
    assert run.fleet.nodes[1].end == "SIGKILL"
    assert run.fleet.failed


async def test_a_race_that_cannot_be_published_ends_it(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    async with running(settings, count=2, trouble=PublishFailed("no broker")) as run:
        pass
    assert capsys.readouterr().err == "no broker\n"
    assert run.fleet.failed


async def test_a_signal_while_they_start(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANNER_1", "unready")
    async with running(settings) as run:
        await run.until_noted("node-1 serves")
        os.kill(os.getpid(), signal.SIGTERM)
    assert run.noted == ["node-1 serves", "node-1 ends"]
    assert not run.fleet.failed


@pytest.mark.parametrize("started_again", [False, True])
async def test_servers_of_a_first_node_that_was_killed_are_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, started_again: bool
) -> None:
    monkeypatch.setenv("MANNER_1", "broken")
    data_dir = settings.app.data_dir
    embedded = attrs.evolve(settings, redis=attrs.evolve(settings.redis, host="embedded"))
    plan = process.Plan("valkey", ["/bin/sleep", "1000"], data_dir, data_dir, signal.SIGTERM)
    server = await process.start(plan)
    with open_data_dir(data_dir) if started_again else nullcontext():
        async with running(embedded):
            pass
    assert server.ended is not started_again, "but for somebody else's"
    await server.stop(10)


async def test_a_program_that_is_not_there(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere")
    with pytest.raises(NotStarted, match="node-1 cannot be started in "):
        await nodes.start_node(first_node(settings), settings.app.data_dir / "x")


@pytest.mark.parametrize(("code", "words"), [(0, "exit code 0"), (-9, "SIGKILL"), (-40, "signal 40")])
def test_how_it_ended(settings: Settings, code: int, words: str) -> None:
    class Ended:
        returncode = code

    node = NodeProcess(settings, Path(), Ended(), -1)  # type: ignore[arg-type]
    assert node.end == words


def test_a_data_dir_of_another_daemon(settings: Settings) -> None:
    with open_data_dir(settings.app.data_dir), pytest.raises(NotStarted, match="another daemon uses data_dir"):
        nodes.run(settings, 2, str, trio.sleep_forever)


def test_the_exit_code(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stop() -> None:
        await trio.lowlevel.checkpoint()
        os.kill(os.getpid(), signal.SIGTERM)

    assert nodes.run(settings, 2, str, stop) == 0
    monkeypatch.setenv("MANNER_2", "broken")
    assert nodes.run(settings, 2, str, stop) == 1
