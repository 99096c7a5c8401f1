"""`logqueue up` itself on a tiny app: the whole stack, its deaths, its stop, its second start, an outside cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Engine

COMMAND = [sys.executable, "-m", "logqueue_api.cli.main"]
PATIENCE_SECONDS = 60.0
APP = """
from logqueue import App

app = App("{name}")


@app.job("sum", queue="sums")
async def add(*, a: int, b: int = 2) -> dict:
    if a < 0:
        raise ValueError("no negative numbers here")
    return {{"sum": a + b}}
"""


@pytest.fixture(autouse=True)
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APP.format(name="shop"))
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("LOGQUEUE_")}
    return plain | more


@contextmanager
def up(folder: Path, *options: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    arguments = ["--data-dir", "data", "--kafka-port", "0", "--http-port", "0", *options]
    process = subprocess.Popen(
        [*COMMAND, "up", "shop.py", *arguments],
        cwd=folder,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


def run_json(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "data" / "run.json").read_text())
    return value


def ready(folder: Path, process: subprocess.Popen[str]) -> dict[str, Any]:
    until(lambda: (folder / "data" / "run.json").exists(), process)
    return run_json(folder)


def logqueue(folder: Path, *words: str, **more: str) -> tuple[int, dict[str, Any]]:
    """(exit code, the JSON on standard output or else on standard error) of a command against the running stack."""
    done = subprocess.run(
        [*COMMAND, *words, "--json", "--data-dir", "data"],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return done.returncode, json.loads(done.stdout or done.stderr)


def add(folder: Path, a: int) -> tuple[int, dict[str, Any]]:
    return logqueue(folder, "submit", "sum", f"a={a}", "--wait", "--timeout", "40s")


def test_a_stack_runs_jobs_heals_stops_and_continues(shop: Path) -> None:
    with up(shop) as process:
        first = ready(shop, process)
        code, job = add(shop, 1)
        assert (code, job["state"], job["result"]) == (0, "succeeded", {"sum": 3})
        assert logqueue(shop, "submit", "sum")[0] == 2, "a is missing"
        assert logqueue(shop, "submit", "product", "a=1")[0] == 2
        assert logqueue(shop, "job", "get", "no-such-id")[0] == 4

        victims = [first["pids"]["workers"][0], first["pids"]["broker"], first["pids"]["api"]]
        for number, victim in enumerate(victims, start=10):
            os.kill(victim, signal.SIGKILL)
            code, told = add(shop, number)
            assert (code, told.get("result")) == (0, {"sum": number + 2})

        def is_whole() -> bool:
            pids = run_json(shop)["pids"]
            present = {pids.get("broker"), pids.get("api"), *pids["workers"]}
            return len(present - {None}) == 3 and not present & set(victims)

        until(is_whole, process)
        healed = run_json(shop)
        assert (healed["bootstrap"], healed["api"]) == (first["bootstrap"], first["api"])

        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, output
        assert "Traceback" not in output
        assert not (shop / "data" / "run.json").exists()

    with up(shop) as process:
        ready(shop, process)
        assert logqueue(shop, "job", "get", job["id"])[1]["result"] == {"sum": 3}
        _, listed = logqueue(shop, "jobs", "ls", "--state", "succeeded")
        assert len(listed["items"]) == 4
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, output


def test_everything_runs_on_an_outside_cluster(shop: Path, engine: Engine, prefix: str) -> None:
    (shop / "shop.py").write_text(APP.format(name=prefix))
    addresses = {"LOGQUEUE_BOOTSTRAP": engine.bootstrap, "LOGQUEUE_TOPIC_PREFIX": f"{prefix}."}
    with up(shop, "--workers", "2", **addresses) as process:
        run = ready(shop, process)
        assert run["bootstrap"] == engine.bootstrap
        assert "broker" not in run["pids"]
        assert len(run["pids"]["workers"]) == 2
        where = {"LOGQUEUE_TOPIC_PREFIX": f"{prefix}."}
        code, job = logqueue(shop, "submit", "sum", "a=5", "--wait", **where)
        assert (code, job["result"]) == (0, {"sum": 7})
        code, group = logqueue(shop, "group", "describe", prefix, **where)
        assert (code, len(group["members"])) == (0, 2)
        _, topics = logqueue(shop, "topic", "ls", **where)
        assert f"{prefix}.jobs.sums" in {item["topic"] for item in topics["items"]}
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, output
    # Static members would keep their partitions for a while; the next `up` may have fewer workers.
    code, group = logqueue(shop, "group", "describe", prefix, "--bootstrap", engine.bootstrap)
    assert (code, group["members"]) == (0, [])


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(0, 2400, 300))
def test_ctrl_c_at_any_moment_of_the_start_is_clean(shop: Path, moment: int) -> None:
    with up(shop) as process:
        time.sleep(moment / 1000)  # the moment is what is tested, whatever the start has come to by then
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    if process.returncode == -signal.SIGINT:
        assert not (shop / "data").exists(), "only while Python itself still starts"
        return
    assert process.returncode in (0, 130), output
    logs = "".join(log.read_text() for log in (shop / "data" / "logs").glob("*.log"))
    assert moment == 0 or "Traceback" not in output + logs, output + logs
    assert not (shop / "data" / "run.json").exists()


def test_a_port_that_is_taken_is_told_with_the_option_that_changes_it(shop: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        with up(shop, "--http-port", number) as process:
            output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 6
    assert f"port {number} on 127.0.0.1 is taken by another program" in output
    assert "--http-port 0 any free one" in output
    assert not (shop / "data").exists()


def test_a_data_folder_that_a_broker_holds_is_named(shop: Path) -> None:
    broker = subprocess.Popen(
        [*COMMAND, "broker", "--data-dir", "data", "--kafka-port", "0"], cwd=shop, stdout=subprocess.PIPE, text=True
    )
    try:
        assert broker.stdout is not None
        broker.stdout.readline()
        with up(shop) as process:
            output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        broker.terminate()
        broker.communicate()
    assert process.returncode == 6, output
    assert f"in use by process {broker.pid}" in output
    assert "the same command continues" not in output, "nothing has begun that could"
    assert "running jobs" not in output
    assert "Traceback" not in output
    assert not (shop / "data" / "run.json").exists()
